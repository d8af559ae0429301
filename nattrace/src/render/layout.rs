//! Rows in columns, wrapped to a width with hanging indents.
//!
//! ```text
//! #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN              in enp0  22:13:20.000     header
//!    forward      inet filter forward  ct status dnat jump allowed_dnats            label  place  text
//! ```

use super::style::{Role, Span, width};

/// Columns before the label.
const INDENT: usize = 3;
/// Columns of the label: "postrouting" and "✓ DELIVERED" fit.
const LABEL: usize = 12;
/// Where text begins.
const BODY: usize = INDENT + LABEL + 1;
/// How far the second and later lines of a wrapped rule go in; prose does not.
const HANG: usize = 2;
/// The part of the body that the place column takes at most, in hundredths.
const PLACE_SHARE: usize = 44;
/// What the place column takes at most where nothing limits the width.
const PLACE_UNBROKEN: usize = 40;
/// Where the right side of a header ends at most: further right it would look lost.
const HEADER: usize = 120;
/// Narrower than this nothing is readable, so it is not tried.
const NARROWEST: usize = 40;

/// One row of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The left column.
    pub(super) label: Span,
    /// The middle column: where in the ruleset.
    pub(super) place: Option<Span>,
    /// The rest.
    pub(super) text: Vec<Span>,
}

/// Lines as they are to stand below each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lines(pub(crate) Vec<Vec<Span>>);

impl Lines {
    /// As bytes for a terminal, with colour or without.
    pub(crate) fn paint(&self, color: bool) -> String {
        let mut out = String::new();
        for line in &self.0 {
            for span in line {
                span.paint(&mut out, color);
            }
            out.push('\n');
        }
        out
    }

    pub(crate) fn blank(&mut self) {
        self.0.push(Vec::new());
    }

    /// One line, without trailing spaces.
    fn push(&mut self, mut line: Vec<Span>) {
        let last = line.iter().rposition(|span| !span.text().trim_end().is_empty());
        line.truncate(last.map_or(0, |last| last + 1));
        if let Some(end) = line.last_mut().filter(|end| end.text().ends_with(' ')) {
            *end = Span::new(end.role, end.text().trim_end());
        }
        self.0.push(line);
    }
}

/// How to set a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    width: Option<usize>,
}

impl Layout {
    /// For a width in columns, or for lines that are not broken.
    pub(crate) fn new(width: Option<usize>) -> Self {
        Self { width: width.map(|w| w.max(NARROWEST)) }
    }

    /// A header: one side left, one right where there is room.
    pub(super) fn header(self, left: &[Span], right: &[Span], out: &mut Lines) {
        let gap = 2;
        let needed = width(left) + gap + width(right);
        match self.width {
            Some(limit) if needed <= limit => {
                let pad = limit.min(HEADER.max(needed)) - needed + gap;
                out.push([left, &[spaces(pad)], right].concat());
            }
            Some(limit) => {
                Self::wrapped(left, (0, INDENT), limit, "", out);
                Self::wrapped_after(&[spaces(INDENT)], right, (INDENT, INDENT), limit, "", out);
            }
            None => out.push([left, &[spaces(gap)], right].concat()),
        }
    }

    /// Rows, with one place column for all of them.
    pub(super) fn rows(self, rows: &[Row], out: &mut Lines) {
        let most = match self.width {
            Some(limit) => (limit - BODY.min(limit)) * PLACE_SHARE / 100,
            None => PLACE_UNBROKEN,
        };
        let places = rows.iter().filter_map(|row| row.place.as_ref()).map(Span::width);
        let column = places.filter(|place| *place <= most).max().unwrap_or(0);
        for row in rows {
            self.row(row, column, out);
        }
    }

    fn row(self, row: &Row, column: usize, out: &mut Lines) {
        let mut first = label(&row.label);
        let (mut start, mut hang) = (BODY, 0);
        if let Some(place) = &row.place {
            first.push(place.clone());
            let below = self.width.is_some_and(|limit| reads_better_below(place, column, &row.text, limit));
            if below {
                out.push(std::mem::replace(&mut first, vec![spaces(BODY + HANG)]));
                (start, hang) = (BODY + HANG, HANG);
            } else {
                first.push(spaces(column.saturating_sub(place.width()) + 2));
                (start, hang) = (BODY + column.max(place.width()) + 2, HANG);
            }
        }
        match self.width {
            Some(limit) => {
                Self::wrapped_after(&first, &row.text, (start, start + hang), limit, "", out);
            }
            None => out.push([first, row.text.clone()].concat()),
        }
    }

