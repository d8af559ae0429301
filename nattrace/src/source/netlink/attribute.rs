//! Netlink attributes (include/uapi/linux/netlink.h `struct nlattr`, include/net/netlink.h), read and written.
//!
//! Reading never panics and never looks beyond the bytes given: an attribute that claims more than is
//! there, or less than its own header, ends the list.

use std::borrow::Cow;

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: the type without the two flag bits.
const TYPE_MASK: u16 = 0x3fff;
/// `NLA_HDRLEN`.
const HEADER: usize = 4;

/// Rounds up to the four bytes that every header and attribute is aligned to (`NLA_ALIGN`, `NLMSG_ALIGN`).
#[must_use]
pub const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// `nla_type` without its flag bits.
    pub kind: u16,
    /// The payload, without padding.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.value.get(..N)?.try_into().ok()
    }

    /// One byte.
    #[must_use]
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// Two bytes in network order.
    #[must_use]
    pub fn be16(&self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes in network order.
    #[must_use]
    pub fn be32(&self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes in network order.
    #[must_use]
    pub fn be64(&self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Four bytes in the order of this machine.
    #[must_use]
    pub fn ne32(&self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    /// Text up to the first NUL. What is not UTF-8 is replaced: names are untrusted and only shown.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(self.value.get(..end).unwrap_or_default())
    }

    /// The attributes nested in this one.
    #[must_use]
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }
}

/// Walks a list of attributes.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of this type.
    #[must_use]
    pub fn find_kind(&self, kind: u16) -> Option<Attribute<'a>> {
        self.clone().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.rest.get(2..HEADER)?.try_into().ok()?) & TYPE_MASK;
        // An attribute that is cut short says nothing that could be trusted, nor does what follows it.
        let value = self.rest.get(HEADER..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

/// Writes attributes, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributeWriter {
    bytes: Vec<u8>,
}

impl AttributeWriter {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// An attribute with these bytes. What does not fit the 16-bit length is cut: nothing here comes near.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let value = value.get(..value.len().min(usize::from(u16::MAX) - HEADER)).unwrap_or_default();
        let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    /// Text with its terminating NUL.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Four bytes in network order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Eight bytes in network order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute that holds what `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::new();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = AttributeWriter::new();
        writer.text(1, "lo").be32(2, 0xdead_beef).nest(3, |inner| {
            inner.be64(4, 7).bytes(5, &[1, 2, 3]);
        });
        let read: Vec<_> = Attributes::new(writer.as_bytes()).collect();
        assert_eq!(read.iter().map(|a| a.kind).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(read[0].text(), "lo");
        assert_eq!(read[1].be32(), Some(0xdead_beef));
        let inner: Vec<_> = read[2].nested().collect();
        assert_eq!((inner[0].be64(), inner[1].value), (Some(7), &[1, 2, 3][..]));
    }

    #[test]
    fn padding_may_be_missing_at_the_end() {
        let mut writer = AttributeWriter::new();
        writer.bytes(9, &[1]);
        let bytes = &writer.as_bytes()[..5];
        assert_eq!(Attributes::new(bytes).next(), Some(Attribute { kind: 9, value: &[1] }));
    }

    #[test]
    fn hostile_lengths_end_the_list() {
        for length in [0_u16, 1, 3, 9, u16::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([1, 0, 0xff, 0xff, 0xff, 0xff]);
            assert_eq!(Attributes::new(&bytes).count(), 0, "length {length}");
        }
        for end in 0..8 {
            let _ = Attributes::new(&[8, 0, 1, 0, 1, 2, 3, 4][..end]).count();
        }
    }

    #[test]
    fn short_values_are_no_numbers() {
        let attribute = Attribute { kind: 1, value: &[1, 2, 3] };
        assert_eq!((attribute.be32(), attribute.be64(), attribute.be16()), (None, None, Some(0x0102)));
    }
}
