//! Builds the eBPF object that is embedded in the program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result};
use aya_build::Toolchain;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The folder of the bpf-linker to use; `cargo xtask` sets it. Without it, PATH says.
const LINKER_DIR: &str = "NATTRACE_BPF_LINKER_DIR";

/// Names the rustup toolchain that compiles the kernel side.
const TOOLCHAIN: &str = "NATTRACE_TOOLCHAIN";

fn main() -> Result<()> {
    for name in ["AYA_BUILD_SKIP", LINKER_DIR, TOOLCHAIN] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if env::var_os(LINKER_DIR).is_none() {
        // Only then: a PATH that changes for other reasons should not compile the kernel side again.
        println!("cargo:rerun-if-env-changed=PATH");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let skip = env::var_os("AYA_BUILD_SKIP").is_some_and(|value| value == "1");
    let path = path()?;
    if skip || !env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()) {
        if !skip {
            println!(
                "cargo:warning=bpf-linker is not in PATH: built without kernel probes (see `cargo xtask setup`)"
            );
        }
        fs::write(out.join("nattrace-ebpf"), [])?;
        return Ok(());
    }
    // A stable compiler takes -Z build-std only so. Set for this script alone and not for all of cargo: other crates'
    // build scripts look at it too, and would compile everything again, in another way.
    if env::var_os("RUSTC_BOOTSTRAP").is_none_or(|value| value != "1") {
        let again = env::current_exe()?;
        let status = Command::new(again).env("RUSTC_BOOTSTRAP", "1").env("PATH", path).status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    let workspace =
        manifest.parent().with_context(|| format!("no workspace above {}", manifest.display()))?;
    // aya-build watches the package itself, not what it shares with this one.
    println!("cargo:rerun-if-changed={}", workspace.join("nattrace-common").display());
    let package = workspace.join("nattrace-ebpf");
    let toolchain = env::var(TOOLCHAIN).unwrap_or_else(|_| "1.95.0".to_owned());
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "nattrace-ebpf",
            root_dir: package.to_str().context("the path is not UTF-8")?,
            ..Default::default()
        }],
        Toolchain::Custom(&toolchain),
    )?;
    strip(&out.join("nattrace-ebpf"))
}

/// Takes out of the object what is for debuggers alone: nine tenths of it, which each start would read, and hand to the
/// kernel, in vain.
fn strip(path: &Path) -> Result<()> {
    let bytes = fs::read(path)?;
    let mut object = Builder::read(&*bytes).context("the eBPF object is no ELF file")?;
    for section in &mut object.sections {
        let name = section.name.strip_prefix(b".rel".as_slice()).unwrap_or(&section.name);
        section.delete = name.starts_with(b".BTF") || name.starts_with(b".debug_");
    }
    object.delete_orphans();
    // The linker has one table for the names of symbols and of sections.
    let names = object.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    object.write(&mut stripped).context("the eBPF object cannot be written again")?;
    Ok(fs::write(path, stripped)?)
}

/// PATH, with the folder of the linker before all others.
fn path() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::var_os(LINKER_DIR).map(PathBuf::from).into_iter().chain(env::split_paths(&path));
    env::join_paths(dirs).context("the folder in NATTRACE_BPF_LINKER_DIR cannot stand in PATH")
}
