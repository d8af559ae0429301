//! Addresses for addresses, so that two that share a prefix share one of the same length afterwards: Crypto-PAn's scheme
//! (Xu, Fan, Ammar, Moon, "Prefix-Preserving IP Address Anonymization", ICNP 2002) with SipHash for its pseudo-random
//! function.
//!
//! Bit by bit, the bit that follows a prefix is flipped or not, as key and prefix say. So every prefix of a rule still holds
//! what it held. Not flipped are the bits that lead to a range with a meaning of its own ([`RANGES`]): what is private,
//! link-local or multicast stays so, and nothing else becomes it. For the ends of an interval the bits behind their
//! common prefix are not flipped either, so that it still begins before it ends and holds what it held.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher24;

/// An address as a number, and how many bits it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bits {
    width: u8,
    /// The highest bits first: of IPv4, the highest 32.
    value: u128,
}

impl Bits {
    fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self { width: 32, value: u128::from(u32::from(addr)) << 96 },
            IpAddr::V6(addr) => Self { width: 128, value: u128::from(addr) },
        }
    }

    fn addr(self) -> IpAddr {
        if self.width == 32 {
            // The lowest 96 bits are 0.
            let [a, b, c, d, ..] = self.value.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.value))
        }
    }

    /// Its first bits, the others 0.
    fn prefix(self, length: u8) -> Self {
        let kept = if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) };
        Self { value: self.value & kept, ..self }
    }

    fn common(self, other: Self) -> u8 {
        u8::try_from((self.value ^ other.value).leading_zeros()).unwrap_or(128).min(self.width)
    }
}

/// What becomes of the addresses of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Each stays what it is: all know it.
    Stays,
    /// Each becomes another one of the range.
    Within,
}

/// Ranges with a meaning of their own (the special-purpose registries of RFC 6890, multicast of RFC 5771 and RFC 4291).
const RANGES: [(&str, u8, Fate); 35] = [
    ("0.0.0.0", 8, Fate::Stays),
    ("10.0.0.0", 8, Fate::Within),
    ("100.64.0.0", 10, Fate::Within),
    ("127.0.0.0", 8, Fate::Stays),
    ("169.254.0.0", 16, Fate::Within),
    ("172.16.0.0", 12, Fate::Within),
    ("192.0.0.0", 24, Fate::Within),
    ("192.0.2.0", 24, Fate::Within),
    ("192.88.99.0", 24, Fate::Within),
    ("192.168.0.0", 16, Fate::Within),
    ("198.18.0.0", 15, Fate::Within),
    ("198.51.100.0", 24, Fate::Within),
    ("203.0.113.0", 24, Fate::Within),
    ("224.0.0.0", 4, Fate::Within),
    // Groups of the link, which protocols have for themselves.
    ("224.0.0.0", 24, Fate::Stays),
    ("232.0.0.0", 8, Fate::Within),
    ("239.0.0.0", 8, Fate::Within),
    ("240.0.0.0", 4, Fate::Within),
    // Masks are written as addresses are; and the broadcast address.
    ("255.0.0.0", 8, Fate::Stays),
    ("::", 127, Fate::Stays),
    ("::ffff:0:0", 96, Fate::Within),
    ("64:ff9b::", 96, Fate::Within),
    ("2000::", 3, Fate::Within),
    ("2001::", 32, Fate::Within),
    ("2001:db8::", 32, Fate::Within),
    ("2002::", 16, Fate::Within),
    ("fc00::", 8, Fate::Within),
    ("fd00::", 8, Fate::Within),
    ("fe80::", 10, Fate::Within),
    ("fe80::", 64, Fate::Within),
    ("ff00::", 8, Fate::Within),
    // The first groups of node, link and site, and those of solicited nodes.
    ("ff01::", 112, Fate::Stays),
    ("ff02::", 112, Fate::Stays),
    ("ff05::", 112, Fate::Stays),
    ("ff02::1:ff00:0", 104, Fate::Within),
];

/// Addresses that are remembered: of more, intervals are not known to hold what they held.
const MAX_KNOWN: usize = 1 << 20;

/// The map of addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    key: [u8; 16],
    ranges: Vec<(Bits, u8, Fate)>,
    /// Prefixes whose next bit is not flipped, for the sake of an interval's end.
    straight: BTreeSet<(Bits, u8)>,
    /// What was mapped so far, with how many bits of it count.
    known: BTreeMap<(Bits, u8), Bits>,
}

impl Addresses {
    pub(super) fn new(key: [u8; 16]) -> Self {
        let range = |(addr, length, fate): &(&str, u8, Fate)| {
            Some((Bits::of(addr.parse::<IpAddr>().ok()?), *length, *fate))
        };
        let ranges = RANGES.iter().filter_map(range).collect();
        Self { key, ranges, straight: BTreeSet::new(), known: BTreeMap::new() }
    }

