//! Words that everybody's rules are made of: they say nothing of whose rules they are, and stay.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::names::Kind;
use crate::event::HookPoint;
use crate::ruleset::is_trace_table;

/// Keywords, and names of values, of nft (src/scanner.l, src/datatype.c, src/proto.c and src/meta.c of nftables 1.1) and of
/// iptables' matches.
const WORDS: &str = "\
    8021ad 8021q ACK ALL ANYCAST ASSURED BLACKHOLE BROADCAST CONFIRMED CWR DNAT ECE ESTABLISHED EXPECTED FIN \
    INVALID LOCAL MULTICAST NAT NEW NONE ORIGINAL PROHIBIT PSH RELATED REPLY RST SEEN_REPLY SNAT SYN THROW \
    UNICAST UNREACHABLE UNSPEC UNTRACKED URG XRESOLVE a-rwnd accept ack ackseq add addr addr-unreachable \
    address-mask-reply address-mask-request addrtype admin-prohibited af11 af12 af13 af21 af22 af23 af31 \
    af32 af33 af41 af42 af43 ah alert all any anycast arp asconf asconf-ack assured audit avgpkt be \
    blackhole bm bpf bridge broadcast broute burst bypass bytes ce cfi cgroup cgroupv2 chain chains checksum \
    chunk classid cluster code comment comp confirmed connbytes connlabel connlimit connmark conntrack \
    constant continue cookie-ack cookie-echo count counter counters cpi cpu crit cs0 cs1 cs2 cs3 cs4 cs5 cs6 \
    cs7 csumcov ct cwr daddr data day dccp debug dei destination-unreachable devgroup device devices df \
    direction dnat doff dport drop dscp dst dstip dstnat dstport dup dying dynamic ece echo echo-reply \
    echo-request ecn ecne ect0 ect1 ef egress element elements emerg err error esp established ether eui64 \
    exists expectation expected expiration expires exthdr false fanout fastopen fib filter fin fixed-timeout \
    flags flow flowlabel flowtable flowtables forward forward-tsn frag frag-needed frag-off fully-random fwd \
    gateway gbytes gc-interval goto gre group handle hashlimit hbh hdrlength heartbeat heartbeat-ack helper \
    helpers hl hlen hook hooks hoplimit hopopt host host-prohibited host-unreachable hour htype hw-offload \
    ibrhwaddr ibriport ibrname ibrpvid ibrvproto icmp icmp-admin-prohibited icmp-host-prohibited \
    icmp-host-unreachable icmp-net-prohibited icmp-net-unreachable icmp-port-unreachable \
    icmp-proto-unreachable icmp6 icmp6-addr-unreachable icmp6-adm-prohibited icmp6-no-route \
    icmp6-port-unreachable icmpv6 icmpx id ident igmp ih iif iifgroup iifkind iifname iiftype in inc \
    ind-neighbor-advert ind-neighbor-solicit index inet info info-reply info-request ingress init init-ack \
    init-tag initial-tsn input inreply inrequest interval invalid ip ip6 ipencap ipip iprange ipsec ipv4 \
    ipv6 ipv6-icmp ipv6-nonxt ipv6header ipvs jhash jump kbytes kmp l2tp l3proto l4proto label last-entry le \
    left length lephb level limit limits ll local log loopback lowest-tsn lsrr mac mangle map maps mark \
    masquerade match max-delay maxseg mbytes md5sig memory meta meter meters mh min minute missing \
    mld-listener-done mld-listener-query mld-listener-reduction mld-listener-report mld2-listener-report mod \
    more-fragments mptcp mrt mss mtu multicast multiport nak name nat nat-clash nd-neighbor-advert \
    nd-neighbor-solicit nd-redirect nd-router-advert nd-router-solicit net-prohibited net-unreachable netdev \
    new nexthdr nexthop nfacct nfproto nftrace nh no-route none nop not-ect notice notrack num num-dup-tsns \
    num-gap-ack-blocks num-inbound-streams num-outbound-streams numgen obriport obrname offload offset oif \
    oifgroup oifkind oifname oiftype operation option options original original-src osf ospf ospfigp \
    otherhost out output over owner packet packet-too-big packets param-problem parameter-problem pcp \
    performance persistent physdev pim pkttype plen policy policy-fail port port-unreachable position \
    postrouting ppid prefix prerouting priority prohibit prot-unreachable proto-dst proto-src protocol psh \
    ptr ptype queue queue-threshold quota quotas ra random rate rateest raw realm recent redirect reject \
    reject-route related reply reqid request reserved reserved2 return right route router-advertisement \
    router-renumbering router-solicitation rpfilter rr rreply rrequest rst rt rt0 rt2 rtclassid rule rules \
    ruleset sack sack-permitted sack0 sack1 sack2 sack3 saddr sctp sdif sdifname sec secmark secmarks second \
    secpath security seed seen-reply seg-left seq seqno sequence set sets shutdown shutdown-ack \
    shutdown-complete sid size skgid skuid snaplen snat socket source-quench spi spnum sport src srcip \
    srcnat srcport srh ssn ssrr state statistic status stream strict string subtype symhash syn synproxy \
    synproxys table tables tag target tcp tcp-reset tcpmss template th throw time time-exceeded timeout \
    timestamp timestamp-reply timestamp-request to to-client to-server tos tproxy trace transparent true \
    tsecr tsn tsval ttl type typeof u32 udp udplite unicast unreachable unspec until untracked update urg \
    urgptr used va value version vlan vmap vrrp vtag warn week wildcard window with wscale xt zone";

