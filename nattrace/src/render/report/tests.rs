//! Reports of the sample journeys: what they hold, and that what comes from outside stays text.

use nattrace_core::event::{HookPoint, Source, Verdict};
use nattrace_core::journey::{DropCause, Journey, Outcome, StepKind};

use super::*;
use crate::render::Tally;
use crate::render::samples::{self, at_home, broken, fixed};

fn report(form: Form, journeys: &[Journey]) -> String {
    let mut report = Report::new(form, TimeZone::UTC);
    let (mut tally, mut causes) = (Tally::default(), Causes::default());
    for journey in journeys {
        report.journey(journey);
        tally.add(journey);
        causes.add(journey);
    }
    report.conversation(&samples::conversation());
    let summary = Summary { journeys: tally, causes: causes.worst_first(), ..Summary::default() };
    report.summary(&summary, &at_home())
}

/// A journey with this wherever somebody else chooses the text.
fn hostile(text: &str) -> Journey {
    let mut journey = broken();
    let wicked = |rule: &mut nattrace_core::journey::RuleRef| {
        rule.text = Some(format!("counter comment \"{text}\" drop").into());
        rule.table = text.into();
        rule.chain = text.into();
    };
    journey.iif = Some(text.into());
    for step in &mut journey.steps {
        match &mut step.kind {
            StepKind::Rule(step) => {
                wicked(&mut step.rule);
                if let Some(Verdict::Jump(to)) = &mut step.verdict {
                    text.clone_into(to);
                }
            }
            StepKind::Rewrite { rule: Some(rule), .. } => wicked(rule),
            StepKind::Route { oif: Some(name), .. } | StepKind::Device { name, .. } => *name = text.into(),
            _ => {}
        }
    }
    if let Outcome::Dropped(DropCause::Rule { rule, hook }) = &mut journey.outcome {
        wicked(rule);
        *hook = Some(HookPoint::Forward);
    }
    for finding in &mut journey.findings {
        finding.text = text.to_owned();
        finding.fix = vec![text.to_owned()];
    }
    journey
}

const WICKED: [&str; 5] = [
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "<!--<script>' onload='alert(1)",
    "]]></style><svg onload=alert(1)>\u{202e}\x1b[2J",
    "\\\"]; evil [label=\"\\N&amp;\n",
];

#[test]
fn hostile_text_stays_text() {
    for text in WICKED {
        let again = samples::again(2, &hostile(text), 1.0);
        let journeys = [hostile(text), again];
        let page = report(Form::Html, &journeys);
        // Each of the page's own elements, and no other.
        let plain = report(Form::Html, &[broken(), samples::again(2, &broken(), 1.0)]);
        for tag in ["<script", "</script", "<img", "<style", "</style", "<!--", "<svg"] {
            assert_eq!(page.matches(tag).count(), plain.matches(tag).count(), "{tag} with {text:?}");
        }
        assert!(!page.contains(['\u{202e}', '\x1b']), "{text:?}");
        let svg = report(Form::Svg, &journeys);
        for tag in ["<script", "<img", "<!--", "]]>"] {
            assert!(!svg.contains(tag), "{tag} with {text:?}");
        }
        let dot = report(Form::Dot, &journeys);
        for line in dot.lines() {
            let mut quotes = 0;
            let mut escaped = false;
            for c in line.chars() {
                match c {
                    '"' if !escaped => quotes += 1,
                    _ => {}
                }
                escaped = c == '\\' && !escaped;
            }
            assert_eq!(quotes % 2, 0, "a string of DOT does not end: {line}");
        }
    }
}

#[test]
fn findings_come_first() {
    let page = report(Form::Html, &[broken(), fixed()]);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("set @allow_in, and 192.168.70.10 . 22") < at("<svg class=\"picture\""));
    assert!(at("nft add element inet filter allow_in { 192.168.70.10 . 22 }") < at("id=\"connections\""));
    assert!(at("Where the packets went") < at("id=\"connections\""));
    assert!(at("id=\"connections\"") < at("id=\"packets\""));
    assert!(
        page.contains("<h1><span class=\"title\">2 packets</span>: <span class=\"drop\">1 dropped</span>, ")
    );
}

