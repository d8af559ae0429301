//! Where results go.

use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, Result};

use super::fresh::Fresh;
use crate::cli::plan::Output;
use crate::render::Renderer;

/// Standard output, or a file. Errors name which.
#[derive(Debug)]
pub(super) struct Sink {
    target: Box<dyn WriteDebug>,
    name: String,
}

trait WriteDebug: Write + std::fmt::Debug {}
impl<W: Write + std::fmt::Debug> WriteDebug for W {}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.target.write(bytes).map_err(|error| self.named(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush().map_err(|error| self.named(error))
    }
}

impl Sink {
    /// Keeps the kind: a broken pipe is recognised by it.
    fn named(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        io::Error::new(error.kind(), format!("{}: {error}", self.name))
    }
}

/// Opens what the plan names, before anything is changed anywhere.
pub(super) fn open(output: &Output) -> Result<Renderer<Sink>> {
    let sink = match &output.path {
        None => Sink { target: Box::new(BufWriter::new(io::stdout())), name: "standard output".to_owned() },
        Some(path) => {
            let file = Fresh::open(path).with_context(|| format!("-o {}", path.display()))?;
            Sink { target: Box::new(BufWriter::new(file)), name: format!("-o {}", path.display()) }
        }
    };
    Ok(Renderer::new(output, sink))
}
