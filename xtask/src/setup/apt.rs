//! Packages of any Debian suite, by apt, without touching the machine's own package lists.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt_sources;
use crate::{cache::Cache, process};

const SOURCES_LIST: &str = "sources.list";

/// Where apt puts what it fetches.
const ARCHIVES: &str = "archives";

/// Holds the keys of all suites; preferred to what the machine's entry names, which may hold but one suite's.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One Debian suite.
#[derive(Debug)]
pub(crate) struct Suite {
    name: String,
    apt: Apt,
}

impl Suite {
    /// Reads the package lists of `name`.
    ///
    /// Call it only with the cache locked.
    pub(crate) fn open(cache: &Cache, name: &str) -> Result<Self> {
        let suite = Self { name: name.to_owned(), apt: Apt::new(cache, &source_line(name)?, Parts::Leave)? };
        suite.update()?;
        Ok(suite)
    }

    /// Every version of `packages` that the suite has, as pairs of name and version.
    pub(crate) fn versions(&self, packages: &[String]) -> Result<Vec<(String, String)>> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let command = &mut self.apt.command("apt-cache", ["madison"]);
        Ok(parse_madison(&process::output_for(command.args(packages), "ask apt for versions")?))
    }

    /// The names of all packages that begin with `prefix`, also of those that others only mention.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = process::output_for(
            &mut self.apt.command("apt-cache", ["pkgnames", prefix]),
            "ask apt for package names",
        )?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Fetches packages (name and version) and unpacks them all into `into`.
    pub(crate) fn unpack(&self, packages: &[(String, String)], into: &Path) -> Result<()> {
        let debs = into.with_extension("debs");
        crate::cache::remove(&debs)?;
        fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
        let mut command = self.apt.command("apt-get", ["download"]);
        command.args(packages.iter().map(|(name, version)| format!("{name}={version}"))).current_dir(&debs);
        self.fetch(&mut command)?;
        unpack_all(&debs, into)?;
        crate::cache::remove(&debs)
    }

    /// Fetches packages with all they depend on, as for a machine that has nothing, and unpacks them all into `into`.
    pub(crate) fn unpack_with_dependencies(&self, packages: &[&str], into: &Path) -> Result<()> {
        let nothing = self.apt.folder.join("status");
        fs::write(&nothing, "").with_context(|| format!("cannot write {}", nothing.display()))?;
        let options = ["install", "-q", "-y", "--download-only", "--no-install-recommends"];
        let mut command = self.apt.command("apt-get", options);
        command.arg("-o").arg(format!("Dir::State::status={}", nothing.display())).args(packages);
        self.fetch(&mut command)?;
        unpack_all(&self.apt.folder.join(ARCHIVES), into)
    }

    fn fetch(&self, command: &mut Command) -> Result<String> {
        process::output_for(command, &format!("fetch packages of Debian {}", self.name))
    }

    fn update(&self) -> Result<()> {
        let name = &self.name;
        let mut command = self.apt.command("apt-get", ["update", "-q", "-o", "APT::Update::Error-Mode=any"]);
        let Err(error) = process::output(&mut command) else { return Ok(()) };
        let text = error.to_string();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let remedy = if has(&["NO_PUBKEY"]) {
            "this machine's keyring lacks the suite's key: update the package debian-archive-keyring"
        } else if has(&["does not have a Release file", "is not signed", "404"]) {
            "the mirror does not have this suite (any more): \
             name one that keeps old suites in NATTRACE_DEBIAN_MIRROR, or leave out what needs it"
        } else {
            "is the mirror reachable?"
        };
        Err(error).with_context(|| format!("cannot read the package lists of Debian {name}; {remedy}"))
    }
}

/// Unpacks every package in a folder into another.
fn unpack_all(debs: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(debs).with_context(|| debs.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::output_for(Command::new("dpkg").arg("-x").arg(path).arg(into), "unpack a package")?;
        }
    }
    Ok(())
}

/// Whether packages can be fetched on this machine at all.
pub(crate) fn is_available() -> bool {
    process::find("apt-get").is_some() && process::find("dpkg").is_some()
}