    /// The address for an address.
    pub(super) fn addr(&mut self, addr: IpAddr) -> IpAddr {
        let bits = Bits::of(addr);
        self.bits(bits, bits.width).addr()
    }

    /// The prefix of the same length for a prefix.
    pub(super) fn prefix(&mut self, addr: IpAddr, length: u8) -> IpAddr {
        let bits = Bits::of(addr);
        let length = length.min(bits.width);
        self.bits(bits.prefix(length), length).addr()
    }

    /// Has an interval hold what it holds, whatever is mapped from now on. Whether it does: not where it is so wide that its
    /// ends would tell what they were, nor where addresses near it were mapped before.
    pub(super) fn keep_interval(&mut self, first: IpAddr, last: IpAddr) -> bool {
        let (from, to) = (Bits::of(first), Bits::of(last));
        if from.width != to.width || from > to {
            return false;
        }
        let common = from.common(to);
        let path = |end: Bits| (common..end.width).map(move |length| (end.prefix(length), length));
        let new: Vec<(Bits, u8)> =
            path(from).chain(path(to)).filter(|node| !self.straight.contains(node)).collect();
        if new.iter().any(|(prefix, length)| self.flips(*prefix, *length)) {
            let begin = from.prefix(common);
            let near = self.known.range((begin, 0)..).map(|(known, _)| known);
            let mut near = near.take_while(|(known, _)| known.prefix(common) == begin);
            let told = near.any(|(_, length)| *length > common);
            if told || common < from.width / 2 || self.known.len() >= MAX_KNOWN {
                return false;
            }
        }
        self.straight.extend(new);
        true
    }

    /// How many are others now.
    pub(super) fn count(&self) -> usize {
        self.known.iter().filter(|((bits, _), mapped)| bits != *mapped).count()
    }

    fn bits(&mut self, bits: Bits, length: u8) -> Bits {
        if let Some(known) = self.known.get(&(bits, length)) {
            return *known;
        }
        let flipped = (0..length).filter(|at| self.flips(bits.prefix(*at), *at));
        let mask = flipped.fold(0, |mask, at| mask | 1 << (127 - u32::from(at)));
        let mapped = Bits { value: bits.value ^ mask, ..bits };
        if self.known.len() < MAX_KNOWN {
            self.known.insert((bits, length), mapped);
        }
        mapped
    }

