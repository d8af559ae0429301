//! Command lines, and the plans or the mistakes that they are.

use super::*;
use crate::cli::{Stop, parse};
use nattrace_core::filter::{Masked, PortRange};

fn plan(line: &str) -> Result<Plan, String> {
    let argv = std::iter::once("nattrace").chain(line.split_whitespace()).map(Into::into);
    parse(argv, &Terminal::default()).map_err(|stop| match stop {
        Stop::Mistake(mistake) => mistake.to_string(),
        Stop::Print(text) => text,
    })
}

fn trace(line: &str) -> TracePlan {
    match plan(line) {
        Ok(Plan::Trace(plan)) => *plan,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn without_a_flag_everything_has_its_default() {
    let plan = trace("");
    assert_eq!(plan.filter, Filter::default());
    assert_eq!(plan.netns, NetnsChoice::Current);
    assert!(plan.follow && plan.trace_table && !plan.dry_run);
    assert_eq!((plan.count, plan.duration, plan.rate), (None, None, Some(10)));
    assert_eq!(plan.sources, Sources { set: Source::ALL.into(), named: false });
    assert_eq!(plan.output.format, Format::Text);
    assert_eq!(plan.output.width, Width::Unbroken);
}

#[test]
fn every_flag_reaches_the_plan() {
    let plan = trace(
        "--proto tcp,6 --saddr 10.0.0.0/8 --daddr 10.1.2.3 --addr 10.0.0.0/8 --sport 1024-65535 --dport 22 \
         --dport 8000-8100 --port 22 --iif enp0 --oif veth21 --mark 0x1/0xf --tcp-flags syn,!ack --netns rtr,web \
         --no-follow --count 3 --duration 1h30m --rate 0 --format json --record /tmp/r --anonymize --record-limit 10M -o /tmp/o \
         --record-format compact --memory 64M \
         --sources nft,conntrack --no-trace-table --dry-run",
    );
    assert_eq!(plan.filter.protocols, [6]);
    assert_eq!(plan.filter.dport, [PortRange { first: 22, last: 22 }, PortRange { first: 8000, last: 8100 }]);
    assert_eq!(plan.filter.tcp_flags, Some(Masked { value: 2, mask: 0x12 }));
    assert_eq!(plan.netns, NetnsChoice::Named(vec!["rtr".into(), "web".into()]));
    assert!(!plan.follow && !plan.trace_table && plan.dry_run);
    assert_eq!((plan.count, plan.duration, plan.rate), (Some(3), Some(Duration::from_mins(90)), None));
    assert_eq!(plan.sources.set, [Source::Nft, Source::Conntrack].into());
    assert_eq!(plan.output.format, Format::Json);
    assert_eq!(
        plan.record,
        Some(Recording {
            path: "/tmp/r".into(),
            format: RecordFormat::Compact,
            limit: 10 << 20,
            anonymize: true
        })
    );
    assert_eq!((plan.output.path, plan.memory), (Some("/tmp/o".into()), 64 << 20));
}

#[test]
fn options_before_and_after_replay_belong_together() {
    let Ok(Plan::Replay(plan)) =
        plan("--dport 22 --format json --anonymize replay trace.rec --dport 80 --count 2")
    else {
        panic!("a replay");
    };
    assert_eq!(plan.filter.dport.len(), 2);
    assert_eq!(plan.output.format, Format::Json);
    assert_eq!(plan.count, Some(2));
    assert_eq!(plan.netns, NetnsChoice::All);
    assert_eq!(plan.input, Input::File("trace.rec".into()));
}

fn tui(line: &str, terminal: &Terminal) -> Result<TuiPlan, String> {
    let argv = std::iter::once("nattrace").chain(line.split_whitespace()).map(Into::into);
    match parse(argv, terminal) {
        Ok(Plan::Tui(plan)) => Ok(*plan),
        Err(Stop::Mistake(mistake)) => Err(mistake.to_string()),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_interface_takes_what_a_trace_and_a_replay_take() {
    let terminal = Terminal { stdout: true, ..Terminal::default() };
    let live = tui("--dport 22 tui --rate 0 --record x --netns web", &terminal).unwrap();
    assert!(live.color);
    let Watched::Trace(plan) = live.watched else { panic!("a trace") };
    assert_eq!((plan.filter.dport.len(), plan.rate), (1, None));
    assert_eq!(plan.netns, NetnsChoice::Named(vec!["web".into()]));
    assert!(plan.record.is_some());
    let recorded = tui("tui x.rec --saddr 10.0.0.1 --color never", &terminal).unwrap();
    assert!(!recorded.color);
    let Watched::Replay(plan) = recorded.watched else { panic!("a replay") };
    assert_eq!(plan.input, Input::File("x.rec".into()));
    assert_eq!(plan.filter.saddr.len(), 1);
    let written = tui("tui --format json -o x.json", &terminal).unwrap();
    let Watched::Trace(plan) = written.watched else { panic!("a trace") };
    assert_eq!((plan.output.format, plan.output.path), (Format::Json, Some("x.json".into())));
}

#[test]
fn the_interface_needs_a_screen() {
    let terminal = Terminal { stdout: true, ..Terminal::default() };
    let dumb = Terminal { dumb: true, ..terminal.clone() };
    for (line, terminal, said) in [
        (
            "tui",
            &Terminal::default(),
            "tui: standard output is not a terminal; use nattrace without tui, which writes lines",
        ),
        (
            "tui x.rec",
            &Terminal::default(),
            "tui: standard output is not a terminal; use `nattrace replay x.rec`, which writes lines",
        ),
        (
            "tui",
            &dumb,
            "tui with TERM=dumb: such a terminal has no screen to draw on; use nattrace without tui, which \
             writes lines",
        ),
        ("tui --dry-run", &terminal, "--dry-run with tui: there is nothing to look at; leave out tui"),
        (
            "tui --format json",
            &terminal,
            "--format json with tui: the screen has a form of its own; give -o FILE, too, for what it is to be \
             written to",
        ),
        (
            "tui x.rec --rate 5",
            &terminal,
            "--rate with a recording: it has a meaning only while the kernel is traced; leave out --rate",
        ),
    ] {
        assert_eq!(tui(line, terminal).unwrap_err(), said);
    }
}

#[test]
fn a_collector_is_beside_the_output() {
    let url = |otlp: Option<Otlp>| otlp.map(|otlp| otlp.url);
    let live = trace("--otlp http://collector --format json -o /tmp/o");
    assert_eq!(url(live.otlp).as_deref(), Some("http://collector:4318/v1/traces"));
    assert_eq!((live.output.format, live.output.path), (Format::Json, Some("/tmp/o".into())));
    for line in [
        "--otlp http://a:1 replay f",
        "replay f --otlp http://a:1",
        "--otlp http://b replay f --otlp http://a:1",
    ] {
        let Ok(Plan::Replay(plan)) = plan(line) else { panic!("a replay") };
        assert_eq!(url(plan.otlp).as_deref(), Some("http://a:1/v1/traces"), "{line}");
    }
    assert_eq!(trace("").otlp, None);
}

#[test]
fn a_report_is_a_replay_that_makes_a_page() {
    for (line, format) in [
        ("--dport 22 report f --count 2", Format::Html),
        ("--dport 22 report f --count 2 --format svg", Format::Svg),
        ("--format dot --dport 22 replay f --count 2", Format::Dot),
    ] {
        let Ok(Plan::Replay(plan)) = plan(line) else { panic!("{line}") };
        assert_eq!((plan.output.format, plan.count, plan.filter.dport.len()), (format, Some(2), 1));
    }
    let terminal = Terminal { stdout: true, ..Terminal::default() };
    let typed = |line: &str| parse(line.split(' ').map(Into::into), &terminal);
    let Err(Stop::Mistake(mistake)) = typed("nattrace report f") else { panic!("a mistake") };
    assert_eq!(
        mistake.to_string(),
        "--format html: a page on a terminal is of no use; write it to a file, as in -o report.html"
    );
    assert!(typed("nattrace report f -o page.html").is_ok());
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (line, said) in [
        ("--rate 5 replay f", "--rate with replay: it has a meaning only while the kernel is traced"),
        ("replay f --rate 5", "--rate: the option has no meaning for this command"),
        ("check --dport 1", "--dport: the option has no meaning for this command"),
        ("--dport 1 check", "--dport with check: check looks at the kernel"),
        ("--otlp http://h check", "--otlp with check: check looks at the kernel"),
        ("--otlp h:4318", "--otlp h:4318: a URL begins with http:// or https:// and names a host; give one"),
        ("check --format nft", "check --format nft: nft has no grammar for it"),
        ("check --format pcapng", "check --format pcapng: there are no packets in it"),
        ("check --format svg", "check --format svg: there are no packets to show"),
        ("--rate 5 report f", "--rate with report: it has a meaning only while the kernel is traced"),
        ("report f --format json", "report --format json: a report is a page (html) or its picture"),
        ("report f -o ./f", "-o ./f: the results would overwrite the recording"),
        ("replay f -o ./f", "-o ./f: the results would overwrite the recording"),
        ("--record x -o x", "--record x with -o x: the recording and the results"),
        ("--anonymize", "--anonymize: nothing is recorded, and what is told"),
        ("--anonymize check", "--anonymize with check: check looks at the kernel"),
        ("--format json anonymize f", "--format with anonymize: all of a recording is made anew"),
        ("-o ./f anonymize f", "-o ./f: the results would overwrite the recording"),
        ("anonymize f -o ./f", "-o ./f: the results would overwrite the recording"),
        ("--dport 1 anonymize f", "--dport with anonymize: all of a recording is made anew"),
        ("anonymize", "anonymize: the FILE is missing; name one, as in `nattrace anonymize trace.rec"),
        ("--record-limit 5M", "--record-limit 5M: nothing is recorded; give --record FILE, too"),
        ("--record x --record-limit 5Q", "--record-limit 5Q: not a size"),
        ("--record x --record-limit 9", "--record-limit 9: too small"),
        ("--record-format json", "--record-format json: nothing is recorded; give --record FILE, too"),
        ("--record x --record-format xml", "--record-format xml: not a format of recordings"),
        ("--memory 1M", "--memory 1M: too little for the program itself"),
        ("--netns all,web", "--netns all,web: all is every namespace already"),
    ] {
        let mistake = plan(line).unwrap_err();
        assert!(mistake.starts_with(said), "{line}: {mistake}");
    }
}

#[test]
fn what_is_no_text_does_not_go_to_a_terminal() {
    let terminal = Terminal { stdout: true, ..Terminal::default() };
    let plan = |line: &str| parse(line.split_whitespace().map(Into::into), &terminal);
    let Err(Stop::Mistake(mistake)) = plan("nattrace anonymize f") else { panic!("it is refused") };
    assert!(mistake.to_string().starts_with("anonymize: a recording is no text, and standard output"));
    for line in ["nattrace --format pcapng", "nattrace replay f --format pcapng -o -"] {
        let Err(Stop::Mistake(mistake)) = plan(line) else { panic!("{line} is refused") };
        assert!(mistake.to_string().starts_with("--format pcapng: it is no text, and standard output"));
    }
    assert!(plan("nattrace --format pcapng -o f").is_ok());
    let pipe = Terminal::default();
    assert!(parse(["nattrace", "--format", "pcapng"].map(Into::into), &pipe).is_ok());
}

#[test]
fn filters_that_no_packet_can_match_are_refused() {
    for line in [
        "--proto icmp --dport 1",
        "--proto gre,47 --port 1",
        "--tcp-flags syn --proto udp",
        "--saddr 10.0.0.1 --daddr ::1",
        "--saddr 10.0.0.1 --addr ::1",
        "--tcp-flags syn,!syn",
        "--mark 0x10/0xf",
        "--proto icmp --saddr ::1",
        "--proto icmpv6 --saddr 10.0.0.1",
        "--saddr 10.0.0.1 --daddr 10.0.0.2 --addr 10.0.0.3",
        "--sport 1 --dport 2 --port 3",
        "--proto udp --dport 1 --tcp-flags syn",
    ] {
        let mistake = plan(line).unwrap_err();
        assert!(mistake.contains("so no packet can match; "), "{line}: {mistake}");
        assert!(!mistake.contains('\n'));
    }
    for line in [
        "--proto icmp,tcp --dport 1",
        "--proto icmp,icmpv6",
        "--proto icmp,icmpv6 --saddr ::1",
        "--saddr 10.0.0.1,::1 --daddr ::1",
        "--saddr 10.0.0.1 --addr 10.0.0.2",
        "--saddr 10.0.0.1 --daddr 10.0.0.2 --addr 10.0.0.0/8",
        "--tcp-flags syn --dport 80",
        "--mark 0/0",
    ] {
        assert!(plan(line).is_ok(), "{line}: {:?}", plan(line));
    }
}
