//! `cargo xtask dist`

use std::{
    env::consts::ARCH,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{cache::Cache, cargo, process, progress};

/// The unit of a trace that goes on.
pub(crate) const UNIT: &str = "nattrace@.service";

/// Builds what a machine without a toolchain needs, and says where it is.
pub(crate) fn run(cache: &Cache) -> Result<ExitCode> {
    for file in make(cache)? {
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The static program, what goes with it, and a Debian package of both.
pub(crate) fn make(cache: &Cache) -> Result<Vec<PathBuf>> {
    let program = cargo::programs(cache, true)?.nattrace;
    let dist = cargo::target_dir()?.join("dist");
    if dist.exists() {
        fs::remove_dir_all(&dist).with_context(|| format!("cannot empty {}", dist.display()))?;
    }
    let root = dist.join("root");
    let installed = put(&program, &root.join("usr/bin/nattrace"), 0o755)?;
    for (argument, place) in [
        (&["completions", "bash"][..], "usr/share/bash-completion/completions/nattrace"),
        (&["completions", "zsh"], "usr/share/zsh/vendor-completions/_nattrace"),
        (&["completions", "fish"], "usr/share/fish/vendor_completions.d/nattrace.fish"),
        (&["man"], "usr/share/man/man1/nattrace.1"),
    ] {
        let text =
            process::output_for(Command::new(&installed).args(argument), "generate what goes with it")?;
        write(&root.join(place), &text)?;
    }
    let workspace = cargo::workspace();
    for name in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        put(&workspace.join(name), &root.join("usr/share/doc/nattrace").join(name), 0o644)?;
    }
    for (name, place) in
        [(UNIT, "usr/lib/systemd/system"), ("example.conf", "usr/share/doc/nattrace/examples")]
    {
        put(&workspace.join("packaging").join(name), &root.join(place).join(name), 0o644)?;
    }
    for entry in fs::read_dir(workspace.join("docs"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        put(&path, &root.join("usr/share/doc/nattrace/docs").join(name), 0o644)?;
    }
    let package = package(&root, &dist)?;
    Ok(vec![put(&program, &dist.join("nattrace"), 0o755)?, package])
}

/// A Debian package of this folder (deb-control(5)).
fn package(root: &Path, dist: &Path) -> Result<PathBuf> {
    let (version, arch) = (env!("CARGO_PKG_VERSION"), debian_name(ARCH));
    write(
        &root.join("DEBIAN/control"),
        &format!(
            "Package: nattrace\nVersion: {version}\nArchitecture: {arch}\nSection: net\nPriority: optional\n\
             Maintainer: the nattrace maintainers <nattrace@localhost>\nRecommends: nftables\n\
             Description: say where a packet went, what rewrote it, what dropped it, and why\n \
             Shows the journey of each matching packet through the kernel: hooks, rules, NAT,\n \
             routing, and its end; then says why, and what to type to mend it.\n"
        ),
    )?;
    let package = dist.join(format!("nattrace_{version}_{arch}.deb"));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "--build"]).arg(root).arg(&package);
    process::output_for(&mut dpkg, "make the Debian package")
        .context("the package needs Debian's dpkg-deb")?;
    progress::step(format_args!("packed {}", package.display()));
    Ok(package)
}

/// An architecture as Debian calls it.
fn debian_name(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<PathBuf> {
    make_folder(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(to.to_owned())
}

fn write(to: &Path, text: &str) -> Result<()> {
    make_folder(to)?;
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

fn make_folder(of: &Path) -> Result<()> {
    let Some(folder) = of.parent() else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}
