//! BTF: where the fields of this kernel's structures are (Documentation/bpf/btf.rst, v7.3).
//!
//! Only what field resolution needs: structures and their members, enumerations, function prototypes. Split
//! BTF of a module continues the numbering of `vmlinux`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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

/// Kinds of types that are looked up by name.
const LOOKED_UP: [u32; 4] = [KIND_STRUCT, KIND_ENUM, KIND_TYPEDEF, KIND_FUNC];

/// `struct btf_type`: name, info, size or type.
const BYTES_OF_A_TYPE: usize = 12;

/// One type: where its record lies.
#[derive(Debug, Clone, Copy)]
struct Type {
    /// Offset of `struct btf_type` in `bytes`.
    at: usize,
    kind: u32,
    vlen: u32,
}

/// The types of a kernel, or of a module on top of it, of which those with certain names can be looked up: a kernel has
/// 150,000, and they are gone through once.
#[derive(Debug)]
pub struct Btf {
    parts: Vec<Part>,
    names: Names,
    /// Ids of the types with these names, by kind and name, each part's in order.
    found: BTreeMap<(u32, &'static str), Vec<u32>>,
}

#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// Number of the first string byte: the sum of the string sections before.
    first_string: usize,
    first_type: u32,
    /// Where the record of each type lies in `bytes`.
    types: Vec<u32>,
}

impl Part {
    fn kind(&self, index: usize) -> Option<Type> {
        let at = *self.types.get(index)? as usize;
        let info = u32_at(&self.bytes, at + 4)?;
        Some(Type { at, kind: kind_of(info), vlen: info & 0xffff })
    }
}

/// Names that are looked for, by their first bytes: what most types are called is ruled out by these.
#[derive(Debug, Default)]
struct Names(HashMap<[u8; 4], Vec<&'static str>>);

impl Names {
    fn of(names: impl IntoIterator<Item = &'static str>) -> Self {
        let mut all = Self::default();
        for name in names {
            if let Some(start) = start_of(name.as_bytes()) {
                let alike = all.0.entry(start).or_default();
                if !alike.contains(&name) {
                    alike.push(name);
                }
            }
        }
        all
    }

    /// The name at the start of these bytes, if it is one of them.
    fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        let alike = self.0.get(bytes.first_chunk()?)?;
        alike
            .iter()
            .copied()
            .find(|name| bytes.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)))
    }
}

