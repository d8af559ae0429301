//! From a rule in the syntax of iptables to its expressions: a line of `iptables-save` (iptables 1.8; the matches'
//! options are in extensions/libxt_*.c).

use super::value::{Item, Kind};
use super::{Datum, Expression, Expressions, Match, Operand, Operator};
use crate::event::Verdict;
use crate::packet::protocol;
use crate::ruleset::{iptables_words, target_goes_on};

/// What each match that is not understood leaves open is told once, whatever options it has.
pub(super) fn read(text: &str, ipv6: bool) -> Expressions {
    let Some(words) = iptables_words(text) else {
        return Expressions(vec![Expression::Unclear { text: text.to_owned() }]);
    };
    let mut reader = Reader { words, at: 2, ipv6, module: String::new(), protocol: None };
    let mut found: Vec<Expression> = Vec::new();
    while reader.at < reader.words.len() {
        let begin = reader.at;
        let expression = reader.option();
        let ends = matches!(expression, Some(Expression::Verdict(_) | Expression::Terminal { .. }));
        match expression {
            Some(Expression::Effect) => {}
            Some(expression) => found.push(expression),
            None => {
                let same = format!("-m {} ", reader.module);
                match (found.last_mut(), reader.unclear(begin)) {
                    // Options of one match are one thing that is not understood.
                    (Some(Expression::Unclear { text }), _)
                        if !reader.module.is_empty() && text.starts_with(&same) =>
                    {
                        text.push(' ');
                        text.push_str(&reader.since(begin));
                    }
                    (_, new) => found.push(new),
                }
            }
        }
        if ends {
            break;
        }
    }
    // iptables-nft 1.8 compares both at once, so that one that differs is enough; legacy iptables compares each.
    let denied = |expression: &Expression| match expression {
        Expression::Match(Match { key, operator: Operator::IsNot, .. }) => {
            matches!(key.as_slice(), [Datum::SourcePort(_) | Datum::DestinationPort(_)])
        }
        _ => false,
    };
    if found.iter().filter(|expression| denied(expression)).count() > 1 {
        found.retain(|expression| !denied(expression));
        found.insert(0, Expression::Unclear { text: "two ports that are denied".to_owned() });
    }
    Expressions(found)
}

struct Reader {
    words: Vec<(bool, String)>,
    at: usize,
    ipv6: bool,
    /// The last `-m`: what options of one name mean.
    module: String,
    /// `-p`.
    protocol: Option<u8>,
}

impl Reader {
    fn word(&self, at: usize) -> Option<&str> {
        self.words.get(at).map(|(_, word)| word.as_str())
    }

    fn is_option(&self, at: usize) -> bool {
        let follows = self.word(at + usize::from(self.is_not(at)));
        self.words.get(at).is_some_and(|(quoted, _)| !quoted)
            && follows.is_some_and(|word| word.starts_with('-') && word.len() > 1)
    }

    fn is_not(&self, at: usize) -> bool {
        self.words.get(at).is_some_and(|(quoted, word)| !quoted && word == "!")
    }

    fn since(&self, begin: usize) -> String {
        let words: Vec<&str> =
            self.words[begin..self.at.min(self.words.len())].iter().map(|(_, word)| word.as_str()).collect();
        words.join(" ")
    }

    /// What is not understood, with its arguments.
    fn unclear(&mut self, begin: usize) -> Expression {
        self.at = begin + 1 + usize::from(self.is_not(begin));
        while self.at < self.words.len() && !self.is_option(self.at) {
            self.at += 1;
        }
        let text = if self.module.is_empty() {
            self.since(begin)
        } else {
            format!("-m {} {}", self.module, self.since(begin))
        };
        Expression::Unclear { text }
    }

