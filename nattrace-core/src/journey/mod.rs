//! One packet's way through the kernel: the value that everything shown to users is made from.

pub mod assemble;
mod connections;
mod counters;
mod ending;
mod evaluation;
pub mod explain;
mod gone;
mod identity;
mod kin;
mod legacy;
mod life;
mod memory;
mod names;
mod open;
mod release;
mod retransmission;
mod rewrite;
mod route;
mod selection;
mod sight;
mod slots;
mod split;
mod tracing;
mod tracked;

pub use assemble::{Assembler, Options, SourcesOn};
pub(crate) use connections::tuple_of;
pub use counters::{Counters, Lost};
pub use sight::Sight;

use std::net::IpAddr;

use crate::conntrack::{Connection, Tuple};
use crate::event::{HookPoint, HookVerdict, Manip, NetnsId, NfFamily, PacketId, TraceMessage, Verdict};
use crate::fib::RoutePrefix;
use crate::findings::Finding;
use crate::name::Name;
use crate::packet::{Endpoint, Packet};
use crate::ruleset::KnownRule;

/// One packet, from where it was first seen to where it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Journey {
    /// Unique within the run; what the user sees and other journeys refer to.
    pub id: JourneyId,
    /// The packet's identity in the event stream; `None` where only trace messages told of it.
    pub packet_id: Option<PacketId>,
    /// The namespace it was first seen in.
    pub netns: Netns,
    /// Nanoseconds since the epoch.
    pub first_seen_ns: u64,
    /// Nanoseconds since the epoch.
    pub last_seen_ns: u64,
    /// Headers as first seen, before any rewrite.
    pub packet: Packet,
    /// Device it came in by, if it came in.
    pub iif: Option<Name>,
    /// The connection, `None` when untracked or not known.
    pub connection: Option<Connection>,
    /// Whose conntrack has it: where the packet is tracked in several namespaces, the first that told.
    pub connection_netns: NetnsId,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it means, strongest first.
    pub findings: Vec<Finding>,
    /// The journeys that it belongs to.
    pub relation: Option<Relation>,
    /// The journey of the first transmission of the same segment.
    pub retransmission_of: Option<JourneyId>,
    /// For a retransmission: whether path and end equal the first transmission's.
    pub same_path: bool,
    /// An earlier journey of the same connection and direction that went the same way to the same end.
    pub like: Option<JourneyId>,
    /// What was lost while this packet was under way; steps may be missing.
    pub incomplete: Vec<crate::event::Source>,
    /// `nft` trace ids of the packet, in the order they appeared, in the kernel's byte order.
    pub trace_ids: Vec<u32>,
    /// What nf_tables said of the packet, in its order, without the program's own table; empty unless
    /// [`Options::keep_messages`] asks for it.
    pub traced: Vec<Traced>,
    /// The packet's headers each time they were seen; empty unless [`Options::keep_sights`] asks for it.
    pub sights: Vec<Sight>,
}

impl Journey {
    /// Whether this host made it: no device gave it, and OUTPUT is the first hook.
    #[must_use]
    pub fn is_from_this_host(&self) -> bool {
        let first_hook = self.steps.iter().find_map(|step| match step.kind {
            StepKind::Hook { hook, .. } => Some(hook),
            _ => None,
        });
        self.iif.is_none() && first_hook == Some(HookPoint::Output)
    }

    /// What tells its connection from others: whose conntrack has it, and how it looked before any rewrite.
    #[must_use]
    pub fn conversation(&self) -> Option<(NetnsId, Tuple)> {
        Some((self.connection_netns, self.connection.as_ref()?.original?))
    }
}

/// How a packet belongs to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// How.
    pub kind: Kinship,
    /// To which; journeys that ended before this one.
    pub of: Vec<JourneyId>,
}

/// How packets belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// The outer packet of a tunnel, to the one in it.
    Carries,
    /// A packet that a tunnel brought, to the outer one.
    UnpackedFrom,
    /// A fragment or segment, to the whole.
    PieceOf,
    /// The whole, to the fragments it was put together from.
    MadeOf,
    /// A copy, to the packet it is one of.
    CopyOf,
    /// What this host sent back, an ICMP error or a TCP reset, to the packet that it did not take.
    AnswerTo,
}

impl Kinship {
    /// As JSON has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Carries => "carries",
            Self::UnpackedFrom => "unpacked-from",
            Self::PieceOf => "piece-of",
            Self::MadeOf => "made-of",
            Self::CopyOf => "copy-of",
            Self::AnswerTo => "answer-to",
        }
    }
}

/// A trace message as it was sent, for those who show it as nft does.
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// Where.
    pub netns: NetnsId,
    /// The table's handle, where a probe told it.
    pub table_handle: Option<u64>,
    /// The message.
    pub message: TraceMessage,
    /// Name of the device in, `ifindex N` where it has none.
    pub iif: Option<Name>,
    /// Name of the device out.
    pub oif: Option<Name>,
    /// The rule's text in force, with what its counters and quotas had counted when it was first listed; `None`
    /// when that cannot be known.
    pub text: Option<Name>,
}

