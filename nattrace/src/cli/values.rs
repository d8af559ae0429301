//! Values as typed, turned into values as meant, or into a [`Mistake`] that teaches.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use nattrace_core::event::Source;
use nattrace_core::filter::{Masked, PortRange, Prefix};
use nattrace_core::packet::{TCP_FLAG_NAMES, protocol};
use nattrace_core::record::Format as RecordFormat;

use super::mistake::Mistake;

/// The kernel's filter holds this many values of a kind.
pub(super) const MAX_VALUES: usize = 16;

/// Why a value cannot be, and what to type instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    cause: String,
    remedy: String,
}

impl Bad {
    pub(super) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), remedy: remedy.into() }
    }

    fn at(self, flag: &str, value: &str) -> Mistake {
        Mistake::new(format!("{flag} {value}"), self.cause, self.remedy)
    }
}

type Parsed<T> = Result<T, Bad>;

/// One value.
pub(super) fn one<T>(flag: &str, typed: &str, parse: impl Fn(&str) -> Parsed<T>) -> Result<T, Mistake> {
    parse(typed).map_err(|bad| bad.at(flag, typed))
}

/// A list: the flag repeated, each a comma list. Doubles count once.
pub(super) fn list<T: PartialEq>(
    flag: &str,
    typed: &[String],
    parse: impl Fn(&str) -> Parsed<T>,
) -> Result<Vec<T>, Mistake> {
    let mut values = Vec::new();
    for given in typed {
        for item in given.split(',') {
            if item.trim().is_empty() {
                return Err(Mistake::new(
                    format!("{flag} {given:?}"),
                    "a value is empty",
                    "give a value, or leave the comma or the option out",
                ));
            }
            let value = one(flag, item.trim(), &parse)?;
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    if values.len() > MAX_VALUES {
        return Err(Mistake::new(
            flag,
            format!(
                "{} values, and the filter in the kernel holds at most {MAX_VALUES} of a kind",
                values.len()
            ),
            "join some in a range or a prefix, or run nattrace twice",
        ));
    }
    Ok(values)
}

/// A port or a range of ports.
pub(super) fn ports(text: &str) -> Parsed<PortRange> {
    let port = |text: &str| -> Parsed<u16> {
        let text = text.trim();
        text.parse().map_err(|_| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
                Bad::new("ports go from 0 to 65535", "give a number in that range")
            } else if text.contains(':') {
                Bad::new("not a port", "write a range with a dash, as in 8000-8100")
            } else {
                Bad::new(
                    "ports are given by number",
                    "give a number or a range, as in 22 or 8000-8100 (names stand in /etc/services)",
                )
            }
        })
    };
    if let Ok(port) = text.parse() {
        return Ok(PortRange { first: port, last: port });
    }
    match text.split_once('-') {
        Some((first, last)) if !first.is_empty() => {
            if last.is_empty() {
                return Err(Bad::new(
                    "the range has no end",
                    format!("write {first}-65535 to leave it open"),
                ));
            }
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(Bad::new("the range runs backwards", format!("write {last}-{first}")));
            }
            Ok(PortRange { first, last })
        }
        _ => port(text).map(|port| PortRange { first: port, last: port }),
    }
}

/// An address, or a prefix; host bits may be set.
pub(super) fn prefix(text: &str) -> Parsed<Prefix> {
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (text, None),
    };
    let Ok(parsed) = addr.parse::<IpAddr>() else {
        return Err(not_an_address(addr));
    };
    let (family, max) = match parsed {
        IpAddr::V4(_) => ("IPv4", 32u8),
        IpAddr::V6(_) => ("IPv6", 128),
    };
    let Some(len) = len else {
        return Ok(Prefix { addr: parsed, len: max });
    };
    match len.parse::<u8>() {
        Ok(len) if len <= max => Ok(Prefix { addr: parsed, len }),
        _ if len.parse::<IpAddr>().is_ok() => Err(Bad::new(
            "a mask where the length of the prefix is expected",
            format!("write the number of leading bits, as in {addr}/24"),
        )),
        _ => Err(Bad::new(
            format!("{family} prefix lengths go from 0 to {max}"),
            format!("write {addr}/{max}, or {addr} alone, for the one address"),
        )),
    }
}

fn not_an_address(text: &str) -> Bad {
    let bare = text.strip_prefix('[').and_then(|t| t.split_once(']')).map(|(addr, _)| addr);
    if let Some(addr) = bare.filter(|a| a.parse::<IpAddr>().is_ok()) {
        return Bad::new(
            "an address is written without brackets here",
            format!("write {addr}, and a port with --port"),
        );
    }
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return Bad::new("an address with a port", "give the port with --sport, --dport or --port");
    }
    if let Some((addr, zone)) = text.split_once('%') {
        return Bad::new("an address with a zone", format!("write {addr}, and the device with --iif {zone}"));
    }
    Bad::new(
        "not an IP address",
        "give a v4 or v6 address or prefix, as in 10.2.0.0/16 (names are not looked up)",
    )
}

