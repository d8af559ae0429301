//! Netlink messages: `struct nlmsghdr` (include/uapi/linux/netlink.h) and the `struct nfgenmsg` that every
//! nfnetlink message begins with (include/uapi/linux/netfilter/nfnetlink.h).

use super::attribute::{AttributeWriter, Attributes, align};
use super::constants::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSGERR_ATTR_MSG};

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct nfgenmsg`.
const NFGENMSG: usize = 4;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_MULTI`: part of a dump.
pub const MULTI: u16 = 0x2;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: of the request this answers, 0 for multicasts.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
    /// The message with its header.
    pub whole: &'a [u8],
}

/// What an `NLMSG_ERROR` message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The error, positive; 0 for success.
    pub errno: i32,
    /// The kernel's own words (`NLMSGERR_ATTR_MSG`), when it has any.
    pub text: Option<String>,
}

impl<'a> Message<'a> {
    /// The answer to a request, for an `NLMSG_ERROR` message, or for the `NLMSG_DONE` that ends a dump.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        if !matches!(self.kind, NLMSG_ERROR | NLMSG_DONE) {
            return None;
        }
        let code = self.payload.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
        let mut text = None;
        if self.kind == NLMSG_ERROR && self.flags & NLM_F_ACK_TLVS != 0 {
            // The request follows the error: all of it, or with NLM_F_CAPPED its header alone.
            let request =
                self.payload.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
            let request = usize::try_from(request).unwrap_or(HEADER);
            let skip = if self.flags & NLM_F_CAPPED != 0 { HEADER } else { align(request.min(1 << 24)) };
            let attributes = Attributes::new(self.payload.get(4 + skip..).unwrap_or_default());
            text = attributes.find_kind(NLMSGERR_ATTR_MSG).map(|a| a.text().into_owned());
        }
        Some(Answer { errno: code.saturating_neg(), text })
    }

    /// Whether this ends a dump.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.kind == NLMSG_DONE
    }

    /// `NLMSG_OVERRUN`: the kernel lost messages.
    #[must_use]
    pub fn is_overrun(&self) -> bool {
        self.kind == NLMSG_OVERRUN
    }

    /// The nfnetlink subsystem and message, for types that are not netlink's own.
    #[must_use]
    pub fn netfilter(&self) -> Option<(u16, u16)> {
        (self.kind >= 0x10).then_some((self.kind >> 8, self.kind & 0xff))
    }

    /// `nfgen_family`.
    #[must_use]
    pub fn family(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// The attributes after `skip` bytes of a fixed header.
    #[must_use]
    pub fn attributes_after(&self, skip: usize) -> Attributes<'a> {
        Attributes::new(self.payload.get(align(skip)..).unwrap_or_default())
    }

    /// The attributes after `struct nfgenmsg`.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes_after(NFGENMSG)
    }
}

/// Walks the messages of a datagram.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages in `datagram`.
    #[must_use]
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.rest.get(..HEADER)?;
        let u16_at =
            |at: usize| header.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        let u32_at =
            |at: usize| header.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        let length = usize::try_from(u32_at(0)?).ok()?;
        let whole = self.rest.get(..length)?;
        let message = Message {
            kind: u16_at(4)?,
            flags: u16_at(6)?,
            sequence: u32_at(8)?,
            payload: whole.get(HEADER..)?,
            whole,
        };
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(message)
    }
}

/// Appends one message to `out`: netlink header, `fixed` (such as `struct nfgenmsg`), attributes.
pub fn write(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, fixed: &[u8], attributes: &[u8]) {
    let length = HEADER + align(fixed.len()) + attributes.len();
    let start = out.len();
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend(0_u32.to_ne_bytes());
    out.extend(fixed);
    out.resize(start + HEADER + align(fixed.len()), 0);
    out.extend(attributes);
    out.resize(start + align(length), 0);
}

/// `struct nfgenmsg`: family, version 0, resource id in network order.
#[must_use]
pub fn nfgenmsg(family: u8, resource: u16) -> [u8; NFGENMSG] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// One nfnetlink message as a datagram of its own.
#[must_use]
pub fn netfilter_request(
    subsystem: u16,
    message: u16,
    flags: u16,
    family: u8,
    attributes: &AttributeWriter,
) -> Vec<u8> {
    let mut out = Vec::new();
    write(
        &mut out,
        subsystem << 8 | message,
        REQUEST | flags,
        1,
        &nfgenmsg(family, 0),
        attributes.as_bytes(),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_datagram_are_told_apart() {
        let mut bytes = Vec::new();
        let mut attributes = AttributeWriter::new();
        attributes.text(1, "x");
        write(&mut bytes, 0x0a00, 0, 0, &nfgenmsg(1, 0), attributes.as_bytes());
        write(&mut bytes, 0x0a0f, MULTI, 3, &nfgenmsg(0, 0x1234), &[]);
        let messages: Vec<_> = Messages::new(&bytes).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].netfilter(), Some((10, 0)));
        assert_eq!(messages[0].attributes().find_kind(1).expect("a name").text(), "x");
        assert_eq!((messages[1].flags, messages[1].sequence), (MULTI, 3));
        assert_eq!(messages[1].payload, [0, 0, 0x12, 0x34]);
    }

    #[test]
    fn errors_carry_the_kernels_words() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        let mut attributes = AttributeWriter::new();
        attributes.text(NLMSGERR_ATTR_MSG, "no such thing");
        let mut bytes = Vec::new();
        write(&mut bytes, NLMSG_ERROR, NLM_F_ACK_TLVS | NLM_F_CAPPED, 5, &payload, attributes.as_bytes());
        let message = Messages::new(&bytes).next().expect("a message");
        let expected = Answer { errno: libc::EINVAL, text: Some("no such thing".to_owned()) };
        assert_eq!(message.answer(), Some(expected));
    }

    #[test]
    fn anything_at_all_is_survived() {
        for length in [0_u32, 1, 15, 16, 17, 40, u32::MAX] {
            for kind in [2_u16, 3, 0x0a11] {
                let mut bytes = length.to_ne_bytes().to_vec();
                bytes.extend(kind.to_ne_bytes());
                bytes.extend([0xff; 40]);
                for end in 0..bytes.len() {
                    for message in Messages::new(&bytes[..end]) {
                        let _ = (message.answer(), message.attributes().count(), message.family());
                    }
                }
            }
        }
    }
}
