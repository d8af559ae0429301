//! Listings, generations and transactions of this kernel, with this machine's nft.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nattrace::source::netlink::route;
use nattrace::source::netlink::ruleset_changes::{RulesetSocket, generation};
use nattrace::source::netlink::socket::Received;
use nattrace::source::{netns, ruleset};
use nattrace_core::event::{Commit, HookPoint, NfFamily};
use nattrace_core::filter::Filter;
use nattrace_core::ruleset::Listing;

use crate::support::{in_namespace, install, peer_namespace, run, spec};

fn collect(socket: &mut RulesetSocket) -> Vec<Commit> {
    let mut commits = Vec::new();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(100) {
        match socket.receive().expect("commits") {
            Received::Item(commit) => {
                commits.push(commit);
                last = Instant::now();
            }
            Received::Empty => sleep(Duration::from_millis(5)),
            Received::Lost => panic!("notifications were lost"),
        }
    }
    commits
}

fn list() -> Listing {
    ruleset::list(&netns::current().expect("a namespace")).expect("a listing").listing
}

/// Loads a file of nft commands in one transaction.
fn load(text: &str) {
    let mut child =
        std::process::Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    std::io::Write::write_all(&mut child.stdin.take().expect("its input"), text.as_bytes()).expect("nft");
    assert!(child.wait().expect("its end").success(), "{text}");
}

#[test]
fn a_reload_is_one_commit_that_names_the_tables_gone_and_new() {
    in_namespace(|| {
        let rules = "table inet filter {\n chain input {\n type filter hook input priority 0\n tcp dport 22 accept\n }\n}\ntable ip nat {\n chain x {\n accept\n }\n}\n";
        let mut socket = RulesetSocket::open().expect("a socket");
        let start = generation().expect("a generation");
        load(rules);
        let before = list();
        assert_eq!(before.generation, Some(start.wrapping_add(1)));
        let commits = collect(&mut socket);
        assert_eq!(commits.len(), 1);
        assert_eq!(commits[0].new_tables.len(), 2);
        assert_eq!(commits[0].generation, start.wrapping_add(1));

        load(&format!("flush ruleset\n{rules}"));
        let after = list();
        let commits = collect(&mut socket);
        assert_eq!(commits.len(), 1, "{commits:?}");
        let named = |listing: &Listing| -> Vec<(NfFamily, String, Option<u64>)> {
            let mut named: Vec<_> =
                listing.tables.iter().map(|t| (t.family, t.name.clone(), Some(t.handle))).collect();
            named.sort();
            named
        };
        let sorted = |list: &[(NfFamily, String, Option<u64>)]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        assert_eq!(sorted(&commits[0].deleted_tables), named(&before));
        assert_eq!(sorted(&commits[0].new_tables), named(&after));
        assert_eq!(Some(commits[0].generation), after.generation);
        assert_ne!(before.tables[0].handle, after.tables[0].handle, "no reload uses a handle again");
        // The same rule has the same handle in both: only the table's tells them apart.
        assert_eq!(before.tables[0].chains[0].rules, after.tables[0].chains[0].rules);

        // Our own table comes and goes as any other.
        let Some(table) = install(&spec("nattrace_test", Filter::default())) else { return };
        let commits = collect(&mut socket);
        let named = commits[0].new_tables.clone();
        assert_eq!(named[0].1, "nattrace_test");
        drop(table);
        let commits = collect(&mut socket);
        assert_eq!((commits.len(), &commits[0].deleted_tables), (1, &named));
    });
}

#[test]
fn rules_are_listed_as_they_were_written() {
    in_namespace(|| {
        let elements: Vec<_> = (0..300).map(|n| format!("10.0.{}.{}", n / 200, n % 200)).collect();
        load(&format!(
            "table inet t {{\n comment \"a }} # handle 9 {{\"\n set s {{\n type ipv4_addr; elements = {{ {0} }}\n }}\n \
             chain c {{\n type filter hook forward priority filter + 7; policy drop;\n \
             ip saddr {{ {0} }} counter drop comment \"one }} # handle 3\"\n ip daddr @s accept\n }}\n}}\n",
            elements.join(", ")
        ));
        run("iptables-nft", &["-A", "FORWARD", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"]);
        let listing = list();
        let (ours, compat) = (&listing.tables[0], &listing.tables[1]);
        let chain = &ours.chains[0];
        let base = chain.base.as_ref().expect("a base chain");
        assert_eq!((base.hook, base.priority, base.policy.as_str()), (HookPoint::Forward, 7, "drop"));
        assert_eq!(chain.rules.len(), 2);
        assert!(chain.rules[0].text.contains("10.0.1.99"), "anonymous sets are whole");
        assert!(chain.rules[0].text.ends_with("} counter drop comment \"one } # handle 3\""));
        assert_eq!(chain.rules[1].text, "ip daddr @s accept");
        assert_eq!((compat.family, compat.name.as_str()), (NfFamily::Ip, "filter"));
        assert_eq!(compat.chains[0].rules[0].text, "tcp dport 22 counter accept");
    });
}

#[test]
fn links_and_addresses_are_those_of_the_namespace() {
    in_namespace(|| {
        let peer = peer_namespace();
        let names = |links: Vec<nattrace_core::event::Link>| -> Vec<String> {
            links.into_iter().map(|link| link.name).collect()
        };
        let there = netns::run_in(&peer, route::links).expect("the peer").expect("links");
        assert!(names(there).contains(&"there".to_owned()));
        assert!(names(route::links().expect("links")).contains(&"here".to_owned()));
        let addresses = netns::run_in(&peer, route::addresses).expect("the peer").expect("addresses");
        let found: Vec<_> = addresses.iter().map(|a| format!("{}/{}", a.addr, a.prefix)).collect();
        for address in ["10.9.0.2/16", "10.9.130.2/16", "fd00:9::2/64", "127.0.0.1/8", "::1/128"] {
            assert!(found.contains(&address.to_owned()), "{address} in {found:?}");
        }
        assert_ne!(peer, netns::current().expect("a namespace"));
    });
}