/// A protocol by name or number.
pub(super) fn proto(text: &str) -> Parsed<u8> {
    let text = text.to_ascii_lowercase();
    if let Ok(number) = text.parse::<u8>() {
        return Ok(number);
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return Err(Bad::new("protocol numbers go from 0 to 255", "give a number in that range"));
    }
    let name = match text.as_str() {
        // Their names in nft and /etc/protocols, and the one that everybody types.
        "ipv6-icmp" | "icmp6" => "icmpv6",
        name => name,
    };
    (0..=u8::MAX).find(|number| protocol::name(*number) == Some(name)).ok_or_else(|| {
        Bad::new(
            "no protocol is known by that name",
            "give tcp, udp, icmp, icmpv6 or sctp, or the number from /etc/protocols",
        )
    })
}

/// A device name, by the kernel's own rules (`dev_valid_name`).
pub(super) fn device(text: &str) -> Parsed<String> {
    if text.len() > 15 {
        return Err(Bad::new("device names have at most 15 bytes", "give a name that `ip link` lists"));
    }
    if matches!(text, "." | "..") || text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        return Err(Bad::new("no device can have that name", "give a name that `ip link` lists"));
    }
    Ok(text.to_owned())
}

/// `V` or `V/MASK`.
pub(super) fn mark(text: &str) -> Parsed<Masked> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number32(value)?, number32(mask)?),
        None => (number32(text)?, u32::MAX),
    };
    if value & !mask != 0 {
        return Err(Bad::new(
            format!("{value:#x} has bits that the mask {mask:#x} leaves out, so no packet can match"),
            format!("write {:#x}/{mask:#x}, or a wider mask", value & mask),
        ));
    }
    Ok(Masked { value, mask })
}

fn number32(text: &str) -> Parsed<u32> {
    let text = text.trim();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign; marks have none.
    let parsed =
        digits.chars().all(|c| c.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok()).flatten();
    parsed.ok_or_else(|| {
        Bad::new("marks and masks are numbers of 32 bits", "write 7, 0x7, or with a mask 0x10/0xff")
    })
}

/// `syn,!ack`, over all repetitions of the flag.
pub(super) fn tcp_flags(flag: &str, typed: &[String]) -> Result<Option<Masked>, Mistake> {
    let (mut set, mut clear) = (0u32, 0u32);
    for item in list(flag, typed, tcp_flag)? {
        match item {
            (bit, true) => set |= bit,
            (bit, false) => clear |= bit,
        }
    }
    if set & clear != 0 {
        let name = TCP_FLAG_NAMES.iter().enumerate().find(|(bit, _)| set & clear & (1 << bit) != 0);
        let name = name.map_or("", |(_, name)| name);
        return Err(Mistake::new(
            format!("{flag} {}", typed.join(",")),
            format!("{name} cannot be both set and clear, so no packet can match"),
            format!("leave out {name} or !{name}"),
        ));
    }
    Ok((set | clear != 0).then_some(Masked { value: set, mask: set | clear }))
}

fn tcp_flag(text: &str) -> Parsed<(u32, bool)> {
    let (name, set) = match text.strip_prefix('!') {
        Some(name) => (name, false),
        None => (text, true),
    };
    let name = name.trim().to_ascii_lowercase();
    TCP_FLAG_NAMES.iter().position(|known| *known == name).map(|bit| (1 << bit, set)).ok_or_else(|| {
        Bad::new("no such TCP flag", format!("give some of {}, with ! for clear", TCP_FLAG_NAMES.join(", ")))
    })
}

/// `10s`, `5m`, `1h30m`, `500ms`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let unit_missing = |text: &str| {
        let mut remedy = String::from("write a number and ms, s, m or h, as in 10s or 1h30m");
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            remedy.clear();
            let _ = write!(remedy, "write {text}s for seconds, {text}m for minutes");
        }
        Bad::new("not a length of time", remedy)
    };
    let too_long =
        || Bad::new("longer than can be counted", "give a shorter time, or none to trace until Ctrl-C");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(unit_missing(text)),
        };
        if number.is_empty() {
            return Err(unit_missing(text));
        }
        let part =
            number.parse::<u64>().ok().and_then(|n| n.checked_mul(milliseconds)).ok_or_else(too_long)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(too_long)?;
        rest = after;
    }
    if total.is_zero() {
        return Err(if text.is_empty() {
            unit_missing(text)
        } else {
            Bad::new("no time at all", "give at least 1ms, or leave it out to trace until Ctrl-C")
        });
    }
    Ok(total)
}

