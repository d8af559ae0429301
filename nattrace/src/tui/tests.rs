//! The interface without a terminal: recordings and keys in, pictures out.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use expect_test::expect_file;
use jiff::tz::TimeZone;
use nattrace_core::conntrack::Direction;
use nattrace_core::journey::{Journey, JourneyId, Outcome, StepKind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use rustix::time::{ClockId, clock_gettime};

use super::feed::{Feed, KEPT, News, Taken};
use super::keys::BINDINGS;
use super::list::{List, Row};
use super::model::{Effect, Model, Screen};
use super::view;
use crate::cli::{Plan, Terminal as Surroundings, parse, plan::ReplayPlan};
use crate::render::escape::is_unsafe;
use crate::render::{Namespaces, Renderer};
use crate::session::Audience;
use crate::session::replay;

/// In `nattrace-core/tests/recordings`.
const BROKEN: &str = "full-forward-broken";
const MASQUERADE: &str = "full-forward-masquerade";
const NAMESPACES: &str = "full-namespaces";

fn plan(name: &str) -> ReplayPlan {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../nattrace-core/tests/recordings").join(name);
    let argv = ["nattrace".into(), "replay".into(), path.with_extension("jsonl").into_os_string()];
    match parse(argv, &Surroundings::default()) {
        Ok(Plan::Replay(plan)) => *plan,
        other => panic!("{other:?}"),
    }
}

fn taken(name: &str) -> Taken {
    let feed = Feed::default();
    replay::tell(&plan(name), vec![Box::new(feed.clone())], || false).expect("a recording");
    feed.take(usize::MAX)
}

fn journeys(name: &str) -> Vec<Journey> {
    let news = taken(name).news.into_iter();
    news.filter_map(|news| if let News::Journey(journey) = news { Some(*journey) } else { None }).collect()
}

/// The whole recording, as it is shown when it has been read.
fn recorded(name: &str) -> Model {
    let mut model = Model::new(format!("{name}.jsonl"), false, TimeZone::UTC);
    model.take(taken(name));
    model.end(None);
    model
}

fn news(journeys: impl IntoIterator<Item = Journey>) -> Taken {
    let mut feed = Feed::default();
    journeys.into_iter().for_each(|journey| feed.journey(&journey).expect("no trouble"));
    feed.take(usize::MAX)
}

fn live(journeys: impl IntoIterator<Item = Journey>) -> Model {
    let mut model = Model::new("--dport 1222".to_owned(), true, TimeZone::UTC);
    model.take(news(journeys));
    model
}

/// Keys as they are typed: a character each, `<Esc>` and the like.
fn press(model: &mut Model, keys: &str) -> Effect {
    let mut last = Effect::None;
    let mut rest = keys;
    while let Some(c) = rest.chars().next() {
        let named = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let code = match named.map(|(name, _)| name) {
            Some("Esc") => KeyCode::Esc,
            Some("Enter") => KeyCode::Enter,
            Some("Tab") => KeyCode::Tab,
            Some("Back") => KeyCode::Backspace,
            Some("Up") => KeyCode::Up,
            Some("Left") => KeyCode::Left,
            Some("Right") => KeyCode::Right,
            Some("End") => KeyCode::End,
            Some("PgDn") => KeyCode::PageDown,
            Some(other) => panic!("{other}"),
            None => KeyCode::Char(c),
        };
        rest = named.map_or_else(|| &rest[c.len_utf8()..], |(_, rest)| rest);
        last = model.key(&KeyEvent::new(code, KeyModifiers::NONE));
    }
    last
}

fn drawn(model: &mut Model, (columns, rows): (u16, u16), color: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    let mut seen = None;
    terminal.draw(|frame| seen = Some(view::draw(model, color, frame))).expect("a picture");
    model.was_drawn(seen.expect("it was drawn"));
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let line: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A letter for the look of each character: colours in small letters, bold in capitals; `#` is reversed, `_` underlined.
fn looks(buffer: &Buffer) -> String {
    let mut looks = String::new();
    for y in 0..buffer.area.height {
        let look = |x| {
            let cell = &buffer[(x, y)];
            let letter = match cell.fg {
                Color::Reset if cell.modifier.contains(Modifier::DIM) => '-',
                Color::Reset if cell.modifier.contains(Modifier::BOLD) => 'o',
                Color::Reset => ' ',
                Color::Red => 'r',
                Color::Green => 'g',
                Color::Yellow => 'y',
                Color::Blue => 'b',
                Color::Magenta => 'm',
                Color::Cyan => 'c',
                other => panic!("{other}"),
            };
            match letter {
                _ if cell.modifier.contains(Modifier::REVERSED) => '#',
                _ if cell.modifier.contains(Modifier::UNDERLINED) => '_',
                letter if cell.modifier.contains(Modifier::BOLD) => letter.to_ascii_uppercase(),
                letter => letter,
            }
        };
        let line: String = (0..buffer.area.width).map(look).collect();
        looks.push_str(line.trim_end());
        looks.push('\n');
    }
    looks
}

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);

#[test]
fn a_packet_that_was_dropped() {
    let mut model = recorded(BROKEN);
    expect_file!["snapshots/broken-80x24.txt"].assert_eq(&text(&drawn(&mut model, SMALL, false)));
    expect_file!["snapshots/broken-120x40.txt"].assert_eq(&text(&drawn(&mut model, LARGE, false)));
}

#[test]
fn colours_repeat_what_signs_say() {
    let mut model = recorded(BROKEN);
    let coloured = drawn(&mut model, SMALL, true);
    let plain = drawn(&mut model, SMALL, false);
    assert_eq!(text(&coloured), text(&plain), "the same words");
    expect_file!["snapshots/broken-80x24-colours.txt"].assert_eq(&looks(&coloured));
    expect_file!["snapshots/broken-80x24-without.txt"].assert_eq(&looks(&plain));
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
}

#[test]
fn a_connection_that_came_through() {
    let mut model = recorded(MASQUERADE);
    expect_file!["snapshots/through-80x24.txt"].assert_eq(&text(&drawn(&mut model, SMALL, false)));
    press(&mut model, "<Up>");
    expect_file!["snapshots/through-120x40.txt"].assert_eq(&text(&drawn(&mut model, LARGE, false)));
}

#[test]
fn a_journey_through_namespaces() {
    let mut model = recorded(NAMESPACES);
    press(&mut model, "<Enter>");
    expect_file!["snapshots/namespaces-80x24.txt"].assert_eq(&text(&drawn(&mut model, SMALL, false)));
}

#[test]
fn pages() {
    let mut model = recorded(BROKEN);
    for (keys, expected) in [
        ("?", expect_file!["snapshots/help-80x24.txt"]),
        ("qc", expect_file!["snapshots/causes-80x24.txt"]),
        ("qy", expect_file!["snapshots/fix-80x24.txt"]),
        ("qfsyn !sent", expect_file!["snapshots/filter-80x24.txt"]),
    ] {
        press(&mut model, keys);
        expected.assert_eq(&text(&drawn(&mut model, SMALL, false)));
    }
}

#[test]
fn every_key_is_in_the_documentation() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/tui.md");
    let document = std::fs::read_to_string(&path).expect("a document");
    let begin = document.find("|---|---|\n").expect("a table") + "|---|---|\n".len();
    let end = begin + document[begin..].find("\n\n").expect("its end") + 1;
    let mut rows = String::new();
    for binding in &BINDINGS {
        writeln!(rows, "| `{}` | {} |", binding.shown, binding.what).expect("no trouble");
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, format!("{}{rows}{}", &document[..begin], &document[end..])).expect("written");
    } else {
        assert_eq!(document[begin..end], rows, "UPDATE_EXPECT=1 renews it");
    }
}