    /// One option with its arguments; [`Expression::Effect`] for one that asks for nothing, `None` for one that is not
    /// understood.
    fn option(&mut self) -> Option<Expression> {
        let begin = self.at;
        let not = self.is_not(begin);
        self.at += usize::from(not);
        let option = self.word(self.at)?.to_owned();
        self.at += 1;
        let is = if not { Operator::IsNot } else { Operator::Is };
        let addr = if self.ipv6 { Kind::Ipv6 } else { Kind::Ipv4 };
        match option.as_str() {
            "-m" => {
                self.module = self.take()?.to_owned();
                Some(self.module_alone())
            }
            "-j" | "-g" => self.target(option == "-g"),
            "-s" => self.matches(begin, Datum::Source(addr), is, network),
            "-d" => self.matches(begin, Datum::Destination(addr), is, network),
            "-i" => self.matches(begin, Datum::DeviceIn, is, |_, word| Some(vec![device(word)])),
            "-o" => self.matches(begin, Datum::DeviceOut, is, |_, word| Some(vec![device(word)])),
            "-p" => {
                let name = self.word(self.at)?.to_owned();
                let number = Kind::Protocol.number(protocol_name(&name))?;
                self.protocol = u8::try_from(number).ok().filter(|_| !not);
                self.matches(begin, Datum::Protocol(None), is, |kind, word| {
                    Item::read(kind, protocol_name(word), false).map(|item| vec![item])
                })
            }
            "--sport" => self.matches(begin, Datum::SourcePort(self.ported()), is, ports),
            "--dport" => self.matches(begin, Datum::DestinationPort(self.ported()), is, ports),
            "--sports" => self.matches(begin, Datum::SourcePort(None), is, ports),
            "--dports" => self.matches(begin, Datum::DestinationPort(None), is, ports),
            "--src-range" => self.matches(begin, Datum::Source(addr), is, plain),
            "--dst-range" => self.matches(begin, Datum::Destination(addr), is, plain),
            "--syn" => Some(self.flags(begin, "FIN,SYN,RST,ACK", "SYN", is)?),
            "--tcp-flags" => {
                let (mask, set) = (self.take()?.to_owned(), self.take()?.to_owned());
                self.flags(begin, &mask, &set, is)
            }
            "--icmp-type" => self.icmp(begin, protocol::ICMP, is),
            "--icmpv6-type" => self.icmp(begin, protocol::ICMPV6, is),
            "--ctstate" | "--state" => self.state(begin, not),
            "--ctdir" => self.matches(begin, Datum::CtDirection, is, |kind, word| {
                Item::read(kind, &word.to_ascii_lowercase(), false).map(|item| vec![item])
            }),
            "--mark" => self.mark(begin, is),
            "--dst-type" => self.matches(begin, Datum::DestinationType, is, |kind, word| {
                word.split(',').map(|name| Item::read(kind, &name.to_ascii_lowercase(), false)).collect()
            }),
            "--comment" => {
                self.at += 1;
                Some(Expression::Effect)
            }
            _ => None,
        }
    }

    fn take(&mut self) -> Option<&str> {
        let at = self.at;
        self.at += 1;
        self.word(at)
    }

    /// A module that has options, or asks for something without any.
    fn module_alone(&self) -> Expression {
        // Without an option of its own, only some modules ask for anything.
        let alone = !self.is_option(self.at) || matches!(self.word(self.at), Some("-m" | "-j" | "-g"));
        match self.module.as_str() {
            "comment" | "tcp" | "udp" | "sctp" | "dccp" | "icmp" | "icmp6" | "multiport" | "conntrack"
            | "state" | "mark" | "connmark" | "addrtype" | "iprange" => Expression::Effect,
            _ if alone => Expression::Unclear { text: format!("-m {}", self.module) },
            _ => Expression::Effect,
        }
    }

    fn target(&mut self, goes: bool) -> Option<Expression> {
        let begin = self.at - 1;
        let name = self.take()?.to_owned();
        self.at = self.words.len();
        if goes {
            return Some(Expression::Verdict(Verdict::Goto(name)));
        }
        Some(match name.as_str() {
            "ACCEPT" => Expression::Verdict(Verdict::Accept),
            "DROP" => Expression::Verdict(Verdict::Drop),
            "RETURN" => Expression::Verdict(Verdict::Return),
            // What it answers with is not of interest to what did not come this far.
            "REJECT" | "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" | "TPROXY" | "NFQUEUE"
            | "SYNPROXY" => Expression::Terminal { text: self.since(begin), map: None },
            name if target_goes_on(name) => Expression::Verdict(Verdict::Continue),
            _ => Expression::Verdict(Verdict::Jump(name)),
        })
    }

    fn matches(
        &mut self,
        begin: usize,
        datum: Datum,
        operator: Operator,
        items: impl Fn(Kind, &str) -> Option<Vec<Item>>,
    ) -> Option<Expression> {
        let word = self.take()?.to_owned();
        let entries = items(datum.kind(), &word)?.into_iter().map(|item| (vec![item], None)).collect();
        Some(self.comparison(begin, datum, None, operator, entries))
    }

    fn comparison(
        &self,
        begin: usize,
        datum: Datum,
        mask: Option<u128>,
        operator: Operator,
        entries: Vec<(Vec<Item>, Option<Verdict>)>,
    ) -> Expression {
        let operand = Operand::Items(entries);
        Expression::Match(Match { key: vec![datum], mask, operator, operand, text: self.since(begin) })
    }

