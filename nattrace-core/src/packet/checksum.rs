//! The Internet checksum: RFC 1071, and RFC 1624 for headers that change.

use std::net::IpAddr;

/// The ones' complement sum of big-endian words; an odd byte at the end counts as if a zero followed.
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let (high, low) = (word.first().copied().unwrap_or(0), word.get(1).copied().unwrap_or(0));
        u32::from(u16::from_be_bytes([high, low]))
    });
    fold(words.sum())
}

/// Of two sums, or of a sum and another word.
pub(super) fn add(a: u16, b: u16) -> u16 {
    fold(u32::from(a) + u32::from(b))
}

/// The checksum after the bytes it covers changed, and their sum with them (RFC 1624, equation 3).
pub(super) fn update(checksum: u16, before: u16, after: u16) -> u16 {
    !add(add(!checksum, !before), after)
}

/// The sum of the addresses: what NAT changes of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1).
pub(super) fn of_addresses(source: IpAddr, destination: IpAddr) -> u16 {
    let one = |addr| match addr {
        IpAddr::V4(addr) => sum(&addr.octets()),
        IpAddr::V6(addr) => sum(&addr.octets()),
    };
    add(one(source), one(destination))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // It fits now.
    (sum & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_rfcs_have_it() {
        // RFC 1071 section 3.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[0x12]), 0x1200);
        // RFC 1624 section 4.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }
}
