//! The user's filter as the kernel side wants it.

use std::net::IpAddr;

use nattrace_common::filter::{ALTERNATIVES, Bits, KernelFilter, List, NAMESPACES, Ports, PrefixWords};
use nattrace_core::filter::{Filter, Masked, PortRange, Prefix};

/// How packets are selected, beside the filter.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "ways of selecting, each on or off")]
pub struct Selection {
    /// Watched namespaces by inode number; empty: all.
    pub netns: Vec<u32>,
    /// A trace table marks what is selected.
    pub marked: bool,
    /// Follow connections.
    pub follow: bool,
    /// Select what matches with source and destination swapped, too.
    pub mirror: bool,
    /// Selections a second without a trace table; `None`: no limit.
    pub rate: Option<u32>,
    /// Several namespaces are watched, and trace tables ask the programs whether a packet is followed already.
    pub crossing: bool,
    /// This kernel's number for `NETFILTER_DROP`.
    pub netfilter_drop: Option<u32>,
}

/// Translates the filter. Lists longer than the kernel side's were refused by the command line.
#[must_use]
pub fn kernel_filter(filter: &Filter, selection: &Selection) -> KernelFilter {
    let mut kernel = KernelFilter {
        marked: u32::from(selection.marked),
        follow: u32::from(selection.follow),
        mirror: u32::from(selection.mirror),
        rate: selection.rate.unwrap_or(0),
        crossing: u32::from(selection.crossing),
        by_packet: u32::from(
            !filter.marks.is_empty() || !filter.iif.is_empty() || filter.tcp_flags.is_some(),
        ),
        protocols: list(&filter.protocols, 0, |p| u32::from(*p)),
        saddr: list(&filter.saddr, NO_PREFIX, prefix),
        daddr: list(&filter.daddr, NO_PREFIX, prefix),
        addr: list(&filter.addr, NO_PREFIX, prefix),
        sport: list(&filter.sport, Ports { first: 0, last: 0 }, |r| ports(*r)),
        dport: list(&filter.dport, Ports { first: 0, last: 0 }, |r| ports(*r)),
        port: list(&filter.port, Ports { first: 0, last: 0 }, |r| ports(*r)),
        marks: list(&filter.marks, Bits { value: 0, mask: 0 }, |m| bits(*m)),
        iif: list(&filter.iif, [0; 2], |name| device_name(name)),
        tcp_flags: filter.tcp_flags.map_or(Bits { value: 0, mask: 0 }, bits),
        ..KernelFilter::EVERYTHING
    };
    if let Some(number) = selection.netfilter_drop {
        kernel.netfilter_drop = number;
    }
    // More than fit are looked up in a map.
    kernel.netns_len = u32::try_from(selection.netns.len()).unwrap_or(0);
    if selection.netns.len() <= NAMESPACES {
        for (slot, inum) in kernel.netns.iter_mut().zip(&selection.netns) {
            *slot = *inum;
        }
    }
    kernel
}

const NO_PREFIX: PrefixWords = PrefixWords { value: [0; 4], mask: [0; 4] };

fn list<F, T: Copy>(from: &[F], empty: T, convert: impl Fn(&F) -> T) -> List<T> {
    let mut to = List::empty(empty);
    for (slot, item) in to.items.iter_mut().zip(from) {
        *slot = convert(item);
    }
    to.len = u32::try_from(from.len().min(ALTERNATIVES)).unwrap_or(0);
    to
}

fn prefix(prefix: &Prefix) -> PrefixWords {
    let (addr, len) = match prefix.addr {
        IpAddr::V4(addr) => (addr.to_ipv6_mapped(), u32::from(prefix.len.min(32)) + 96),
        IpAddr::V6(addr) => (addr, u32::from(prefix.len.min(128))),
    };
    let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0).to_be_bytes();
    let words = |bytes: [u8; 16]| {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*chunk);
        }
        words
    };
    PrefixWords { value: words(addr.octets()), mask: words(mask) }
}

fn ports(range: PortRange) -> Ports {
    Ports { first: range.first, last: range.last }
}

fn bits(masked: Masked) -> Bits {
    Bits { value: masked.value & masked.mask, mask: masked.mask }
}

fn device_name(name: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    // IFNAMSIZ includes the terminating NUL.
    for (slot, byte) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *slot = byte;
    }
    let (words, _) = bytes.as_chunks::<8>();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_both_families_share_one_form() {
        let v4 = prefix(&Prefix { addr: "10.2.0.0".parse().expect("an address"), len: 16 });
        assert_eq!(v4.mask, [u32::MAX, u32::MAX, u32::MAX, 0xffff_0000_u32.to_be()]);
        assert_eq!(v4.value[3], 0x0a02_0000_u32.to_be());
        assert_eq!(v4.value[2], 0xffff_u32.to_be());
        let all = prefix(&Prefix { addr: "::".parse().expect("an address"), len: 0 });
        assert_eq!(all.mask, [0; 4]);
    }

    #[test]
    fn many_namespaces_are_not_all_namespaces() {
        let some = Selection { netns: (1..=20).collect(), ..Selection::default() };
        assert_eq!(kernel_filter(&Filter::default(), &some).netns_len, 20);
        assert_eq!(kernel_filter(&Filter::default(), &Selection::default()).netns_len, 0);
    }

    #[test]
    fn names_are_compared_whole() {
        assert_ne!(device_name("eth1"), device_name("eth10"));
        assert_eq!(device_name("a-name-of-fifteen")[1] >> 56, 0);
    }
}
