//! The real binary, judged from outside: bad input, exit codes, help. Nothing here needs a kernel or root.

use std::process::{Command, Output};

fn nattrace(args: &[&str]) -> Output {
    command(args).output().expect("the binary runs")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nattrace"));
    command.args(args);
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    command.env("RUST_BACKTRACE", "1");
    command
}

/// Runs, expects a refusal: exit code 2, nothing on standard output, one line on standard error.
#[track_caller]
fn refusal(args: &[&str]) -> String {
    let output = nattrace(args);
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}: results only go to standard output");
    assert_eq!(stderr.matches('\n').count(), 1, "{args:?}: one line, not {stderr:?}");
    assert!(stderr.starts_with("nattrace: "), "{args:?}: {stderr:?}");
    stderr.trim_end().to_owned()
}

#[test]
fn bad_values_name_the_flag_the_cause_and_the_remedy() {
    for (args, said) in [
        (
            &["--dport", "70000"][..],
            "nattrace: --dport 70000: ports go from 0 to 65535; give a number in that range",
        ),
        (&["--sport", "22-10"], "nattrace: --sport 22-10: the range runs backwards; write 10-22"),
        (
            &["--port", "ssh"],
            "nattrace: --port ssh: ports are given by number; give a number or a range, as in 22 or 8000-8100 \
             (names stand in /etc/services)",
        ),
        (
            &["--saddr", "10.0.0.0/33"],
            "nattrace: --saddr 10.0.0.0/33: IPv4 prefix lengths go from 0 to 32; write 10.0.0.0/32, or 10.0.0.0 \
             alone, for the one address",
        ),
        (
            &["--proto", "tpc"],
            "nattrace: --proto tpc: no protocol is known by that name; give tcp, udp, icmp, icmpv6 or sctp, or \
             the number from /etc/protocols",
        ),
        (
            &["--duration", "10"],
            "nattrace: --duration 10: not a length of time; write 10s for seconds, 10m for minutes",
        ),
        (
            &["--count", "0"],
            "nattrace: --count 0: nothing would be traced; give at least 1, or leave it out to trace until Ctrl-C",
        ),
        (
            &["--rate", "-1"],
            "nattrace: --rate -1: not a number of packets a second; give a whole number, or 0 for no limit",
        ),
        (
            &["--sources", "ebpf"],
            "nattrace: --sources ebpf: no such source; give some of probes, tracepoints, nft, conntrack",
        ),
        (
            &["--iif", "a-name-that-is-too-long"],
            "nattrace: --iif a-name-that-is-too-long: device names have at most 15 bytes; give a name that \
             `ip link` lists",
        ),
        (
            &["--mark", "0x1ffffffff"],
            "nattrace: --mark 0x1ffffffff: marks and masks are numbers of 32 bits; write 7, 0x7, or with a mask 0x10/0xff",
        ),
        (
            &["--format", "xml"],
            "nattrace: --format xml: there is no such choice; give one of text, json, nft, pcapng, html, svg, dot",
        ),
    ] {
        assert_eq!(refusal(args), said);
    }
}

#[test]
fn filters_no_packet_can_match() {
    for (args, said) in [
        (
            &["--proto", "icmp", "--dport", "1"][..],
            "nattrace: --proto icmp with --dport: icmp has no ports to match, so no packet can match; leave out \
             --dport, or give tcp, udp or sctp",
        ),
        (
            &["--tcp-flags", "syn", "--proto", "udp"],
            "nattrace: --proto udp with --tcp-flags: only tcp has such flags and it has none, so no packet can \
             match; leave out --tcp-flags, or give --proto tcp",
        ),
        (
            &["--saddr", "10.0.0.1", "--daddr", "::1"],
            "nattrace: --saddr with --daddr: --saddr is IPv4 only and --daddr IPv6 only, so no packet can match; \
             give both of one family",
        ),
        (
            &["--tcp-flags", "syn,!syn"],
            "nattrace: --tcp-flags syn,!syn: syn cannot be both set and clear, so no packet can match; leave out \
             syn or !syn",
        ),
    ] {
        assert_eq!(refusal(args), said);
    }
}

#[test]
fn too_many_values() {
    let many = (1..=17).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
    assert!(
        refusal(&["--dport", &many])
            .starts_with("nattrace: --dport: 17 values, and the filter in the kernel")
    );
}