#[test]
fn following_chooses_the_newest_until_one_moves_up() {
    let all = journeys(MASQUERADE);
    let mut model = live(all[..3].iter().cloned());
    assert!(model.follow);
    assert_eq!(model.chosen_row(), Some(Row::Packet(2)));
    model.take(news(all[3..4].iter().cloned()));
    assert_eq!(model.chosen_row(), Some(Row::Packet(3)));
    press(&mut model, "<Up>");
    assert!(!model.follow);
    let chosen = model.chosen_row();
    model.take(news(all[4..].iter().cloned()));
    assert_eq!(model.chosen_row(), chosen, "what is looked at stays");
    press(&mut model, "F");
    assert_eq!(model.chosen_row(), Some(Row::Packet(all.len() as u64 - 1)));
}

#[test]
fn a_filter_works_while_it_is_typed() {
    let mut model = recorded(MASQUERADE);
    let all = model.rows.len();
    let replies = journeys(MASQUERADE)
        .iter()
        .filter(|journey| journey.connection.as_ref().and_then(|it| it.direction) == Some(Direction::Reply))
        .count();
    press(&mut model, "fREPLY");
    let shown = |model: &Model| model.rows.iter().filter(|row| matches!(row, Row::Packet(_))).count();
    assert!(shown(&model) >= replies && shown(&model) < all, "{}", shown(&model));
    press(&mut model, " nowhere-to-be-found");
    assert_eq!(model.rows.len(), 0);
    assert!(text(&drawn(&mut model, SMALL, false)).contains("No packet fits the filter"));
    press(&mut model, "<Esc>");
    assert_eq!(model.rows.len(), all, "as it was before");
    press(&mut model, "fsynx<Back><Enter>");
    assert_eq!(model.list.filtered_by().typed(), "syn");
    press(&mut model, "<Esc>");
    assert_eq!(model.rows.len(), all);
}