/// Targets of iptables (its `extensions/libxt_*.c`, `libipt_*.c`, `libip6t_*.c`, 1.8).
const TARGETS: &str = "\
    ACCEPT AUDIT CHECKSUM CLASSIFY CLUSTERIP CONNMARK CONNSECMARK CT DNAT DNPT DROP DSCP ECN HL HMARK \
    IDLETIMER LED LOG MARK MASQUERADE NETMAP NFLOG NFQUEUE NOTRACK QUEUE RATEEST REDIRECT REJECT RETURN \
    SECMARK SET SNAT SNPT SYNPROXY TCPMSS TCPOPTSTRIP TEE TOS TPROXY TRACE TTL ULOG";

/// Long options of iptables' matches and targets, without their dashes (the same).
const OPTIONS: &str = "\
    accept-local add-set ahlen ahres ahspi alarm algo among-dst among-dst-file among-src among-src-file \
    and-mark and-tos arp-gratuitous arp-htype arp-ip-dst arp-ip-src arp-mac-dst arp-mac-src arp-op \
    arp-opcode arp-ptype arpreply-mac arpreply-target bytecode bytes-eq bytes-gt bytes-lt cgroup \
    checksum-fill chunk-types clamp-mss-to-pmtu cluster-hash-seed cluster-local-node cluster-local-nodemask \
    cluster-total-nodes clustermac cmd-owner comment connbytes connbytes-dir connbytes-mode connlimit-above \
    connlimit-daddr connlimit-mask connlimit-saddr connlimit-upto contiguous cpu ctdir ctevents ctexpire \
    ctmask ctorigdst ctorigdstport ctorigsrc ctorigsrcport ctproto ctrepldst ctrepldstport ctreplsrc \
    ctreplsrcport ctstate ctstatus datestart datestop dccp-option dccp-types del-set destination-port \
    destination-ports dir dnat-target dport dports dscp dscp-class dst-group dst-len dst-opts dst-pfx \
    dst-range dst-type ecn ecn-ip-ect ecn-tcp-cwr ecn-tcp-ece ecn-tcp-remove espspi every exist expevents \
    fragfirst fragid fraglast fraglen fragment fragmore fragres from gateway genre gid-owner hash-init \
    hashlimit hashlimit-above hashlimit-burst hashlimit-dstmask hashlimit-htable-expire \
    hashlimit-htable-gcinterval hashlimit-htable-max hashlimit-htable-size hashlimit-mode hashlimit-name \
    hashlimit-rate-interval hashlimit-rate-match hashlimit-srcmask hashlimit-upto hashmode hbh-len hbh-opts \
    header helper hex-string hitcount hl-dec hl-eq hl-gt hl-inc hl-lt hl-set hmark-dport hmark-dport-mask \
    hmark-dst-prefix hmark-mod hmark-offset hmark-proto-mask hmark-rnd hmark-spi hmark-spi-mask hmark-sport \
    hmark-sport-mask hmark-src-prefix hmark-tuple icase icmp-type icmpv6-type invert ip-dport ip-dst \
    ip-icmp-type ip-igmp-type ip-proto ip-sport ip-src ip-tos ip6-dport ip6-dst ip6-icmp-type ip6-proto \
    ip6-sport ip6-src ip6-tclass ipcompspi ipvs kerneltz label led-always-blink led-delay led-trigger-id \
    left-shift-mark length limit limit-burst limit-iface-in limit-iface-out local-node localtz log log-arp \
    log-ip log-ip-options log-ip6 log-level log-macdecode log-prefix log-tcp-options log-tcp-sequence \
    log-uid loose mac-source mangle-ip-d mangle-ip-s mangle-mac-d mangle-mac-s mangle-target map-mark \
    map-prio map-queue map-set mark mark-and mark-or mark-set mark-target mark-xor mask match-set mh-type \
    mode monthdays mss name new next nfacct-name nflog nflog-group nflog-prefix nflog-range nflog-size \
    nflog-threshold nfmask notrack nowildcard object-pinned oif on-ip on-port or-mark or-tos packet \
    packets-eq packets-gt packets-lt path persistent physdev-in physdev-is-bridged physdev-is-in \
    physdev-is-out physdev-out pid-owner pinned pkt-type pkttype-type pol ports probability proto \
    queue-balance queue-bypass queue-cpu-fanout queue-num quota random random-fully rateest rateest-bps1 \
    rateest-bps2 rateest-delta rateest-eq rateest-ewmalog rateest-gt rateest-interval rateest-lt \
    rateest-name rateest-pps1 rateest-pps2 rateest1 rateest2 rcheck rdest realm reap redirect-target \
    reject-with remove reqid restore restore-mark restore-skmark return-nomatch right-shift-mark rsource \
    rt-0-addrs rt-0-not-strict rt-0-res rt-len rt-segsleft rt-type rttl sack-perm save save-mark seconds \
    selctx set set-class set-dscp set-dscp-class set-mark set-mss set-tos set-xmark sid-owner snat-arp \
    snat-target socket-exists soft source-port source-ports spi sport sports src-group src-pfx src-range \
    src-type srh-hdr-len-eq srh-hdr-len-gt srh-hdr-len-lt srh-last-entry-eq srh-last-entry-gt \
    srh-last-entry-lt srh-lsid srh-next-hdr srh-nsid srh-psid srh-segs-left-eq srh-segs-left-gt \
    srh-segs-left-lt srh-tag state stp-flags stp-forward-delay stp-hello-time stp-max-age stp-msg-age \
    stp-port stp-port-range stp-root-addr stp-root-cost stp-root-prio stp-sender-addr stp-sender-prio \
    stp-type strict string strip-options suppl-groups syn tcp-flags tcp-option timeout timestamp timestart \
    timestop to to-destination to-dst to-ports to-source to-src tos total-nodes tproxy-mark transparent ttl \
    ttl-dec ttl-eq ttl-gt ttl-inc ttl-lt ttl-set tunnel-dst tunnel-src type u32 uid-owner ulog-cprange \
    ulog-nlgroup ulog-prefix ulog-qthreshold update update-counters update-subcounters vaddr validmark vdir \
    vlan-encap vlan-id vlan-prio vmethod vport vportctl vproto weekdays wscale xor-mark xor-tos zone \
    zone-orig zone-reply";

