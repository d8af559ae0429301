//! `nattrace replay`: the same stages, fed from a recording.

use std::fs::File;
use std::io::{BufRead, BufReader};

use anyhow::{Context as _, Result};
use nattrace_core::event::{Body, Event};
use nattrace_core::filter::Filter;
use nattrace_core::journey::assemble::{Assembler, Options, SourcesOn};
use nattrace_core::record::Reader;

use super::audience::Audience;
use super::report::Report;
use super::voice::say;
use super::{anonymize, memory, output, record};
use crate::cli::ExitStatus;
use crate::cli::plan::{Format, Input, NetnsChoice, ReplayPlan};
use crate::export::{Exporter, Pace};
use crate::render::Start;

/// How often journeys are checked for their end, where a recording does not say when the live run did.
const TICK_NS: u64 = 50_000_000;

/// A recording that is to be read.
pub(super) struct Recorded<'a>(&'a Input);

impl<'a> Recorded<'a> {
    pub(super) fn of(input: &'a Input) -> Self {
        Self(input)
    }

    /// What the user calls it.
    pub(super) fn name(&self) -> String {
        match self.0 {
            Input::Stdin => "standard input".to_owned(),
            Input::File(path) => path.display().to_string(),
        }
    }

    pub(super) fn open(&self) -> Result<Reader<'static>> {
        let input: Box<dyn BufRead> = match self.0 {
            Input::Stdin => Box::new(std::io::stdin().lock()),
            Input::File(path) => Box::new(BufReader::new(File::open(path).with_context(|| self.name())?)),
        };
        Reader::open(input).with_context(|| self.name())
    }

    /// The same, where it can be read more than once.
    pub(super) fn once_more(&self) -> Result<Option<Reader<'static>>> {
        match self.0 {
            Input::File(path) if path.is_file() => self.open().map(Some),
            _ => Ok(None),
        }
    }
}

/// Says that a recording is not whole.
pub(super) fn say_cut_off(name: &str) {
    say(&format!("{name} ends in the middle of an event: it was cut off"));
}

/// Tells a recording again.
pub(super) fn run(plan: &ReplayPlan) -> Result<ExitStatus> {
    tell(plan, vec![Box::new(output::open(&plan.output)?)], || false)
}

/// Tells an audience what is in a recording, until its end, a limit, `stop`, or an audience that is gone.
pub(crate) fn tell(
    plan: &ReplayPlan,
    mut audience: Vec<Box<dyn Audience>>,
    stop: impl Fn() -> bool,
) -> Result<ExitStatus> {
    let recorded = Recorded::of(&plan.input);
    let name = recorded.name();
    let mut anonymizer = if plan.anonymize { Some(anonymize::for_recording(&recorded)?) } else { None };
    let mut reader = recorded.open()?;
    let mut header = reader.header().clone();
    let mut filter = plan.filter.clone();
    if let Some(anonymizer) = &mut anonymizer {
        header = anonymizer.header(&header);
        filter = anonymizer.filter(&filter);
    }
    let sources = SourcesOn::where_on(|source| header.is_on(source) && plan.sources.set.contains(&source));
    let follow = plan.follow && !header.no_follow;
    let start = Start {
        kernel: header.kernel.clone(),
        filter: filter.clone(),
        sources: header.sources.iter().map(|(source, text)| (*source, record::state_of(text))).collect(),
    };
    if let Some(otlp) = &plan.otlp {
        // A recording does not say where it was made.
        audience.push(Box::new(Exporter::new(otlp.clone(), None, Pace::Replay, say)));
    }
    let limit = plan.count.into_iter().chain(header.count).min();
    let mut report = Report::new(audience, limit, follow);
    if let Some(nft) = &header.nft {
        report.nft(nft);
    }
    report.start(&start)?;
    let options = Options {
        filter: header.filter.clone(),
        narrowed: (filter != Filter::default()).then_some(filter),
        follow,
        sources,
        asks: true,
        keep_messages: plan.output.format == Format::Nft,
        keep_sights: plan.output.format == Format::Pcapng,
        memory: memory::of_journeys(plan.memory),
        ..Options::default()
    };
    let mut assembler = Assembler::new(options);
    let mut given_up = memory::GivenUp::default();
    let namespaces = Namespaces { choice: &plan.netns };
    let (mut last_ns, mut last_tick, mut end_ns) = (0_u64, 0_u64, None);
    let mut names = std::collections::BTreeMap::new();
    let mut clocks = Clocks::None;
    while !report.is_enough() && !stop() {
        let Some(event) = reader.next_event().with_context(|| name.clone())? else {
            if reader.is_cut_off() {
                say_cut_off(&name);
            }
            break;
        };
        if let (None, Some(duration)) = (end_ns, plan.duration) {
            end_ns =
                Some(event.time_ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)));
        }
        if end_ns.is_some_and(|end| event.time_ns > end) {
            break;
        }
        if event.body == Body::Full {
            say(&format!("{name} came to its --record-limit: what was traced after that is not in it"));
        }
        if let Body::Namespace { name } = &event.body {
            names.insert(event.netns, name.clone());
        }
        if !wanted_source(event, plan) || !namespaces.has(event, &names) {
            continue;
        }
        let hidden;
        let event = match &mut anonymizer {
            Some(anonymizer) => {
                hidden = anonymizer.event(event);
                &hidden
            }
            None => event,
        };
        last_ns = event.time_ns.max(last_ns);
        let looks = match event.body {
            Body::Clock { quiet } => {
                clocks = if quiet { Clocks::Full } else { clocks.max(Clocks::Plain) };
                quiet || clocks == Clocks::Plain
            }
            _ => clocks == Clocks::None && last_ns.saturating_sub(last_tick) >= TICK_NS,
        };
        let now_ns = if matches!(event.body, Body::Clock { .. }) { event.time_ns } else { last_ns };
        report.see(event);
        assembler.push(event);
        given_up.look(&assembler, plan.memory);
        if looks {
            if clocks == Clocks::None {
                last_tick = last_ns;
                assembler.expire(last_ns);
            }
            report.quiet(now_ns)?;
        }
        for journey in assembler.finished() {
            report.journey(&journey)?;
        }
        if looks {
            report.settled(|| assembler.settled_ns())?;
        }
    }
    for journey in assembler.finish(last_ns) {
        report.journey(&journey)?;
    }
    report.finish(assembler.counters())
}

/// What a recording says of the moments at which the live run looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Clocks {
    /// Nothing: the first recordings.
    None,
    /// When it looked whether journeys had ended.
    Plain,
    /// And when it looked whether connections were quiet.
    Full,
}

/// Events that name no source (rulesets, devices) are always wanted.
fn wanted_source(event: &Event, plan: &ReplayPlan) -> bool {
    event.body.kind().1.is_none_or(|source| plan.sources.set.contains(&source))
}

struct Namespaces<'a> {
    choice: &'a NetnsChoice,
}

impl Namespaces<'_> {
    /// Whether an event happened where the user looks; one that names no namespace did.
    fn has(&self, event: &Event, names: &std::collections::BTreeMap<u32, Option<String>>) -> bool {
        let NetnsChoice::Named(wanted) = self.choice else { return true };
        if event.netns == 0 {
            return true;
        }
        let name = names.get(&event.netns).and_then(Option::as_deref);
        wanted.iter().any(|w| Some(w.as_str()) == name || *w == event.netns.to_string())
    }
}