#[test]
fn words_and_options_that_do_not_exist() {
    for (args, said) in [
        (&["--dprot", "22"][..], "nattrace: --dprot: there is no such option here; did you mean --dport?"),
        (&["chek"], "nattrace: chek: there is no such command; did you mean check?"),
        (&["--dport"], "nattrace: --dport: the value is missing; give one after it"),
        (&["--count", "1", "--count", "2"], "nattrace: --count: given more than once; give it once"),
        (&["--no-follow=x"], "nattrace: --no-follow x: the option takes no value; write --no-follow alone"),
        (&["replay"], "nattrace: replay: the FILE is missing; name one, as in `nattrace replay trace.rec`"),
        (
            &["completions"],
            "nattrace: completions: the SHELL is missing; name one, as in `nattrace completions bash`",
        ),
        (&["report"], "nattrace: report: the FILE is missing; name one, as in `nattrace report trace.rec`"),
        (
            &["replay", "f", "--rate", "1"],
            "nattrace: --rate: the option has no meaning for this command; leave --rate out",
        ),
        (
            &["replay", "f", "-o", "f"],
            "nattrace: -o f: the results would overwrite the recording that is read; give another file",
        ),
    ] {
        assert_eq!(refusal(args), said);
    }
    assert!(
        refusal(&["tcp", "port", "22"])
            .contains("filters are options, as in `nattrace --proto tcp --dport 22`")
    );
}

#[test]
fn what_was_typed_cannot_drive_the_terminal() {
    let said = refusal(&["--dport", "\x1b[31m\n\u{9b}2J"]);
    assert!(said.starts_with(r"nattrace: --dport \x1b[31m\n\u{9b}2J: "), "{said:?}");
    refusal(&["\x1b]0;title\x07"]);
}

#[test]
fn bytes_that_are_not_text() {
    use std::os::unix::ffi::OsStrExt;
    let output = command(&["--dport"]).arg(std::ffi::OsStr::from_bytes(b"\xff")).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "nattrace: command line: it holds bytes that are not UTF-8; write it in UTF-8\n"
    );
}

#[test]
fn help_goes_to_standard_output_and_ends_with_examples() {
    for args in [&["--help"][..], &["-h"], &["help"]] {
        let output = nattrace(args);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        for flag in [
            "--proto",
            "--saddr",
            "--daddr",
            "--addr",
            "--sport",
            "--dport",
            "--port",
            "--iif",
            "--oif",
            "--mark",
            "--tcp-flags",
            "--netns",
            "--no-follow",
            "--count",
            "--duration",
            "--rate",
            "--format",
            "--record",
            "-o,",
            "--sources",
            "--no-trace-table",
            "--dry-run",
            "--color",
            "check",
            "replay",
            "report",
        ] {
            assert!(help.contains(flag), "{flag} is not in the help");
        }
        assert!(!help.contains('\x1b'), "plain in a pipe");
        assert!(help.find("Examples:").expect("examples") > help.find("--color").expect("options"));
        assert!(help.lines().all(|line| line.chars().count() <= 100));
    }
    for command in ["check", "replay", "report"] {
        assert_eq!(nattrace(&[command, "--help"]).status.code(), Some(0));
    }
}

#[test]
fn version() {
    let output = nattrace(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("nattrace {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn colour_follows_the_flag() {
    let colour = |args: &[&str]| nattrace(args).stdout.contains(&b'\x1b');
    assert!(!colour(&["--help"]), "a pipe");
    assert!(colour(&["--color", "always", "--help"]));
    assert!(colour(&["--color=always", "--help"]));
    assert!(!colour(&["--color", "never", "--help"]));
    let output = command(&["--help"]).env("NO_COLOR", "1").output().expect("runs");
    assert!(!output.stdout.contains(&b'\x1b'));
}

#[test]
fn a_broken_pipe_is_a_quiet_0() {
    use std::process::Stdio;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = command(&["--help"]).stdout(writer).stderr(Stdio::piped()).spawn().expect("runs");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_full_disk_is_one_line() {
    let Ok(full) = std::fs::File::create("/dev/full") else { return };
    let output = command(&["--help"]).stdout(full).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("nattrace: ") && said.contains("No space left on device"), "{said}");
    assert_eq!(said.matches('\n').count(), 1);
}

#[test]
fn a_run_that_cannot_begin_leaves_files_as_they_were() {
    let path = std::env::temp_dir().join(format!("nattrace-kept-{}", std::process::id()));
    let name = path.to_str().expect("UTF-8");
    std::fs::write(&path, "yesterday's").expect("written");
    for args in [
        &["--netns", "/no/such/namespace", "--record", name][..],
        &["--netns", "/no/such/namespace", "-o", name],
        &["replay", "/no/such/recording", "-o", name],
    ] {
        refusal(args);
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "yesterday's", "{args:?}");
    }
    std::fs::remove_file(&path).expect("removed");
}
