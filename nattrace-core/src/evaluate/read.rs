//! From a rule's text to its expressions.

use super::value::Item;
use super::words::{Word, words};
use super::{Datum, Expression, Expressions, Match, Operand, Operator};
use crate::event::Verdict;

/// A text that goes on to be unclear is unclear to its end.
pub(super) fn read(text: &str) -> Expressions {
    let mut reader = Reader { text, words: words(text), at: 0, written: Vec::new() };
    let mut found = Vec::new();
    while reader.at < reader.words.len() {
        let begin = reader.at;
        let Some(expression) = reader.expression() else {
            found.push(Expression::Unclear { text: reader.since(begin, reader.words.len()) });
            // What the rule does when it matches is told by its last words all the same.
            found.extend(reader.last_verdict().map(Expression::Verdict));
            break;
        };
        let ends = matches!(expression, Expression::Verdict(_) | Expression::Terminal { .. });
        // Memory is what reading many rules takes its time for.
        if expression != Expression::Effect {
            found.push(expression);
        }
        if ends {
            break;
        }
    }
    found.shrink_to_fit();
    Expressions(found)
}

/// What an element says behind its colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    /// It is a set's, and has none.
    Nowhere,
    /// A verdict.
    ToVerdict,
    /// An address or a port, which is not of interest here.
    Elsewhere,
}