    /// A command to paste: where it must be broken, the shell is told so.
    pub(super) fn command(self, row: &Row, out: &mut Lines) {
        let first = label(&row.label);
        match self.width {
            Some(limit) => {
                Self::wrapped_after(&first, &row.text, (BODY, BODY + 2 * HANG), limit, " \\", out);
            }
            None => out.push([first, row.text.clone()].concat()),
        }
    }

    /// The same with nothing beside it.
    pub(crate) fn command_alone(self, command: &Span, out: &mut Lines) {
        match self.width {
            Some(limit) => Self::wrapped(std::slice::from_ref(command), (0, 2 * HANG), limit, " \\", out),
            None => out.push(vec![command.clone()]),
        }
    }

    /// A row of a table: a sign, a name in a column of `names`, and text that hangs beside it.
    pub(super) fn table_row(self, sign: &Span, row: &Row, names: usize, out: &mut Lines) {
        let pad = |span: &Span, width: usize| spaces(width.saturating_sub(span.width()));
        let first = [sign.clone(), pad(sign, 2), row.label.clone(), pad(&row.label, names + 2)];
        let start = names + 4;
        match self.width {
            Some(limit) => Self::wrapped_after(&first, &row.text, (start, start), limit, "", out),
            None => out.push([&first, row.text.as_slice()].concat()),
        }
    }

    /// A paragraph that stands for itself.
    pub(crate) fn paragraph(self, text: &[Span], out: &mut Lines) {
        match self.width {
            Some(limit) => Self::wrapped(text, (0, INDENT), limit, "", out),
            None => out.push(text.to_vec()),
        }
    }

    fn wrapped(text: &[Span], starts: (usize, usize), limit: usize, continued: &str, out: &mut Lines) {
        Self::wrapped_after(&[], text, starts, limit, continued, out);
    }

    /// `first` stands before the first line, `starts` are the columns of the first and of the later lines.
    fn wrapped_after(
        first: &[Span],
        text: &[Span],
        starts: (usize, usize),
        limit: usize,
        continued: &str,
        out: &mut Lines,
    ) {
        let room = |start: usize| limit.saturating_sub(start).max(1);
        let mut lines = wrap(text, room(starts.0), room(starts.1), continued).into_iter();
        let head = lines.next().unwrap_or_default();
        out.push([first.to_vec(), head].concat());
        for line in lines {
            out.push([vec![spaces(starts.1)], line].concat());
        }
    }
}

/// Whether the text had better begin on the line below its place, with all the room there is: the place is
/// too long for its column, or the column leaves so little that lines are saved.
fn reads_better_below(place: &Span, column: usize, text: &[Span], limit: usize) -> bool {
    let lines = |start: usize| {
        let room = limit.saturating_sub(start).max(1);
        wrap(text, room, room.saturating_sub(HANG).max(1), "").len()
    };
    place.width() > column
        || place.width() > 0 && lines(BODY + HANG) + 1 < lines(BODY + column.max(place.width()) + 2)
}

fn spaces(count: usize) -> Span {
    Span::new(Role::Plain, " ".repeat(count))
}

fn label(label: &Span) -> Vec<Span> {
    vec![spaces(INDENT), label.clone(), spaces(LABEL.saturating_sub(label.width()) + 1)]
}

/// Words where a rule's text is best broken: a statement or a match begins there.
const STATEMENTS: [&str; 43] = [
    "accept",
    "drop",
    "reject",
    "jump",
    "goto",
    "return",
    "continue",
    "queue",
    "dnat",
    "snat",
    "masquerade",
    "redirect",
    "tproxy",
    "counter",
    "limit",
    "quota",
    "log",
    "comment",
    "notrack",
    "flow",
    "synproxy",
    "meta",
    "ct",
    "ip",
    "ip6",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmpv6",
    "ether",
    "vlan",
    "arp",
    "fib",
    "rt",
    "socket",
    "iif",
    "oif",
    "iifname",
    "oifname",
    "add",
    "update",
    "delete",
];