/// Tables and chains that tools make on every machine, and that findings know.
const NAMES: &str = "\
    BROUTING DOCKER DOCKER-BRIDGE DOCKER-CT DOCKER-FORWARD DOCKER-INGRESS DOCKER-INTERNAL \
    DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-USER FORWARD INPUT KUBE-EXTERNAL-SERVICES \
    KUBE-FIREWALL KUBE-FORWARD KUBE-KUBELET-CANARY KUBE-MARK-DROP KUBE-MARK-MASQ KUBE-NODEPORTS \
    KUBE-POSTROUTING KUBE-PROXY-CANARY KUBE-PROXY-FIREWALL KUBE-SERVICES OUTPUT POSTROUTING PREROUTING \
    firewalld";

/// What follows `ufw-` and `ufw6-` in its chains (ufw 0.36, conf/*.rules and src/ufw-init-functions).
const UFW: &str = "\
    after allow before deny forward input limit local logging not output reject skip to track user";

/// What the chains of firewalld are made of (firewalld 1.0 and later, src/firewall/core/nftables.py), besides the zones.
const FIREWALLD: &str = "\
    FORWARD FWD FWDI FWDO IN INPUT OUT OUTPUT POLICIES POST POSTROUTING PRE PREROUTING SOURCE ZONES allow \
    allow-host-ipv6 deny filter host ipv6 log mangle nat policy post pre raw rich rule";

/// Zones that firewalld comes with (config/zones).
const ZONES: &str = "\
    block dmz drop external home internal nm-shared public trusted work";

/// The words of a list.
type Words = LazyLock<BTreeSet<&'static str>>;

/// Whether a word is one of everybody's.
pub(super) fn is_word(word: &str) -> bool {
    static ALL: Words = LazyLock::new(|| WORDS.split(' ').collect());
    ALL.contains(word)
}

/// Whether a word is an option of iptables.
pub(super) fn is_option(word: &str) -> bool {
    static ALL: Words = LazyLock::new(|| OPTIONS.split(' ').collect());
    match word.strip_prefix("--") {
        Some(long) => ALL.contains(long),
        None => matches!(word, "-A" | "-d" | "-f" | "-g" | "-i" | "-j" | "-m" | "-o" | "-p" | "-s"),
    }
}

/// Whether a word is a target of iptables, not a chain.
pub(super) fn is_target(word: &str) -> bool {
    is_in(TARGETS, word)
}

