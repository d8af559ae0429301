//! `cargo xtask setup`: everything the other verbs need and a fresh machine lacks.
//!
//! Each part asks first whether it is there, cheaply; only what is missing is fetched, and only then is the
//! cache locked and anything printed.

mod apt;
mod apt_sources;
mod bpf_linker;
pub(crate) mod browser;
pub(crate) mod collector;
pub(crate) mod deny;
pub(crate) mod kernel;
pub(crate) mod peers;
mod rust_src;
mod toolchain;
pub(crate) mod tools;
mod wheel;

use std::{env, path::PathBuf, process::Command};

use anyhow::Result;

pub(crate) use self::toolchain::Toolchain;
use crate::cache::Cache;

/// What building the eBPF side takes; got by [`ebpf`].
#[derive(Debug)]
pub(crate) struct EbpfTools {
    /// The compiler.
    pub(crate) toolchain: Toolchain,
    linker_dir: PathBuf,
}

impl EbpfTools {
    /// Tells a cargo child, through it nattrace's build script, where the tools are.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.envs(self.environment());
    }

    /// The same as a person would type it.
    pub(crate) fn describe(&self) -> String {
        let lines: Vec<_> =
            self.environment().map(|(name, value)| format!("export {name}={value}")).collect();
        lines.join("\n")
    }

    fn environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        let toolchain = self.toolchain.name.clone().map(|name| ("NATTRACE_TOOLCHAIN", name));
        [("NATTRACE_BPF_LINKER_DIR", self.linker_dir.display().to_string())].into_iter().chain(toolchain)
    }
}

/// Brings what compiling the eBPF side needs.
pub(crate) fn ebpf(cache: &Cache) -> Result<EbpfTools> {
    let toolchain = Toolchain::find()?;
    // The same word that makes nattrace's build script leave the kernel side out.
    let wanted = env::var_os("AYA_BUILD_SKIP").is_none_or(|skip| skip != "1");
    if wanted && (!rust_src::is_ready(&toolchain) || !bpf_linker::is_ready(cache, &toolchain)) {
        let _lock = cache.lock()?;
        // Another xtask may have brought them while this one waited.
        if !rust_src::is_ready(&toolchain) {
            rust_src::install(cache, &toolchain)?;
        }
        if !bpf_linker::is_ready(cache, &toolchain) {
            bpf_linker::install(cache, &toolchain)?;
        }
    }
    let linker_dir = bpf_linker::bin_dir(cache, &toolchain);
    Ok(EbpfTools { toolchain, linker_dir })
}