#[test]
fn rule_texts_chains_and_outcomes_are_found() {
    let mut model = recorded(BROKEN);
    let all = model.rows.len();
    for typed in ["allowed_dnats", "10.1.2.3:1222", "dropped", "dnat ip to", "nft insert rule", "veth21"] {
        press(&mut model, &format!("f{typed}"));
        assert!(!model.rows.is_empty(), "{typed}");
        press(&mut model, "<Esc>");
        assert_eq!(model.rows.len(), all);
    }
}

#[test]
fn search_goes_round() {
    let mut model = recorded(MASQUERADE);
    let fitting = |model: &Model| {
        let fits = |row: &&Row| model.list.fits(**row, &model.search);
        model.rows.iter().filter(fits).copied().collect::<Vec<_>>()
    };
    press(&mut model, "g/fin<Enter>");
    let all = fitting(&model);
    assert!(all.len() > 1, "{all:?}");
    let mut met = vec![model.chosen_row().expect("found")];
    for _ in 1..all.len() {
        press(&mut model, "n");
        met.extend(model.chosen_row());
    }
    assert_eq!(met, all);
    press(&mut model, "n");
    assert_eq!(model.chosen_row(), all.first().copied(), "round");
    press(&mut model, "N");
    assert_eq!(model.chosen_row(), all.last().copied());
    press(&mut model, "/nowhere<Enter>");
    assert!(model.message.as_ref().is_some_and(|said| said.text().contains("not found: nowhere")));
}

#[test]
fn escape_and_a_key_at_once_are_two_keys() {
    let mut model = recorded(MASQUERADE);
    press(&mut model, "?");
    let both = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT);
    assert_eq!(model.key(&both), Effect::Quit);
    assert_eq!(model.screen, Screen::Both);
}

#[test]
fn folding() {
    let mut model = recorded(MASQUERADE);
    let all = model.rows.len();
    press(&mut model, "<Left>");
    assert!(model.rows.len() < all);
    assert!(matches!(model.chosen_row(), Some(Row::Connection(_))), "it stands for its packets");
    press(&mut model, "<Right>");
    assert_eq!(model.rows.len(), all);
    press(&mut model, "z");
    assert!(model.rows.iter().all(|row| matches!(row, Row::Connection(_))));
    press(&mut model, "z");
    assert_eq!(model.rows.len(), all);
}

#[test]
fn the_fix_is_copied_as_it_is_to_be_typed() {
    let mut model = recorded(BROKEN);
    let fix = journeys(BROKEN)[0].findings[0].fix.join("\n");
    assert!(!fix.is_empty());
    assert_eq!(press(&mut model, "y"), Effect::Copy(fix.clone()));
    assert_eq!(model.screen, Screen::Fix);
    let shown = text(&drawn(&mut model, (120, 24), false));
    assert!(shown.lines().any(|line| line == fix), "a line of its own: {shown}");
    // Where it is too long for one, a shell reads the lines as one.
    let shown = text(&drawn(&mut model, SMALL, false));
    let (_, broken) = shown.split_once("\n\n").expect("a blank line before it");
    let (broken, _) = broken.split_once("\n\n").expect("and one after it");
    let joined = broken.replace("\\\n", " ");
    assert_eq!(joined.split_whitespace().collect::<Vec<_>>(), fix.split_whitespace().collect::<Vec<_>>());
    press(&mut model, "x");
    assert_eq!(model.screen, Screen::Both);
    assert_eq!(model.looked_at().len(), 1);
    assert_eq!(model.looked_at()[0].1.join("\n"), fix);
    let mut without = recorded(MASQUERADE);
    assert_eq!(press(&mut without, "y"), Effect::None);
    assert!(without.message.is_some());
}

#[test]
fn fixes_that_pass_by_were_not_looked_at() {
    let all = journeys(BROKEN);
    let mut model = live(all);
    drawn(&mut model, SMALL, false);
    assert!(model.looked_at().is_empty());
    press(&mut model, "F");
    drawn(&mut model, SMALL, false);
    assert_eq!(model.looked_at().len(), 1);
}

