//! Rules, as nft and iptables write them. A word stays where everybody's rules have it; addresses, names and what somebody
//! wrote become others; whatever is left is not understood, and becomes `wordN`.
//!
//! Where a text cannot be kept true (an interval that came too late, bits of an address), it begins with [`INEXACT`], which
//! the evaluator does not understand: so it says nothing of such a rule, rather than something wrong.

use std::net::IpAddr;

use super::names::Kind;
use super::{Anonymizer, common, mac};
use crate::ruleset::iptables_words;

/// Begins a rule that does not ask for what it asked for.
const INEXACT: &str = "anonymized";

/// What stands between words of nft.
const PUNCTUATION: [char; 14] = ['{', '}', '(', ')', ',', ';', '"', '=', '!', '<', '>', '&', '|', '^'];

/// What a quoted text is: the last of these words before it says so.
const SUBJECTS: [(&str, Quoted); 27] = [
    ("comment", Quoted::Text),
    ("prefix", Quoted::Text),
    ("target", Quoted::Extension),
    ("match", Quoted::Extension),
    ("iifname", Quoted::Device),
    ("oifname", Quoted::Device),
    ("iif", Quoted::Device),
    ("oif", Quoted::Device),
    ("sdif", Quoted::Device),
    ("sdifname", Quoted::Device),
    ("ibrname", Quoted::Device),
    ("obrname", Quoted::Device),
    ("ibriport", Quoted::Device),
    ("obriport", Quoted::Device),
    ("device", Quoted::Device),
    ("fwd", Quoted::Device),
    ("name", Quoted::Object),
    ("helper", Quoted::Object),
    ("timeout", Quoted::Object),
    ("expectation", Quoted::Object),
    ("secmark", Quoted::Object),
    ("label", Quoted::Object),
    ("skuid", Quoted::Text),
    ("skgid", Quoted::Text),
    ("time", Quoted::Time),
    ("hour", Quoted::Time),
    ("day", Quoted::Time),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoted {
    Device,
    Extension,
    Object,
    Text,
    Time,
}

/// What an option of iptables has for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Chain,
    Target,
    Device,
    Set,
    Text,
    Other,
}

impl Value {
    fn of(option: &str) -> Self {
        match option {
            "-A" | "-g" => Self::Chain,
            "-j" => Self::Target,
            "-i" | "-o" | "--physdev-in" | "--physdev-out" | "--oif" => Self::Device,
            "--match-set" | "--add-set" | "--del-set" | "--map-set" => Self::Set,
            "--comment" | "--log-prefix" | "--nflog-prefix" | "--ulog-prefix" | "--string"
            | "--hex-string" | "--u32" | "--bytecode" | "--object-pinned" | "--name" | "--hashlimit-name"
            | "--rateest-name" | "--nfacct-name" | "--label" | "--helper" | "--timeout" | "--path"
            | "--realm" | "--genre" | "--src-group" | "--dst-group" => Self::Text,
            _ => Self::Other,
        }
    }
}

impl Anonymizer {
    /// A rule, in whichever syntax.
    pub(super) fn rule(&mut self, text: &str) -> String {
        if text.starts_with("-A ") { self.iptables(text) } else { self.nft(text) }
    }