fn is_in(list: &str, word: &str) -> bool {
    list.split(' ').any(|one| one == word)
}

/// Whether a chain of this program's own tables says what it is for (`enter_prerouting`).
pub(super) fn is_own_chain(name: &str) -> bool {
    const PARTS: &str = "enter leave follow followed mark select mirror reply limit protocol saddr daddr addr sport dport \
                         port flags";
    name.split('_').all(|part| is_in(PARTS, part) || HookPoint::from_name(part).is_some())
}

/// Whether something has a name that everybody's machine has.
pub(super) fn is_name(kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Table => is_word(name) || is_in(NAMES, name) || is_trace_table(name),
        Kind::Chain => is_word(name) || is_in(NAMES, name) || is_ufw(name) || is_firewallds(name),
        Kind::Netns | Kind::Set | Kind::Object | Kind::Text | Kind::Word => false,
    }
}

fn is_firewallds(name: &str) -> bool {
    firewalld_parts(name).is_some_and(|parts| parts.iter().all(|(_, stays)| *stays))
}

fn is_ufw(name: &str) -> bool {
    let rest = name.strip_prefix("ufw-").or_else(|| name.strip_prefix("ufw6-"));
    rest.is_some_and(|rest| rest.split('-').all(|part| is_in(UFW, part)))
}

/// The parts of a chain of firewalld's, and whether each is everybody's: the others are zones and policies that somebody
/// made. `None` for other chains.
pub(super) fn firewalld_parts(name: &str) -> Option<Vec<(&str, bool)>> {
    let is_known = |part: &str| is_in(FIREWALLD, part) || is_in(ZONES, part);
    let (table, rest) = name.split_once('_')?;
    let first = rest.split('_').next()?;
    if !matches!(table, "filter" | "nat" | "mangle" | "raw") || !is_in(FIREWALLD, first) {
        return None;
    }
    Some(name.split('_').map(|part| (part, part == table || is_known(part))).collect())
}

/// Whether a word is a number, or several: `22`, `0x17`, `80-90`, `1000:2000`, `10/second`, `1h30m`, `1.5`.
pub(super) fn is_number(word: &str) -> bool {
    if let Some(hex) = word.strip_prefix("0x") {
        return hex.split(['/', '-']).all(|part| {
            let part = part.strip_prefix("0x").unwrap_or(part);
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
    }
    let unit = |part: &str| {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < part.len()
            && (digits.is_empty() || matches!(digits, "ms" | "s" | "m" | "h" | "d" | "w" | "b" | "kb" | "mb"))
    };
    // `1h30m`: each number with its unit.
    let span = |part: &str| {
        let ends = part.match_indices(|c: char| c.is_ascii_alphabetic()).map(|(at, _)| at + 1);
        let mut begin = 0;
        for end in ends.filter(|end| !part[*end..].starts_with(|c: char| c.is_ascii_alphabetic())) {
            if !unit(&part[begin..end]) {
                return false;
            }
            begin = end;
        }
        begin == part.len() || unit(&part[begin..])
    };
    let is_part = |part: &str| part.is_empty() || span(part) || is_word(part) && word.contains('/');
    word.contains(|c: char| c.is_ascii_digit()) && word.split([':', '-', '/', '.', ',']).all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_names_are_known() {
        for chain in [
            "INPUT",
            "forward",
            "DOCKER-USER",
            "ufw-before-input",
            "ufw6-user-forward",
            "filter_INPUT_ZONES",
            "filter_IN_public_allow",
            "nat_POST_policy_allow-host-ipv6",
        ] {
            assert!(is_name(Kind::Chain, chain), "{chain}");
        }
        for chain in
            ["acme", "ufw-acme", "filter_IN_acme_allow", "KUBE-SVC-4N57TFCL4MD7ZTDA", "DOCKER-ACME", "filter"]
        {
            assert_eq!(is_name(Kind::Chain, chain), chain == "filter", "{chain}");
        }
        assert!(is_name(Kind::Table, "nattrace_123") && !is_name(Kind::Set, "filter"));
    }

    #[test]
    fn numbers_are_told_from_names() {
        for number in [
            "0",
            "22",
            "0x17",
            "0x17/0xff",
            "80-90",
            "1000:2000",
            ":80",
            "443:",
            "10/second",
            "1h30m",
            "5s",
            "1.5",
            "7/min",
            "22,80,8000:9000",
            "3/1",
            "100ms",
        ] {
            assert!(is_number(number), "{number}");
        }
        for name in ["acme", "acme7", "7acme", "dead", "0xzz", "a-1", "1/acme", "", "-", "1h30x"] {
            assert!(!is_number(name), "{name}");
        }
    }
}