    /// Whether the bit behind a prefix is flipped.
    fn flips(&self, prefix: Bits, length: u8) -> bool {
        let leads = |(range, long, fate): &(Bits, u8, Fate)| {
            range.width == prefix.width
                && if length < *long {
                    range.prefix(length) == prefix
                } else {
                    *fate == Fate::Stays && prefix.prefix(*long) == *range
                }
        };
        // Flags and scope of a group (RFC 4291 section 2.7).
        let is_scope = prefix.width == 128 && (8..16).contains(&length) && prefix.value >> 120 == 0xff;
        if is_scope || self.ranges.iter().any(leads) || self.straight.contains(&(prefix, length)) {
            return false;
        }
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(&[prefix.width, length]);
        hasher.write(&prefix.value.to_be_bytes());
        hasher.finish() & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn addresses(seed: u64) -> Addresses {
        let mut key = [0; 16];
        Rng::with_seed(seed).fill(&mut key);
        Addresses::new(key)
    }

    fn random(rng: &mut Rng, near: IpAddr) -> IpAddr {
        // Neighbours at every distance.
        match near {
            IpAddr::V4(near) => IpAddr::V4(Ipv4Addr::from(u32::from(near) ^ (rng.u32(..) >> rng.u32(..32)))),
            IpAddr::V6(near) => {
                IpAddr::V6(Ipv6Addr::from(u128::from(near) ^ (rng.u128(..) >> rng.u32(..128))))
            }
        }
    }

    fn each_kind(rng: &mut Rng) -> IpAddr {
        let known = [
            "10.2.1.2",
            "192.168.70.10",
            "172.20.0.1",
            "8.8.8.8",
            "100.64.0.7",
            "169.254.3.4",
            "224.0.0.251",
            "239.1.2.3",
            "203.0.113.7",
            "185.199.108.1",
            "fd00:1::3",
            "fe80::1",
            "2001:db8::7",
            "2a00:1450::5",
            "ff02::1:ff00:7",
            "ff02::fb",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
            "fc00::1",
            "240.0.0.1",
        ];
        let near = known[rng.usize(..known.len())].parse().expect("an address");
        random(rng, near)
    }

    #[test]
    fn shared_prefixes_stay_shared_and_no_longer() {
        let mut rng = Rng::with_seed(1);
        for seed in 0..10 {
            let mut map = addresses(seed);
            let before: Vec<IpAddr> = (0..80).map(|_| each_kind(&mut rng)).collect();
            let after: Vec<IpAddr> = before.iter().map(|addr| map.addr(*addr)).collect();
            for i in 0..before.len() {
                for j in 0..i {
                    let (a, b) = (Bits::of(before[i]), Bits::of(before[j]));
                    let (c, d) = (Bits::of(after[i]), Bits::of(after[j]));
                    assert_eq!(a.width, c.width);
                    if a.width == b.width {
                        assert_eq!(a.common(b), c.common(d), "{} {}", before[i], before[j]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_prefix_holds_what_it_held() {
        let mut rng = Rng::with_seed(2);
        let mut map = addresses(2);
        for _ in 0..1000 {
            let addr = each_kind(&mut rng);
            let bits = Bits::of(addr);
            let length = rng.u8(..=bits.width);
            let prefix = Bits::of(map.prefix(addr, length));
            assert_eq!(prefix, prefix.prefix(length), "no host bits");
            assert_eq!(Bits::of(map.addr(addr)).prefix(length), prefix);
        }
    }

    #[test]
    fn ranges_keep_their_meaning() {
        let mut rng = Rng::with_seed(3);
        for seed in 0..5 {
            let mut map = addresses(seed);
            for _ in 0..400 {
                let addr = each_kind(&mut rng);
                let mapped = map.addr(addr);
                let (before, after) = (Bits::of(addr), Bits::of(mapped));
                for (range, length, fate) in map.ranges.clone() {
                    let within = |bits: Bits| bits.width == range.width && bits.prefix(length) == range;
                    assert_eq!(within(before), within(after), "{addr} {mapped} {}", range.addr());
                    assert!(fate == Fate::Within || !within(before) || addr == mapped, "{addr} {mapped}");
                }
                if let (IpAddr::V4(before), IpAddr::V4(after)) = (addr, mapped) {
                    assert_eq!(
                        (before.is_private(), before.is_loopback(), before.is_link_local()),
                        (after.is_private(), after.is_loopback(), after.is_link_local())
                    );
                    assert_eq!(before.is_multicast(), after.is_multicast());
                    assert_eq!(before.is_documentation(), after.is_documentation());
                }
                if let (IpAddr::V6(before), IpAddr::V6(after)) = (addr, mapped) {
                    assert_eq!(before.is_unique_local(), after.is_unique_local());
                    assert_eq!(before.is_unicast_link_local(), after.is_unicast_link_local());
                    assert_eq!(before.is_multicast(), after.is_multicast());
                }
            }
        }
        let mut map = addresses(4);
        for same in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "255.255.255.0",
            "224.0.0.251",
            "::",
            "::1",
            "ff02::1",
        ] {
            let same: IpAddr = same.parse().expect("an address");
            assert_eq!(map.addr(same), same);
        }
    }

    #[test]
    fn intervals_hold_what_they_held() {
        let mut rng = Rng::with_seed(5);
        let (mut kept, mut moved) = (0, 0);
        for seed in 0..60 {
            let mut map = addresses(seed);
            let mut intervals = Vec::new();
            for _ in 0..5 {
                let near = each_kind(&mut rng);
                let (mut first, mut last) = (random(&mut rng, near), random(&mut rng, near));
                if first > last {
                    std::mem::swap(&mut first, &mut last);
                }
                if map.keep_interval(first, last) {
                    intervals.push((first, last));
                }
            }
            for (first, last) in &intervals {
                let (from, to) = (map.addr(*first), map.addr(*last));
                assert!(from <= to);
                kept += 1;
                moved += usize::from(from != *first);
                for _ in 0..30 {
                    let near = if rng.bool() { *first } else { *last };
                    let addr = random(&mut rng, near);
                    let mapped = map.addr(addr);
                    let within = |addr, first, last| first <= addr && addr <= last;
                    assert_eq!(
                        within(addr, *first, *last),
                        within(mapped, from, to),
                        "{first}-{last}: {addr}"
                    );
                }
            }
        }
        assert!(kept > 60 && moved > 40, "{kept} {moved}");
    }

    #[test]
    fn an_interval_that_comes_too_late_is_not_kept() {
        let addr = |text: &str| text.parse::<IpAddr>().expect("an address");
        let refused = (0..64).filter(|seed| {
            let mut map = addresses(*seed);
            map.addr(addr("10.0.0.7"));
            !map.keep_interval(addr("10.0.0.5"), addr("10.0.0.9"))
        });
        assert!(refused.count() > 32, "where a bit of its ends was flipped");
        assert!(!addresses(1).keep_interval(addr("1.2.3.4"), addr("200.1.1.1")), "too wide");
        assert!(!addresses(1).keep_interval(addr("10.0.0.9"), addr("10.0.0.5")));
        assert!(!addresses(1).keep_interval(addr("10.0.0.9"), addr("fd00::5")));
    }

    #[test]
    fn another_key_is_another_map() {
        let addr: IpAddr = "185.199.108.1".parse().expect("an address");
        let all: BTreeSet<IpAddr> = (0..100).map(|seed| addresses(seed).addr(addr)).collect();
        assert!(all.len() > 95);
    }
}