#[test]
fn a_cause_leads_to_its_first_packet() {
    let mut model = recorded(BROKEN);
    press(&mut model, "Gc");
    assert_eq!(model.screen, Screen::Causes);
    let first = model.sums.causes[0].first;
    press(&mut model, "<Enter>");
    let Some(Row::Packet(number)) = model.chosen_row() else { panic!("{:?}", model.chosen_row()) };
    assert_eq!(model.list.packet(number).map(|packet| packet.journey.id), Some(first));
    assert_eq!(model.screen, Screen::Both);
}

#[test]
fn the_oldest_leave() {
    let all = journeys(MASQUERADE);
    let mut list = List::new(3);
    for journey in &all {
        list.add(journey.clone(), &Namespaces::default(), &TimeZone::UTC);
    }
    assert_eq!(list.counts(), (3, 3));
    assert_eq!(list.left, all.len() as u64 - 3);
    let kept: Vec<JourneyId> = all[all.len() - 3..].iter().map(|journey| journey.id).collect();
    for id in &kept {
        assert!(list.packet_of(*id).is_some());
    }
    assert!(list.packet_of(all[0].id).is_none());
    let rows = list.rows();
    assert_eq!(rows.iter().filter(|row| matches!(row, Row::Packet(_))).count(), 3);
    for row in rows {
        assert!(list.connection_of(row).is_some());
    }
}

#[test]
fn what_is_not_taken_is_bounded_and_counted() {
    let mut feed = Feed::default();
    let journey = &journeys(BROKEN)[0];
    for number in 0..KEPT as u64 + 100 {
        feed.journey(&Journey { id: JourneyId(number), ..journey.clone() }).expect("no trouble");
    }
    let woken = feed.wait(Duration::ZERO);
    assert_eq!(woken.waiting, KEPT as u64 + 100);
    let taken = feed.take(usize::MAX);
    assert_eq!((taken.news.len(), taken.left), (KEPT, 100));
    assert_eq!(taken.sums.tally.dropped, KEPT as u64 + 100, "what left is counted");
    let Some(News::Journey(first)) = taken.news.first() else { panic!("a journey") };
    assert_eq!(first.id, JourneyId(100), "the oldest have left");
    let mut model = Model::new("x".to_owned(), true, TimeZone::UTC);
    model.take(Taken { news: Vec::new(), ..taken });
    assert!(text(&drawn(&mut model, SMALL, false)).contains("the oldest 100 left"));
}

#[test]
fn the_rate_is_that_of_the_last_seconds() {
    const SECOND: u64 = 1_000_000_000;
    let mut model = live([]);
    model.tick(SECOND);
    model.sums.tally.dropped = 40;
    assert!(model.tick(3 * SECOND));
    assert_eq!(model.rate, Some(20));
    for second in 4..20 {
        model.tick(second * SECOND);
    }
    assert_eq!(model.rate, Some(0));
}

#[test]
fn what_was_said_is_shown_for_a_while_and_kept() {
    let feed = Feed::default();
    feed.say("disk is \x1b[2Jfull");
    let mut model = Model::new("x".to_owned(), true, TimeZone::UTC);
    model.take(feed.take(usize::MAX));
    model.tick(0);
    let shown = text(&drawn(&mut model, SMALL, false));
    assert!(shown.contains(r"disk is \x1b[2Jfull"), "{shown}");
    model.tick(u64::MAX);
    assert!(!text(&drawn(&mut model, SMALL, false)).contains("disk is"));
    press(&mut model, "m");
    assert!(text(&drawn(&mut model, SMALL, false)).contains("disk is"));
}

/// A model of a journey with this wherever somebody else chooses the text.
fn hostile(evil: &str) -> Model {
    let mut journey = journeys(BROKEN).remove(0);
    journey.iif = Some(evil.into());
    journey.netns.name = Some(evil.into());
    for finding in &mut journey.findings {
        evil.clone_into(&mut finding.text);
        finding.fix = vec![evil.to_owned()];
    }
    for step in &mut journey.steps {
        if let StepKind::Rule(rule) = &mut step.kind {
            rule.rule.text = Some(format!("accept comment \"{evil}\"").into());
            rule.rule.chain = evil.into();
        }
    }
    if let Outcome::Dropped(nattrace_core::journey::DropCause::Rule { rule, .. }) = &mut journey.outcome {
        rule.chain = evil.into();
    }
    let mut model = Model::new(format!("{evil}.rec"), false, TimeZone::UTC);
    model.take(news([journey]));
    model
}

