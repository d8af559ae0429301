//! Builds the eBPF object that is embedded in the program.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow};
use aya_build::Toolchain;

fn main() -> Result<()> {
    for name in ["AYA_BUILD_SKIP", "NATTRACE_TOOLCHAIN", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let skip = env::var_os("AYA_BUILD_SKIP").is_some_and(|value| value == "1");
    if skip || !linker_is_there() {
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
        let status = Command::new(env::current_exe()?).env("RUSTC_BOOTSTRAP", "1").status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    let package = manifest.parent().ok_or_else(|| anyhow!("no workspace above {}", manifest.display()))?;
    let package = package.join("nattrace-ebpf");
    let toolchain = env::var("NATTRACE_TOOLCHAIN").unwrap_or_else(|_| "1.95.0".to_owned());
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "nattrace-ebpf",
            root_dir: package.to_str().context("the path is not UTF-8")?,
            ..Default::default()
        }],
        Toolchain::Custom(&toolchain),
    )
}

fn linker_is_there() -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()))
}
