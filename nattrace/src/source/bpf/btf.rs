//! BTF: where the fields of this kernel's structures are (Documentation/bpf/btf.rst, v7.3).
//!
//! Only what field resolution needs: structures and their members, enumerations, function prototypes. Split
//! BTF of a module continues the numbering of `vmlinux`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// Why BTF could not be used.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes are not BTF, or are cut short.
    #[error("malformed BTF: {0}")]
    Malformed(&'static str),
}

const MAGIC: u16 = 0xeb9f;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC: u32 = 12;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;

/// One type: where its record lies.
#[derive(Debug, Clone, Copy)]
struct Type {
    /// Offset of `struct btf_type` in `bytes`.
    at: usize,
    kind: u32,
    vlen: u32,
}

/// The types of a kernel, or of a module on top of it; none to begin with.
#[derive(Debug, Default)]
pub struct Btf {
    parts: Vec<Part>,
    /// What was looked for by name: there are 150,000 types, and many fields in few of them.
    found: RefCell<BTreeMap<(u32, String), Vec<u32>>>,
}

#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// Number of the first string byte: the sum of the string sections before.
    first_string: usize,
    first_type: u32,
    types: Vec<Type>,
}

/// Where a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Offset from the start of the outermost structure, in bits.
    pub bit_offset: u32,
    /// Size in bits of a bit field, 0 for others.
    pub bitfield_size: u32,
    type_id: u32,
}

impl Btf {
    /// The running kernel's.
    ///
    /// # Errors
    /// When the kernel was built without BTF, or it is malformed.
    pub fn vmlinux() -> Result<Self, BtfError> {
        let mut btf = Self::default();
        btf.add_file("/sys/kernel/btf/vmlinux")?;
        Ok(btf)
    }

    /// Adds a loaded module's types; only one module can be added.
    ///
    /// # Errors
    /// When the module is not loaded, has no BTF, or it is malformed.
    pub fn add_module(&mut self, module: &str) -> Result<(), BtfError> {
        self.parts.truncate(1);
        self.found.take();
        self.add_file(&format!("/sys/kernel/btf/{module}"))
    }

    fn add_file(&mut self, path: &str) -> Result<(), BtfError> {
        let bytes = std::fs::read(path).map_err(|source| BtfError::Read { path: path.to_owned(), source })?;
        self.add(bytes)
    }

