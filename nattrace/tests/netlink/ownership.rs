//! Whose the table is, and when it is gone.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nattrace::source::netlink::trace::TraceSocket;
use nattrace::source::netlink::trace_table::{TraceTable, TraceTableError, describe};
use nattrace_core::filter::Filter;

use crate::support::{CHILD, collect, in_namespace, install, nft, ports, send_udp, spec};

/// Not a test of its own: what a child process does that another test started.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let table = TraceTable::install(&spec("nattrace_child", Filter::default()));
    // The test runner writes to the same stream, and has not ended its line.
    match &table {
        Ok(_) => println!("\nchild: installed"),
        Err(error) => println!("\nchild: {error}"),
    }
    std::io::stdout().flush().expect("a parent");
    if table.is_ok() {
        std::thread::sleep(Duration::from_mins(1));
    }
}

/// Starts this program as a child in the same namespace, and waits for its one line.
fn start_child(prefix: &[&str]) -> (Child, String, impl BufRead) {
    let own = std::env::current_exe().expect("a path");
    let own = own.to_string_lossy().into_owned();
    let mut words: Vec<&str> = prefix.to_vec();
    words.extend([own.as_str(), "ownership::child", "--exact", "--nocapture"]);
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut lines = output.by_ref().lines().map_while(Result::ok);
    let line = lines.find(|line| line.starts_with("child: ")).expect("its line");
    // The output stays open, so that the child's test runner can finish its own.
    (child, line, output)
}

#[test]
fn a_killed_process_leaves_no_table() {
    in_namespace(|| {
        let Some(table) = install(&spec("nattrace_test", Filter::default())) else { return };
        drop(table);
        let (mut child, line, _output) = start_child(&[]);
        assert_eq!(line, "child: installed");
        assert!(nft("list tables").contains("nattrace_child"));
        child.kill().expect("kill -9");
        child.wait().expect("its end");
        assert_eq!(nft("list tables"), "");
    });
}

#[test]
fn nobody_else_can_remove_or_change_it() {
    in_namespace(|| {
        let mut socket = TraceSocket::open().expect("a socket");
        let filter = Filter { dport: vec![ports(1222, 1222)], ..Filter::default() };
        let Some(table) = install(&spec("nattrace_test", filter.clone())) else { return };
        nft("flush ruleset");
        for command in ["delete table inet nattrace_test", "add chain inet nattrace_test mine"] {
            let status = Command::new("nft").arg(command).stderr(Stdio::null()).status().expect("nft");
            assert!(!status.success(), "{command}");
        }
        send_udp("127.0.0.1:30000", "127.0.0.1:1222", 1);
        assert!(!collect(&mut socket).is_empty());
        // A second one beside it works, one of the same name is refused, dropping removes.
        let Some(second) = install(&spec("nattrace_other", filter.clone())) else { return };
        let same = TraceTable::install(&spec("nattrace_test", filter));
        assert!(matches!(same, Err(TraceTableError::Exists(_))), "{same:?}");
        drop(table);
        assert!(!nft("list tables").contains("nattrace_test"));
        assert!(nft("list tables").contains("nattrace_other"));
        drop(second);
        assert_eq!(nft("list tables"), "");
    });
}

#[test]
fn without_privilege_it_says_so() {
    in_namespace(|| {
        let (mut child, line, _output) =
            start_child(&["setpriv", "--reuid=65534", "--clear-groups", "--no-new-privs"]);
        assert!(line.contains("CAP_NET_ADMIN"), "{line}");
        child.wait().expect("its end");
    });
}

#[test]
fn devices_that_cannot_exist_are_refused() {
    in_namespace(|| {
        for name in ["", "a-name-that-is-too-long", "a b", "a/b", "x\" accept"] {
            let filter = Filter { iif: vec![name.to_owned()], ..Filter::default() };
            let refused = TraceTable::install(&spec("nattrace_test", filter));
            assert!(matches!(refused, Err(TraceTableError::DeviceName(_))), "{name}: {refused:?}");
        }
    });
}

#[test]
fn what_a_dry_run_says_is_what_nft_lists() {
    in_namespace(|| {
        let filter = Filter { dport: vec![ports(1222, 1222)], ..Filter::default() };
        let spec = spec("nattrace_test", filter);
        let Some(_table) = install(&spec) else { return };
        let words = |text: &str| -> Vec<String> {
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim().to_owned());
            lines.filter(|line| !line.is_empty()).collect()
        };
        assert_eq!(words(&describe(&spec, &[])), words(&nft("list table inet nattrace_test")));
    });
}
