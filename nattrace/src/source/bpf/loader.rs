//! The eBPF library's loader, made without what it would read in vain.

use aya::{Btf, EbpfLoader, Endianness};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::btf::of_places;

/// Loaders that have not parsed the kernel's types. The library does that whenever one is made, for relocations that our
/// programs do not have; it takes as long as everything else at the start.
#[derive(Default)]
pub struct Loaders(Vec<EbpfLoader<'static>>);

impl Loaders {
    /// Makes as many as will be needed. For a moment no file can be opened in this process, so that the library finds no
    /// types: call it while no other thread may want to.
    #[must_use]
    pub fn make(needed: usize) -> Self {
        let limit = getrlimit(Resource::Nofile);
        if setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).is_err() {
            return Self::default();
        }
        let loaders = std::iter::repeat_with(EbpfLoader::new).take(needed).collect();
        // It was this process' own a moment ago.
        let _ = setrlimit(Resource::Nofile, limit);
        Self(loaders)
    }

    /// The next one.
    pub(super) fn next(&mut self) -> EbpfLoader<'static> {
        self.0.pop().unwrap_or_default()
    }
}

/// What programs are attached to by its id, as the library wants it.
pub(super) fn types_of(places: &[(&'static str, u32)]) -> Option<Btf> {
    if places.is_empty() {
        return None;
    }
    Btf::parse(&of_places(places), Endianness::default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_these_places_has_none_to_attach_to() {
        assert!(types_of(&[]).is_none());
        assert!(types_of(&[("nf_hook_slow", 30_000)]).is_some());
    }
}