    /// An element of a set, as nft writes it.
    pub(super) fn element(&mut self, element: &str) -> String {
        let mut exact = true;
        let parts: Vec<String> = element
            .split(" . ")
            .map(|part| match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
                Some(name) => format!("\"{}\"", self.names.device(name)),
                None => match self.known(part, &mut exact) {
                    Some(known) => known,
                    None => self.names.device(part),
                },
            })
            .collect();
        parts.join(" . ")
    }

    /// What rules ask for that what comes later must not spoil: intervals of addresses, and patterns of names.
    pub(super) fn learn_rules<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        let mut patterns = Vec::new();
        for text in texts {
            let is_break = |c: char| c.is_whitespace() || PUNCTUATION.contains(&c);
            for word in text.split(is_break) {
                if let Some((first, last, _)) = interval(word) {
                    self.addresses.keep_interval(first, last);
                }
                patterns.extend(word.strip_suffix(['*', '+']).filter(|begin| !begin.ends_with('\\')));
            }
        }
        patterns.sort_by_key(|begin| begin.len());
        for begin in patterns {
            self.names.pattern(begin);
        }
    }

    fn nft(&mut self, text: &str) -> String {
        let mut reader = Nft { out: String::new(), exact: true, last: "", subject: None, bits: false };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let end = match c {
                '"' => rest.get(1..).and_then(|inner| inner.find('"')).map_or(rest.len(), |at| at + 2),
                '@' if is_raw(rest) => rest.find(char::is_whitespace).unwrap_or(rest.len()),
                '@' => word_end(rest.get(1..).unwrap_or_default()) + 1,
                c if c.is_whitespace() || PUNCTUATION.contains(&c) => c.len_utf8(),
                _ => word_end(rest),
            };
            let (token, after) = rest.split_at(end);
            rest = after;
            self.token(c, token, &mut reader);
        }
        if reader.exact { reader.out } else { format!("{INEXACT} {}", reader.out) }
    }

    fn token<'a>(&mut self, first: char, token: &'a str, reader: &mut Nft<'a>) {
        match first {
            '"' => {
                let name = token.trim_matches('"');
                let quoted = self.quoted(name, reader);
                reader.out.extend(["\"", &quoted, "\""]);
                reader.last = "";
            }
            '@' => {
                let name = token.trim_start_matches('@');
                if is_raw(token) {
                    // What it is compared with may be an address, or anything else.
                    reader.exact = false;
                    reader.subject = Some(Quoted::Text);
                    reader.out.push_str(token);
                } else {
                    let set = self.names.name(Kind::Set, name);
                    reader.out.extend(["@", &set]);
                }
            }
            c if c.is_whitespace() => reader.out.push_str(token),
            c if PUNCTUATION.contains(&c) => {
                reader.bits = matches!(c, '&' | '|' | '^');
                reader.out.push_str(token);
            }
            _ => {
                let word = self.word(token, reader);
                reader.out.push_str(&word);
                if let Some((_, quoted)) = SUBJECTS.iter().find(|(subject, _)| *subject == token) {
                    reader.subject = Some(*quoted);
                }
                reader.last = token;
                reader.bits = false;
            }
        }
    }

    fn word(&mut self, word: &str, reader: &mut Nft<'_>) -> String {
        match reader.last {
            "jump" | "goto" => return self.names.name(Kind::Chain, word),
            "name" => return self.names.name(Kind::Object, word),
            _ => {}
        }
        if reader.bits && (word.parse::<IpAddr>().is_ok() || mac::read(word).is_some()) {
            reader.exact = false;
        }
        if reader.subject == Some(Quoted::Text) && !reader.exact && common::is_number(word) {
            return "0".to_owned();
        }
        match self.known(word, &mut reader.exact) {
            Some(known) => known,
            None => self.names.name(Kind::Word, word),
        }
    }

    fn quoted(&mut self, text: &str, reader: &mut Nft<'_>) -> String {
        let is_time = |text: &str| {
            const DAYS: [&str; 7] =
                ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
            DAYS.contains(&text) || text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '-' | ' '))
        };
        match reader.subject {
            Some(Quoted::Device) => self.device(text, '*', &mut reader.exact),
            Some(Quoted::Extension) if common::is_target(text) || common::is_word(text) => text.to_owned(),
            Some(Quoted::Time) if is_time(text) => text.to_owned(),
            Some(Quoted::Object) => self.names.name(Kind::Object, text),
            _ => self.names.name(Kind::Text, text),
        }
    }

    /// A device, or those that begin so.
    fn device(&mut self, name: &str, wildcard: char, exact: &mut bool) -> String {
        let Some(begin) = name.strip_suffix(wildcard).filter(|begin| !begin.ends_with('\\')) else {
            return self.names.device(&name.replace("\\*", "*"));
        };
        let pattern = if begin.is_empty() { Some(String::new()) } else { self.names.pattern(begin) };
        *exact &= pattern.is_some();
        let begin = pattern.unwrap_or_else(|| self.names.name(Kind::Word, begin));
        format!("{begin}{wildcard}")
    }

    fn iptables(&mut self, text: &str) -> String {
        let Some(words) = iptables_words(text) else { return format!("-A {INEXACT}") };
        let mut out: Vec<String> = Vec::new();
        let mut exact = true;
        let mut value = Value::Other;
        for (quoted, word) in &words {
            if !quoted && value != Value::Text && word.len() > 1 && word.starts_with('-') {
                value = Value::of(word);
                out.push(if common::is_option(word) {
                    word.clone()
                } else {
                    format!("--{}", self.names.name(Kind::Word, word))
                });
                continue;
            }
            if !quoted && word == "!" {
                out.push(word.clone());
                continue;
            }
            let new = match value {
                Value::Target if common::is_target(word) => word.clone(),
                Value::Chain | Value::Target => self.names.name(Kind::Chain, word),
                Value::Device => self.device(word, '+', &mut exact),
                Value::Set => self.names.name(Kind::Set, word),
                Value::Text => self.names.name(Kind::Text, word),
                Value::Other if *quoted => self.names.name(Kind::Text, word),
                Value::Other => {
                    let known: Option<Vec<String>> = match self.known(word, &mut exact) {
                        Some(known) => Some(vec![known]),
                        None => word.split(',').map(|part| self.known(part, &mut exact)).collect(),
                    };
                    known.map_or_else(|| self.names.name(Kind::Word, word), |known| known.join(","))
                }
            };
            // What follows a name is no other name.
            value = Value::Other;
            out.push(if *quoted { format!("\"{new}\"") } else { new });
        }
        if !exact {
            out.insert(out.len().min(2), format!("-m {INEXACT} --{INEXACT}"));
        }
        out.join(" ")
    }

    /// A word that is an address, a number, or one of everybody's; `None` for another.
    fn known(&mut self, word: &str, exact: &mut bool) -> Option<String> {
        if let Some(address) = self.address(word, exact) {
            return Some(address);
        }
        if let Some(address) = mac::read(word) {
            return Some(mac::text(&self.mac(address)));
        }
        let is_plain = |part: &str| common::is_number(part) || common::is_word(part);
        let is_known = is_plain(word)
            || !word.contains(|c: char| c.is_alphanumeric())
            || word.contains('/') && word.split('/').all(is_plain);
        is_known.then(|| word.to_owned())
    }

    /// `10.0.0.1`, `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `10.0.0.1-10.0.0.9`, with a port behind it or not, in brackets or not.
    fn address(&mut self, word: &str, exact: &mut bool) -> Option<String> {
        if let Some(addr) = plain(word) {
            return Some(like(word, self.addresses.addr(addr)));
        }
        if let Some((first, last, ports)) = interval(word) {
            *exact &= self.addresses.keep_interval(first, last);
            let (a, b) = (self.addresses.addr(first), self.addresses.addr(last));
            return Some(format!("{}-{}{ports}", like(word, a.min(b)), like(word, a.max(b))));
        }
        if let Some((begin, end)) = word.split_once('/') {
            let addr = plain(begin)?;
            let length = match end.parse::<u8>() {
                Ok(length) => length,
                Err(_) => mask_length(end.parse().ok()?).unwrap_or_else(|| {
                    *exact = false;
                    0
                }),
            };
            return Some(format!("{}/{end}", self.addresses.prefix(addr, length)));
        }
        let (begin, ports) = with_ports(word)?;
        let addr = plain(begin)?;
        Some(format!("{}{ports}", like(begin, self.addresses.addr(addr))))
    }
}

