//! Builds the eBPF object that is embedded in the program.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow};
use aya_build::Toolchain;

fn main() -> Result<()> {
    for name in ["AYA_BUILD_SKIP", "NATTRACE_TOOLCHAIN", "RUSTC_BOOTSTRAP", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let skip = env::var_os("AYA_BUILD_SKIP").is_some_and(|value| value == "1");
    if skip || !linker_is_there() {
        if !skip {
            println!("cargo:warning=bpf-linker is not in PATH: built without kernel probes (see `cargo xtask setup`)");
        }
        fs::write(out.join("nattrace-ebpf"), [])?;
        return Ok(());
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
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()))
}
