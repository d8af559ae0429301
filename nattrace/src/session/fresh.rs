//! A file that is written anew, once there is something to write.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What the file had before goes when the first is written, or handed on: a run that cannot begin leaves it as it was.
#[derive(Debug)]
pub(super) struct Fresh {
    file: File,
    is_begun: bool,
}

impl Fresh {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, is_begun: false })
    }

    /// Pipes and devices keep nothing that could be cut, and refuse.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if !self.is_begun && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.is_begun = true;
        Ok(())
    }
}

impl Write for Fresh {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.begin()?;
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_empty_from_the_beginning_on_not_before() {
        let path = std::env::temp_dir().join(format!("nattrace-fresh-{}", std::process::id()));
        let held = || std::fs::read_to_string(&path).expect("it is there");
        std::fs::write(&path, "yesterday's").expect("written");
        drop(Fresh::open(&path).expect("opened"));
        assert_eq!(held(), "yesterday's");
        Fresh::open(&path).expect("opened").flush().expect("emptied");
        assert_eq!(held(), "");
        std::fs::write(&path, "yesterday's").expect("written");
        let mut file = Fresh::open(&path).expect("opened");
        file.write_all(b"to").expect("written");
        file.write_all(b"day").expect("written");
        assert_eq!(held(), "today");
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn what_cannot_be_cut_is_written_to() {
        Fresh::open(Path::new("/dev/null")).expect("opened").write_all(b"x").expect("taken");
    }
}
