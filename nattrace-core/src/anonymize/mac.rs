//! Link-layer addresses of Ethernet.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// Group and "locally administered" (IEEE 802, clause 8.2).
const FLAGS: u8 = 0b11;

/// The address for an address: nobody's and everybody's stay, and so do the two bits that say what an address is, and the
/// prefixes of IP's groups (RFC 1112 §6.4, RFC 2464 §7). Who made the device is not to be seen afterwards.
pub(super) fn mac(key: &[u8; 16], mac: Mac) -> Mac {
    if mac == [0; 6] || mac == [0xff; 6] {
        return mac;
    }
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(&mac);
    let [new @ .., _, _] = hasher.finish().to_be_bytes();
    match mac {
        [0x33, 0x33, ..] => [0x33, 0x33, new[2], new[3], new[4], new[5]],
        [0x01, 0x00, 0x5e, ..] => [0x01, 0x00, 0x5e, new[3] & 0x7f, new[4], new[5]],
        // To bridges, which go no further (IEEE 802.1Q, table 8-1).
        [0x01, 0x80, 0xc2, 0x00, 0x00, _] => mac,
        [first, ..] => [(new[0] & !FLAGS) | (first & FLAGS), new[1], new[2], new[3], new[4], new[5]],
    }
}

/// Reads `52:54:00:12:34:56`.
pub(super) fn read(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// The other way round; of any length.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
