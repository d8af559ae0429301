//! `nattrace`: the live run.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nattrace_common::record::{HELD_BACK, LOST_NFT, LOST_PROBES, LOST_TRACEPOINTS};
use nattrace_core::event::{Body, Event, Loss, NetnsId, NftTrace, SetAnswer, Source};
use nattrace_core::journey::assemble::{Assembler, Options, SourcesOn};
use nattrace_core::journey::explain::Question;
use nattrace_core::neighbour::NeighbourAnswer;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::appearing::{self, Changed};
use super::audience::Audience;
use super::clock::now_ns;
use super::kernel::{self, Kernel};
use super::least;
use super::legacy;
use super::memory;
use super::output;
use super::readable::readable;
use super::record::Recorder;
use super::report::Report;
use super::stop::{Signals, Stop};
use super::tables::Tables;
use super::voice::say;
use crate::cli::ExitStatus;
use crate::cli::plan::{Format, NetnsChoice, TracePlan};
use crate::export::{Exporter, Pace};
use crate::render::{Start, filter_in_words, held_back as held_back_in_words};
use crate::source::bpf::decode::{Decoded, Decoder};
use crate::source::bpf::loader::Loaders;
use crate::source::netlink::neighbour;
use crate::source::netlink::socket::Received;
use crate::source::netns::{Netns, run_in};
use crate::source::ruleset::{self, Counted, tool::nft_tool};

/// How often journeys are checked for their end while some are under way.
const TICK: Duration = Duration::from_millis(50);
/// And while none are: only losses and late modules are looked for.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// A ruleset that changes is listed again after this quiet time.
const SETTLE: Duration = Duration::from_millis(10);
/// From the moment new rules are in force to their notification: nf_tables_commit, and for each change in it.
const COMMIT_NS: u64 = 2_000_000;
/// See [`COMMIT_NS`].
const CHANGE_NS: u64 = 20_000;
/// A loop that took longer than its tick and this was held up: by the machine, or it was stopped.
const HELD_UP: Duration = Duration::from_millis(50);
/// Records taken before other sources, signals and the output get their turn.
const BATCH: usize = 4096;
/// Events that a socket's reader hands over at once: what waits in the channel is bounded by this.
const BUNCH: usize = 256;
/// More records than the ring holds.
const RING_RECORDS: usize = 128 * 1024;
/// What sockets and a listing under way may take to hand over the last of it.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// And a listing, without which rules are shown by their handles.
const LAST_LISTING: Duration = Duration::from_secs(1);

/// Runs until a signal, a limit, or an output that is gone.
pub(super) fn run(plan: &TracePlan) -> Result<ExitStatus> {
    if plan.dry_run {
        return super::dry_run::run(plan);
    }
    // Before anything is installed: a signal that comes meanwhile must still end the run in order.
    tell(plan, vec![Box::new(output::open(&plan.output)?)], || Ok(Stop::Signals(Signals::new()?)))
}

/// Traces, and tells an audience, until `stop`, a limit, or an audience that is gone.
pub(super) fn tell(
    plan: &TracePlan,
    mut audience: Vec<Box<dyn Audience>>,
    stop: impl FnOnce() -> Result<Stop>,
) -> Result<ExitStatus> {
    // Before there is an exporter, which opens files on its own thread. Programs are loaded twice where no trace table can
    // be had.
    let mut loaders = Loaders::make(2);
    if let Some(otlp) = &plan.otlp {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        audience.push(Box::new(Exporter::new(otlp.clone(), Some(host), Pace::Live, say)));
    }
    let recorder = plan.record.as_ref().map(Recorder::open).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = stop()?;
        least::begin();
        let kernel = kernel::set_up(plan, &mut loaders)?;
        least::keep_needed(&kernel, plan);
        Session::new(plan, kernel, audience, recorder)?.run(&mut stop).await
    })
}

/// What the sources beside the ring send.
enum Input {
    Events(Vec<Event>),
    /// A ruleset was listed, or could not be.
    Listed(NetnsId, Result<nattrace_core::ruleset::Listing, String>),
    /// Rules of legacy iptables were listed; what is missing.
    LegacyListed(Box<Event>, Option<String>),
    /// Namespaces came or went.
    Namespaces(Changed),
}