#[test]
fn hostile_names_stay_text() {
    const HOSTILE: &str = "\x1b]0;owned\x07\u{9b}2J\u{202e}\n\r\t";
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let random = std::iter::repeat_with(|| {
        // What a terminal obeys, and anything at all.
        let one = |rng: &mut fastrand::Rng| if rng.bool() { rng.char('\0'..'\u{a0}') } else { rng.char(..) };
        (0..rng.usize(1..12)).map(|_| one(&mut rng)).collect::<String>()
    });
    for evil in [HOSTILE.to_owned()].into_iter().chain(random.take(15)) {
        let mut model = hostile(&evil);
        for keys in ["", "c", "qy", "qm", "q?", "q<Enter>", "qf\u{9b}\x1b", "<Esc>/\x07\u{202e}"] {
            press(&mut model, keys);
            for size in [SMALL, LARGE, (40, 12)] {
                let buffer = drawn(&mut model, size, true);
                let bad: Vec<&str> = buffer
                    .content
                    .iter()
                    .map(ratatui::buffer::Cell::symbol)
                    .filter(|symbol| symbol.contains(is_unsafe))
                    .collect();
                assert!(bad.is_empty(), "{evil:?} (seed {seed}) with {keys:?}: {bad:?}");
            }
        }
    }
    let mut model = hostile(HOSTILE);
    press(&mut model, "<Enter>");
    assert!(text(&drawn(&mut model, LARGE, false)).contains(r"\x1b]0;owned\x07\u{9b}2J"));
}

#[test]
fn every_size_has_a_picture() {
    let mut models = [recorded(BROKEN), live([])];
    for model in &mut models {
        for keys in
            ["", "<Tab>", "<Tab><Enter>", "qc", "qm", "q?", "qy", "q/a", "<Esc>ftcp", "<Enter>Gg<PgDn>p"]
        {
            press(model, keys);
            for columns in [1, 2, 5, 20, 39, 80, 119, 120, 300] {
                for rows in [1, 2, 3, 5, 8, 9, 10, 24, 100] {
                    drawn(model, (columns, rows), true);
                    press(model, "<PgDn><Up>");
                }
            }
        }
    }
}

/// What is not optimised is slower, and has less to do; a scenario has all, and the program as it is installed.
const MANY: u64 = if cfg!(debug_assertions) { KEPT as u64 / 40 } else { KEPT as u64 };

/// Very many packets, each of a connection of its own or of one of a few.
fn many() -> Vec<Journey> {
    let some = journeys(MASQUERADE);
    let mut many = Vec::new();
    for number in 0..MANY {
        let index = usize::try_from(number).expect("small") % some.len();
        let mut journey = some[index].clone();
        journey.id = JourneyId(number + 1);
        if let Some(original) =
            journey.connection.as_mut().and_then(|connection| connection.original.as_mut())
        {
            original.source.port = u16::try_from(number % (MANY / 4)).ok();
        }
        many.push(journey);
    }
    many
}

/// How long this thread has had a processor: what others do on a busy machine is not counted.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time")
}

#[test]
fn a_key_is_answered_at_once_among_many() {
    let mut model = live(many());
    drawn(&mut model, LARGE, true);
    for keys in [
        "j", "G", "g", "F", "z", "z", "/", "f", "i", "n", "<Enter>", "n", "<Esc>", "f", "s", "y", "n",
        "<Esc>", "c",
    ] {
        let begun = worked();
        press(&mut model, keys);
        drawn(&mut model, LARGE, true);
        let took = worked().saturating_sub(begun);
        assert!(took < Duration::from_millis(50), "{keys}: {took:?}");
    }
}

#[test]
fn telling_the_interface_costs_the_trace_less_than_text_does() {
    let many = many();
    let quickest = |run: &mut dyn FnMut()| {
        let time = |_| {
            let begun = worked();
            run();
            worked().saturating_sub(begun)
        };
        (0..3).map(time).min().expect("three")
    };
    let interface = quickest(&mut || {
        let mut feed = Feed::default();
        for journey in &many {
            feed.journey(journey).expect("no trouble");
        }
    });
    let text = quickest(&mut || {
        let output = plan(BROKEN).output;
        let mut renderer = Renderer::new(&output, std::io::sink());
        for journey in &many {
            renderer.journey(journey).expect("no trouble");
        }
    });
    assert!(interface < text, "{interface:?} for the interface, {text:?} for lines");
}