/// Identity of a journey within a run: a counter, shown as its decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JourneyId(pub u64);

impl std::fmt::Display for JourneyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A namespace as shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Netns {
    /// Inode number.
    pub inum: NetnsId,
    /// Name, where it has one.
    pub name: Option<Name>,
}

/// Something that happened to the packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// Where.
    pub netns: NetnsId,
    /// What.
    pub kind: StepKind,
}

/// What a [`Step`] is.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum StepKind {
    /// A netfilter hook.
    Hook {
        /// Which.
        hook: HookPoint,
        /// Family of the hook.
        family: NfFamily,
        /// Device in.
        iif: Option<Name>,
        /// Device out.
        oif: Option<Name>,
        /// The hook's answer; `None` when its return was not seen.
        verdict: Option<HookVerdict>,
    },
    /// A rule that matched.
    Rule(Box<RuleStep>),
    /// A base chain's policy decided.
    Policy {
        /// Whose chain it is.
        backend: Backend,
        /// Family of the table.
        family: NfFamily,
        /// Table.
        table: Name,
        /// Chain.
        chain: Name,
        /// `accept` or `drop`.
        verdict: Verdict,
        /// The hook the chain hangs in, when known.
        hook: Option<HookPoint>,
    },
    /// An address was rewritten.
    Rewrite {
        /// Which end changed.
        nat: Manip,
        /// Before.
        from: Endpoint,
        /// After.
        to: Endpoint,
        /// The rule that decided it, when one did and it is known.
        rule: Option<Box<RuleRef>>,
        /// Who decided.
        by: RewrittenBy,
        /// The packet for which it was decided, where that was another one of the connection.
        decided_for: Option<JourneyId>,
        /// It is the packet quoted by an ICMP error that changed, not the error's own header.
        inner: bool,
        /// The source port changed although nothing asked for it: the kernel does so where the port is taken, and where
        /// another connection of the same source is mapped to that one (`get_unique_tuple`).
        port_unasked: bool,
        /// The mapping is older than the trace: what decided it cannot be known.
        older: bool,
        /// The kernel function that wrote the new address without conntrack's NAT, where that is known.
        function: Option<Name>,
    },
    /// What became of the packet's connection.
    Connection {
        /// What happened.
        event: ConnectionStep,
        /// As `conntrack -o id` prints it, where known.
        id: Option<u32>,
    },
    /// The routing decision.
    Route {
        /// What was decided.
        decision: RouteDecision,
        /// Device out.
        oif: Option<Name>,
        /// Next hop, when not the destination.
        gateway: Option<IpAddr>,
        /// The route that was taken, where the tables say the same as the packet's own way.
        matched: Option<MatchedRoute>,
    },
    /// A device took or gave the packet.
    Device {
        /// Which way.
        event: DeviceStep,
        /// Its name.
        name: Name,
    },
    /// A socket or local protocol took the packet.
    Deliver {
        /// Protocol name.
        protocol: Name,
        /// Local end, after rewrites.
        local: Option<Endpoint>,
        /// Kernel function, when seen.
        function: Option<Name>,
    },
    /// The kernel threw the packet away.
    Drop(Box<KernelDrop>),
}

impl StepKind {
    /// The hook in which a rule matched or a policy decided, where that is known.
    #[must_use]
    pub fn hook_of_rules(&self) -> Option<HookPoint> {
        match self {
            Self::Rule(step) => step.hook,
            Self::Policy { hook, .. } => *hook,
            _ => None,
        }
    }
}

/// Which route of which table decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatchedRoute {
    /// Routing table; `None` where the kernel does not tell `local` from `main`.
    pub table: Option<u32>,
    /// The prefix that matched.
    pub prefix: RoutePrefix,
    /// The source address that the route names for what this host sends, where the packet has it.
    pub source: Option<IpAddr>,
}

/// A drop that the kernel reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct KernelDrop {
    /// Drop reason name, without prefix.
    pub reason: Option<Name>,
    /// Kernel function.
    pub function: Option<Name>,
    /// In which hook, when it happened inside one.
    pub hook: Option<HookPoint>,
    /// The device that the packet was at.
    pub device: Option<Name>,
    /// The cause's code in the catalogue ([`crate::drops`]); `None` for a drop that it does not have.
    pub cause: Option<&'static str>,
    /// Plain words.
    pub text: Name,
    /// What to look at, in plain words.
    pub check: Option<Name>,
    /// A command that removes the cause.
    pub fix: Option<Name>,
    /// The cause is likely, not certain.
    pub likely: bool,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct RuleStep {
    /// Which rule.
    pub rule: RuleRef,
    /// What it said; `None` where legacy iptables does not tell, and its text leaves it open or is not known.
    pub verdict: Option<Verdict>,
    /// It may have been the end of the chain, or its policy, instead: legacy iptables calls that as it does a rule
    /// without conditions, and how many rules the chain had is not known.
    pub or_end: bool,
    /// The hook its base chain hangs in, when known.
    pub hook: Option<HookPoint>,
    /// `skb->mark` after it, when the trace message tells.
    pub mark: Option<u32>,
}