/// `64k`, `10M`, `2G`: bytes.
pub(super) fn size(text: &str) -> Parsed<u64> {
    const LEAST: u64 = 64 << 10;
    match bytes(text)? {
        bytes if bytes >= LEAST => Ok(bytes),
        _ => Err(Bad::new("too small for a ruleset and a packet", "give at least 64k")),
    }
}

/// `--memory`.
pub(super) fn memory(text: &str) -> Parsed<u64> {
    const LEAST: u64 = 32 << 20;
    match bytes(text)? {
        bytes if bytes >= LEAST => Ok(bytes),
        _ => Err(Bad::new("too little for the program itself", "give at least 32M")),
    }
}

/// `--record-format`.
pub(super) fn record_format(text: &str) -> Parsed<RecordFormat> {
    match text {
        "json" => Ok(RecordFormat::Json),
        "compact" => Ok(RecordFormat::Compact),
        _ => Err(Bad::new("not a format of recordings", "use json or compact")),
    }
}

fn bytes(text: &str) -> Parsed<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => Some(0),
        "k" | "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(shift).and_then(|(n, shift)| n.checked_mul(1 << shift));
    bytes.ok_or_else(|| Bad::new("not a size", "write a number and k, M, G or T, as in 100M"))
}

/// `--count`.
pub(super) fn count(text: &str) -> Parsed<u64> {
    match text.parse() {
        Ok(0) => {
            Err(Bad::new("nothing would be traced", "give at least 1, or leave it out to trace until Ctrl-C"))
        }
        Ok(count) => Ok(count),
        Err(_) => Err(Bad::new("not a number of journeys", "give a whole number, as in --count 1")),
    }
}

/// `--rate`; 0 is "no limit".
pub(super) fn rate(text: &str) -> Parsed<Option<u32>> {
    match text.parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(rate) => Ok(Some(rate)),
        Err(_) => Err(Bad::new("not a number of packets a second", "give a whole number, or 0 for no limit")),
    }
}

/// `--sources`.
pub(super) fn source(text: &str) -> Parsed<Source> {
    Source::ALL
        .into_iter()
        .find(|source| source.name() == text)
        .ok_or_else(|| Bad::new("no such source", "give some of probes, tracepoints, nft, conntrack"))
}