struct Session<'a> {
    plan: &'a TracePlan,
    kernel: Kernel,
    assembler: Assembler,
    tables: Tables,
    report: Report,
    recorder: Option<Recorder>,
    lost_so_far: BTreeMap<Source, u64>,
    /// Records of the ring that are events of a source.
    told: u64,
    given_up: memory::GivenUp,
    last_poll_ns: u64,
    inputs: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
    /// Namespaces whose listing is under way, and whether they changed again since it began.
    listing: BTreeMap<NetnsId, bool>,
    /// The tasks that read the sockets of each namespace.
    readers: BTreeMap<NetnsId, Vec<AbortHandle>>,
    /// When transactions were committed whose notification has not been read yet, by namespace and generation.
    committed: BTreeMap<(NetnsId, u32), u64>,
    /// Time of the last record of the ring.
    ring_ns: u64,
    /// The run is being ended: changes of the ruleset, our own last one among them, are of no more interest.
    ending: bool,
}

impl<'a> Session<'a> {
    fn new(
        plan: &'a TracePlan,
        kernel: Kernel,
        audience: Vec<Box<dyn Audience>>,
        recorder: Option<Recorder>,
    ) -> Result<Self> {
        let sources = SourcesOn::where_on(|source| kernel.states.is_on(source));
        let options = Options {
            filter: plan.filter.clone(),
            follow: plan.follow,
            sources,
            asks: kernel.states.is_on(Source::Nft) && nft_tool().version.is_some(),
            keep_messages: plan.output.format == Format::Nft,
            keep_sights: plan.output.format == Format::Pcapng,
            memory: memory::of_journeys(plan.memory),
            ..Options::default()
        };
        let (sender, inputs) = mpsc::channel(64);
        let mut session = Self {
            plan,
            kernel,
            assembler: Assembler::new(options),
            tables: Tables::default(),
            report: Report::new(audience, plan.count, plan.follow),
            recorder,
            lost_so_far: BTreeMap::new(),
            told: 0,
            given_up: memory::GivenUp::default(),
            last_poll_ns: now_ns(),
            inputs,
            sender,
            listing: BTreeMap::new(),
            readers: BTreeMap::new(),
            committed: BTreeMap::new(),
            ring_ns: 0,
            ending: false,
        };
        session.begin()?;
        Ok(session)
    }

    /// Says what is on, and begins the outputs.
    fn begin(&mut self) -> Result<()> {
        let kernel_release = rustix::system::uname().release().to_string_lossy().into_owned();
        let start = Start {
            kernel: Some(kernel_release),
            filter: self.plan.filter.clone(),
            sources: std::mem::take(&mut self.kernel.states).finish(),
        };
        if counted(self.plan) == Counted::Yes {
            let nft = nft_tool();
            self.report.nft(&nft);
            if let Some(recorder) = &mut self.recorder {
                let introduction = &self.kernel.introduction;
                recorder.start(&start, self.plan, nft, introduction)?;
            }
        }
        self.report.start(&start)?;
        for note in std::mem::take(&mut self.kernel.notes) {
            say(&note);
        }
        let introduction = std::mem::take(&mut self.kernel.introduction);
        self.take(vec![clock(now_ns(), false)])?;
        self.take(introduction)
    }

    async fn run(mut self, stop: &mut Stop) -> Result<ExitStatus> {
        let ring = match &self.kernel.programs {
            Some(programs) => Some(readable(programs)?),
            None => None,
        };
        self.spawn_sockets()?;
        if self.plan.netns == NetnsChoice::All {
            let known = self.kernel.watched.iter().map(|watched| watched.netns.inum).collect();
            appearing::watch(self.plan, known, self.sender.clone(), Input::Namespaces);
        }
        say(&format!("tracing {}", filter_in_words(&self.plan.filter)));
        let deadline = self.plan.duration.map(|d| Instant::now() + d);
        let outcome = self.pump(ring.as_ref(), deadline, stop).await;
        // What was gathered is told, whatever ended the run.
        let status = self.end().await;
        outcome?;
        status
    }