struct Reader<'a> {
    text: &'a str,
    words: Vec<Word<'a>>,
    at: usize,
    /// What the rule itself has written: what the packet had before says nothing of it any more.
    written: Vec<Datum>,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<&'a str> {
        self.words.get(self.at + ahead).filter(|word| !word.quoted).map(|word| word.text)
    }

    fn take(&mut self) -> Option<Word<'a>> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    fn skip(&mut self, word: &str) -> bool {
        let is = self.peek(0) == Some(word);
        self.at += usize::from(is);
        is
    }

    /// The text of some words.
    fn since(&self, begin: usize, end: usize) -> String {
        let from = self.words.get(begin).map_or(self.text.len(), |word| word.begin);
        let to = end.checked_sub(1).and_then(|last| self.words.get(last)).map_or(from, |word| word.end);
        self.text.get(from..to).unwrap_or_default().to_owned()
    }

    fn expression(&mut self) -> Option<Expression> {
        let begin = self.at;
        if let Some(verdict) = self.verdict() {
            return Some(Expression::Verdict(verdict));
        }
        match self.peek(0)? {
            "counter" => {
                self.at += 1;
                if self.skip("name") {
                    self.at += 1;
                } else {
                    for word in ["packets", "bytes"] {
                        if self.skip(word) {
                            self.at += 1;
                        }
                    }
                }
                Some(Expression::Effect)
            }
            "comment" => {
                self.at += 2;
                Some(Expression::Effect)
            }
            "log" => {
                self.at += 1;
                while matches!(
                    self.peek(0),
                    Some("prefix" | "level" | "group" | "snaplen" | "queue-threshold" | "flags")
                ) {
                    self.at += 2;
                    // `flags tcp sequence,options`
                    if matches!(
                        self.peek(0),
                        Some("sequence" | "options" | "sequence,options" | "options,sequence")
                    ) {
                        self.at += 1;
                    }
                }
                Some(Expression::Effect)
            }
            "notrack" => {
                self.at += 1;
                Some(Expression::Effect)
            }
            "snat" | "dnat" | "masquerade" | "redirect" | "reject" | "tproxy" | "synproxy" | "fwd" => {
                let map = self.map_of_addresses();
                // Without the rule's comment, when the map was read.
                let end = if map.is_some() { self.at } else { self.words.len() };
                self.at = self.words.len();
                let text = self.since(begin, end);
                let rest = self.words.get(begin..).unwrap_or_default();
                let has = |names: &[&str]| rest.iter().any(|word| !word.quoted && names.contains(&word.text));
                // What is counted or hashed is always found in its map.
                if map.is_none() && has(&["map"]) && !has(&["numgen", "jhash", "symhash"]) {
                    return Some(Expression::Unclear { text });
                }
                Some(Expression::Terminal { text, map })
            }
            "limit" | "quota" => {
                self.rate();
                Some(Expression::Unclear { text: self.since(begin, self.at) })
            }
            _ => self.comparison(begin),
        }
    }

    /// `dnat ip addr . port to ip daddr . tcp dport map @forwards`, `snat to ip saddr map { 10.0.0.1 : 192.0.2.1 }`: what is
    /// looked up where.
    fn map_of_addresses(&mut self) -> Option<(Vec<Datum>, Operand)> {
        let to = self.words.get(self.at..)?.iter().position(|word| !word.quoted && word.text == "to")?;
        self.at += to + 1;
        self.skip(":");
        let key = self.key()?;
        if !self.skip("map") {
            return None;
        }
        let map = self.operand(&key, Leads::Elsewhere)?;
        Some((key, map))
    }

    /// `limit rate over 5/second burst 5 packets`, `limit rate 10 mbytes/second`, `quota over 25 mbytes used 3 bytes`.
    fn rate(&mut self) {
        self.at += 1;
        for word in ["rate", "name"] {
            self.skip(word);
        }
        let _ = self.skip("over") || self.skip("until");
        // The amount, and its unit where that is a word of its own.
        self.at += 1;
        let unit = |word: &str| {
            matches!(word.split('/').next(), Some("bytes" | "kbytes" | "mbytes" | "gbytes" | "packets"))
        };
        self.at += usize::from(self.peek(0).is_some_and(unit));
        for word in ["burst", "used"] {
            if self.skip(word) {
                self.at += 1;
                self.at += usize::from(self.peek(0).is_some_and(unit));
            }
        }
    }

    fn verdict(&mut self) -> Option<Verdict> {
        let verdict = match self.peek(0)? {
            "accept" => Verdict::Accept,
            "drop" => Verdict::Drop,
            "continue" => Verdict::Continue,
            "return" => Verdict::Return,
            "queue" => {
                self.at = self.words.len();
                return Some(Verdict::Queue(0));
            }
            way @ ("jump" | "goto") => {
                let chain = self.words.get(self.at + 1)?.text.to_owned();
                self.at += 1;
                if way == "jump" { Verdict::Jump(chain) } else { Verdict::Goto(chain) }
            }
            _ => return None,
        };
        self.at += 1;
        Some(verdict)
    }

    /// The verdict at the rule's end, before its comment.
    fn last_verdict(&mut self) -> Option<Verdict> {
        let end = self
            .words
            .iter()
            .rposition(|word| !word.quoted && word.text == "comment")
            .unwrap_or(self.words.len());
        for length in [1, 2] {
            self.at = end.checked_sub(length)?;
            if let Some(verdict) = self.verdict()
                && self.at == end
            {
                return Some(verdict);
            }
        }
        None
    }

    fn key(&mut self) -> Option<Vec<Datum>> {
        let mut key = Vec::new();
        loop {
            let (datum, length) = Datum::named(|ahead| self.peek(ahead))?;
            self.at += length;
            key.push(datum);
            if !self.skip(".") {
                return Some(key);
            }
        }
    }

    fn comparison(&mut self, begin: usize) -> Option<Expression> {
        if self.setting() {
            return Some(Expression::Effect);
        }
        let key = self.key()?;
        if self.peek(0) == Some("set") {
            return self.assignment(&key);
        }
        if key.iter().any(|datum| self.written.contains(datum)) {
            return None;
        }
        if self.skip("vmap") {
            let map = self.operand(&key, Leads::ToVerdict)?;
            return Some(Expression::VerdictMap { key, map, text: self.since(begin, self.at) });
        }
        let [first] = key.as_slice() else {
            let operator = if self.skip("!=") { Operator::IsNot } else { Operator::Is };
            let operand = self.operand(&key, Leads::Nowhere)?;
            return Some(self.matches(begin, key, None, operator, operand));
        };
        let kind = first.kind();
        let mask = if self.skip("&") || self.skip("and") { Some(self.bits(kind)?) } else { None };
        let named = match self.peek(0) {
            Some("!=") => Some(Operator::IsNot),
            Some("==") => Some(Operator::Is),
            Some("<") => Some(Operator::Less),
            Some("<=") => Some(Operator::LessOrEqual),
            Some(">") => Some(Operator::More),
            Some(">=") => Some(Operator::MoreOrEqual),
            Some("!") => Some(Operator::NoneOf),
            _ => None,
        };
        self.at += usize::from(named.is_some());
        let operand = self.operand(&key, Leads::Nowhere)?;
        // `tcp flags syn / fin,syn,rst,ack`
        if mask.is_none() && self.skip("/") {
            let mask = self.bits(kind)?;
            return Some(self.matches(begin, key, Some(mask), named.unwrap_or(Operator::Is), operand));
        }
        let single = matches!(&operand, Operand::Items(entries) if entries.len() == 1) && !self.was_set();
        let operator = match named {
            // Bits are asked for one by one unless nft says otherwise.
            None if kind.is_bits() && mask.is_none() && single => Operator::AnyOf,
            // `ct state != established,related`, as nft prints it, is `& … == 0`.
            Some(Operator::IsNot)
                if kind.is_bits() && mask.is_none() && single && *first == Datum::CtState =>
            {
                Operator::NoneOf
            }
            other => other.unwrap_or(Operator::Is),
        };
        Some(self.matches(begin, key, mask, operator, operand))
    }

    /// `meta priority set 1:2`, `ct helper set "ftp"`: nothing that rules look at here. A map could lack the key.
    fn setting(&mut self) -> bool {
        let what = match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some("meta"), Some(what), Some("set")) => matches!(what, "priority" | "nftrace" | "pkttype"),
            (Some("ct"), Some(what), Some("set")) => matches!(what, "helper" | "event"),
            _ => false,
        };
        let is = what
            && self.words.len() > self.at + 3
            && self.peek(4) != Some("map")
            && self.peek(5) != Some("map");
        self.at += if is { 4 } else { 0 };
        is
    }

    /// `meta mark set 0x7`, `ct mark set meta mark & 0xff | 0x100`: it goes on. What is read from elsewhere can be missing, and
    /// then the rule does not match.
    fn assignment(&mut self, key: &[Datum]) -> Option<Expression> {
        let [to @ (Datum::Mark | Datum::CtMark)] = key else { return None };
        self.at += 1;
        let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
        match Datum::named(|ahead| self.peek(ahead)) {
            Some((Datum::Mark, length)) => self.at += length,
            _ if self.peek(0).is_some_and(number) => self.at += 1,
            _ => return None,
        }
        while matches!(self.peek(0), Some("&" | "|" | "^" | "and" | "or" | "xor" | "<<" | ">>")) {
            self.peek(1).filter(|word| number(word))?;
            self.at += 2;
        }
        if matches!(self.peek(0), Some("map" | ".")) {
            return None;
        }
        self.written.push(*to);
        Some(Expression::Effect)
    }

    /// Whether the last word read closed a set.
    fn was_set(&self) -> bool {
        self.at.checked_sub(1).and_then(|at| self.words.get(at)).is_some_and(|word| word.text == "}")
    }

    fn matches(
        &self,
        begin: usize,
        key: Vec<Datum>,
        mask: Option<u128>,
        operator: Operator,
        operand: Operand,
    ) -> Expression {
        Expression::Match(Match { key, mask, operator, operand, text: self.since(begin, self.at) })
    }

    /// `0xff`, `syn,ack`, `(fin | syn | rst | ack)`.
    fn bits(&mut self, kind: super::value::Kind) -> Option<u128> {
        let one = |word: &str| -> Option<u128> {
            word.split(',').try_fold(0, |all, name| Some(all | kind.number(name)?))
        };
        if !self.skip("(") {
            return one(self.take()?.text);
        }
        let mut bits = 0;
        loop {
            bits |= one(self.take()?.text)?;
            if self.skip(")") {
                return Some(bits);
            }
            if !self.skip("|") {
                return None;
            }
        }
    }

    /// What the key is compared with.
    fn operand(&mut self, key: &[Datum], leads: Leads) -> Option<Operand> {
        if let Some(name) = self.peek(0).and_then(|word| word.strip_prefix('@')) {
            self.at += 1;
            return Some(Operand::Named(name.to_owned()));
        }
        if !self.skip("{") {
            if leads != Leads::Nowhere {
                return None;
            }
            return Some(Operand::Items(vec![(self.items(key)?, None)]));
        }
        let mut entries = Vec::new();
        loop {
            let items = self.items(key)?;
            // What an element says of itself: how long it stays, what it counts.
            while matches!(self.peek(0), Some("timeout" | "expires" | "comment")) {
                self.at += 2;
            }
            if leads != Leads::Nowhere && !self.skip(":") {
                return None;
            }
            let verdict = match leads {
                Leads::ToVerdict => Some(self.verdict()?),
                Leads::Elsewhere => {
                    while !matches!(self.peek(0)?, "," | "}") {
                        self.at += 1;
                    }
                    None
                }
                Leads::Nowhere => None,
            };
            entries.push((items, verdict));
            if self.skip("}") {
                return Some(Operand::Items(entries));
            }
            if !self.skip(",") {
                return None;
            }
        }
    }

    /// An element: as many items as the key has parts.
    fn items(&mut self, key: &[Datum]) -> Option<Vec<Item>> {
        let mut items = Vec::with_capacity(key.len());
        for (at, datum) in key.iter().enumerate() {
            if at > 0 && !self.skip(".") {
                return matches!(items.as_slice(), [Item::Any]).then_some(items);
            }
            let word = self.take()?;
            items.push(Item::read(datum.kind(), word.text, word.quoted)?);
        }
        Some(items)
    }
}
