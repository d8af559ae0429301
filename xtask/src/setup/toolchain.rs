//! The Rust toolchain that compiles the eBPF side.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The compiler the eBPF side is developed with; taken where rustup has it.
const PINNED: &str = "1.95.0";

/// The oldest compiler that builds the workspace (`rust-version` in Cargo.toml).
const OLDEST: (u32, u32) = (1, 95);

/// A Rust toolchain and what the set-up must know of it.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    /// Its rustup name; `None` on a machine without rustup.
    pub(crate) name: Option<String>,
    /// rustc's version, `1.95.0`.
    pub(crate) version: String,
    /// Its folder.
    pub(crate) sysroot: PathBuf,
    /// The major version of the LLVM it uses.
    pub(crate) llvm: u32,
    /// What tells this compiler from another of the same version.
    pub(crate) commit: String,
}

impl Toolchain {
    /// The toolchain named by `NATTRACE_TOOLCHAIN`, else the pinned one where rustup has it, else the active one.
    pub(crate) fn find() -> Result<Self> {
        if process::find("rustup").is_none() {
            return Self::probe(None);
        }
        if let Some(name) = env::var("NATTRACE_TOOLCHAIN").ok().filter(|name| !name.is_empty()) {
            return Self::probe(Some(name))
                .context("NATTRACE_TOOLCHAIN must name a toolchain of `rustup toolchain list`");
        }
        let listed =
            process::output_for(Command::new("rustup").args(["toolchain", "list"]), "list the toolchains")?;
        let pinned = listed.lines().filter_map(|line| line.split_whitespace().next()).find(|name| {
            *name == PINNED || name.strip_prefix(PINNED).is_some_and(|rest| rest.starts_with('-'))
        });
        match (pinned, env::var("RUSTUP_TOOLCHAIN")) {
            (Some(name), _) => Self::probe(Some(name.to_owned())),
            (None, Ok(name)) => Self::probe(Some(name)),
            (None, Err(_)) => {
                let active = process::output_for(
                    Command::new("rustup").args(["show", "active-toolchain"]),
                    "find the active toolchain",
                )?;
                Self::probe(active.split_whitespace().next().map(str::to_owned))
            }
        }
    }

    /// A command of this toolchain: `cargo`, `rustc`.
    pub(crate) fn command(&self, program: &str) -> Command {
        command(self.name.as_deref(), program)
    }

    /// Where the compiler looks for the source of `core`.
    pub(crate) fn library(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }

    /// The shared library of the LLVM that rustc itself uses, where the toolchain ships one.
    pub(crate) fn llvm_library(&self) -> Option<PathBuf> {
        let lib = self.sysroot.join("lib");
        let mut found: Vec<_> =
            fs::read_dir(lib).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.retain(|path| is_llvm_library(path));
        found.sort();
        found.into_iter().next()
    }

    fn probe(name: Option<String>) -> Result<Self> {
        let text =
            process::output_for(command(name.as_deref(), "rustc").arg("-vV"), "ask rustc for its version")?;
        let (version, llvm, commit) = parse_version(&text)
            .with_context(|| format!("cannot read the answer of `rustc -vV`:\n{}", text.trim_end()))?;
        let sysroot = process::output_for(
            command(name.as_deref(), "rustc").args(["--print", "sysroot"]),
            "find the toolchain's folder",
        )?;
        let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).unwrap_or(0);
        let mut parts = version.split('.');
        if (number(parts.next()), number(parts.next())) < OLDEST {
            bail!(
                "rustc {version} is too old: nattrace needs 1.95 or later (`rustup toolchain install {PINNED}`)"
            );
        }
        Ok(Self { name, version, sysroot: PathBuf::from(sysroot.trim()), llvm, commit })
    }
}

fn command(toolchain: Option<&str>, program: &str) -> Command {
    let Some(toolchain) = toolchain else { return Command::new(program) };
    let mut command = Command::new("rustup");
    // `run` refuses to install what is missing, and it overrules RUSTUP_TOOLCHAIN.
    command.args(["run", toolchain, program]);
    command
}

/// Version, LLVM's major version and commit out of `rustc -vV`.
fn parse_version(text: &str) -> Option<(String, u32, String)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let llvm = field("LLVM version")?.split('.').next()?.parse().ok()?;
    let commit = field("commit-hash").unwrap_or("unknown");
    Some((field("release")?.to_owned(), llvm, commit.chars().take(9).collect()))
}

fn is_llvm_library(path: &Path) -> bool {
    // Beside the library lies a linker script of some 40 bytes with a similar name.
    const LEAST_SIZE: u64 = 1 << 20;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("libLLVM")
        && name.contains(".so")
        && fs::metadata(path).is_ok_and(|metadata| metadata.len() > LEAST_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rustc_version() {
        let text = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
                    commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860\ncommit-date: 2026-04-14\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";
        assert_eq!(parse_version(text), Some(("1.95.0".into(), 22, "59807616e".into())));
        assert_eq!(parse_version("rustc 1.95.0\nrelease: 1.95.0\n"), None);
    }
}
