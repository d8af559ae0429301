//! Which shared libraries a program needs, read from the program itself.
//!
//! `ldd` runs the program's loader to find out; here nothing is run.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Where Linux distributions keep the libraries of x86-64.
const LIBRARY_DIRS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// What a program asks the loader for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Linkage {
    /// The loader itself.
    interpreter: Option<String>,
    /// Libraries by name.
    needed: Vec<String>,
    /// Where the program says they may be, before the usual places.
    run_path: Vec<String>,
}

/// All libraries that `programs` need, the loader and the libraries' own needs included, as paths of the host.
pub(crate) fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    libraries_below(Path::new("/"), programs)
}

/// The same for programs of another system, unpacked below `root`.
pub(crate) fn libraries_below(root: &Path, programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<_> = programs.to_vec();
    while let Some(program) = waiting.pop() {
        let bytes = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
        let Some(linkage) = parse(&bytes) else { continue };
        if let Some(interpreter) = linkage.interpreter {
            found.insert(below(root, &interpreter));
        }
        for name in linkage.needed {
            let library = locate(root, &name, &linkage.run_path, &program)
                .with_context(|| format!("{} needs {name}, which is not there", program.display()))?;
            if found.insert(library.clone()) {
                waiting.push(library);
            }
        }
    }
    Ok(found)
}

fn locate(root: &Path, name: &str, run_path: &[String], program: &Path) -> Option<PathBuf> {
    let folder = program.parent().unwrap_or(root);
    let origin = format!("/{}", folder.strip_prefix(root).unwrap_or(folder).display());
    run_path
        .iter()
        .map(|dir| dir.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin))
        .chain(LIBRARY_DIRS.map(str::to_owned))
        .map(|dir| below(root, &dir).join(name))
        .find(|path| path.is_file())
}

/// Where an absolute path of the system below `root` lies.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Reads a 64-bit little-endian ELF file; `None` for anything else, a script or a broken file.
fn parse(elf: &[u8]) -> Option<Linkage> {
    const PT_LOAD: u64 = 1;
    const PT_DYNAMIC: u64 = 2;
    const PT_INTERP: u64 = 3;
    const DT_NEEDED: u64 = 1;
    const DT_STRTAB: u64 = 5;
    const DT_RPATH: u64 = 15;
    const DT_RUNPATH: u64 = 29;

    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = number(elf, 32, 8)?;
    let (entry_size, entries) = (number(elf, 54, 2)?, number(elf, 56, 2)?);
    // Kind, offset in the file, address in memory, size in the file.
    let segments: Vec<_> = (0..entries)
        .map(|index| {
            let at = table.checked_add(index * entry_size)?;
            let field = |offset: u64, size| number(elf, at.checked_add(offset)?, size);
            Some((field(0, 4)?, field(8, 8)?, field(16, 8)?, field(32, 8)?))
        })
        .collect::<Option<_>>()?;
    let segment = |kind| segments.iter().find(|segment| segment.0 == kind);

    let mut linkage = Linkage::default();
    if let Some((_, offset, ..)) = segment(PT_INTERP) {
        linkage.interpreter = Some(text(elf, *offset)?);
    }
    let Some((_, offset, _, size)) = segment(PT_DYNAMIC) else { return Some(linkage) };
    let dynamic: Vec<_> = (0..size / 16)
        .map(|index| Some((number(elf, offset + index * 16, 8)?, number(elf, offset + index * 16 + 8, 8)?)))
        .collect::<Option<_>>()?;
    let strings = dynamic.iter().find(|(tag, _)| *tag == DT_STRTAB)?.1;
    let strings =
        segments.iter().filter(|(kind, ..)| *kind == PT_LOAD).find_map(|(_, offset, address, size)| {
            let within = strings.checked_sub(*address)?;
            (within < *size).then_some(offset + within)
        })?;
    for (tag, value) in dynamic {
        match tag {
            DT_NEEDED => linkage.needed.push(text(elf, strings.checked_add(value)?)?),
            DT_RPATH | DT_RUNPATH => {
                linkage
                    .run_path
                    .extend(text(elf, strings.checked_add(value)?)?.split(':').map(str::to_owned));
            }
            _ => {}
        }
    }
    Some(linkage)
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], at: u64, size: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// A string that ends with a zero byte.
fn text(bytes: &[u8], at: u64) -> Option<String> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_very_program() {
        let program = std::env::current_exe().expect("this test's own program");
        let linkage = parse(&fs::read(&program).expect("readable")).expect("an ELF file");
        assert!(linkage.needed.iter().any(|name| name == "libc.so.6"), "{linkage:?}");
        assert!(linkage.interpreter.is_some_and(|path| path.contains("ld-linux")));
        let libraries = libraries(&[program]).expect("all libraries are here");
        assert!(libraries.iter().any(|path| path.ends_with("libc.so.6")));
    }

    #[test]
    fn takes_nothing_from_what_is_no_program() {
        assert_eq!(parse(b"#!/bin/sh\n"), None);
        assert_eq!(parse(b"\x7fELF\x02\x01"), None);
        let mut broken = b"\x7fELF\x02\x01".to_vec();
        broken.resize(64, 0xff);
        assert_eq!(parse(&broken), None);
    }
}
