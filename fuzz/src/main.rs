//! libFuzzer with the target that `NATTRACE_FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use nattrace_fuzz::{Target, mutate, named};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("NATTRACE_FUZZ_TARGET").unwrap_or_default();
    named(&name).unwrap_or_else(|| panic!("NATTRACE_FUZZ_TARGET={name:?} is no target"))
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Half of the changes to text are libFuzzer's own, which learn from comparisons.
    if !TARGET.is_text || seed.is_multiple_of(2) {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut changed = data[..size].to_vec();
    mutate::text(&mut changed, &mut fastrand::Rng::with_seed(seed.into()), max_size);
    data[..changed.len()].copy_from_slice(&changed);
    changed.len()
});
