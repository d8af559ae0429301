//! The plan for a filter, without a kernel.

use nattrace_core::event::{HookPoint, NfFamily};
use nattrace_core::filter::{Filter, Masked, PortRange, Prefix};
use nattrace_core::packet::protocol;
use nattrace_core::ruleset::{BaseChain, Chain, Listing, Table};

use super::plan::Plan;
use super::{AskedPrograms, Beside, FollowBy, TraceTableError, TraceTableSpec, describe, explain};
use crate::source::netlink::batch::BatchError;

fn spec(filter: Filter, follow: FollowBy) -> TraceTableSpec {
    TraceTableSpec {
        name: "nattrace_1".to_owned(),
        filter,
        rate: Some(10),
        follow,
        hook_observers: false,
        programs: AskedPrograms::default(),
    }
}

fn prefix(addr: &str, len: u8) -> Prefix {
    Prefix { addr: addr.parse().expect("an address"), len }
}

fn port(number: u16) -> PortRange {
    PortRange { first: number, last: number }
}

fn rules(spec: &TraceTableSpec, chain: &str) -> Vec<String> {
    let plan = Plan::new(spec);
    let chain = plan.chains.into_iter().find(|c| c.name == chain);
    chain.map(|c| c.rules.into_iter().map(|rule| rule.text).collect()).unwrap_or_default()
}

#[test]
fn a_plain_filter_is_one_rule() {
    let filter = Filter { dport: vec![port(1222)], protocols: vec![protocol::TCP], ..Filter::default() };
    let spec = spec(filter, FollowBy::No);
    assert_eq!(
        describe(&spec, &[]),
        "table inet nattrace_1 {\n\tflags owner\n\n\tchain enter_prerouting {\n\
         \t\ttype filter hook prerouting priority -2147483648; policy accept;\n\t\tiif \"lo\" accept\n\
         \t\tmeta l4proto tcp th dport 1222 goto mark_prerouting\n\t}\n\n\tchain mark_prerouting {\n\
         \t\tjump limit\n\t\tmeta nftrace set 1 accept\n\t}\n\n\tchain enter_output {\n\
         \t\ttype filter hook output priority -2147483648; policy accept;\n\
         \t\tmeta l4proto tcp th dport 1222 goto mark_output\n\t}\n\n\tchain mark_output {\n\
         \t\tjump limit\n\t\tmeta nftrace set 1 accept\n\t}\n\n\tchain limit {\n\
         \t\tlimit rate over 10/second burst 10 packets accept\n\t}\n}\n"
    );
}

/// A ruleset with one base chain.
fn listing(family: NfFamily, hook: HookPoint, devices: &[&str]) -> Listing {
    let devices = devices.iter().map(|device| (*device).to_owned()).collect();
    let base = BaseChain { kind: "filter".into(), hook, devices, priority: 0, policy: "accept".into() };
    let chain = Chain { name: "c".into(), handle: 1, base: Some(base), rules: Vec::new() };
    Listing {
        generation: None,
        tables: vec![Table { family, name: "t".into(), handle: 1, chains: vec![chain] }],
    }
}

#[test]
fn other_families_get_a_table_where_rules_hang_there() {
    let any = Filter::default();
    let by_ip = Filter { dport: vec![port(99)], ..Filter::default() };
    let wanted =
        |family, hook, devices: &[&str], filter| Beside::wanted(&listing(family, hook, devices), filter);
    let ingress = Beside::Ingress(vec!["eth0".to_owned()]);
    assert_eq!(
        wanted(NfFamily::Netdev, HookPoint::Ingress, &["eth0"], &by_ip),
        std::slice::from_ref(&ingress)
    );
    assert_eq!(wanted(NfFamily::Inet, HookPoint::Ingress, &["eth0"], &by_ip), [ingress]);
    assert_eq!(wanted(NfFamily::Netdev, HookPoint::Egress, &["eth0"], &by_ip), []);
    assert_eq!(wanted(NfFamily::Bridge, HookPoint::Forward, &[], &by_ip), [Beside::Bridge]);
    assert_eq!(wanted(NfFamily::Arp, HookPoint::Input, &[], &any), [Beside::Arp]);
    assert_eq!(wanted(NfFamily::Arp, HookPoint::Input, &[], &by_ip), []);
    assert_eq!(wanted(NfFamily::Inet, HookPoint::Input, &[], &any), []);
}

