//! Programs that nattrace is compared with, of a newer Debian than this machine's may be: with a C library of their own.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::apt::{self, Suite};
use crate::{
    cache::{self, Cache},
    guest::elf,
    progress,
};

/// The suite they are of, and the packages; each has a program of its name.
const SUITE: &str = "trixie";
const PACKAGES: [&str; 2] = ["bpftrace", "pwru"];

/// A file with a line for each package: its name and version.
const VERSIONS: &str = "versions";

/// The folder of the programs (`bin`), of all libraries they need and their loader (`lib`), fetched if need be.
pub(crate) fn get(cache: &Cache) -> Result<PathBuf> {
    let place = cache.join("peers").join(SUITE);
    if place.join(VERSIONS).is_file() {
        return Ok(place);
    }
    let _lock = cache.lock()?;
    if place.join(VERSIONS).is_file() {
        return Ok(place);
    }
    if !apt::is_available() {
        bail!("they are fetched with apt-get and dpkg, which this machine lacks");
    }
    progress::step(format_args!("fetching {} of Debian {SUITE}", PACKAGES.join(" and ")));
    let suite = Suite::open(cache, SUITE)?;
    let scratch = cache.scratch("peers")?;
    let (unpacked, finished) = (scratch.join("unpacked"), scratch.join("finished"));
    fs::create_dir_all(&unpacked)?;
    suite.unpack_with_dependencies(&PACKAGES, &unpacked)?;
    arrange(&unpacked, &finished)?;
    let versions = suite.versions(&PACKAGES.map(str::to_owned))?;
    let lines: Vec<_> = versions.iter().map(|(name, version)| format!("{name} {version}\n")).collect();
    fs::write(finished.join(VERSIONS), lines.concat())?;
    cache::publish(&finished, &place)?;
    cache::remove(&scratch)?;
    Ok(place)
}

/// What is in the folder: `bpftrace 0.23.2-1, pwru 1.0.5+ds1-1+b6`.
pub(crate) fn versions(place: &Path) -> Result<String> {
    let path = place.join(VERSIONS);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().collect::<Vec<_>>().join(", "))
}

/// Takes the programs and what they are linked with out of what was unpacked.
fn arrange(unpacked: &Path, finished: &Path) -> Result<()> {
    // As Debian's base-files does; programs name their loader by the old path.
    for dir in ["lib", "lib64"] {
        if !unpacked.join(dir).exists() {
            symlink(Path::new("usr").join(dir), unpacked.join(dir))?;
        }
    }
    let programs = PACKAGES.map(|name| unpacked.join("usr/bin").join(name));
    let libraries = elf::libraries_below(unpacked, &programs)?;
    for (dir, files) in [("bin", programs.to_vec()), ("lib", libraries.into_iter().collect())] {
        let dir = finished.join(dir);
        fs::create_dir_all(&dir)?;
        for file in files {
            let name = file.file_name().context("a file has a name")?;
            fs::copy(&file, dir.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
        }
    }
    Ok(())
}
