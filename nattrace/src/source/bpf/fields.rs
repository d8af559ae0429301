//! The field table resolved for the running kernel.

use std::thread::{self, JoinHandle};

use nattrace_common::fields::{ABSENT, FieldSource, Fields};

use super::btf::{Btf, BtfError};
use super::load::{TRAMPOLINES, TYPED_TRACEPOINTS};
use super::modules;

/// What this kernel's BTF says.
#[derive(Debug)]
pub struct KernelTypes {
    /// Offsets, to be patched into the programs.
    pub fields: Fields,
    /// Names of fields without which nothing works, that this kernel lacks.
    pub missing_required: Vec<String>,
    /// Drop reasons by number, without the prefix; `None` before 5.17.
    pub drop_reasons: Option<std::collections::BTreeMap<u32, String>>,
    /// Arguments of the `kfree_skb` tracepoint.
    pub kfree_skb_arguments: u32,
    /// Arguments of the `consume_skb` tracepoint.
    pub consume_skb_arguments: u32,
    /// What nf_tables' structures look like is known by the kernel's version: it has no BTF of its modules.
    pub nf_tables_known_by_version: bool,
    /// Those of [`modules::FUNCTIONS`] that are there without their module, or are nf_tables'.
    pub built_in: Vec<&'static str>,
    /// Ids of those of [`TRAMPOLINES`] and [`TYPED_TRACEPOINTS`] that the kernel has.
    pub places: Vec<(&'static str, u32)>,
}

const DROP_REASONS: &str = "skb_drop_reason";
const KFREE_SKB: &str = "btf_trace_kfree_skb";
const CONSUME_SKB: &str = "btf_trace_consume_skb";

/// The kernel's types while they are being read, which takes a while.
#[derive(Debug)]
pub struct Reading(JoinHandle<Result<Btf, BtfError>>);

impl Reading {
    /// Begins to read those of the running kernel.
    #[must_use]
    pub fn begin() -> Self {
        Self(thread::spawn(|| {
            let mut btf = KernelTypes::to_be_read();
            btf.add_vmlinux().map(|()| btf)
        }))
    }

    /// Waits for them, and reads those of nf_tables where that is a module that has them.
    ///
    /// # Errors
    /// When the kernel has no usable BTF.
    pub fn end(self) -> Result<KernelTypes, BtfError> {
        let mut btf = self.0.join().unwrap_or(Err(BtfError::Malformed("beyond reading")))?;
        // Built in, or before module BTF (5.11): what vmlinux has is what there is.
        let _ = btf.add_module("nf_tables");
        let mut types = KernelTypes::from_btf(&btf);
        if rustix::system::uname().release().to_bytes().starts_with(b"5.10.") {
            types.nf_tables_known_by_version = types.fields.complete_for_5_10();
        }
        Ok(types)
    }
}

impl KernelTypes {
    /// Types that are still to be added, of which those that are needed here can be looked up.
    #[must_use]
    pub fn to_be_read() -> Btf {
        let structures = Fields::SOURCES.iter().map(|source| source.structure);
        let functions = modules::FUNCTIONS.map(|(function, _)| function);
        Btf::looking_for(structures.chain(functions).chain(TRAMPOLINES).chain(TYPED_TRACEPOINTS).chain([
            DROP_REASONS,
            KFREE_SKB,
            CONSUME_SKB,
        ]))
    }

    /// Resolves the table.
    #[must_use]
    pub fn from_btf(btf: &Btf) -> Self {
        let mut fields = Fields::NONE;
        let mut missing_required = Vec::new();
        fields.fill(|source| {
            let offset = resolve(btf, source).unwrap_or(ABSENT);
            if offset == ABSENT && source.required {
                missing_required.push(format!("{}.{}", source.structure, source.path));
            }
            offset
        });
        let drop_reasons = btf.enumeration(DROP_REASONS).map(|names| {
            names
                .into_iter()
                .map(|(number, name)| (number, name.trim_start_matches("SKB_DROP_REASON_").to_owned()))
                .collect()
        });
        Self {
            fields,
            missing_required,
            drop_reasons,
            kfree_skb_arguments: btf.tracepoint_arguments(KFREE_SKB).unwrap_or(2),
            consume_skb_arguments: btf.tracepoint_arguments(CONSUME_SKB).unwrap_or(1),
            nf_tables_known_by_version: false,
            built_in: modules::FUNCTIONS
                .iter()
                .map(|(function, _)| *function)
                .filter(|function| btf.function(function).is_some())
                .collect(),
            places: TRAMPOLINES
                .into_iter()
                .map(|function| (function, btf.function(function)))
                .chain(TYPED_TRACEPOINTS.into_iter().map(|name| (name, btf.tracepoint(name))))
                .filter_map(|(name, id)| Some((name, id?)))
                .collect(),
        }
    }

    /// The number of a drop reason.
    #[must_use]
    pub fn drop_reason_number(&self, name: &str) -> Option<u32> {
        self.drop_reasons.as_ref()?.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
    }
}

/// `@byte` and `@bit` of a path ask for the two parts of a bit field's place, `@size` for the member's size.
fn resolve(btf: &Btf, source: &FieldSource) -> Option<u32> {
    if source.path.is_empty() {
        return btf.size_of(source.structure);
    }
    let (path, aspect) = source.path.split_once('@').unwrap_or((source.path, ""));
    let member = btf.member(source.structure, path)?;
    match aspect {
        "bit" => Some(member.bit_offset % 8),
        "size" => btf.member_size(member),
        _ => Some(member.bit_offset / 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_lacks_nothing_that_is_required() {
        let Ok(types) = Reading::begin().end() else { return };
        assert_eq!(types.missing_required, Vec::<String>::new());
        assert!(types.fields.state_hook_size == 1 || types.fields.state_hook_size == 4);
        assert!(types.fields.skb_nf_trace_bit < 8 || types.fields.skb_nf_trace_bit == ABSENT);
    }
}
