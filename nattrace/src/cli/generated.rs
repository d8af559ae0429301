//! What is made of the flags for others to read: completions for shells, and the manual page.

use std::io::Write as _;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::{Args, USAGE};

/// A script that makes a shell complete the flags.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "nattrace", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page, in roff (groff_man(7)).
pub(super) fn manual() -> String {
    let command = Args::command();
    let long = command.get_about().map(ToString::to_string).unwrap_or_default();
    let short = long.split(['.', '\n']).next().unwrap_or_default().to_owned();
    let page = Man::new(command.about(short).long_about(long));
    // Where clap would list every flag.
    let usage: Vec<&str> = USAGE.lines().map(str::trim_start).collect();
    let synopsis = format!(".SH SYNOPSIS\n.nf\n{}\n.fi\n", usage.join("\n"));
    let mut roff = Vec::new();
    // Writing into memory cannot fail; if it did, the page would end there.
    let _ = page
        .render_title(&mut roff)
        .and_then(|()| page.render_name_section(&mut roff))
        .and_then(|()| roff.write_all(synopsis.as_bytes()))
        .and_then(|()| page.render_description_section(&mut roff))
        .and_then(|()| page.render_options_section(&mut roff))
        .and_then(|()| page.render_subcommands_section(&mut roff))
        .and_then(|()| page.render_extra_section(&mut roff))
        .and_then(|()| page.render_version_section(&mut roff));
    String::from_utf8_lossy(&roff).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn flags() -> Vec<String> {
        let command = Args::command();
        command.get_arguments().filter_map(|flag| Some(format!("--{}", flag.get_long()?))).collect()
    }

    #[test]
    fn every_flag_is_in_them() {
        // roff writes a dash as `\-`, so that it stays one.
        let page = manual().replace("\\-", "-");
        for flag in flags() {
            assert!(page.contains(&flag), "{flag} is not in the manual page");
            for shell in [Shell::Bash, Shell::Zsh] {
                assert!(completions(shell).contains(&flag), "{flag} is not completed by {shell}");
            }
            let fish = format!("-l {}", flag.trim_start_matches('-'));
            assert!(completions(Shell::Fish).contains(&fish), "{flag} is not completed by fish");
        }
    }

    #[test]
    fn bash_completes_a_flag() {
        let mut bash = Command::new("bash")
            .args(["-c", r#"source /dev/stdin; COMP_WORDS=(nattrace --dp); COMP_CWORD=1; _nattrace nattrace --dp nattrace; echo "${COMPREPLY[@]}""#])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        bash.stdin.take().expect("a pipe").write_all(completions(Shell::Bash).as_bytes()).expect("read");
        let said = bash.wait_with_output().expect("an end");
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "--dport");
    }
}