/// What has been read of a rule of nft's.
struct Nft<'a> {
    out: String,
    /// Whether it still asks for what it asked for.
    exact: bool,
    /// The last word that was not quoted.
    last: &'a str,
    /// What quoted texts are.
    subject: Option<Quoted>,
    /// The last sign was one that combines bits.
    bits: bool,
}

fn word_end(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || PUNCTUATION.contains(&c)).unwrap_or(text.len())
}

/// Whether it is a part of the packet that has no name: `@nh,96,32`.
fn is_raw(text: &str) -> bool {
    ["@ll,", "@nh,", "@th,", "@ih,"].iter().any(|base| text.starts_with(base))
}

/// An address, in brackets or not.
fn plain(word: &str) -> Option<IpAddr> {
    let inner = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
    inner.unwrap_or(word).parse().ok()
}

/// An address as another one was written.
fn like(word: &str, addr: IpAddr) -> String {
    if word.starts_with('[') { format!("[{addr}]") } else { addr.to_string() }
}

/// Two addresses with a dash between them, and ports behind them.
fn interval(word: &str) -> Option<(IpAddr, IpAddr, &str)> {
    let (first, rest) = word.split_once('-')?;
    let first = plain(first)?;
    if let Some(last) = plain(rest) {
        return Some((first, last, ""));
    }
    let (last, ports) = with_ports(rest)?;
    Some((first, plain(last)?, ports))
}

