//! The source of `core`, which the compiler needs to build it for eBPF.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    apt::{self, Suite},
    toolchain::Toolchain,
};
use crate::{cache::Cache, process, progress};

/// Where Debian keeps the source of one compiler or another, the likeliest first.
const SUITES: [(&str, &str); 7] = [
    ("trixie-backports", "rust-src"),
    ("trixie", "rust-src"),
    ("forky", "rust-src"),
    ("sid", "rust-src"),
    ("bookworm", "rust-web-src"),
    ("trixie", "rust-web-src"),
    ("bookworm", "rust-src"),
];

/// How long rustup may take for some 5 MB before it counts as cut off from its server.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// Whether the compiler finds the source of `core`.
pub(crate) fn is_ready(toolchain: &Toolchain) -> bool {
    has_core(&toolchain.library())
}

/// Brings the source: by rustup, else from a Debian package that is kept in the cache.
pub(crate) fn install(cache: &Cache, toolchain: &Toolchain) -> Result<()> {
    let version = &toolchain.version;
    progress::step(format_args!("fetching the source of Rust {version}'s core library"));
    if let Some(name) = &toolchain.name {
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add", "rust-src", "--toolchain", name]).env("RUSTUP_MAX_RETRIES", "1");
        if process::succeeds_within(&mut rustup, RUSTUP_LIMIT) && is_ready(toolchain) {
            return Ok(());
        }
    }
    if !apt::is_available() {
        bail!(
            "the source of Rust {version}'s core library is missing ({}) and cannot be fetched: \
             `rustup component add rust-src`, or your distribution's package rust-src of the same version",
            toolchain.library().display()
        );
    }
    let place = cache.join(format!("rust-src/{version}"));
    let unpacked = place.join(format!("usr/src/rustc-{version}/library"));
    if !has_core(&unpacked) {
        fetch(cache, version, &place)?;
    }
    link(&unpacked, &toolchain.library())
}

fn has_core(library: &Path) -> bool {
    library.join("core/src/lib.rs").is_file()
}

fn fetch(cache: &Cache, version: &str, place: &Path) -> Result<()> {
    progress::step(format_args!("rustup cannot fetch it: looking for it in Debian's archive"));
    let mut failures = Vec::new();
    for (suite_name, package) in SUITES {
        let found = Suite::open(cache, suite_name)
            .and_then(|suite| Ok((suite.versions(&[package.to_owned()])?, suite)));
        let (versions, suite) = match found {
            Ok(found) => found,
            Err(error) => {
                failures.push(format!("{error:#}"));
                continue;
            }
        };
        let Some(wanted) = versions.into_iter().find(|(_, it)| is_release(it, version)) else { continue };
        let scratch = cache.scratch("rust-src")?;
        suite.unpack(&[wanted], &scratch)?;
        if !has_core(&scratch.join(format!("usr/src/rustc-{version}/library"))) {
            bail!(
                "Debian's package {package} {version} has no library/core: it is laid out in another way now"
            );
        }
        return crate::cache::publish(&scratch, place);
    }
    let mut message = format!("Debian has no source of Rust {version}: use `rustup component add rust-src`");
    if let Some(failure) = failures.first() {
        message = format!("{message}\n{failure}");
    }
    bail!(message)
}

/// Whether the Debian version `package` is of the upstream release `rust`: `1.95.0+dfsg1-2~bpo13+1` is of `1.95.0`.
fn is_release(package: &str, rust: &str) -> bool {
    let upstream = package.rsplit_once(':').map_or(package, |(_epoch, rest)| rest);
    upstream.strip_prefix(rust).is_some_and(|rest| rest.starts_with(['+', '-', '~']))
}

/// Makes `library` point to `source`, in one step, whatever stood there before.
fn link(source: &Path, library: &Path) -> Result<()> {
    let folder = library.parent().context("the folder has a parent")?;
    let hint = || {
        format!(
            "cannot link the source of core into {}: install your distribution's rust-src package, or use rustup",
            folder.display()
        )
    };
    fs::create_dir_all(folder).with_context(hint)?;
    if library.is_dir() && !library.is_symlink() {
        bail!("{} exists but holds no core/src/lib.rs: remove it and try again", library.display());
    }
    let temporary = folder.join(format!(".library.{}", std::process::id()));
    crate::cache::remove(&temporary)?;
    symlink(source, &temporary).with_context(hint)?;
    fs::rename(&temporary, library).with_context(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_releases_apart() {
        assert!(is_release("1.95.0+dfsg1-2~bpo13+1", "1.95.0"));
        assert!(is_release("1.95.0-1", "1.95.0"));
        assert!(!is_release("1.95.01-1", "1.95.0"));
        assert!(!is_release("1.94.1+dfsg1-1~bpo13+3", "1.95.0"));
    }

    #[test]
    fn links_atomically_and_again() {
        let root = std::env::temp_dir().join(format!("xtask-link-{}", std::process::id()));
        let source = root.join("source");
        fs::create_dir_all(source.join("core/src")).expect("temporary folder");
        fs::write(source.join("core/src/lib.rs"), "").expect("file");
        let library = root.join("sysroot/rust/library");
        for _ in 0..2 {
            link(&source, &library).expect("link");
            assert!(has_core(&library));
        }
        // A dangling link, as a removed cache leaves behind, is replaced.
        crate::cache::remove(&library).expect("remove");
        symlink(root.join("gone"), &library).expect("dangling link");
        link(&source, &library).expect("link");
        assert!(has_core(&library));
        crate::cache::remove(&root).expect("clean up");
    }
}
