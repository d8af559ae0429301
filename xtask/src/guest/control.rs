//! What a guest tells the host besides the command's output: that it is ready, files, and the exit status.

use std::{
    fs,
    io::Write as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Something the guest said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The command starts now.
    Ready,
    /// The command ended so; nothing follows.
    Status(i32),
}

/// Takes the stream of port 3 apart.
#[derive(Debug)]
pub(crate) struct Control {
    buffer: Vec<u8>,
    /// Where files go; without it they are read over.
    results: Option<PathBuf>,
    file: Option<Incoming>,
}

#[derive(Debug)]
struct Incoming {
    left: usize,
    file: Option<fs::File>,
}

impl Control {
    /// Puts the guest's files into `results`.
    pub(crate) fn new(results: Option<&Path>) -> Self {
        Self { buffer: Vec::new(), results: results.map(Path::to_owned), file: None }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>> {
        self.buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        loop {
            if let Some(incoming) = &mut self.file {
                let taken = incoming.left.min(self.buffer.len());
                let content: Vec<_> = self.buffer.drain(..taken).collect();
                if let Some(file) = &mut incoming.file {
                    file.write_all(&content).context("cannot write a file of the guest")?;
                }
                incoming.left -= taken;
                if incoming.left > 0 {
                    return Ok(messages);
                }
                self.file = None;
            }
            let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else { return Ok(messages) };
            let line: Vec<_> = self.buffer.drain(..=end).collect();
            messages.extend(self.line(String::from_utf8_lossy(&line).trim_end())?);
        }
    }

    fn line(&mut self, line: &str) -> Result<Option<Message>> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ready" => Ok(Some(Message::Ready)),
            "status" => {
                Ok(Some(Message::Status(rest.parse().context("the guest sent no number as status")?)))
            }
            "file" => {
                let (size, name) = rest.split_once(' ').context("the guest sent a file without a name")?;
                let file = self.results.as_ref().map(|results| create(results, name)).transpose()?;
                self.file = Some(Incoming {
                    left: size.parse().context("the guest sent a file without a size")?,
                    file,
                });
                Ok(None)
            }
            _ => bail!("the guest said something unknown: {line:?}"),
        }
    }
}

fn create(results: &Path, name: &str) -> Result<fs::File> {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        bail!("the guest named a file outside of the results: {name:?}");
    }
    let path = results.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_files_and_the_status_wherever_the_stream_is_cut() {
        let stream = b"ready\nfile 5 a/b.txt\nx\ny\nzfile 0 empty\nstatus 3\n";
        let results = std::env::temp_dir().join(format!("xtask-control-{}", std::process::id()));
        for cut in 0..stream.len() {
            let mut control = Control::new(Some(&results));
            let mut messages = control.push(&stream[..cut]).expect("well formed");
            messages.extend(control.push(&stream[cut..]).expect("well formed"));
            assert_eq!(messages, [Message::Ready, Message::Status(3)], "cut at {cut}");
            assert_eq!(fs::read(results.join("a/b.txt")).expect("the file"), b"x\ny\nz");
            assert_eq!(fs::read(results.join("empty")).expect("the file"), b"");
        }
        crate::cache::remove(&results).expect("clean up");
    }

    #[test]
    fn a_guest_cannot_write_elsewhere() {
        let mut control = Control::new(Some(Path::new("/nowhere")));
        assert!(control.push(b"file 1 ../x\n").is_err());
    }
}