/// `10.0.0.1:80-90`, `[fd00::1]:80`: the ports with their colon.
fn with_ports(word: &str) -> Option<(&str, &str)> {
    let at = word.rfind(':')?;
    let (begin, ports) = word.split_at(at);
    let is_port = ports.get(1..).is_some_and(|ports| {
        !ports.is_empty() && ports.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    });
    is_port.then_some((begin, ports))
}

/// How many bits a mask leaves, where they are the first ones.
fn mask_length(mask: IpAddr) -> Option<u8> {
    let (bits, width) = match mask {
        IpAddr::V4(mask) => (u128::from(u32::from(mask)) << 96, 32),
        IpAddr::V6(mask) => (u128::from(mask), 128),
    };
    let length = bits.leading_ones();
    (bits.count_ones() == length && length <= width).then(|| u8::try_from(length).unwrap_or(128))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that follow from rules of one listing.
    fn rules(texts: &[&str]) -> Vec<String> {
        let mut anonymizer = Anonymizer::new(*b"a key of a test.");
        anonymizer.learn_rules(texts.iter().copied());
        texts.iter().map(|text| anonymizer.rule(text)).collect()
    }

    fn rule(text: &str) -> String {
        rules(&[text]).remove(0)
    }

    #[test]
    fn names_and_what_somebody_wrote_are_replaced() {
        for (text, expected) in [
            (
                "iifname \"eth0\" oifname { \"wan7\", \"lo\" } jump acme comment \"for Acme, Inc. # handle 9\"",
                "iifname \"eth1\" oifname { \"dev1\", \"lo\" } jump chain1 comment \"text1\"",
            ),
            (
                "tcp dport vmap { 22 : goto ssh-in, 80-90 : drop, 443 : continue } log prefix \"acme: \" level warn",
                "tcp dport vmap { 22 : goto chain1, 80-90 : drop, 443 : continue } log prefix \"text1\" level warn",
            ),
            (
                "meta l4proto { tcp, udp } th dport @customers counter name \"c1\" limit rate 10/second burst 5 packets",
                "meta l4proto { tcp, udp } th dport @set1 counter name \"object1\" limit rate 10/second burst 5 packets",
            ),
            (
                "meta skuid \"alice\" meta mark acme-mark accept",
                "meta skuid \"text1\" meta mark word1 accept",
            ),
            ("xt match \"conntrack\" xt target \"DNAT\"", "xt match \"conntrack\" xt target \"DNAT\""),
            (
                "-A acme -i br-5f2a -m comment --comment \"say \\\"-j DROP\\\"\" -j LOG --log-prefix \"acme \"",
                "-A chain1 -i br1 -m comment --comment \"text1\" -j LOG --log-prefix \"text2\"",
            ),
            (
                "-A FORWARD -m comment --comment acme -m set --match-set acme src,dst -m conntrack --ctstate NEW,RELATED -g acme",
                "-A FORWARD -m comment --comment text1 -m set --match-set set1 src,dst -m conntrack --ctstate NEW,RELATED -g chain1",
            ),
            (
                "-A INPUT -p tcp -m tcp --dport 22 -m bpf --bytecode \"4,48 0 0 9\" -m acme --acme 7 -j ACCEPT",
                "-A INPUT -p tcp -m tcp --dport 22 -m bpf --bytecode \"text1\" -m word1 --word2 7 -j ACCEPT",
            ),
        ] {
            assert_eq!(rule(text), expected);
        }
    }

    #[test]
    fn addresses_are_found_however_they_are_written() {
        for text in [
            "ip saddr 10.2.0.0/16 dnat ip to 10.2.1.2:22",
            "dnat to 10.2.1.2:22-25",
            "dnat ip to 10.2.1.2-10.2.1.9:22",
            "dnat ip6 to [fd00:7::9]:22",
            "snat to [fd00:7::9]-[fd00:7::b]:1-9",
            "ip daddr . tcp dport { 10.2.1.2 . 22, 10.2.1.9 . 80 } accept",
            "ip saddr { 10.2.1.2-10.2.1.9, 10.2.3.0/24 } drop",
            "ether saddr 52:54:00:aa:bb:cc accept",
            "-A INPUT -s 10.2.1.0/255.255.255.0 -d 10.2.1.2/32 -j DROP",
            "-A INPUT -m iprange --src-range 10.2.1.2-10.2.1.9 -j DROP",
            "-A PREROUTING -j DNAT --to-destination 10.2.1.2:22",
            "-A INPUT -m mac --mac-source 52:54:00:AA:BB:CC -j DROP",
            "-A INPUT -s fd00:7::9/128 -j DROP",
        ] {
            let new = rule(text);
            let old = ["10.2.1.2", "10.2.1.9", "10.2.3.0", "10.2.1.0", "10.2.0.0", "fd00:7", "52:54"];
            assert!(!old.iter().any(|old| new.contains(old)), "{new}");
            assert!(!new.contains("word") && !new.contains(INEXACT), "{new}");
            assert_eq!(text.split_whitespace().count(), new.split_whitespace().count());
        }
        assert_eq!(
            rule("ip daddr 127.0.0.1 ip saddr 0.0.0.0/0 ip daddr 255.255.255.255 accept"),
            "ip daddr 127.0.0.1 ip saddr 0.0.0.0/0 ip daddr 255.255.255.255 accept"
        );
    }

    #[test]
    fn what_cannot_be_kept_true_is_not_told_as_true() {
        for text in [
            "ip saddr & 255.255.0.255 == 10.2.0.2 accept",
            "ip saddr 1.0.0.1-200.0.0.1 accept",
            "@nh,96,32 0x0a020102 accept",
            "iifname \"l*\" accept",
        ] {
            let new = rule(text);
            assert!(new.starts_with("anonymized ") && new.ends_with(" accept"), "{new}");
            let read = crate::evaluate::Expressions::read(&new);
            assert_eq!(read.verdict(), Some(&crate::event::Verdict::Accept));
            assert_eq!(read.conditions(), 1, "one, which is not understood");
        }
        let new = rule("-A INPUT -m iprange --src-range 1.0.0.1-200.0.0.1 -j ACCEPT");
        assert!(new.starts_with("-A INPUT -m anonymized --anonymized -m iprange"), "{new}");
        assert!(!rule("@nh,96,32 0x0a020102 accept").contains("0a02"));
    }

    #[test]
    fn patterns_hold_the_devices_they_held() {
        let texts = ["iifname \"cust-*\" accept", "iifname \"veth*\" accept", "iifname \"veth7*\" accept"];
        let mut anonymizer = Anonymizer::new([1; 16]);
        anonymizer.learn_rules(texts.into_iter());
        let patterns: Vec<String> = texts.iter().map(|text| anonymizer.rule(text)).collect();
        for name in ["cust-1", "cust-ax", "custom", "veth1", "veth7", "veth71", "eth7", "lo", "vet"] {
            let device = anonymizer.names.device(name);
            for (text, new) in texts.iter().zip(&patterns) {
                let begin = |rule: &str| rule.split(['"', '*']).nth(1).unwrap_or_default().to_owned();
                let (held, holds) = (name.starts_with(&begin(text)), device.starts_with(&begin(new)));
                assert_eq!(held, holds, "{name} {device} {text} {new}");
            }
        }
    }

    #[test]
    fn chains_of_tools_stay_theirs() {
        let new = rules(&[
            "jump KUBE-SVC-4N57TFCL4MD7ZTDA",
            "jump filter_IN_acme_allow",
            "jump DOCKER-ACME",
            "jump ufw-acme",
        ]);
        let expected =
            ["jump KUBE-SVC-chain1", "jump filter_IN_object1_allow", "jump DOCKER-chain2", "jump ufw-chain3"];
        assert_eq!(new, expected);
    }
}
