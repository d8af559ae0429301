//! Debian's kernels for guests, unpacked in the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt::{self, Suite};
use crate::{cache::Cache, process, progress};

/// The kernel series that guests can have, and the Debian suite that carries each.
const SERIES: [(&str, &str); 4] =
    [("5.10", "bullseye"), ("6.1", "bookworm"), ("6.12", "trixie"), ("7.3", "trixie-backports")];

/// Of these, those on which the tests play a few scenarios only, when nobody says otherwise: the oldest and the newest.
const SAMPLED: [&str; 2] = ["5.10", "7.3"];

/// The small build of Debian's kernels, for virtual machines.
const FLAVOUR: &str = "cloud-amd64";

/// A kernel that a guest can boot.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `6.12`
    pub(crate) series: String,
    /// `6.12.117+deb13-cloud-amd64`
    pub(crate) release: String,
    /// Holds `vmlinuz`, `config` and `lib/modules/RELEASE`.
    folder: PathBuf,
}

impl Kernel {
    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The folder of its modules, with depmod's tables.
    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }

    fn in_cache(cache: &Cache, series: &str) -> Option<Self> {
        let folder = cache.join("kernels").join(series);
        let release = fs::read_to_string(folder.join("release")).ok()?;
        Some(Self { series: series.to_owned(), release: release.trim().to_owned(), folder })
    }
}

/// All series that guests can have.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    SERIES.into_iter().map(|(series, _)| series)
}

/// Whether a few scenarios are to do on a series.
pub(crate) fn is_sampled(series: &str) -> bool {
    SAMPLED.contains(&series)
}

/// The kernel of a series, fetched when the cache lacks it.
pub(crate) fn get(cache: &Cache, series: &str) -> Result<Kernel> {
    let Some((_, suite)) = SERIES.iter().find(|(known, _)| *known == series) else {
        let known: Vec<_> = all().collect();
        bail!("no kernel {series:?}: there are {}", known.join(", "));
    };
    if let Some(kernel) = Kernel::in_cache(cache, series) {
        return Ok(kernel);
    }
    let _lock = cache.lock()?;
    if let Some(kernel) = Kernel::in_cache(cache, series) {
        return Ok(kernel);
    }
    if !apt::is_available() {
        bail!(
            "Debian's kernel {series} is fetched with apt-get and dpkg, which this machine lacks: unpack a \
             linux-image package by hand, so that {} holds vmlinuz, lib/modules/RELEASE (with the tables of \
             `depmod -b`) and a file named release with RELEASE in it",
            cache.join("kernels").join(series).display()
        );
    }
    fetch(cache, series, suite).with_context(|| format!("cannot bring kernel {series}"))?;
    Kernel::in_cache(cache, series).context("the kernel was fetched but is not in the cache")
}

fn fetch(cache: &Cache, series: &str, suite_name: &str) -> Result<()> {
    progress::step(format_args!("looking for kernel {series} in Debian {suite_name}"));
    let suite = Suite::open(cache, suite_name)?;
    let releases = releases(&suite.names("linux-image-")?, series);
    // Names alone do not tell: a package that is only mentioned by others has one too.
    let mut found = None;
    for release in releases {
        let names = ["image", "binary", "modules", "base"].map(|part| format!("linux-{part}-{release}"));
        let versions = suite.versions(&names)?;
        if !versions.is_empty() {
            found = Some((release, versions));
            break;
        }
    }
    let Some((release, packages)) = found else {
        bail!("Debian {suite_name} has no kernel {series} any more: leave it out with --kernel");
    };
    progress::step(format_args!("fetching kernel {release}"));
    let scratch = cache.scratch("kernel")?;
    let unpacked = scratch.join("unpacked");
    fs::create_dir_all(&unpacked)?;
    suite.unpack(&packages, &unpacked)?;
    let finished = scratch.join("finished");
    arrange(&unpacked, &finished, &release)?;
    crate::cache::publish(&finished, &cache.join("kernels").join(series))?;
    crate::cache::remove(&scratch)
}

/// The releases of `series` among package names, newest first.
fn releases(names: &[String], series: &str) -> Vec<String> {
    let mut releases: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-"))
        .filter(|release| {
            release.ends_with(FLAVOUR)
                && release.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'))
        })
        .map(str::to_owned)
        .collect();
    releases.sort_by_key(|release| std::cmp::Reverse(numbers(release)));
    releases
}

/// Every number in `text`, so that 6.12.117 comes after 6.12.95.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Brings what was unpacked into one form: Debian moved the image and the modules in 7.x.
fn arrange(unpacked: &Path, finished: &Path, release: &str) -> Result<()> {
    let first = |candidates: &[PathBuf]| candidates.iter().find(|path| path.exists()).cloned();
    let modules = first(&["lib/modules", "usr/lib/modules"].map(|dir| unpacked.join(dir).join(release)))
        .with_context(|| format!("the packages of {release} hold no modules"))?;
    let image = first(&[unpacked.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")])
        .with_context(|| format!("the packages of {release} hold no vmlinuz"))?;
    fs::create_dir_all(finished.join("lib/modules"))?;
    fs::rename(image, finished.join("vmlinuz"))?;
    fs::rename(modules, finished.join("lib/modules").join(release))?;
    // Only to look things up in.
    if let Some(config) = first(&[unpacked.join(format!("boot/config-{release}"))]) {
        fs::rename(config, finished.join("config"))?;
    }
    process::output_for(
        Command::new(process::find("depmod").context("depmod (package kmod) is missing")?)
            .arg("-b")
            .arg(finished)
            .arg(release),
        "index the kernel's modules",
    )?;
    fs::write(finished.join("release"), release)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_newest_release_of_a_series() {
        let names = [
            "linux-image-6.12.95+deb13-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb13-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-cloud-amd64",
        ]
        .map(str::to_owned);
        assert_eq!(
            releases(&names, "6.12"),
            ["6.12.117+deb13-cloud-amd64", "6.12.95+deb13-cloud-amd64"].map(str::to_owned)
        );
        assert_eq!(releases(&names, "6.1"), ["6.1.0-56-cloud-amd64".to_owned()]);
    }
}