/// A rule, named so that it can be found again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleRef {
    /// Whose rule it is.
    pub backend: Backend,
    /// Family of the table.
    pub family: NfFamily,
    /// Table.
    pub table: Name,
    /// Chain.
    pub chain: Name,
    /// Handle; of legacy iptables, which has none, the rule's number in its chain, from 1.
    pub handle: u64,
    /// The text in force when the packet passed, as the tool that owns the table writes it; `None` when that
    /// cannot be known.
    pub text: Option<Name>,
    /// What nft prints for it, where `text` is another tool's.
    pub nft_text: Option<Name>,
}

impl RuleRef {
    /// Fills in the texts.
    pub(crate) fn tell(&mut self, rule: Option<&KnownRule>) {
        let nft = rule.map(|rule| rule.text.clone());
        let owner = rule.and_then(|rule| rule.iptables.clone());
        (self.text, self.nft_text) = if owner.is_some() { (owner, nft) } else { (nft, None) };
    }

    /// The text as nft prints it.
    #[must_use]
    pub fn in_nft(&self) -> Option<&str> {
        self.nft_text.as_deref().or(self.text.as_deref())
    }

    /// Whose chain it is in, behind the tool that owns it: `inet filter forward`, `iptables filter FORWARD`.
    #[must_use]
    pub fn chain_of(&self) -> String {
        format!("{} {} {}", self.backend.owner(self.family), self.table, self.chain)
    }

    /// Which of its chain's rules it is: `handle 7`, or `rule 2` of legacy iptables.
    #[must_use]
    pub fn in_chain(&self) -> String {
        match self.backend {
            Backend::Nft => format!("handle {}", self.handle),
            Backend::Legacy => format!("rule {}", self.handle),
        }
    }
}

/// What evaluates a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// nf_tables.
    #[default]
    Nft,
    /// ip_tables and ip6_tables: legacy iptables.
    Legacy,
}

impl Backend {
    /// What users call the place of a table: nft's name of its family, or the program whose table it is.
    #[must_use]
    pub fn owner(self, family: NfFamily) -> &'static str {
        match (self, family) {
            (Self::Nft, family) => family.name(),
            (Self::Legacy, NfFamily::Ip6) => "ip6tables",
            (Self::Legacy, _) => "iptables",
        }
    }
}

/// Who decided a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RewrittenBy {
    /// A rule, for this very packet.
    Rule,
    /// The mapping of a known connection.
    Connection,
    /// Translation of an ICMP error.
    IcmpError,
    /// The flowtable's fast path.
    Flowtable,
    /// IPVS.
    Ipvs,
    /// Something else: the header changed and none of the above did it.
    Other,
}

/// A moment in the life of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionStep {
    /// The packet is the first of a connection that conntrack did not know: it has an entry, which nobody else sees.
    Created,
    /// The packet passed its last hook, and the entry is in conntrack's table (`__nf_conntrack_confirm`).
    Confirmed,
    /// Another packet had the same connection confirmed meanwhile: this one took over its entry, or, where NAT had sent
    /// the two to different places, keeps its own for what answers to it (`nf_ct_resolve_clash`). From a queue, the
    /// entry was taken over when the packet came back, before 6.12 (`nf_conntrack_update`).
    ClashResolved,
    /// The entry was removed while the packet was under way.
    Destroyed,
}

impl ConnectionStep {
    /// The name the JSON output uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Confirmed => "confirmed",
            Self::ClashResolved => "clash-resolved",
            Self::Destroyed => "destroyed",
        }
    }
}

/// What the routing decision was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteDecision {
    /// To this host.
    Local,
    /// Through this host, or out of it.
    Forward,
    /// Broadcast or multicast.
    Broadcast,
    /// `RTN_UNREACHABLE`, or no route.
    Unreachable,
    /// `RTN_BLACKHOLE`.
    Blackhole,
    /// `RTN_PROHIBIT`.
    Prohibit,
    /// Source or destination that cannot be.
    Martian,
}

/// Which way a device moved the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceStep {
    /// Came in.
    Receive,
    /// Went out.
    Transmit,
}

/// How a journey ended.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Outcome {
    /// Thrown away.
    Dropped(DropCause),
    /// A local socket or protocol has it.
    Delivered,
    /// Handed to a device that leaves what is watched.
    Transmitted {
        /// The device.
        device: Option<Name>,
    },
    /// Handed to user space by NFQUEUE.
    Queued,
    /// Stolen, absorbed or merged.
    Consumed,
    /// No end was seen.
    Unfinished {
        /// Why not, in plain words.
        why: String,
    },
}

/// What dropped a packet.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum DropCause {
    /// A rule.
    Rule {
        /// Which.
        rule: RuleRef,
        /// In which hook.
        hook: Option<HookPoint>,
    },
    /// A base chain's policy.
    Policy {
        /// Whose chain it is.
        backend: Backend,
        /// Family of the table.
        family: NfFamily,
        /// Table.
        table: Name,
        /// Chain.
        chain: Name,
        /// In which hook.
        hook: Option<HookPoint>,
    },
    /// The kernel, outside of rules that could be seen.
    Kernel(Box<KernelDrop>),
}
