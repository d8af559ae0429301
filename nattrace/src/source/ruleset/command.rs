//! Running another program for its output, for so long and no longer.

use std::io::{self, Read};
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::privileges;

/// Where these tools are when a user's path does not say.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Why there is no output.
#[derive(Debug)]
pub(super) enum CommandError {
    NotFound,
    Failed(String),
    Timeout,
    Io(io::Error),
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs a program in this thread's namespace and gives what it wrote to its standard output. What is not
/// UTF-8 is replaced: comments can hold anything, and are only shown. It has no more privileges than such programs need.
pub(super) fn run(program: &str, args: &[&str], timeout: Duration) -> Result<String, CommandError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .args(args)
        .env("PATH", format!("{path}:{SYSTEM_PATH}"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(&mut command).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CommandError::NotFound,
        _ => CommandError::Io(error),
    })?;
    let (sender, receiver) = channel();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    // Both at once: a program that fills one pipe while the other is read would wait for ever.
    let errors = thread::spawn(move || read(stderr.as_mut()));
    thread::spawn(move || sender.send(read(stdout.as_mut())));
    match receiver.recv_timeout(timeout) {
        Ok(output) => {
            let status = child.wait()?;
            let errors = errors.join().unwrap_or_default();
            if status.success() {
                return Ok(output);
            }
            let first = errors.lines().find(|line| !line.trim().is_empty()).unwrap_or("without a word");
            Err(CommandError::Failed(first.trim().to_owned()))
        }
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            child.kill()?;
            child.wait()?;
            Err(CommandError::Timeout)
        }
    }
}

/// Starts it from a thread that has let go of everything else: a program has what the thread has that starts it.
fn spawn(command: &mut Command) -> io::Result<Child> {
    thread::scope(|scope| {
        let starter = scope.spawn(|| {
            privileges::keep(privileges::OF_HELPERS)?;
            command.spawn()
        });
        starter.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn read(from: Option<&mut impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is still worth having.
    let _ = from.map(|from| from.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_errors_and_time_are_told_apart() {
        let second = Duration::from_secs(5);
        assert_eq!(run("echo", &["hello"], second).expect("output"), "hello\n");
        assert!(matches!(run("nattrace-no-such-program", &[], second), Err(CommandError::NotFound)));
        let failed = run("sh", &["-c", "echo why >&2; exit 1"], second);
        assert!(matches!(failed, Err(CommandError::Failed(text)) if text == "why"));
        let slow = run("sleep", &["20"], Duration::from_millis(50));
        assert!(matches!(slow, Err(CommandError::Timeout)));
    }
}