/// The first four bytes of a name; the byte after one of three is the NUL that ends it.
fn start_of(name: &[u8]) -> Option<[u8; 4]> {
    match *name {
        [a, b, c] => Some([a, b, c, 0]),
        _ => name.first_chunk().copied(),
    }
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
    /// Nothing yet; of what is added, types with these names, of three bytes at least, can be looked up.
    #[must_use]
    pub fn looking_for(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self { parts: Vec::new(), names: Names::of(names), found: BTreeMap::new() }
    }

    /// Adds the running kernel's.
    ///
    /// # Errors
    /// When the kernel was built without BTF, or it is malformed.
    pub fn add_vmlinux(&mut self) -> Result<(), BtfError> {
        self.add_file("/sys/kernel/btf/vmlinux")
    }

    /// Adds a loaded module's types; only one module can be added.
    ///
    /// # Errors
    /// When the module is not loaded, has no BTF, or it is malformed.
    pub fn add_module(&mut self, module: &str) -> Result<(), BtfError> {
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
        let first_type =
            self.parts.last().map_or(1, |p| p.first_type + u32::try_from(p.types.len()).unwrap_or(0));
        let first_string = self.parts.last().map_or(0, |p| p.first_string + p.strings.len());
        self.parts.push(Part { bytes, strings, first_string, first_type, types: Vec::new() });
        match self.go_through(types_section) {
            Ok(types) => {
                if let Some(part) = self.parts.last_mut() {
                    part.types = types;
                }
                Ok(())
            }
            Err(error) => {
                self.parts.pop();
                Err(error)
            }
        }
    }

    /// Where the records of the last part lie, and which of them have a name that is looked for.
    fn go_through(&mut self, section: std::ops::Range<usize>) -> Result<Vec<u32>, BtfError> {
        let Some(part) = self.parts.last() else { return Ok(Vec::new()) };
        let mut types = Vec::with_capacity(section.len() / BYTES_OF_A_TYPE);
        let mut found = Vec::new();
        let mut at = section.start;
        while at + 12 <= section.end {
            let info = u32_at(&part.bytes, at + 4).ok_or(BtfError::Malformed("type"))?;
            let kind = kind_of(info);
            if LOOKED_UP.contains(&kind)
                && let Some(name) = u32_at(&part.bytes, at).and_then(|name| self.name_bytes(name))
                && let Some(name) = self.names.find(name)
            {
                found.push((kind, name, part.first_type + u32::try_from(types.len()).unwrap_or(0)));
            }
            types.push(u32::try_from(at).map_err(|_| BtfError::Malformed("size"))?);
            at += 12 + extra_bytes(kind, info & 0xffff).ok_or(BtfError::Malformed("type kind"))?;
        }
        for (kind, name, id) in found {
            self.found.entry((kind, name)).or_default().push(id);
        }
        Ok(types)
    }

    fn part_of(&self, id: u32) -> Option<(&Part, Type)> {
        let part = self.parts.iter().rev().find(|p| id >= p.first_type)?;
        let kind = part.kind((id - part.first_type) as usize)?;
        Some((part, kind))
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

    /// Ids of the types of a kind and name, the module's first.
    fn named(&self, kind: u32, name: &'static str) -> impl Iterator<Item = u32> {
        self.found.get(&(kind, name)).into_iter().flatten().rev().copied()
    }

    /// Size in bytes of a structure.
    #[must_use]
    pub fn size_of(&self, structure: &'static str) -> Option<u32> {
        let id = self.named(KIND_STRUCT, structure).next()?;
        let (part, kind) = self.part_of(id)?;
        u32_at(&part.bytes, kind.at + 8)
    }

    /// Finds a member by a path of names separated by dots, looking through anonymous members.
    #[must_use]
    pub fn member(&self, structure: &'static str, path: &str) -> Option<Member> {
        self.named(KIND_STRUCT, structure).find_map(|id| {
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
    pub fn enumeration(&self, name: &'static str) -> Option<BTreeMap<u32, String>> {
        let id = self.named(KIND_ENUM, name).next()?;
        let (part, kind) = self.part_of(id)?;
        (0..kind.vlen as usize)
            .map(|index| {
                let at = kind.at + 12 + index * 8;
                let name = self.name(u32_at(&part.bytes, at)?)?;
                Some((u32_at(&part.bytes, at + 4)?, name.to_owned()))
            })
            .collect()
    }

    /// The id of a function, the module's before the kernel's.
    #[must_use]
    pub fn function(&self, name: &'static str) -> Option<u32> {
        self.named(KIND_FUNC, name).next()
    }

    /// The id of a tracepoint, given its `btf_trace_NAME`.
    #[must_use]
    pub fn tracepoint(&self, tracepoint: &'static str) -> Option<u32> {
        self.named(KIND_TYPEDEF, tracepoint).next()
    }

    /// Number of arguments of a tracepoint, given its `btf_trace_NAME`, without the leading `void *`.
    #[must_use]
    pub fn tracepoint_arguments(&self, tracepoint: &'static str) -> Option<u32> {
        let id = self.tracepoint(tracepoint)?;
        let (part, kind) = self.part_of(id)?;
        let (part, pointer) = self.part_of(u32_at(&part.bytes, kind.at + 8)?)?;
        let (_, prototype) = self.part_of(u32_at(&part.bytes, pointer.at + 8)?)?;
        (prototype.kind == KIND_FUNC_PROTO).then(|| prototype.vlen.saturating_sub(1))
    }
}

/// `BTF_INFO_KIND`.
fn kind_of(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

/// What the types of tracepoints are called, before the name (include/trace/bpf_probe.h).
const TRACEPOINT: &str = "btf_trace_";

/// BTF that says nothing but which ids these functions and tracepoints ([`TRACEPOINT`]) have. The eBPF library looks an id
/// up in BTF it has parsed, and parsing a kernel's takes it as long as everything else at the start.
#[must_use]
pub fn of_places(places: &[(&str, u32)]) -> Vec<u8> {
    /// A type that says nothing: `BTF_KIND_FWD` without a name.
    const NOTHING: [u32; 3] = [0, 7 << 24, 0];
    let last = places.iter().map(|(_, id)| *id).max().unwrap_or(0);
    let mut types = vec![NOTHING; last as usize];
    let mut strings = vec![0_u8];
    for (name, id) in places {
        let at = u32::try_from(strings.len()).unwrap_or(0);
        if let Some(record) = (*id as usize).checked_sub(1).and_then(|index| types.get_mut(index)) {
            let kind = if name.starts_with(TRACEPOINT) { KIND_TYPEDEF } else { KIND_FUNC };
            *record = [at, kind << 24, 0];
        }
        strings.extend(name.bytes().chain([0]));
    }
    let len = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let (types_len, strings_len) = (len(types.len() * BYTES_OF_A_TYPE), len(strings.len()));
    let mut bytes = Vec::with_capacity(24 + types.len() * BYTES_OF_A_TYPE + strings.len());
    bytes.extend(MAGIC.to_ne_bytes());
    bytes.extend([1, 0]);
    for word in [24, 0, types_len, types_len, strings_len].into_iter().chain(types.into_iter().flatten()) {
        bytes.extend(u32::to_ne_bytes(word));
    }
    bytes.extend(strings);
    bytes
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

    const NAMES: [&str; 4] = ["sk_buff", "net_device", "btf_trace_kfree_skb", "nf_hook_slow"];

    fn vmlinux() -> Option<Btf> {
        let mut btf = Btf::looking_for(NAMES);
        btf.add_vmlinux().ok()?;
        Some(btf)
    }

    #[test]
    fn the_running_kernel_has_what_is_required() {
        let Some(btf) = vmlinux() else { return };
        for (structure, path) in
            [("sk_buff", "len"), ("sk_buff", "network_header"), ("net_device", "nd_net.net")]
        {
            let member = btf.member(structure, path);
            assert!(member.is_some_and(|m| m.bit_offset % 8 == 0), "{structure}.{path}: {member:?}");
        }
        assert!(btf.tracepoint_arguments("btf_trace_kfree_skb").is_some_and(|n| n >= 2));
        assert!(btf.member("sk_buff", "no_such_member").is_none());
        assert!(btf.function("sk_buff").is_none());
    }

    #[test]
    fn the_library_finds_in_places_alone_what_it_finds_in_all_types() {
        let (Some(btf), Ok(all)) = (vmlinux(), aya::Btf::from_sys_fs()) else { return };
        let id = btf.function("nf_hook_slow").expect("a function of every kernel with netfilter");
        let tracepoint = btf.tracepoint("btf_trace_kfree_skb").expect("a tracepoint of every kernel");
        let bytes = of_places(&[("nf_hook_slow", id), ("another", 7), ("btf_trace_kfree_skb", tracepoint)]);
        let few = aya::Btf::parse(&bytes, aya::Endianness::default()).expect("BTF");
        let kind = aya_obj::btf::BtfKind::Func;
        assert_eq!(few.id_by_type_name_kind("nf_hook_slow", kind).ok(), Some(id));
        assert_eq!(few.id_by_type_name_kind("another", kind).ok(), Some(7));
        assert_eq!(all.id_by_type_name_kind("nf_hook_slow", kind).ok(), Some(id));
        let kind = aya_obj::btf::BtfKind::Typedef;
        for btf in [few, all] {
            assert_eq!(btf.id_by_type_name_kind("btf_trace_kfree_skb", kind).ok(), Some(tracepoint));
        }
    }

    #[test]
    fn names_of_every_length_are_told_apart() {
        let names = Names::of(["net", "net_device", "nf_conn"]);
        assert_eq!(names.find(b"net\0net_device\0"), Some("net"));
        assert_eq!(names.find(b"net_device\0"), Some("net_device"));
        assert_eq!(names.find(b"net_devices\0"), None);
        assert_eq!(names.find(b"ne"), None);
    }

    /// BTF with one structure `one`, of anonymous members of its own type at the largest offset.
    fn within_itself(members: u16) -> Vec<u8> {
        let mut types: Vec<u8> =
            [1, 4 << 24 | u32::from(members), 8].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
        for _ in 0..members {
            types.extend([0, 1, u32::MAX].iter().flat_map(|n: &u32| n.to_ne_bytes()));
        }
        let length = u32::try_from(types.len()).expect("a length");
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend([24, 0, length, length, 5].iter().flat_map(|n: &u32| n.to_ne_bytes()));
        bytes.extend(types);
        bytes.extend(b"\0one\0");
        bytes
    }

    #[test]
    fn what_is_in_itself_has_an_end() {
        let mut btf = Btf::looking_for(["one"]);
        btf.add(within_itself(u16::MAX)).expect("BTF");
        assert_eq!(btf.size_of("one"), Some(8));
        assert_eq!(btf.member("one", "two"), None);
    }

    #[test]
    fn offsets_beyond_what_can_be_counted_are_no_member() {
        let mut bytes = within_itself(2);
        // The second member is called as its structure.
        let second = 24 + 12 + 12;
        bytes[second..second + 4].copy_from_slice(&1_u32.to_ne_bytes());
        let mut btf = Btf::looking_for(["one"]);
        btf.add(bytes).expect("BTF");
        assert_eq!(btf.member("one", "one").map(|member| member.bit_offset), Some(u32::MAX));
        assert_eq!(btf.member("one", "one.one"), None);
    }

    #[test]
    fn cut_short_anywhere_it_is_an_error_or_empty_but_no_panic() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        for len in (0..200).chain([1000, 100_000, bytes.len() / 2]) {
            let mut btf = Btf::looking_for(NAMES);
            if btf.add(bytes.get(..len).unwrap_or_default().to_vec()).is_ok() {
                let _ = btf.member("sk_buff", "len");
            }
        }
    }
}