#[test]
fn outside_of_ip_the_version_is_in_the_ethertype() {
    let filter = Filter { saddr: vec![prefix("10.0.0.0", 8), prefix("::", 0)], ..Filter::default() };
    let spec = spec(filter, FollowBy::Conntrack);
    let beside = [Beside::Ingress(vec!["eth0".to_owned(), "eth1".to_owned()])];
    let text = describe(&spec, &beside);
    let (_, text) = text.split_once("table netdev nattrace_1 {").expect("a netdev table");
    assert!(
        text.contains("type filter hook ingress devices = { \"eth0\", \"eth1\" } priority -2147483648;"),
        "{text}"
    );
    assert!(text.contains("meta protocol ip6 return") && !text.contains("nfproto"), "{text}");
    assert!(!text.contains("ct original"), "conntrack comes later: {text}");
}

#[test]
fn alternatives_add_and_do_not_multiply() {
    let list = |count: u8| (0..count).map(|n| prefix(&format!("10.0.{n}.0"), 24)).collect::<Vec<_>>();
    let filter = |count: u8| Filter {
        saddr: list(count),
        daddr: list(count),
        addr: list(count),
        port: (0..u16::from(count)).map(port).collect(),
        ..Filter::default()
    };
    let size = |count| {
        let plan = Plan::new(&spec(filter(count), FollowBy::MirroredHeaders));
        plan.chains.iter().map(|c| c.rules.len()).sum::<usize>()
    };
    assert_eq!(size(200) - size(100), 10 * (size(20) - size(10)));
}

#[test]
fn what_cannot_match_selects_nothing() {
    for filter in [
        Filter { protocols: vec![protocol::ICMP], dport: vec![port(1)], ..Filter::default() },
        Filter {
            protocols: vec![protocol::UDP],
            tcp_flags: Some(Masked { value: 2, mask: 2 }),
            ..Filter::default()
        },
    ] {
        let spec = spec(filter, FollowBy::MirroredHeaders);
        assert_eq!(rules(&spec, "enter_prerouting"), ["iif \"lo\" accept"]);
        assert_eq!(rules(&spec, "enter_output"), Vec::<String>::new());
    }
}

#[test]
fn devices_are_asked_for_where_they_are_known() {
    let iif = Filter { iif: vec!["eth0".to_owned()], ..Filter::default() };
    let incoming = spec(iif, FollowBy::No);
    assert_eq!(rules(&incoming, "enter_prerouting"), ["iifname \"eth0\" goto mark_prerouting"]);
    assert_eq!(rules(&incoming, "enter_output"), Vec::<String>::new());
    let oif = Filter { oif: vec!["eth0".to_owned(), "eth1".to_owned()], ..Filter::default() };
    let outgoing = spec(oif, FollowBy::No);
    assert_eq!(rules(&outgoing, "enter_prerouting"), ["iif \"lo\" accept", "goto mark_prerouting"]);
    let expected = ["oifname \"eth0\" goto mark_output", "oifname \"eth1\" goto mark_output"];
    assert_eq!(rules(&outgoing, "enter_output"), expected);
}

#[test]
fn mirrors_are_made_only_where_they_say_something() {
    let mirrored = |filter| rules(&spec(filter, FollowBy::MirroredHeaders), "reply_prerouting");
    assert_eq!(mirrored(Filter::default()), Vec::<String>::new());
    assert_eq!(mirrored(Filter { port: vec![port(53)], ..Filter::default() }), Vec::<String>::new());
    assert_eq!(mirrored(Filter { iif: vec!["eth0".to_owned()], ..Filter::default() }), Vec::<String>::new());
    let filter = Filter {
        daddr: vec![prefix("10.1.2.3", 32)],
        dport: vec![port(22)],
        tcp_flags: Some(Masked { value: 2, mask: 0x12 }),
        iif: vec!["eth0".to_owned()],
        ..Filter::default()
    };
    assert_eq!(mirrored(filter), ["meta l4proto tcp ip saddr 10.1.2.3 th sport 22 goto mark_prerouting"]);
}