    /// The protocol whose ports are asked for.
    fn ported(&self) -> Option<u8> {
        self.protocol.filter(|number| protocol::has_ports(*number))
    }

    fn flags(&self, begin: usize, mask: &str, set: &str, operator: Operator) -> Option<Expression> {
        let bits = |names: &str| -> Option<u128> {
            match names {
                "ALL" => Some(0x3f),
                "NONE" => Some(0),
                names => names
                    .split(',')
                    .try_fold(0, |all, name| Some(all | Kind::TcpFlags.number(&name.to_ascii_lowercase())?)),
            }
        };
        let set = bits(set)?;
        let items = vec![(vec![Item::Range(set, set)], None)];
        Some(self.comparison(begin, Datum::TcpFlags, Some(bits(mask)?), operator, items))
    }

    /// `8`, `3/1`; a code as well cannot be denied in one comparison.
    fn icmp(&mut self, begin: usize, number: u8, operator: Operator) -> Option<Expression> {
        let word = self.take()?.to_owned();
        if word == "any" {
            return Some(Expression::Effect);
        }
        let kind = word.parse::<u8>().ok()?;
        let items = vec![(vec![Item::Range(kind.into(), kind.into())], None)];
        Some(self.comparison(begin, Datum::IcmpType(number), None, operator, items))
    }

    /// `NEW,RELATED`; `DNAT` and `SNAT` are bits of the status, which one comparison cannot ask for, too.
    fn state(&mut self, begin: usize, not: bool) -> Option<Expression> {
        let names = self.take()?.to_ascii_lowercase();
        let status = matches!(names.as_str(), "dnat" | "snat");
        let datum = if status { Datum::CtStatus } else { Datum::CtState };
        let bits = names.split(',').try_fold(0, |all, name| Some(all | datum.kind().number(name)?))?;
        let operator = if not { Operator::NoneOf } else { Operator::AnyOf };
        Some(self.comparison(begin, datum, None, operator, vec![(vec![Item::Range(bits, bits)], None)]))
    }

    /// `0x1`, `0x1/0xff`, of the packet or of the connection.
    fn mark(&mut self, begin: usize, operator: Operator) -> Option<Expression> {
        let datum = match self.module.as_str() {
            "mark" => Datum::Mark,
            "connmark" => Datum::CtMark,
            _ => return None,
        };
        let word = self.take()?.to_owned();
        let (value, mask) = word.split_once('/').map_or((word.as_str(), None), |(v, m)| (v, Some(m)));
        let value = Kind::Number.number(value)?;
        let mask = match mask {
            Some(mask) => Some(Kind::Number.number(mask)?),
            None => None,
        };
        Some(self.comparison(begin, datum, mask, operator, vec![(vec![Item::Range(value, value)], None)]))
    }
}

/// As nft calls it, too.
fn protocol_name(name: &str) -> &str {
    match name {
        "ipv6-icmp" | "icmp6" => "icmpv6",
        name => name,
    }
}

/// `10.0.0.0/8`, `10.0.0.0/255.0.0.0`: masks that are no prefix are not understood.
fn network(kind: Kind, word: &str) -> Option<Vec<Item>> {
    let prefix = match word.split_once('/') {
        Some((addr, mask)) if mask.parse::<u32>().is_err() => {
            let (width, bits) = (kind.width()?, kind.number(mask)?);
            let length = bits.count_ones();
            let ones = (0..length).fold(0_u128, |all, bit| all | 1 << (width - 1 - bit));
            if bits != ones {
                return None;
            }
            format!("{addr}/{length}")
        }
        _ => word.to_owned(),
    };
    Item::read(kind, &prefix, false).map(|item| vec![item])
}

/// `eth0`, `veth+`.
fn device(word: &str) -> Item {
    match word.strip_suffix('+') {
        Some(begin) => Item::Begins(begin.to_owned()),
        None => Item::Text(word.to_owned()),
    }
}

/// `22`, `1000:2000`, `:1023`, `80,443,8000:8080`.
fn ports(kind: Kind, word: &str) -> Option<Vec<Item>> {
    word.split(',')
        .map(|part| {
            let (first, last) = part.split_once(':').unwrap_or((part, part));
            let bound = |word: &str, missing| {
                if word.is_empty() { Some(missing) } else { kind.number(word) }
            };
            Some(Item::Range(bound(first, 0)?, bound(last, 0xffff)?))
        })
        .collect()
}

fn plain(kind: Kind, word: &str) -> Option<Vec<Item>> {
    Item::read(kind, word, false).map(|item| vec![item])
}