/// Installs packages on this machine, from its own sources or, where named, with all they depend on from a
/// further suite.
///
/// Only root can; the caller has asked. Call it only with the cache locked.
pub(crate) fn install(cache: &Cache, packages: &[&str], further_suite: Option<&str>) -> Result<()> {
    // apt reads one main list; the parts folder stays the machine's.
    let mut list = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    if let Some(suite) = further_suite {
        list.push('\n');
        list.push_str(&source_line(suite)?);
    }
    let apt = Apt::new(cache, &list, Parts::Use)?;
    process::output_for(&mut apt.command("apt-get", ["update", "-q"]), "update the package lists")?;
    process::output_for(
        apt.command(
            "apt-get",
            ["install", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"],
        )
        .args(further_suite.iter().flat_map(|suite| ["-t", suite]))
        .args(packages),
        &format!("install {}", packages.join(" ")),
    )?;
    Ok(())
}

/// The newest version of a package that this machine's own sources have.
pub(crate) fn candidate(package: &str) -> Option<String> {
    let text =
        process::output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C")).ok()?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// Whether apt also reads the machine's `sources.list.d`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Use,
    Leave,
}

/// apt with sources and package lists of its own, which go when it is dropped.
#[derive(Debug)]
struct Apt {
    folder: PathBuf,
    options: Vec<OsString>,
}

impl Apt {
    fn new(cache: &Cache, list: &str, parts: Parts) -> Result<Self> {
        let folder = cache.scratch("apt")?;
        let apt = Self { options: options(&folder, parts), folder };
        let file = apt.folder.join(SOURCES_LIST);
        fs::create_dir_all(apt.folder.join("lists/partial"))
            .and_then(|()| fs::create_dir_all(apt.folder.join(ARCHIVES).join("partial")))
            .and_then(|()| fs::write(&file, format!("{list}\n")))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(apt)
    }

    fn command<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(program);
        // The caller's words first: they are what an error shows of a long command. The rest is read, in English.
        command.args(args).args(&self.options).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }
}

impl Drop for Apt {
    fn drop(&mut self) {
        // What stays is removed by the next one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn options(folder: &Path, parts: Parts) -> Vec<OsString> {
    let mut options = Vec::new();
    let mut set = |name: &str, value: &Path| {
        let mut option = OsString::from(name);
        option.push("=");
        option.push(value);
        options.extend([OsString::from("-o"), option]);
    };
    set("Dir::Etc::SourceList", &folder.join(SOURCES_LIST));
    if parts == Parts::Leave {
        set("Dir::Etc::SourceParts", Path::new("/dev/null"));
    }
    set("Dir::State::Lists", &folder.join("lists"));
    set("Dir::Cache", folder);
    set("Dir::Cache::Archives", &folder.join(ARCHIVES));
    let mut more = vec![
        "Acquire::Languages=none",
        "Acquire::Retries=2",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=0",
    ];
    if process::is_root() {
        // apt's own user cannot enter a cache below /root.
        more.push("APT::Sandbox::User=root");
    }
    options.extend(more.iter().flat_map(|option| ["-o", option]).map(OsString::from));
    options
}

fn source_line(suite: &str) -> Result<String> {
    let Some((uri, signed_by)) = apt_sources::debian_mirror() else {
        bail!(
            "apt knows no Debian mirror on this machine to take {suite} from: \
             name one in NATTRACE_DEBIAN_MIRROR (the URI that stands in a sources.list)"
        );
    };
    let keyring =
        Some(PathBuf::from(DEBIAN_KEYRING)).filter(|path| path.is_file()).or(signed_by.map(PathBuf::from));
    let options = keyring.map(|path| format!("[signed-by={}] ", path.display())).unwrap_or_default();
    Ok(format!("deb {options}{uri} {suite} main"))
}

/// Reads `apt-cache madison`: lines of `name | version | source`.
fn parse_madison(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split('|').map(str::trim);
            Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_madison() {
        let text = "  rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://mirror.example/debian trixie-backports/main amd64 Packages\n";
        assert_eq!(parse_madison(text), [("rust-src".into(), "1.95.0+dfsg1-2~bpo13+1".into())]);
    }
}