/// `--netns`, one of the list.
pub(super) fn netns(text: &str) -> Parsed<String> {
    if text.contains('\0') {
        return Err(Bad::new("no namespace can have that name", "give a name that `ip netns` lists"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause<T: std::fmt::Debug>(parsed: Parsed<T>) -> String {
        parsed.unwrap_err().cause
    }

    #[test]
    fn ports_and_ranges() {
        assert_eq!(ports("22").unwrap(), PortRange { first: 22, last: 22 });
        assert_eq!(ports("0").unwrap(), PortRange { first: 0, last: 0 });
        assert_eq!(ports("8000-8100").unwrap(), PortRange { first: 8000, last: 8100 });
        for far in ["70000", "-1", "1-65536", "99999999999999999999"] {
            assert_eq!(cause(ports(far)), "ports go from 0 to 65535", "{far}");
        }
        assert_eq!(ports("22-10").unwrap_err().remedy, "write 10-22");
        assert_eq!(cause(ports("22-")), "the range has no end");
        for word in ["ssh", "22tcp", "", "-", "ssh-telnet"] {
            assert_eq!(cause(ports(word)), "ports are given by number", "{word}");
        }
        assert_eq!(ports("22:80").unwrap_err().remedy, "write a range with a dash, as in 8000-8100");
    }

    #[test]
    fn prefixes() {
        let host_bits = prefix("10.1.2.3/8").unwrap();
        assert_eq!((host_bits.addr.to_string().as_str(), host_bits.len), ("10.1.2.3", 8));
        assert_eq!(prefix("::1").unwrap().len, 128);
        assert_eq!(prefix("2001:db8::/32").unwrap().len, 32);
        assert_eq!(prefix("0.0.0.0/0").unwrap().len, 0);
        assert_eq!(cause(prefix("10.0.0.0/33")), "IPv4 prefix lengths go from 0 to 32");
        assert_eq!(cause(prefix("fe80::/129")), "IPv6 prefix lengths go from 0 to 128");
        assert_eq!(cause(prefix("10.0.0.0/-1")), "IPv4 prefix lengths go from 0 to 32");
        assert_eq!(cause(prefix("10.0.0.0/")), "IPv4 prefix lengths go from 0 to 32");
        assert_eq!(cause(prefix("10.0.0.0/255.0.0.0")), "a mask where the length of the prefix is expected");
        assert_eq!(cause(prefix("10.0.0")), "not an IP address");
        assert_eq!(cause(prefix("example.org")), "not an IP address");
        assert_eq!(cause(prefix("10.0.0.1:22")), "an address with a port");
        assert_eq!(cause(prefix("[::1]")), "an address is written without brackets here");
        assert_eq!(cause(prefix("fe80::1%eth0")), "an address with a zone");
    }

    #[test]
    fn protocols() {
        assert_eq!(proto("tcp"), Ok(6));
        assert_eq!(proto("TCP"), Ok(6));
        assert_eq!(proto("ipv6-icmp"), Ok(58));
        assert_eq!(proto("0"), Ok(0));
        assert_eq!(proto("253"), Ok(253));
        assert_eq!(cause(proto("256")), "protocol numbers go from 0 to 255");
        assert_eq!(cause(proto("-1")), "protocol numbers go from 0 to 255");
        assert_eq!(cause(proto("tpc")), "no protocol is known by that name");
    }

    #[test]
    fn marks() {
        assert_eq!(mark("7"), Ok(Masked { value: 7, mask: u32::MAX }));
        assert_eq!(mark("0x10/0xff"), Ok(Masked { value: 16, mask: 255 }));
        assert_eq!(mark("0xffffffff"), Ok(Masked { value: u32::MAX, mask: u32::MAX }));
        for bad in ["0x1ffffffff", "-1", "+1", "0x", "0x+1", "web", "1/", "/1", "1/2/3"] {
            assert_eq!(cause(mark(bad)), "marks and masks are numbers of 32 bits", "{bad}");
        }
        assert!(cause(mark("0x11/0xf")).ends_with("so no packet can match"));
    }

    #[test]
    fn flags_of_tcp() {
        let flags = |typed: &[&str]| {
            tcp_flags("--tcp-flags", &typed.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(flags(&[]), Ok(None));
        assert_eq!(flags(&["syn,!ack"]), Ok(Some(Masked { value: 2, mask: 0x12 })));
        assert_eq!(flags(&["SYN", "!ack"]), Ok(Some(Masked { value: 2, mask: 0x12 })));
        assert!(flags(&["syn,!syn"]).unwrap_err().cause.contains("syn cannot be both set and clear"));
        assert_eq!(flags(&["sny"]).unwrap_err().cause, "no such TCP flag");
        assert_eq!(flags(&["!"]).unwrap_err().cause, "no such TCP flag");
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10").unwrap_err().remedy, "write 10s for seconds, 10m for minutes");
        for bad in ["", "s", "-5s", "1.5s", "5 s", "5parsecs", "1h30"] {
            assert_eq!(cause(duration(bad)), "not a length of time", "{bad}");
        }
        assert_eq!(cause(duration("0s")), "no time at all");
        assert_eq!(cause(duration("99999999999999999999s")), "longer than can be counted");
        assert_eq!(cause(duration("9999999999999999h")), "longer than can be counted");
    }

    #[test]
    fn lists_repeat_and_have_an_end() {
        let typed = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(list("--proto", &typed(&["tcp, udp", "tcp"]), proto), Ok(vec![6, 17]));
        for empty in ["", "22,", ",22", "22,,23"] {
            let mistake = list("--dport", &typed(&[empty]), ports).unwrap_err();
            assert_eq!(mistake.cause, "a value is empty", "{empty}");
        }
        let many = (1..=17).map(|p| p.to_string()).collect::<Vec<_>>().join(",");
        let mistake = list("--dport", &typed(&[&many]), ports).unwrap_err();
        assert_eq!(
            mistake.to_string(),
            "--dport: 17 values, and the filter in the kernel holds at most 16 of a kind; \
             join some in a range or a prefix, or run nattrace twice"
        );
    }

    #[test]
    fn numbers() {
        assert_eq!(count("3"), Ok(3));
        assert_eq!(cause(count("0")), "nothing would be traced");
        assert_eq!(cause(count("-3")), "not a number of journeys");
        assert_eq!(rate("0"), Ok(None));
        assert_eq!(rate("10"), Ok(Some(10)));
        assert_eq!(cause(rate("fast")), "not a number of packets a second");
        assert_eq!(source("nft"), Ok(Source::Nft));
        assert_eq!(cause(source("ebpf")), "no such source");
    }

    #[test]
    fn device_names() {
        assert_eq!(device("eth0.100@if3"), Ok("eth0.100@if3".to_owned()));
        assert_eq!(cause(device("averyveryverylongname")), "device names have at most 15 bytes");
        assert_eq!(cause(device("a/b")), "no device can have that name");
        assert_eq!(cause(device("eth0:1")), "no device can have that name");
    }
}
