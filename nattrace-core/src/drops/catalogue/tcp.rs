//! What TCP refuses of a connection that it knows.

use crate::drops::evidence::Fact;
use crate::drops::{Cause, function, reason};

const SENDER_SENDS_AGAIN: &str = "Mostly nothing: TCP sends again.";

/// A segment that TCP refuses for its place in the connection.
const fn segment(
    code: &'static str,
    signs: &'static [super::super::Sign],
    means: &'static str,
    counter: &'static str,
) -> Cause {
    Cause { code, means, check: "", looks: SENDER_SENDS_AGAIN, counter, signs }
}

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        code: "listen-queue-full",
        means: "The listening socket's queue was full.",
        check: "`ss -lnt 'sport = :PORT'`: Recv-Q is how many wait to be accepted, Send-Q how many may; net.core.somaxconn and the program's own backlog limit it.",
        looks: "New connections are slow or time out under load, those that exist go on.",
        counter: "`nstat`: TcpExtListenOverflows, TcpExtListenDrops",
        signs: &[
            reason("TCP_LISTEN_OVERFLOW"),
            function("tcp_v4_do_rcv").and(Fact::QueueFull),
            function("tcp_v6_do_rcv").and(Fact::QueueFull),
        ],
    },
    segment(
        "tcp-flags",
        &[reason("TCP_FLAGS")],
        "Its TCP flags make no sense in the connection's state.",
        "",
    ),
    Cause {
        code: "tcp-zero-window",
        means: "It has data while the receiver's window is closed.",
        check: "The receiving program does not read: `ss -tm`.",
        looks: "The connection stands still.",
        counter: "`nstat`: TcpExtTCPZeroWindowDrop",
        signs: &[reason("TCP_ZEROWINDOW")],
    },
    segment(
        "tcp-old-data",
        &[reason("TCP_OLD_DATA")],
        "All of its data had arrived before.",
        "`nstat`: TcpExtDelayedACKLost",
    ),
    segment(
        "tcp-over-window",
        &[reason("TCP_OVERWINDOW")],
        "Its data lies beyond the receiver's window.",
        "`nstat`: TcpExtBeyondWindow",
    ),
    segment(
        "tcp-duplicate",
        &[reason("TCP_OFOMERGE")],
        "Its data had arrived out of order before.",
        "`nstat`: TcpExtTCPOFOMerge",
    ),
    Cause {
        code: "tcp-paws",
        means: "Its TCP timestamp is older than the connection's last one.",
        check: "Several hosts behind one translated address can cause it.",
        looks: "Connections from some hosts hang or are refused.",
        counter: "`nstat`: TcpExtPAWSEstab",
        signs: &[
            reason("TCP_RFC7323_PAWS"),
            reason("TCP_RFC7323_PAWS_ACK"),
            reason("TCP_RFC7323_TSECR"),
            reason("TCP_RFC7323_TW_PAWS"),
        ],
    },
    segment(
        "tcp-old-sequence",
        &[reason("TCP_OLD_SEQUENCE")],
        "Its sequence number is older than the window.",
        "",
    ),
    segment(
        "tcp-sequence",
        &[reason("TCP_INVALID_SEQUENCE"), reason("TCP_INVALID_END_SEQUENCE")],
        "Its sequence number is outside the window.",
        "",
    ),
    segment(
        "tcp-ack-sequence",
        &[reason("TCP_INVALID_ACK_SEQUENCE"), reason("TCP_ACK_UNSENT_DATA")],
        "It acknowledges what was never sent.",
        "",
    ),
    Cause {
        code: "tcp-fast-open",
        means: "It repeats data that came with the SYN of a fast open (RFC 7413).",
        check: "",
        looks: SENDER_SENDS_AGAIN,
        counter: "",
        signs: &[reason("TCP_FASTOPEN")],
    },
    segment(
        "tcp-reset-ignored",
        &[reason("TCP_RESET")],
        "It is a reset that fits no connection exactly, so TCP did not act on it.",
        "",
    ),
    segment(
        "tcp-syn-in-connection",
        &[reason("TCP_INVALID_SYN")],
        "It is a SYN within an existing connection.",
        "`nstat`: TcpExtTCPSYNChallenge",
    ),
    Cause {
        code: "tcp-closed",
        means: "The TCP socket is closed.",
        check: "",
        looks: "The sender gets a reset.",
        counter: "",
        signs: &[reason("TCP_CLOSE"), reason("TCP_ABORT_ON_DATA"), reason("TCP_ABORT_ON_LINGER")],
    },
    segment(
        "tcp-old-ack",
        &[reason("TCP_OLD_ACK"), reason("TCP_TOO_OLD_ACK")],
        "It acknowledges what was acknowledged before.",
        "",
    ),
    Cause {
        code: "tcp-pruned",
        means: "The queue of segments out of order was pruned for want of memory.",
        check: "`ss -tm`, and net.ipv4.tcp_rmem.",
        looks: "The connection is slow.",
        counter: "`nstat`: TcpExtOfoPruned",
        signs: &[reason("TCP_OFO_QUEUE_PRUNE"), reason("TCP_OFO_DROP")],
    },
    Cause {
        code: "tcp-md5",
        means: "Its TCP MD5 signature is missing, wrong, or not expected (RFC 2385).",
        check: "The keys of both ends: BGP daemons use such signatures.",
        looks: "The connection never opens: a timeout.",
        counter: "`nstat`: TcpExtTCPMD5NotFound, TcpExtTCPMD5Unexpected, TcpExtTCPMD5Failure",
        signs: &[reason("TCP_MD5NOTFOUND"), reason("TCP_MD5UNEXPECTED"), reason("TCP_MD5FAILURE")],
    },
    Cause {
        code: "tcp-ao",
        means: "Its TCP authentication option is missing, wrong, or not expected (RFC 5925).",
        check: "The keys of both ends.",
        looks: "The connection never opens: a timeout.",
        counter: "`nstat`: TcpExtTCPAORequired, TcpExtTCPAOBad, TcpExtTCPAOKeyNotFound",
        signs: &[
            reason("TCP_AUTH_HDR"),
            reason("TCP_AONOTFOUND"),
            reason("TCP_AOUNEXPECTED"),
            reason("TCP_AOKEYNOTFOUND"),
            reason("TCP_AOFAILURE"),
        ],
    },
    Cause {
        code: "tcp-min-ttl",
        means: "Its TTL is lower than the socket asks for.",
        check: "The option IP_MINTTL of the program (BGP: ttl-security).",
        looks: "The connection never opens: a timeout.",
        counter: "`nstat`: TcpExtTCPMinTTLDrop",
        signs: &[reason("TCP_MINTTL")],
    },
];
