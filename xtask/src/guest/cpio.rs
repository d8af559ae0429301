//! The archive a guest's root file system is unpacked from: "newc" cpio, which every kernel reads.
//!
//! It is left uncompressed: under emulation, unpacking costs a guest more than copying costs the host.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufReader, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// What stands at a path of the archive.
#[derive(Debug, Clone)]
enum Entry {
    Folder,
    /// A file of the host, read when the archive is written.
    Copy(PathBuf),
    File {
        content: Vec<u8>,
        mode: u32,
    },
    Link(String),
    CharacterDevice {
        major: u32,
        minor: u32,
    },
}

/// A tree of files to be written as one archive.
///
/// Paths are absolute in the guest. Parents come first because the map is ordered.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Adds a folder and its parents.
    pub(crate) fn folder(&mut self, path: &str) {
        self.insert(path, Entry::Folder);
    }

    /// Adds a copy of a file of the host, with its permissions.
    pub(crate) fn copy(&mut self, path: &str, from: impl Into<PathBuf>) {
        self.insert(path, Entry::Copy(from.into()));
    }

    /// Adds a copy of a file, or of a folder with all it holds.
    pub(crate) fn copy_all(&mut self, path: &str, from: &Path) -> Result<()> {
        if !from.is_dir() {
            self.copy(path, from);
            return Ok(());
        }
        self.folder(path);
        for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
            let entry = entry?;
            self.copy_all(&format!("{path}/{}", entry.file_name().to_string_lossy()), &entry.path())?;
        }
        Ok(())
    }

    /// Adds a file with the given content.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.insert(path, Entry::File { content: content.into(), mode });
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: impl Into<String>) {
        self.insert(path, Entry::Link(target.into()));
    }

    /// Adds a character device.
    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, Entry::CharacterDevice { major, minor });
    }

    /// Whether something stands at `path`.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Writes the archive.
    pub(crate) fn write(&self, out: &mut impl Write) -> Result<()> {
        let mut inode = 0;
        for (path, entry) in &self.entries {
            inode += 1;
            let name = path.trim_start_matches('/');
            match entry {
                Entry::Folder => header(out, inode, name, 0o040_755, 0, (0, 0))?,
                Entry::Copy(from) => {
                    copy_file(out, inode, name, from)
                        .with_context(|| format!("cannot copy {}", from.display()))?;
                }
                Entry::File { content, mode } => {
                    header(out, inode, name, 0o100_000 | mode, content.len() as u64, (0, 0))?;
                    out.write_all(content)?;
                    pad(out, content.len() as u64)?;
                }
                Entry::Link(target) => {
                    header(out, inode, name, 0o120_777, target.len() as u64, (0, 0))?;
                    out.write_all(target.as_bytes())?;
                    pad(out, target.len() as u64)?;
                }
                Entry::CharacterDevice { major, minor } => {
                    header(out, inode, name, 0o020_600, 0, (*major, *minor))?;
                }
            }
        }
        header(out, 0, "TRAILER!!!", 0, 0, (0, 0))?;
        Ok(())
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path = path.trim_end_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/')
            && !parent.is_empty()
            && !self.contains(parent)
        {
            self.folder(parent);
        }
        self.entries.insert(path.to_owned(), entry);
    }
}

fn copy_file(out: &mut impl Write, inode: u32, name: &str, from: &Path) -> Result<()> {
    let file = File::open(from)?;
    let metadata = file.metadata()?;
    header(out, inode, name, 0o100_000 | metadata.permissions().mode() & 0o777, metadata.len(), (0, 0))?;
    let copied = io::copy(&mut BufReader::new(file), out)?;
    // The header is out: another length would shift all that follows.
    anyhow::ensure!(copied == metadata.len(), "it changed while it was read");
    Ok(pad(out, copied)?)
}

/// Writes the header and name of one entry.
fn header(
    out: &mut impl Write,
    inode: u32,
    name: &str,
    mode: u32,
    size: u64,
    device: (u32, u32),
) -> Result<()> {
    let size = u32::try_from(size).context("a file of 4 GiB or more does not fit into the guest")?;
    let links = 1;
    let (uid, gid, mtime, dev_major, dev_minor, checksum) = (0, 0, 0, 0, 0, 0);
    let name_size = u32::try_from(name.len() + 1)?;
    let mut text = String::from("070701");
    for field in [
        inode, mode, uid, gid, links, mtime, size, dev_major, dev_minor, device.0, device.1, name_size,
        checksum,
    ] {
        write!(text, "{field:08X}")?;
    }
    out.write_all(text.as_bytes())?;
    out.write_all(name.as_bytes())?;
    out.write_all(&[0])?;
    Ok(pad(out, (text.len() + name.len() + 1) as u64)?)
}

/// Fills up to a multiple of four.
fn pad(out: &mut impl Write, written: u64) -> io::Result<()> {
    let missing = written.next_multiple_of(4) - written;
    out.write_all(&[0; 3][..usize::try_from(missing).unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode, device, content.
    type Read = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive back.
    fn read(mut archive: &[u8]) -> Vec<Read> {
        let mut found = Vec::new();
        loop {
            let field = |index: usize| {
                let at = 6 + 8 * index;
                let digits = std::str::from_utf8(&archive[at..at + 8]).expect("digits");
                u32::from_str_radix(digits, 16).expect("a number")
            };
            assert_eq!(&archive[..6], b"070701");
            let (mode, size, device, name_size) = (field(1), field(6), (field(9), field(10)), field(11));
            let name_end = 110 + name_size as usize;
            let name = String::from_utf8(archive[110..name_end - 1].to_vec()).expect("a name");
            let start = name_end.next_multiple_of(4);
            let end = start + size as usize;
            if name == "TRAILER!!!" {
                return found;
            }
            found.push((name, mode, device, archive[start..end].to_vec()));
            archive = &archive[end.next_multiple_of(4)..];
        }
    }

    #[test]
    fn writes_what_a_kernel_reads() {
        let mut tree = Tree::default();
        tree.file("/usr/bin/a", 0o755, "12345");
        tree.link("/bin", "usr/bin");
        tree.character_device("/dev/console", 5, 1);
        tree.folder("/usr/");
        let mut archive = Vec::new();
        tree.write(&mut archive).expect("into memory");
        assert_eq!(archive.len() % 4, 0);
        let expected = [
            ("bin", 0o120_777, (0, 0), "usr/bin"),
            ("dev", 0o040_755, (0, 0), ""),
            ("dev/console", 0o020_600, (5, 1), ""),
            ("usr", 0o040_755, (0, 0), ""),
            ("usr/bin", 0o040_755, (0, 0), ""),
            ("usr/bin/a", 0o100_755, (0, 0), "12345"),
        ]
        .map(|(name, mode, device, content)| (name.to_owned(), mode, device, content.as_bytes().to_vec()));
        assert_eq!(read(&archive), expected);
    }
}