/// Words after which a statement's word is something else: "dnat ip to", "ct status dnat", "ip protocol tcp".
const BINDS_NEXT: [&str; 15] = [
    "dnat", "snat", "tproxy", "status", "l4proto", "protocol", "nexthdr", "nfproto", "type", "to", "set",
    "==", "!=", ".", ":",
];

/// Breaks text into lines: the first has room for `first` columns, the others for `rest`. `continued` ends
/// every line but the last; then text is not broken inside quotes.
fn wrap(text: &[Span], first: usize, rest: usize, continued: &str) -> Vec<Vec<Span>> {
    let mut lines: Vec<Vec<Span>> = Vec::new();
    let mut line: Vec<Span> = Vec::new();
    for word in words(text, !continued.is_empty()) {
        let room = |lines: &[Vec<Span>]| {
            let room = if lines.is_empty() { first } else { rest };
            room.saturating_sub(continued.len()).max(1)
        };
        // A space never begins a line: it may stand past the end, where it is cut off. What is kept for the next line
        // may fill that, too.
        while word.text() != " " && !line.is_empty() && width(&line) + word.width() > room(&lines) {
            let kept = line.split_off(break_at(&line, &word));
            lines.push(std::mem::replace(&mut line, kept));
        }
        if line.is_empty() && word.text() == " " {
            continue;
        }
        // A word wider than a line: broken where it must, unless it is to be pasted.
        let room = if lines.is_empty() { first } else { rest };
        if continued.is_empty() && line.is_empty() && word.width() > room {
            let (full, left) = hard_break(&word, room, rest);
            lines.extend(full);
            line.push(left);
        } else {
            line.push(word);
        }
    }
    lines.push(line);
    let last = lines.len() - 1;
    for line in &mut lines[..last] {
        while line.last().is_some_and(|span| span.text().trim().is_empty()) {
            line.pop();
        }
        if !continued.is_empty() {
            line.push(Span::new(Role::Command, continued));
        }
    }
    lines
}

/// Words and the spaces between them, each a span.
fn words(text: &[Span], keep_quotes: bool) -> Vec<Span> {
    let mut words = Vec::new();
    for span in text {
        let (mut word, mut quote) = (String::new(), None);
        for c in span.text().chars() {
            if keep_quotes && matches!(c, '\'' | '"') && quote.is_none_or(|q| q == c) {
                quote = if quote.is_some() { None } else { Some(c) };
            }
            if c == ' ' && quote.is_none() {
                if !word.is_empty() {
                    words.push(Span::new(span.role, std::mem::take(&mut word)));
                }
                words.push(Span::new(span.role, " "));
            } else {
                word.push(c);
            }
        }
        if !word.is_empty() {
            words.push(Span::new(span.role, word));
        }
    }
    words
}

/// Where to break a full line of words: before a statement of a rule, if one begins far enough to the
/// right, else after the last space, so that what follows without a space stays together.
fn break_at(line: &[Span], next: &Span) -> usize {
    // An arrow points at what follows it and stays with it.
    let may_break = |at: usize| line[at].text() == " " && (at == 0 || line[at - 1].text() != "→");
    let after_space = (0..line.len()).rev().find(|at| may_break(*at)).map_or(line.len(), |space| space + 1);
    let words: Vec<&Span> = line.iter().chain([next]).collect();
    let starts_statement = |i: usize| {
        let before = words[..i].iter().rev().find(|word| word.text() != " ");
        matches!(words[i].role, Role::Rule | Role::DropRule)
            && STATEMENTS.contains(&words[i].text())
            && before.is_none_or(|word| !BINDS_NEXT.contains(&word.text()))
            && width(&line[..i]) * 5 >= width(line) * 2
    };
    (1..=line.len()).rev().find(|i| starts_statement(*i)).unwrap_or(after_space).max(1)
}

fn hard_break(word: &Span, first: usize, rest: usize) -> (Vec<Vec<Span>>, Span) {
    let (mut lines, mut part) = (Vec::new(), String::new());
    for c in word.text().chars() {
        let room = if lines.is_empty() { first } else { rest };
        let wider = Span::new(word.role, format!("{part}{c}"));
        if wider.width() > room && !part.is_empty() {
            lines.push(vec![Span::new(word.role, std::mem::take(&mut part))]);
        }
        part.push(c);
    }
    (lines, Span::new(word.role, part))
}