#[test]
fn the_policy_names_the_page_s_own_script_and_style() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let page = report(Form::Html, &[broken()]);
    let between = |a: &str, b: &str| {
        let rest = &page[page.find(a).expect(a) + a.len()..];
        &rest[..rest.find(b).expect(b)]
    };
    for (text, directive) in
        [(between("<style>", "</style>"), "style-src"), (between("<script>", "</script>"), "script-src")]
    {
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(text));
        assert!(page.contains(&format!("{directive} 'sha256-{hash}'")), "{directive}");
    }
    assert!(!page.contains(" style=\""), "an attribute that the policy forbids");
}

#[test]
fn what_has_no_room_is_said() {
    let mut many = Report::new(Form::Html, TimeZone::UTC);
    let mut tally = Tally::default();
    for id in 1..=MAX_PACKETS as u64 + 5 {
        let journey = samples::again(id, &fixed(), 0.0);
        many.journey(&journey);
        tally.add(&journey);
    }
    many.loss(
        &Loss { source: Source::Probes, count: Some(3), first_ns: samples::T0, last_ns: samples::T0 },
        &[],
    );
    let page = many.summary(&Summary { journeys: tally, ..Summary::default() }, &at_home());
    assert!(page.contains("The first 10000 are listed; 5 packets more are in the sums and pictures."));
    assert!(page.contains("3 events of probes lost at 22:13:20.000"));
    assert!(page.contains("data-packets=\"10005\""), "the picture has them all");
}

#[test]
fn a_connection_that_nobody_answered_has_room_behind_a_thousand_others() {
    let mut report = Report::new(Form::Html, TimeZone::UTC);
    let other = |port: u16| {
        let mut conversation = samples::conversation();
        conversation.original.source.port = Some(port);
        conversation
    };
    (1..=1001).for_each(|port| report.conversation(&other(port)));
    let mut silent = other(2000);
    silent.findings = broken().findings;
    report.conversation(&silent);
    // Told again, it has been answered.
    report.conversation(&other(2000));
    report.conversation(&silent);
    assert_eq!((report.conversations.len(), report.troubled), (MAX_CONNECTIONS + 1, 1));
    let page = report.summary(&Summary::default(), &at_home());
    assert!(page.contains("There were more connections, which have no room here."));
    assert!(
        page.find("10.2.1.2:2000").expect("the silent one") < page.find("id=\"connections\"").expect("all")
    );
}

#[test]
fn causes_that_come_late_are_told_still() {
    let journeys: Vec<Journey> = (1..=MAX_GROUPS as u64 + 5)
        .flat_map(|id| {
            let mut journey = broken();
            if let Outcome::Dropped(DropCause::Rule { rule, .. }) = &mut journey.outcome {
                rule.handle = id;
            }
            // The last one is the worst.
            let times = if id == MAX_GROUPS as u64 + 5 { 3 } else { 1 };
            (0..times).map(move |time| Journey { id: JourneyId(id * 10 + time), ..journey.clone() })
        })
        .collect();
    let page = report(Form::Html, &journeys);
    assert!(page.contains("<span class=\"drop\">✗ 3 dropped</span> by rule &quot;drop&quot; (inet filter allowed_dnats handle 205)"));
    assert!(page.contains("It came after 200 other causes: no picture is made of it."));
    assert!(page.contains("And 185 more causes"));
}

#[test]
fn nothing_is_told_as_nothing() {
    let page = report(Form::Html, &[]);
    assert!(page.contains("No packet matched.") && !page.contains("<svg class=\"picture\""));
    assert!(report(Form::Svg, &[]).contains("No packet."));
    assert_eq!(report(Form::Dot, &[]).lines().last(), Some("}"));
}
