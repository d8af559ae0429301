//! Recordings, which are bug reports: read by whoever gets them, with whatever is in them.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;

use nattrace::cli::plan::{Format, Output, Width};
use nattrace::render::escape::escape;
use nattrace::render::{Renderer, Start, Summary, Tally};
use nattrace_core::anonymize::Anonymizer;
use nattrace_core::conversation::Conversations;
use nattrace_core::event::{Body, Event};
use nattrace_core::filter::Filter;
use nattrace_core::findings::Causes;
use nattrace_core::journey::assemble::{Assembler, Options, SourcesOn};
use nattrace_core::record::{self, Decoded, Reader, Writer, decode};

/// A recording as a file: packed or not, whole or not. What was read is what is read again of what is written of it.
pub(crate) fn read(data: &[u8]) {
    let Ok(mut reader) = Reader::open(data) else { return };
    let mut header = reader.header().clone();
    let mut events = Vec::new();
    // A packed file of a few bytes may be of many lines.
    while events.len() < 1000
        && let Ok(Decoded::Event(event)) = reader.next()
    {
        events.push(*event);
    }
    for format in [record::Format::Json, record::Format::Compact] {
        let mut written = Vec::new();
        let mut writer = Writer::begin(&mut written, &header, format, None).expect("a header that was read");
        for event in &events {
            writer.event(event).expect("an event that was read");
        }
        writer.finish().expect("a recording");
        let mut again = Reader::open(written.as_slice()).expect("what was written");
        header.version = format.version();
        assert_eq!(*again.header(), header);
        for event in &events {
            assert_eq!(again.next().expect("an event"), Decoded::Event(Box::new(event.clone())));
        }
    }
}

/// The lines of a recording without its first: all stages after the sources, as a replay goes through them, to every format.
/// Lines that are no event are passed over.
pub(crate) fn replay(data: &[u8]) {
    let events: Vec<Event> = data.split(|byte| *byte == b'\n').filter_map(|line| decode(line).ok()).collect();
    if events.is_empty() {
        return;
    }
    tell(&events);
    let mut anonymizer = Anonymizer::new([3; 16]);
    for event in &events {
        anonymizer.learn(event);
    }
    for event in &events {
        black_box(anonymizer.event(event));
    }
}

const FORMATS: [Format; 7] =
    [Format::Text, Format::Json, Format::Nft, Format::Pcapng, Format::Html, Format::Svg, Format::Dot];

/// A renderer of each format, told the same.
struct Told(Vec<(Format, Renderer<Vec<u8>>)>);

impl Told {
    fn all(&mut self, tell: impl Fn(&mut Renderer<Vec<u8>>) -> io::Result<()>) {
        for (_, renderer) in &mut self.0 {
            tell(renderer).expect("memory");
        }
    }
}

fn tell(events: &[Event]) {
    let mut told = Told(Vec::new());
    for format in FORMATS {
        let output = Output { format, path: None, color: false, width: Width::Columns(60) };
        told.0.push((format, Renderer::new(&output, Vec::new())));
    }
    told.all(|r| r.start(&Start { kernel: None, filter: Filter::default(), sources: BTreeMap::new() }));
    let options = Options {
        sources: SourcesOn::where_on(|_| true),
        memory: 1 << 20,
        asks: true,
        keep_messages: true,
        keep_sights: true,
        ..Options::default()
    };
    let mut assembler = Assembler::new(options);
    let (mut tally, mut causes, mut losses) = (Tally::default(), Causes::default(), Vec::new());
    let mut conversations = Conversations::new(true);
    let mut last_ns = 0;
    for event in events.iter().map(Some).chain([None]) {
        if let Some(event) = event {
            last_ns = event.time_ns.max(last_ns);
            match &event.body {
                Body::Namespace { name: Some(name) } => told.all(|r| {
                    r.namespaces().set_name(event.netns, name);
                    Ok(())
                }),
                Body::Neighbour(answer) => conversations.neighbour(event.netns, answer),
                Body::Loss(loss) => losses.push(loss.clone()),
                _ => {}
            }
            assembler.push(event.clone());
        }
        let journeys = if event.is_some() { assembler.finished() } else { assembler.finish(last_ns) };
        for journey in journeys {
            tally.add(&journey);
            causes.add(&journey);
            told.all(|r| r.journey(&journey));
            let crowded_out = conversations.add(&journey);
            if let Some(conversation) = &crowded_out {
                told.all(|r| r.conversation(conversation));
            }
        }
        if event.is_none_or(|event| matches!(event.body, Body::Clock { .. })) {
            black_box(conversations.questions(last_ns));
            let quiet =
                if event.is_some() { conversations.quiet(last_ns) } else { conversations.rest(last_ns) };
            for conversation in &quiet {
                told.all(|r| r.conversation(conversation));
            }
            told.all(|r| r.settled(assembler.settled_ns()));
        }
    }
    for loss in &losses {
        told.all(|r| r.loss(loss, &[]));
    }
    let summary = Summary { journeys: tally, causes: causes.worst_first(), ..Summary::default() };
    told.all(|r| r.summary(&summary));
    for (format, renderer) in told.0 {
        if format == Format::Pcapng {
            continue;
        }
        let text = String::from_utf8(renderer.into_inner()).expect("text");
        for line in text.lines() {
            assert_eq!(escape(line), line, "{format:?} has a character that a terminal obeys");
        }
    }
}
