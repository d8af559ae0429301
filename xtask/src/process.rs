//! Child processes: quiet while they work, telling when they fail.

use std::{
    env,
    ffi::OsStr,
    io::ErrorKind,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How much of a failed command's own words is worth showing.
const SHOWN_LINES: usize = 25;

/// Runs `command` silently and returns its standard output; on failure the error ends with its last words.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(&name, &error))?;
    if !output.status.success() {
        bail!("`{name}` failed ({}){}", status_text(output.status), tail(&output.stderr, &output.stdout));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` silently for at most `limit`; whether it succeeded is all that is said.
pub(crate) fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let started = Instant::now();
    let Ok(mut child) = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    else {
        return false;
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if started.elapsed() < limit => thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => {
                // It may have ended meanwhile; either way it is gone after this.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// Runs `command` with the terminal's own standard streams and returns how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let name = describe(command);
    command.status().map_err(|error| not_started(&name, &error))
}

/// The first executable of this name in `PATH`, or in the administrator's folders, which a user's `PATH` lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// Whether this process may do what root may.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command as a person would type it, or as much of it as fits on a line.
fn describe(command: &Command) -> String {
    const LONGEST: usize = 80;

    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        if text.len() > LONGEST {
            text.push_str(" …");
            break;
        }
        text.push(' ');
        text.push_str(&quoted(arg));
    }
    text
}

/// Single-quotes `text` for a POSIX shell where it needs it.
pub(crate) fn quoted(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// How a process ended, in words.
pub(crate) fn status_text(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

fn not_started(name: &str, error: &std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        let program = name.split(' ').next().unwrap_or(name);
        return anyhow::anyhow!("`{program}` is not installed, or not in PATH");
    }
    anyhow::anyhow!("cannot start `{name}`: {error}")
}

/// The last lines of what a command said, its errors last.
fn tail(stderr: &[u8], stdout: &[u8]) -> String {
    let text = [stdout, stderr].map(String::from_utf8_lossy).concat();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    if shown.is_empty() { String::new() } else { format!(":\n{}", shown.join("\n")) }
}

/// [`output`] with a sentence on what it was for.
pub(crate) fn output_for(command: &mut Command, purpose: &str) -> Result<String> {
    output(command).with_context(|| format!("cannot {purpose}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_needs_it() {
        assert_eq!(quoted(OsStr::new("--dport=1222")), "--dport=1222");
        assert_eq!(quoted(OsStr::new("a b")), "'a b'");
        assert_eq!(quoted(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(OsStr::new("")), "''");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("no-such-program-here")).expect_err("it does not exist");
        assert_eq!(error.to_string(), "`no-such-program-here` is not installed, or not in PATH");
    }

    #[test]
    fn a_failure_carries_the_last_words() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).expect_err("exit 3");
        assert!(error.to_string().ends_with("(exit code 3):\nwhy"), "{error}");
    }
}