    /// Adds BTF from memory: the first part is the base of the second.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<(), BtfError> {
        let word = |at: usize| u32_at(&bytes, at).ok_or(BtfError::Malformed("header"));
        if u16::from_ne_bytes([
            *bytes.first().ok_or(BtfError::Malformed("empty"))?,
            *bytes.get(1).ok_or(BtfError::Malformed("empty"))?,
        ]) != MAGIC
        {
            return Err(BtfError::Malformed("magic"));
        }
        let header_len = word(4)? as usize;
        let section = |offset: u32, len: u32, name| {
            let start = header_len.checked_add(offset as usize).ok_or(BtfError::Malformed(name))?;
            let end = start.checked_add(len as usize).ok_or(BtfError::Malformed(name))?;
            if end > bytes.len() { Err(BtfError::Malformed(name)) } else { Ok(start..end) }
        };
        let types_section = section(word(8)?, word(12)?, "type section")?;
        let strings = section(word(16)?, word(20)?, "string section")?;
        let mut types = Vec::new();
        let mut at = types_section.start;
        while at + 12 <= types_section.end {
            let info = u32_at(&bytes, at + 4).ok_or(BtfError::Malformed("type"))?;
            let (kind, vlen) = ((info >> 24) & 0x1f, info & 0xffff);
            types.push(Type { at, kind, vlen });
            at += 12 + extra_bytes(kind, vlen).ok_or(BtfError::Malformed("type kind"))?;
        }
        let first_type =
            self.parts.last().map_or(1, |p| p.first_type + u32::try_from(p.types.len()).unwrap_or(0));
        let first_string = self.parts.last().map_or(0, |p| p.first_string + p.strings.len());
        self.parts.push(Part { bytes, strings, first_string, first_type, types });
        Ok(())
    }

    fn part_of(&self, id: u32) -> Option<(&Part, Type)> {
        let part = self.parts.iter().rev().find(|p| id >= p.first_type)?;
        let kind = part.types.get((id - part.first_type) as usize)?;
        Some((part, *kind))
    }

    /// The string section from a name on.
    fn name_bytes(&self, offset: u32) -> Option<&[u8]> {
        let offset = offset as usize;
        let part = self.parts.iter().rev().find(|p| offset >= p.first_string)?;
        part.bytes.get(part.strings.clone())?.get(offset - part.first_string..)
    }

    fn name(&self, offset: u32) -> Option<&str> {
        std::str::from_utf8(self.name_bytes(offset)?.split(|b| *b == 0).next()?).ok()
    }

    fn is_named(&self, offset: u32, wanted: &str) -> bool {
        let rest = self.name_bytes(offset).and_then(|bytes| bytes.strip_prefix(wanted.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Ids of the types of a kind and name, the module's first.
    fn named(&self, wanted_kind: u32, wanted: &str) -> Vec<u32> {
        let key = (wanted_kind, wanted.to_owned());
        if let Some(found) = self.found.borrow().get(&key) {
            return found.clone();
        }
        let mut found = Vec::new();
        for part in self.parts.iter().rev() {
            for (index, kind) in part.types.iter().enumerate() {
                if kind.kind == wanted_kind
                    && u32_at(&part.bytes, kind.at).is_some_and(|name| self.is_named(name, wanted))
                {
                    found.push(part.first_type + u32::try_from(index).unwrap_or(0));
                }
            }
        }
        self.found.borrow_mut().insert(key, found.clone());
        found
    }

    /// Size in bytes of a structure.
    #[must_use]
    pub fn size_of(&self, structure: &str) -> Option<u32> {
        let id = *self.named(KIND_STRUCT, structure).first()?;
        let (part, kind) = self.part_of(id)?;
        u32_at(&part.bytes, kind.at + 8)
    }

    /// Finds a member by a path of names separated by dots, looking through anonymous members.
    #[must_use]
    pub fn member(&self, structure: &str, path: &str) -> Option<Member> {
        self.named(KIND_STRUCT, structure).into_iter().find_map(|id| {
            let mut member = Member { bit_offset: 0, bitfield_size: 0, type_id: id };
            for name in path.split('.') {
                let inner = self.member_of(self.resolve(member.type_id)?, name, 0, &mut BTreeSet::new())?;
                member = Member { bit_offset: member.bit_offset.checked_add(inner.bit_offset)?, ..inner };
            }
            Some(member)
        })
    }

    /// A type that is in itself, or in many others, is `passed` once.
    fn member_of(&self, id: u32, wanted: &str, depth: u32, passed: &mut BTreeSet<u32>) -> Option<Member> {
        let (part, kind) = self.part_of(id)?;
        if !matches!(kind.kind, KIND_STRUCT | KIND_UNION) || depth > 8 || !passed.insert(id) {
            return None;
        }
        let bitfields = u32_at(&part.bytes, kind.at + 4)? >> 31 == 1;
        for index in 0..kind.vlen as usize {
            let at = kind.at + 12 + index * 12;
            let (name, type_id, offset) =
                (u32_at(&part.bytes, at)?, u32_at(&part.bytes, at + 4)?, u32_at(&part.bytes, at + 8)?);
            let (bit_offset, bitfield_size) =
                if bitfields { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            if name == 0 {
                let id = self.resolve(type_id);
                if let Some(inner) = id.and_then(|id| self.member_of(id, wanted, depth + 1, passed)) {
                    return Some(Member { bit_offset: bit_offset.checked_add(inner.bit_offset)?, ..inner });
                }
            } else if self.name(name) == Some(wanted) {
                return Some(Member { bit_offset, bitfield_size, type_id });
            }
        }
        None
    }

    /// Looks through typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..16 {
            let (part, kind) = self.part_of(id)?;
            match kind.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = u32_at(&part.bytes, kind.at + 8)?;
                }
                _ => return Some(id),
            }
        }
        None
    }

    /// Size in bytes of a member that is an integer, enumeration or structure.
    #[must_use]
    pub fn member_size(&self, member: Member) -> Option<u32> {
        let (part, kind) = self.part_of(self.resolve(member.type_id)?)?;
        match kind.kind {
            KIND_ARRAY | KIND_FUNC_PROTO => None,
            2 => Some(8),
            _ => u32_at(&part.bytes, kind.at + 8),
        }
    }

    /// The values of an enumeration by number.
    #[must_use]
    pub fn enumeration(&self, name: &str) -> Option<BTreeMap<u32, String>> {
        let id = *self.named(KIND_ENUM, name).first()?;
        let (part, kind) = self.part_of(id)?;
        (0..kind.vlen as usize)
            .map(|index| {
                let at = kind.at + 12 + index * 8;
                let name = self.name(u32_at(&part.bytes, at)?)?;
                Some((u32_at(&part.bytes, at + 4)?, name.to_owned()))
            })
            .collect()
    }

    /// Which of these functions the kernel, or the module, has.
    #[must_use]
    pub fn functions_among(&self, wanted: &[&'static str]) -> Vec<&'static str> {
        let mut found = Vec::new();
        for part in &self.parts {
            for kind in part.types.iter().filter(|kind| kind.kind == KIND_FUNC) {
                let Some(name) = u32_at(&part.bytes, kind.at) else { continue };
                found.extend(wanted.iter().copied().filter(|wanted| self.is_named(name, wanted)));
            }
        }
        found
    }

    /// Number of arguments of a tracepoint, without the leading `void *` of `btf_trace_NAME`.
    #[must_use]
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<u32> {
        let id = *self.named(KIND_TYPEDEF, &format!("btf_trace_{tracepoint}")).first()?;
        let (part, kind) = self.part_of(id)?;
        let (part, pointer) = self.part_of(u32_at(&part.bytes, kind.at + 8)?)?;
        let (_, prototype) = self.part_of(u32_at(&part.bytes, pointer.at + 8)?)?;
        (prototype.kind == KIND_FUNC_PROTO).then(|| prototype.vlen.saturating_sub(1))
    }
}

/// Bytes that follow `struct btf_type`, by kind (include/uapi/linux/btf.h).
fn extra_bytes(kind: u32, vlen: u32) -> Option<usize> {
    let vlen = vlen as usize;
    Some(match kind {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => 0,
        // ARRAY
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => vlen * 12,
        // ENUM, FUNC_PROTO
        6 | 13 => vlen * 8,
        _ => return None,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_what_is_required() {
        let Ok(btf) = Btf::vmlinux() else { return };
        for (structure, path) in
            [("sk_buff", "len"), ("sk_buff", "network_header"), ("net_device", "nd_net.net")]
        {
            let member = btf.member(structure, path);
            assert!(member.is_some_and(|m| m.bit_offset % 8 == 0), "{structure}.{path}: {member:?}");
        }
        assert!(btf.tracepoint_arguments("kfree_skb").is_some_and(|n| n >= 2));
        assert!(btf.member("sk_buff", "no_such_member").is_none());
    }

    /// BTF with one structure `s`, of anonymous members of its own type at the largest offset.
    fn within_itself(members: u16) -> Vec<u8> {
        let mut types: Vec<u8> =
            [1, 4 << 24 | u32::from(members), 8].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
        for _ in 0..members {
            types.extend([0, 1, u32::MAX].iter().flat_map(|n: &u32| n.to_ne_bytes()));
        }
        let length = u32::try_from(types.len()).expect("a length");
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend([24, 0, length, length, 3].iter().flat_map(|n: &u32| n.to_ne_bytes()));
        bytes.extend(types);
        bytes.extend(b"\0s\0");
        bytes
    }

    #[test]
    fn what_is_in_itself_has_an_end() {
        let mut btf = Btf::default();
        btf.add(within_itself(u16::MAX)).expect("BTF");
        assert_eq!(btf.size_of("s"), Some(8));
        assert_eq!(btf.member("s", "t"), None);
    }

    #[test]
    fn offsets_beyond_what_can_be_counted_are_no_member() {
        let mut bytes = within_itself(2);
        // The second member is called as its structure.
        let second = 24 + 12 + 12;
        bytes[second..second + 4].copy_from_slice(&1_u32.to_ne_bytes());
        let mut btf = Btf::default();
        btf.add(bytes).expect("BTF");
        assert_eq!(btf.member("s", "s").map(|member| member.bit_offset), Some(u32::MAX));
        assert_eq!(btf.member("s", "s.s"), None);
    }

    #[test]
    fn cut_short_anywhere_it_is_an_error_or_empty_but_no_panic() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        for len in (0..200).chain([1000, 100_000, bytes.len() / 2]) {
            let mut btf = Btf::default();
            if btf.add(bytes.get(..len).unwrap_or_default().to_vec()).is_ok() {
                let _ = btf.member("sk_buff", "len");
            }
        }
    }
}