    async fn pump(
        &mut self,
        ring: Option<&AsyncFd<OwnedFd>>,
        deadline: Option<Instant>,
        stop: &mut Stop,
    ) -> Result<()> {
        let mut looked = Instant::now();
        while !self.report.is_enough() {
            let tick = if self.assembler.open_count() > 0 { TICK } else { IDLE_TICK };
            // From the last look on, not from the last event: under load there is always another event.
            let next_look = looked + tick;
            let mut woken = None;
            tokio::select! {
                biased;
                () = stop.told() => break,
                () = until(deadline) => break,
                ready = records(ring) => woken = Some(ready?),
                Some(input) = self.inputs.recv() => self.input(input)?,
                () = sleep_until(next_look) => {}
            }
            if next_look.elapsed() > HELD_UP {
                // Rulesets may have changed since: what tells of it is to be read before a packet is told to have met the
                // old one. The first lets the runtime see which sockets have something, the second lets them be read.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            let (time_ns, behind) = self.look()?;
            if behind {
                // A ring that never runs empty must not starve signals and timers, which the runtime looks at when it
                // is given a moment.
                tokio::task::yield_now().await;
            } else if let Some(mut ready) = woken {
                ready.clear_ready();
            }
            if Instant::now() >= next_look {
                looked = Instant::now();
                self.poll()?;
                self.look_up(time_ns);
                self.recorder.as_mut().map_or(Ok(()), Recorder::flush)?;
                // What came before is told before, or a replay could not tell it in the same order.
                self.tell()?;
                self.take(vec![clock(time_ns, true)])?;
                self.report.quiet(time_ns)?;
                self.tell()?;
                self.report.settled(|| self.assembler.settled_ns())?;
            }
            self.tell()?;
        }
        Ok(())
    }

    /// Takes up to `limit` records; whether there may be more.
    fn drain(&mut self, limit: usize) -> Result<bool> {
        let (Some(programs), Some(decoder)) = (&mut self.kernel.programs, &self.kernel.decoder) else {
            return Ok(false);
        };
        let mut events = Vec::new();
        let mut taken = 0;
        while taken < limit {
            let record =
                programs.next_record(|record| decoder.decode(record).ok_or_else(|| Decoder::source(record)));
            match record {
                None => break,
                Some(Ok(Decoded::Event(event))) => {
                    self.ring_ns = self.ring_ns.max(event.time_ns);
                    self.told += u64::from(event.body.source().is_some());
                    events.push(event);
                }
                Some(Ok(Decoded::Committed { netns, generation, time_ns })) => {
                    self.committed.insert((netns, generation), time_ns);
                }
                Some(Ok(Decoded::Nothing)) => {}
                // What cannot be read is lost.
                Some(Err(source)) => {
                    self.told += 1;
                    let now = now_ns();
                    events.push(loss(source, Some(1), now, now));
                }
            }
            taken += 1;
        }
        self.take(events)?;
        Ok(taken == limit)
    }

    /// Takes what is in the ring, but not all that comes meanwhile, which may never end.
    fn drain_once(&mut self) -> Result<()> {
        for _ in 0..RING_RECORDS / BATCH {
            if !self.drain(BATCH)? {
                break;
            }
        }
        Ok(())
    }

    /// At the end of the run: what is received after the last journey that is told is of no run, and a replay, which
    /// ends there, does not count it either.
    fn drain_last(&mut self) -> Result<()> {
        if self.report.is_enough() { Ok(()) } else { self.drain_once() }
    }

    /// Records and assembles. A recording that fails ends the run, but not the telling of what was seen. What comes after
    /// the last journey that is to be told is of no run.
    fn take(&mut self, events: Vec<Event>) -> Result<()> {
        let mut failed = None;
        for event in events {
            failed = self.take_one(event).or(failed);
            for (netns, query) in self.assembler.route_queries() {
                if let Some(answer) = self.tables.ask(netns, query) {
                    failed = self.take_one(answer).or(failed);
                }
            }
            if self.plan.count.is_some() && !self.ending {
                self.tell()?;
                if self.report.is_enough() {
                    break;
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Records and assembles one event; why it cannot be recorded.
    fn take_one(&mut self, event: Event) -> Option<anyhow::Error> {
        let mut failed = None;
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = recorder.event(&event)
        {
            failed = Some(error);
            self.recorder = None;
        }
        self.report.see(&event);
        for (netns, after) in self.kernel.legacy.see(&event) {
            self.list_legacy(netns, after);
        }
        self.assembler.push(event);
        failed
    }

    fn input(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Events(mut events) => {
                let netns = events.first().map(|event| event.netns);
                let mut changed = false;
                for event in &mut events {
                    changed |= self.sees_change(event)?;
                }
                if changed
                    && !self.ending
                    && let Some(netns) = netns
                {
                    self.list(netns);
                    // New rules can bring a module whose functions were not there to be probed.
                    self.attach_pending()?;
                }
                self.take(events)
            }
            Input::Listed(netns, listed) => {
                let again = self.listing.remove(&netns) == Some(true);
                let taken = match listed {
                    Ok(listing) => {
                        let event =
                            Event { time_ns: now_ns(), cpu: u32::MAX, netns, body: Body::Ruleset(listing) };
                        self.take(vec![event])
                    }
                    Err(_) => Ok(()),
                };
                if again && !self.ending {
                    self.list(netns);
                }
                taken
            }
            Input::LegacyListed(event, missing) => {
                if let Some(missing) = self.kernel.legacy.complaint(missing) {
                    say(&missing);
                }
                // Changes that came before it ended must be known before it speaks.
                self.drain_once()?;
                self.take(vec![*event])
            }
            Input::Namespaces(changed) if !self.ending => self.namespaces(changed),
            Input::Namespaces(_) => Ok(()),
        }
    }

    /// Traces in namespaces that came, and lets go of those that went.
    fn namespaces(&mut self, changed: Changed) -> Result<()> {
        for netns in changed.went {
            self.kernel.watched.retain(|watched| watched.netns.inum != netns);
            self.kernel.legacy.forget(netns);
            self.tables.forget(netns);
            for reader in self.readers.remove(&netns).into_iter().flatten() {
                reader.abort();
            }
            if let Some(decoder) = &mut self.kernel.decoder {
                decoder.socket_netns.retain(|_, of| *of != netns);
            }
        }
        for (watched, follow) in changed.came {
            for note in self.kernel.add(watched, follow, self.plan) {
                say(&note);
            }
            let Some(watched) = self.kernel.watched.last_mut() else { continue };
            let (introduction, missing) = watched.introduction();
            for note in &missing {
                say(note);
            }
            self.take(introduction)?;
            self.spawn_sockets()?;
        }
        Ok(())
    }

    /// Whether an event means that the ruleset changed; a commit gets its time from the ring, when it is there. A ring that
    /// overflowed does not have it: it was some time since the socket was read before. Without a ring sockets are read at once.
    fn sees_change(&mut self, event: &mut Event) -> Result<bool> {
        match &mut event.body {
            Body::Commit(commit) => {
                self.drain_once()?;
                if let Some(time_ns) = self.committed.remove(&(event.netns, commit.generation)) {
                    event.time_ns = time_ns;
                    commit.uncertain_ns = Some(COMMIT_NS + CHANGE_NS * u64::from(commit.changes));
                } else if self.kernel.programs.is_none() {
                    commit.uncertain_ns = None;
                }
                Ok(true)
            }
            // Notifications were lost: what happened to the ruleset is unknown until it is listed.
            Body::Loss(loss) => Ok(loss.source == Source::Nft),
            _ => Ok(false),
        }
    }

    /// Lists a ruleset beside the trace; changes that come meanwhile lead to one more listing.
    fn list(&mut self, netns: NetnsId) {
        if let Some(changed) = self.listing.get_mut(&netns) {
            *changed = true;
            return;
        }
        let Some(watched) = self.kernel.watched.iter().find(|w| w.netns.inum == netns) else { return };
        let handle = Arc::clone(&watched.netns);
        self.listing.insert(netns, false);
        let sender = self.sender.clone();
        let counted = counted(self.plan);
        tokio::spawn(async move {
            tokio::time::sleep(SETTLE).await;
            let listed = tokio::task::spawn_blocking(move || list_in(&handle, counted)).await;
            let listed = listed.unwrap_or_else(|error| Err(error.to_string()));
            let _ = sender.send(Input::Listed(netns, listed)).await;
        });
    }

    /// Has asked whether sets have what packets lacked.
    fn ask(&mut self) -> Result<()> {
        for question in self.assembler.questions() {
            let watched = self.kernel.watched.iter().find(|w| w.netns.inum == question.netns);
            let Some(handle) = watched.map(|watched| Arc::clone(&watched.netns)) else {
                self.take(vec![answered(question, None)])?;
                continue;
            };
            let sender = self.sender.clone();
            tokio::spawn(async move {
                if let Ok(event) = tokio::task::spawn_blocking(move || answer(&handle, question)).await {
                    let _ = sender.send(Input::Events(vec![event])).await;
                }
            });
        }
        Ok(())
    }

    /// Has the next hops of unanswered packets looked up.
    fn look_up(&mut self, time_ns: u64) {
        for (netns, query) in self.report.questions(time_ns) {
            let watched = self.kernel.watched.iter().find(|watched| watched.netns.inum == netns);
            let Some(handle) = watched.map(|watched| Arc::clone(&watched.netns)) else { continue };
            let sender = self.sender.clone();
            tokio::spawn(async move {
                let found = tokio::task::spawn_blocking(move || {
                    let found = run_in(&handle, || neighbour::ask(&query)).ok()?.ok()?;
                    Some(NeighbourAnswer { query, neighbour: found })
                });
                // What cannot be asked is not known: the user is told how to.
                if let Ok(Some(answer)) = found.await {
                    let body = Body::Neighbour(answer);
                    let event = Event { time_ns: now_ns(), cpu: u32::MAX, netns, body };
                    let _ = sender.send(Input::Events(vec![event])).await;
                }
            });
        }
    }

    /// Lists the rules of legacy iptables beside the trace.
    fn list_legacy(&mut self, netns: NetnsId, after: Duration) {
        let Some(watched) = self.kernel.watched.iter().find(|w| w.netns.inum == netns) else {
            self.kernel.legacy.forget(netns);
            return;
        };
        let handle = Arc::clone(&watched.netns);
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Ok((event, missing)) = tokio::task::spawn_blocking(move || legacy::list(&handle)).await {
                let _ = sender.send(Input::LegacyListed(Box::new(event), missing)).await;
            }
        });
    }

    /// Takes what has come, and looks whether journeys have ended. Gives the moment of that, which is recorded, for a
    /// replay to look then, too; and whether there is more in the ring. Nothing that a journey waits for may be left
    /// unread from before that moment: it is taken before the sockets and the ring are emptied, and when the ring was
    /// not, it is as late as its records say.
    fn look(&mut self) -> Result<(u64, bool)> {
        let now = now_ns();
        for _ in 0..self.inputs.len() {
            if let Ok(input) = self.inputs.try_recv() {
                self.input(input)?;
            }
        }
        let behind = self.drain(BATCH)?;
        let time_ns = if behind { self.ring_ns } else { now };
        if self.assembler.open_count() > 0 {
            self.take(vec![clock(time_ns, false)])?;
            self.ask()?;
        }
        Ok((time_ns, behind))
    }

    /// Probes functions of modules that have come meanwhile; their names are new, too.
    fn attach_pending(&mut self) -> Result<()> {
        let Some(programs) = &mut self.kernel.programs else { return Ok(()) };
        let before = programs.tells_legacy_changes();
        if !programs.attach_pending() {
            return Ok(());
        }
        let begins = !before && programs.tells_legacy_changes();
        if let Some(decoder) = &mut self.kernel.decoder {
            decoder.symbols = decoder.symbols.renewed();
        }
        self.take(begins.then(legacy::watched).into_iter().collect())
    }

    /// Looks at what does not announce itself.
    fn poll(&mut self) -> Result<()> {
        let now = now_ns();
        self.attach_pending()?;
        if let Some(programs) = &self.kernel.programs {
            let lost = programs.lost();
            let mut losses = Vec::new();
            for (index, source) in [
                (LOST_PROBES, Source::Probes),
                (LOST_TRACEPOINTS, Source::Tracepoints),
                (LOST_NFT, Source::Nft),
            ] {
                let Some(total) = lost.get(index as usize).map(|l| l.count) else { continue };
                let before = self.lost_so_far.insert(source, total).unwrap_or(0);
                if total > before {
                    losses.push(loss(source, Some(total - before), self.last_poll_ns, now));
                }
            }
            let held_back = lost.get(HELD_BACK as usize).map_or(0, |held_back| held_back.count);
            let packets = held_back - self.assembler.counters().held_back;
            if packets > 0 {
                if packets == held_back {
                    say(
                        "events come faster than they can be read: no further packets are followed until they are read",
                    );
                }
                losses.push(Event {
                    time_ns: now,
                    cpu: u32::MAX,
                    netns: 0,
                    body: Body::HeldBack { packets },
                });
            }
            self.take(losses)?;
        }
        self.last_poll_ns = now;
        Ok(())
    }

    /// Writes what has ended.
    fn tell(&mut self) -> Result<()> {
        self.given_up.look(&self.assembler, self.plan.memory);
        self.assembler.finished().iter().try_for_each(|journey| self.report.journey(journey))
    }

    /// Detaches, takes what is left in the ring unless enough has been told, and tells the rest.
    async fn end(mut self) -> Result<ExitStatus> {
        self.drain_last()?;
        for question in self.assembler.last_questions() {
            if let Some(watched) = self.kernel.watched.iter().find(|w| w.netns.inum == question.netns) {
                let event = answer(&watched.netns, question);
                self.take(vec![event])?;
            }
        }
        self.ending = true;
        for watched in &mut self.kernel.watched {
            watched.table = None;
        }
        self.detach().await?;
        self.last_inputs().await?;
        self.poll()?;
        self.kernel.programs = None;
        let now = now_ns();
        self.tell()?;
        if !self.report.is_enough() {
            self.take(vec![clock(now, true)])?;
            self.report.quiet(now)?;
        }
        let rest = self.assembler.finish(now);
        for journey in rest {
            self.report.journey(&journey)?;
        }
        // They have no word for it.
        if matches!(self.plan.output.format, Format::Nft | Format::Pcapng) {
            let held_back = self.assembler.counters().held_back;
            if held_back > 0 {
                say(&held_back_in_words(held_back));
            }
            for (source, lost) in &self.assembler.counters().lost {
                say(&format!("{} events of {} were lost", lost.events + lost.uncounted, source.name()));
            }
        }
        let recorded = self.recorder.take().map_or(Ok(()), Recorder::finish);
        let status = self.report.finish(self.assembler.counters())?;
        recorded?;
        Ok(status)
    }

    /// Detaches the programs, and takes what they had told by then: all of it.
    async fn detach(&mut self) -> Result<()> {
        if let Some(programs) = &mut self.kernel.programs {
            programs.detach();
        }
        let begun = Instant::now();
        loop {
            self.drain_last()?;
            let all = self.kernel.programs.as_ref().is_none_or(|programs| programs.has_told(self.told));
            // A processor may still be in a program that was detached meanwhile.
            if all || self.report.is_enough() || begun.elapsed() > LAST_WORDS {
                return Ok(());
            }
            sleep_until(Instant::now() + Duration::from_millis(1)).await;
        }
    }

    /// What the sockets have, and the listing that is under way.
    async fn last_inputs(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.report.is_enough() {
            let listed = self.listing.is_empty() && !self.kernel.legacy.is_waiting();
            let patience = if listed { LAST_WORDS } else { LAST_LISTING };
            let left = patience.saturating_sub(begun.elapsed());
            match tokio::time::timeout(left, self.inputs.recv()).await {
                Ok(Some(input)) => self.input(input)?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }

    /// A task for each socket: they are read as they come and hand over events in bunches.
    fn spawn_sockets(&mut self) -> Result<()> {
        for watched in &mut self.kernel.watched {
            let netns = watched.netns.inum;
            let readers = self.readers.entry(netns).or_default();
            // A question makes a buffer like the packet's, which the kernel frees with its answer (`inet_rtm_getroute`):
            // without a table that marks packets, the programs would take it for one.
            if let Some(socket) = watched.fib.take().filter(|_| watched.table.is_some()) {
                self.tables.add(netns, socket);
            }
            if let Some(mut socket) = watched.trace.take() {
                let fd = readable(&socket)?;
                readers.push(spawn_reader(fd, self.sender.clone(), netns, Source::Nft, move || {
                    Ok(socket.receive()?.map(|message| {
                        Body::NftTrace(NftTrace { packet: None, hint: None, table_handle: None, message })
                    }))
                }));
            }
            if let Some(mut socket) = watched.ruleset.take() {
                let fd = readable(&socket)?;
                readers.push(spawn_reader(fd, self.sender.clone(), netns, Source::Nft, move || {
                    Ok(socket.receive()?.map(Body::Commit))
                }));
            }
            if let Some(mut socket) = watched.conntrack.take() {
                let fd = readable(&socket)?;
                readers.push(spawn_reader(fd, self.sender.clone(), netns, Source::Conntrack, move || {
                    Ok(socket.receive()?.map(Body::Conntrack))
                }));
            }
        }
        Ok(())
    }
}

fn spawn_reader(
    fd: AsyncFd<OwnedFd>,
    sender: mpsc::Sender<Input>,
    netns: NetnsId,
    source: Source,
    mut receive: impl FnMut() -> Result<Received<Body>> + Send + 'static,
) -> AbortHandle {
    let task = tokio::spawn(async move {
        let mut last_ns = now_ns();
        // When it had nothing: whatever is read later happened later.
        let mut emptied_ns = last_ns;
        loop {
            let Ok(mut ready) = fd.readable().await else { return };
            let mut events = Vec::new();
            while events.len() < BUNCH {
                let now = now_ns();
                match receive() {
                    Ok(Received::Item(mut body)) => {
                        if let Body::Commit(commit) = &mut body {
                            commit.uncertain_ns = Some(now.saturating_sub(emptied_ns));
                        }
                        events.push(Event { time_ns: now, cpu: u32::MAX, netns, body });
                    }
                    Ok(Received::Lost) => events.push(Event { netns, ..loss(source, None, last_ns, now) }),
                    Ok(Received::Empty) => {
                        emptied_ns = now;
                        ready.clear_ready();
                        break;
                    }
                    // A message that cannot be read is one that is lost; the socket goes on.
                    Err(_) => events.push(Event { netns, ..loss(source, Some(1), last_ns, now) }),
                }
                last_ns = now;
            }
            if !events.is_empty() && sender.send(Input::Events(events)).await.is_err() {
                return;
            }
        }
    });
    task.abort_handle()
}

fn list_in(netns: &Netns, counted: Counted) -> Result<nattrace_core::ruleset::Listing, String> {
    ruleset::list_with(netns, counted).map(|listed| listed.listing).map_err(|error| error.to_string())
}

/// What rules have counted is in nft's lines, and a recording can be told in them.
pub(super) fn counted(plan: &TracePlan) -> Counted {
    if plan.output.format == Format::Nft || plan.record.is_some() { Counted::Yes } else { Counted::No }
}

fn clock(time_ns: u64, quiet: bool) -> Event {
    Event { time_ns, cpu: u32::MAX, netns: 0, body: Body::Clock { quiet } }
}

fn loss(source: Source, count: Option<u64>, first_ns: u64, last_ns: u64) -> Event {
    Event {
        time_ns: last_ns,
        cpu: u32::MAX,
        netns: 0,
        body: Body::Loss(Loss { source, count, first_ns, last_ns }),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn records(ring: Option<&AsyncFd<OwnedFd>>) -> Result<tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>> {
    match ring {
        Some(ring) => ring.readable().await.context("waiting for records"),
        None => std::future::pending().await,
    }
}

/// Whether a set has an element.
fn answer(netns: &Netns, question: Question) -> Event {
    let Question { family, table, set, element, .. } = &question;
    let has = ruleset::has_element(netns, *family, table, set, element);
    answered(question, has)
}

/// An answer, as an event of this moment.
fn answered(question: Question, has: Option<bool>) -> Event {
    let Question { netns, family, table, set, element } = question;
    let answer = SetAnswer { family, table, set, element, has };
    Event { time_ns: now_ns(), cpu: u32::MAX, netns, body: Body::SetAnswer(answer) }
}
