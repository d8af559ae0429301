//! bpf-linker, built against the LLVM that rustc itself uses.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::toolchain::Toolchain;
use crate::{cache::Cache, process, progress};

/// The release the project is tested with.
const VERSION: &str = "0.13.0";

/// The LLVM versions this release can be built for.
const LLVM_VERSIONS: [u32; 3] = [21, 22, 23];

/// The folder with the `bpf-linker` of this toolchain, whether it is there or not.
pub(crate) fn bin_dir(cache: &Cache, toolchain: &Toolchain) -> PathBuf {
    let Toolchain { version, commit, llvm, .. } = toolchain;
    cache.join(format!("bpf-linker/{VERSION}-rustc-{version}-{commit}-llvm-{llvm}/bin"))
}

/// Whether a working bpf-linker is there for this toolchain.
///
/// It is run, not only looked for: a toolchain that was moved takes the LLVM away from under it.
pub(crate) fn is_ready(cache: &Cache, toolchain: &Toolchain) -> bool {
    let program = bin_dir(cache, toolchain).join("bpf-linker");
    program.is_file()
        && process::succeeds_within(Command::new(program).arg("--version"), Duration::from_secs(20))
}

/// Builds bpf-linker into the cache.
pub(crate) fn install(cache: &Cache, toolchain: &Toolchain) -> Result<()> {
    let version = &toolchain.version;
    let Some(library) = toolchain.llvm_library() else {
        bail!(
            "this rustc {version} comes without a shared libLLVM, so bpf-linker cannot be built here: \
             use the toolchain of rustup (`rustup toolchain install 1.95.0`)"
        );
    };
    let llvm = toolchain.llvm;
    if !LLVM_VERSIONS.contains(&llvm) {
        bail!(
            "rustc {version} uses LLVM {llvm}, which bpf-linker {VERSION} does not know: \
             `rustup toolchain install 1.95.0`, or name another toolchain in NATTRACE_TOOLCHAIN"
        );
    }
    progress::step(format_args!("building bpf-linker {VERSION} for rustc {version} (a minute or two)"));

    let scratch = cache.scratch("bpf-linker")?;
    let prefix = scratch.join("llvm");
    let config = prefix.join("bin/llvm-config");
    fs::create_dir_all(prefix.join("lib")).and_then(|()| fs::create_dir_all(prefix.join("bin")))?;
    symlink(&library, prefix.join("lib/libLLVM.so")).context("cannot link to rustc's libLLVM")?;
    // The build asks only whether llvm-config exists before it takes LLVM_PREFIX for a prefix.
    fs::write(&config, "#!/bin/sh\n")?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o755))?;

    // Outside of the scratch folder: after an interrupt, what is compiled need not be compiled again.
    let target_dir = cache.join("tmp/bpf-linker-target");
    let mut cargo = toolchain.command("cargo");
    cargo
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm}"), "--no-track", "--root"])
        .arg(scratch.join("root"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("LLVM_PREFIX", &prefix)
        .env("RUSTFLAGS", format!("-C link-arg=-Wl,-rpath,{}", toolchain.sysroot.join("lib").display()))
        // A linker or a target that the caller chose is meant for nattrace.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .current_dir(env::temp_dir());
    process::output_for(
        &mut cargo,
        "build bpf-linker (it needs crates.io and a C compiler; AYA_BUILD_SKIP=1 builds nattrace without probes)",
    )?;

    let bin = bin_dir(cache, toolchain);
    let place = bin.parent().context("the folder has a parent")?;
    crate::cache::publish(&scratch.join("root"), place)?;
    crate::cache::remove(&target_dir)?;
    crate::cache::remove(&scratch)?;
    if !is_ready(cache, toolchain) {
        bail!("the bpf-linker just built does not start: try {}/bpf-linker --version", bin.display());
    }
    Ok(())
}
