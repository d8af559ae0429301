//! What the program answers its caller.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::render::escape::escape;

/// The exit status, as promised to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: packets were seen and none was dropped, or what was asked for was printed.
    Clean,
    /// 1: at least one packet was dropped.
    Dropped,
    /// 2: the program could not do its work.
    Failed,
    /// 3: it ran, and nothing matched.
    NothingMatched,
}

impl ExitStatus {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Dropped => 1,
            Self::Failed => 2,
            Self::NothingMatched => 3,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// Says in one line on standard error what went wrong, if anything did, and gives the status to leave with.
/// A reader that closed the pipe has what it wanted: that is a quiet 0.
pub fn answer(result: anyhow::Result<ExitStatus>) -> ExitStatus {
    let error = match result {
        Ok(status) => return status,
        Err(error) => error,
    };
    let broken_pipe = error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return ExitStatus::Clean;
    }
    // Standard error may be closed as well, and then there is nobody left to tell.
    let _ = writeln!(io::stderr(), "nattrace: {}", escape(&format!("{error:#}")));
    ExitStatus::Failed
}