#[test]
fn only_what_can_be_followed_is_looked_up() {
    let filter =
        Filter { protocols: vec![protocol::ICMP], daddr: vec![prefix("10.0.0.0", 8)], ..Filter::default() };
    let spec = spec(filter, FollowBy::Conntrack);
    let names: Vec<_> = Plan::new(&spec).sets.iter().map(|set| set.reference.name).collect();
    assert_eq!(names, ["followed4"]);
    assert_eq!(rules(&spec, "follow_prerouting").len(), 1);
    let followed = rules(&spec, "followed_output");
    assert_eq!(followed.len(), 2, "{followed:?}");
    assert_eq!(
        followed[1],
        "meta l4proto icmp @th,0,8 0x0 ip daddr . ip saddr . meta l4proto . @th,32,16 . 0x800 @followed4 \
         meta nftrace set 1 accept"
    );
}

#[test]
fn prefixes_of_every_length_are_masked_as_they_should() {
    let rule = |addr: &str, len| {
        let filter = Filter { saddr: vec![prefix(addr, len)], ..Filter::default() };
        rules(&spec(filter, FollowBy::No), "enter_prerouting")[1].clone()
    };
    assert_eq!(rule("10.1.2.3", 32), "ip saddr 10.1.2.3 goto mark_prerouting");
    assert_eq!(rule("10.1.2.3", 24), "ip saddr 10.1.2.0/24 goto mark_prerouting");
    assert_eq!(rule("10.1.2.3", 31), "ip saddr 10.1.2.2/31 goto mark_prerouting");
    assert_eq!(rule("10.1.2.3", 0), "meta nfproto ipv4 goto mark_prerouting");
    assert_eq!(rule("255.255.255.255", 99), "ip saddr 255.255.255.255 goto mark_prerouting");
    assert_eq!(rule("2001:db8::1", 61), "ip6 saddr 2001:db8::/61 goto mark_prerouting");
    assert_eq!(rule("2001:db8::1", 200), "ip6 saddr 2001:db8::1 goto mark_prerouting");
}

#[test]
fn refusals_are_told_apart_by_what_was_refused() {
    let refused = |index, errno| {
        let error = BatchError::Refused { what: "x".to_owned(), index, errno, text: None };
        explain(error, "nattrace_1")
    };
    // nfnetlink answers for the batch as a whole; nf_tables_newtable for the table.
    assert!(matches!(refused(0, libc::EPERM), TraceTableError::Permission));
    assert!(matches!(refused(0, libc::EOPNOTSUPP), TraceTableError::NoNfTables));
    assert!(matches!(refused(1, libc::EPERM), TraceTableError::Exists(_)));
    assert!(matches!(refused(1, libc::EEXIST), TraceTableError::Exists(_)));
    // Before 5.12 and after.
    assert!(matches!(refused(1, libc::EINVAL), TraceTableError::NoOwnerSupport));
    assert!(matches!(refused(1, libc::EOPNOTSUPP), TraceTableError::NoOwnerSupport));
    assert!(matches!(refused(2, libc::EOPNOTSUPP), TraceTableError::Refused(_)));
}

#[test]
fn where_namespaces_are_crossed_the_program_is_asked_before_the_filter() {
    let filter = Filter { dport: vec![port(1222)], ..Filter::default() };
    for (follow, chains) in [
        (FollowBy::No, ["enter_prerouting", "enter_output"].as_slice()),
        (FollowBy::MirroredHeaders, &["enter_prerouting", "enter_output"]),
        (FollowBy::Conntrack, &["enter_prerouting", "enter_output", "follow_prerouting", "follow_output"]),
    ] {
        let programs = AskedPrograms { follows: Some(7), ..AskedPrograms::default() };
        let spec = TraceTableSpec { programs, ..spec(filter.clone(), follow) };
        for chain in chains {
            let first = rules(&spec, chain).into_iter().next();
            assert_eq!(first.as_deref(), Some("xt match \"bpf\" meta nftrace set 1 accept"), "{chain}");
        }
    }
}
