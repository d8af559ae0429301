//! The table that has packets traced: installed in one transaction, owned by our socket, gone with it.
//!
//! With `NFT_TABLE_F_OWNER` (5.12+, net/netfilter/nf_tables_api.c `nft_rcv_nl_event`) the kernel deletes the
//! table when the socket that made it is closed: by dropping it, by exit, by kill -9. Nobody else can change
//! it, and `flush ruleset` passes it by.

mod beside;
mod expression;
mod plan;
mod rule;
mod static_key;
#[cfg(test)]
mod tests;
mod xt_bpf;

use std::fmt::Write as _;
use std::os::fd::RawFd;

use nattrace_core::event::NfFamily;
use nattrace_core::filter::Filter;
use thiserror::Error;

use super::attribute::AttributeWriter;
use super::batch::{Batch, BatchError};
use super::constants as c;
use super::message::{APPEND, CREATE, EXCLUSIVE};
use super::socket::{NetlinkSocket, OpenError};
pub use beside::Beside;
use plan::{Chain, Plan, Set};
pub use static_key::StaticKeyHolder;

/// `NFPROTO_INET`: IPv4 and IPv6 in one table.
const INET: u8 = 1;
/// The place of the table in the transaction.
const TABLE_MESSAGE: usize = 1;
/// `IFNAMSIZ` without the terminating NUL.
const DEVICE_NAME: usize = 15;

/// How replies, and what the rate held back, are traced once a packet was selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowBy {
    /// Not at all: selected packets only.
    No,
    /// By conntrack's original tuple: exact through every translation. It switches conntrack on in the
    /// namespace, so it is only for where that is on already ([`super::conntrack::in_use`]).
    Conntrack,
    /// By the headers of what was selected, as they are and with their ends swapped: right where no address is translated.
    Headers,
    /// By the filter with its ends swapped, where a table sees one direction alone: right where no address is translated.
    MirroredHeaders,
}

/// What to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceTableSpec {
    /// Name of the table; unique among those who trace at the same time.
    pub name: String,
    /// The packets to be traced.
    pub filter: Filter,
    /// At most so many packets a second are selected; `None` for no limit.
    pub rate: Option<u32>,
    /// What else is traced.
    pub follow: FollowBy,
    /// Whether every hook gets empty chains at its beginning and its end, whose policies then tell that the
    /// packet passed there and how it looked.
    pub hook_observers: bool,
    /// Programs that its rules ask.
    pub programs: AskedPrograms,
}

/// Loaded socket filters that are asked about packets; each may be missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AskedPrograms {
    /// What it answers other than 0 is traced. It knows packets that are followed already, which come from another watched
    /// namespace.
    pub follows: Option<RawFd>,
    /// The packet is of neither direction that the filter is about ([`Filter::is_by_ends`]): no other rule need see it.
    pub others: Option<RawFd>,
}

impl AskedPrograms {
    /// Whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        self.follows.is_some() || self.others.is_some()
    }
}

/// Why the table could not be installed. Nothing was.
#[derive(Debug, Error)]
pub enum TraceTableError {
    /// A table of this name exists, or another program owns it.
    #[error("table inet {0} exists already")]
    Exists(String),
    /// Kernel before 5.12.
    #[error("this kernel cannot tie a table to its owner (NFT_TABLE_F_OWNER, Linux 5.12)")]
    NoOwnerSupport,
    /// No nf_tables in the kernel, or not for inet.
    #[error("this kernel has no nf_tables for the inet family (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)")]
    NoNfTables,
    /// No CAP_NET_ADMIN over the namespace.
    #[error("changing the ruleset needs CAP_NET_ADMIN in this network namespace")]
    Permission,
    /// Rules cannot ask programs.
    #[error("rules cannot ask a program here (CONFIG_NFT_COMPAT, CONFIG_NETFILTER_XT_MATCH_BPF): {0}")]
    NoProgramMatch(OpenError),
    /// A device of the filter cannot exist.
    #[error("\"{0}\" cannot be the name of a device")]
    DeviceName(String),
    /// The namespace for the table could not be made or entered.
    #[error("cannot enter a network namespace: {0}")]
    Namespace(#[from] std::io::Error),
    /// No socket.
    #[error(transparent)]
    Open(OpenError),
    /// The kernel refused something else.
    #[error("cannot install the trace table: {0}")]
    Refused(BatchError),
}

impl From<OpenError> for TraceTableError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Permission => Self::Permission,
            OpenError::NotSupported => Self::NoNfTables,
            other @ OpenError::Io(_) => Self::Open(other),
        }
    }
}

/// net/netfilter/nfnetlink.c answers for the transaction as a whole when the sender may not, or when there is
/// no nf_tables; nf_tables_newtable answers EINVAL (before 5.12) or EOPNOTSUPP for flags it does not know, and
/// EPERM for a table that another socket owns.
fn explain(error: BatchError, name: &str) -> TraceTableError {
    let BatchError::Refused { index, errno, .. } = &error else { return TraceTableError::Refused(error) };
    match (*index, *errno) {
        (0, libc::EPERM | libc::EACCES) => TraceTableError::Permission,
        (0, libc::EOPNOTSUPP | libc::EINVAL) | (_, libc::EAFNOSUPPORT) => TraceTableError::NoNfTables,
        (TABLE_MESSAGE, libc::EEXIST | libc::EPERM | libc::EBUSY) => TraceTableError::Exists(name.to_owned()),
        (TABLE_MESSAGE, libc::EINVAL | libc::EOPNOTSUPP) => TraceTableError::NoOwnerSupport,
        _ => TraceTableError::Refused(error),
    }
}

/// The installed table, and those beside it in other families. They are gone when this is dropped, or when
/// the process ends in whatever way.
#[derive(Debug)]
pub struct TraceTable {
    name: String,
    beside: Vec<Beside>,
    /// The owner of the tables: closing it deletes them.
    socket: NetlinkSocket,
}

impl TraceTable {
    /// Installs the table in the current network namespace of this thread.
    pub fn install(spec: &TraceTableSpec) -> Result<Self, TraceTableError> {
        for name in spec.filter.iif.iter().chain(&spec.filter.oif) {
            let forbidden = |ch: char| ch.is_whitespace() || ch.is_control() || matches!(ch, '/' | '"' | ':');
            if name.is_empty() || name.len() > DEVICE_NAME || name.contains(forbidden) {
                return Err(TraceTableError::DeviceName(name.clone()));
            }
        }
        if spec.programs.any() {
            xt_bpf::request_modules().map_err(TraceTableError::NoProgramMatch)?;
        }
        let mut socket = NetlinkSocket::open()?;
        let table = Names { family: INET, name: &spec.name };
        batch(table, true, &Plan::new(spec)).commit(&mut socket).map_err(|e| explain(e, &spec.name))?;
        Ok(Self { name: spec.name.clone(), beside: Vec::new(), socket })
    }

    /// Installs a table of the same name in another family. What was installed before stays, whatever comes of it.
    pub fn add(&mut self, spec: &TraceTableSpec, beside: Beside) -> Result<(), TraceTableError> {
        let table = Names { family: beside.family_number(), name: &spec.name };
        batch(table, true, &beside.plan(spec))
            .commit(&mut self.socket)
            .map_err(|error| explain(error, &spec.name))?;
        self.beside.push(beside);
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its family, and those of the tables beside it.
    pub fn families(&self) -> impl Iterator<Item = NfFamily> {
        std::iter::once(NfFamily::Inet).chain(self.beside.iter().map(Beside::family))
    }
}

impl Drop for TraceTable {
    /// Deletes the tables in a transaction of their own, before the socket is closed: so that they are gone at once,
    /// even while another thread is between fork and exec and the child still holds the socket; and so that
    /// others are told, which they are not when an owner just goes.
    fn drop(&mut self) {
        let mut batch = Batch::new();
        let mut w = AttributeWriter::new();
        w.text(c::NFTA_TABLE_NAME, &self.name);
        for family in std::iter::once(INET).chain(self.beside.iter().map(Beside::family_number)) {
            batch.add(format!("table {}", self.name), c::NFT_MSG_DELTABLE, 0, family, &w);
        }
        // If that fails, closing the socket will do.
        let _ = batch.commit(&mut self.socket);
    }
}

/// How messages name a table.
#[derive(Debug, Clone, Copy)]
struct Names<'a> {
    /// `NFPROTO_*`.
    family: u8,
    name: &'a str,
}

/// The transaction that creates a table: in the order in which things refer to each other.
fn batch(table: Names<'_>, owned: bool, plan: &Plan) -> Batch {
    let mut batch = Batch::new();
    let mut w = AttributeWriter::new();
    w.text(c::NFTA_TABLE_NAME, table.name);
    w.be32(c::NFTA_TABLE_FLAGS, if owned { c::NFT_TABLE_F_OWNER } else { 0 });
    // Exclusive: a table that is there already is not ours to add to.
    batch.add(format!("table {}", table.name), c::NFT_MSG_NEWTABLE, CREATE | EXCLUSIVE, table.family, &w);
    for set in &plan.sets {
        add_set(&mut batch, table, set);
    }
    for chain in &plan.chains {
        add_chain(&mut batch, table, chain);
    }
    for chain in &plan.chains {
        for rule in &chain.rules {
            let mut w = AttributeWriter::new();
            w.text(c::NFTA_RULE_TABLE, table.name).text(c::NFTA_RULE_CHAIN, &chain.name);
            w.nest(c::NFTA_RULE_EXPRESSIONS, |list| {
                for expression in &rule.expressions {
                    expression.write(list);
                }
            });
            let what = format!("rule \"{}\" in chain {}", rule.text, chain.name);
            batch.add(what, c::NFT_MSG_NEWRULE, CREATE | APPEND, table.family, &w);
        }
    }
    batch
}

fn add_set(batch: &mut Batch, table: Names<'_>, set: &Set) {
    let mut w = AttributeWriter::new();
    let constant = !set.elements.is_empty();
    let flags = if constant { c::NFT_SET_CONSTANT } else { c::NFT_SET_TIMEOUT | c::NFT_SET_EVAL };
    let kind = set.types.iter().fold(0, |sum, kind| sum << c::TYPE_BITS | kind);
    let size = if constant { u32::try_from(set.elements.len()).unwrap_or(0) } else { plan::FOLLOW_SIZE };
    w.text(c::NFTA_SET_TABLE, table.name).text(c::NFTA_SET_NAME, set.reference.name);
    w.be32(c::NFTA_SET_ID, set.reference.id).be32(c::NFTA_SET_FLAGS, flags);
    w.be32(c::NFTA_SET_KEY_TYPE, kind).be32(c::NFTA_SET_KEY_LEN, set.key_length);
    w.nest(c::NFTA_SET_DESC, |desc| {
        desc.be32(c::NFTA_SET_DESC_SIZE, size);
    });
    if !constant {
        w.be64(c::NFTA_SET_TIMEOUT, plan::FOLLOW_MILLIS);
    }
    batch.add(format!("set {}", set.reference.name), c::NFT_MSG_NEWSET, CREATE, table.family, &w);
    if !constant {
        return;
    }
    let mut w = AttributeWriter::new();
    w.text(c::NFTA_SET_ELEM_LIST_TABLE, table.name).text(c::NFTA_SET_ELEM_LIST_SET, set.reference.name);
    w.be32(c::NFTA_SET_ELEM_LIST_SET_ID, set.reference.id);
    w.nest(c::NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        for element in &set.elements {
            list.nest(c::NFTA_LIST_ELEM, |w| {
                w.nest(c::NFTA_SET_ELEM_KEY, |w| {
                    w.bytes(c::NFTA_DATA_VALUE, element);
                });
            });
        }
    });
    batch.add(
        format!("elements of set {}", set.reference.name),
        c::NFT_MSG_NEWSETELEM,
        CREATE,
        table.family,
        &w,
    );
}

fn add_chain(batch: &mut Batch, table: Names<'_>, chain: &Chain) {
    let mut w = AttributeWriter::new();
    w.text(c::NFTA_CHAIN_TABLE, table.name).text(c::NFTA_CHAIN_NAME, &chain.name);
    if let Some((hook, priority)) = chain.base {
        w.nest(c::NFTA_CHAIN_HOOK, |w| {
            w.be32(c::NFTA_HOOK_HOOKNUM, hook).be32(c::NFTA_HOOK_PRIORITY, priority.cast_unsigned());
            if !chain.devices.is_empty() {
                w.nest(c::NFTA_HOOK_DEVS, |list| {
                    for device in &chain.devices {
                        list.text(c::NFTA_DEVICE_NAME, device);
                    }
                });
            }
        });
        w.be32(c::NFTA_CHAIN_POLICY, c::NF_ACCEPT.cast_unsigned()).text(c::NFTA_CHAIN_TYPE, "filter");
    }
    batch.add(format!("chain {}", chain.name), c::NFT_MSG_NEWCHAIN, CREATE, table.family, &w);
}

/// What [`TraceTable::install`] and then [`TraceTable::add`] would install, in nft's syntax: for `--dry-run`.
///
/// `meta l4proto` and `th` stand where nft, when it lists the table, finds shorter words for the same.
#[must_use]
pub fn describe(spec: &TraceTableSpec, beside: &[Beside]) -> String {
    let others = beside.iter().map(|beside| (beside.family(), beside.plan(spec)));
    std::iter::once((NfFamily::Inet, Plan::new(spec)))
        .chain(others)
        .map(|(family, plan)| describe_table(family, &spec.name, &plan))
        .collect()
}

fn describe_table(family: NfFamily, name: &str, plan: &Plan) -> String {
    let mut out = format!("table {} {name} {{\n\tflags owner\n", family.name());
    for set in &plan.sets {
        let kinds: Vec<_> = set.types.iter().map(|kind| type_name(*kind)).collect();
        let _ = write!(out, "\n\tset {} {{\n\t\ttype {}\n", set.reference.name, kinds.join(" . "));
        if set.elements.is_empty() {
            let minutes = plan::FOLLOW_MILLIS / 60_000;
            let _ = write!(
                out,
                "\t\tsize {}\n\t\tflags dynamic,timeout\n\t\ttimeout {minutes}m\n",
                plan::FOLLOW_SIZE
            );
        } else {
            let names: Vec<_> =
                set.elements.iter().filter_map(|e| e.first()).map(|n| rule::protocol_name(*n)).collect();
            let _ = write!(out, "\t\tflags constant\n\t\telements = {{ {} }}\n", names.join(", "));
        }
        out.push_str("\t}\n");
    }
    for chain in &plan.chains {
        let _ = write!(out, "\n\tchain {} {{\n", chain.name);
        if let Some((_, priority)) = chain.base {
            let hook = chain.name.rsplit('_').next().unwrap_or_default();
            let devices: Vec<_> = chain.devices.iter().map(|device| format!("\"{device}\"")).collect();
            let devices = match devices.as_slice() {
                [] => String::new(),
                devices => format!(" devices = {{ {} }}", devices.join(", ")),
            };
            let _ = writeln!(out, "\t\ttype filter hook {hook}{devices} priority {priority}; policy accept;");
        }
        for rule in &chain.rules {
            let _ = writeln!(out, "\t\t{}", rule.text);
        }
        out.push_str("\t}\n");
    }
    out.push_str("}\n");
    out
}

fn type_name(kind: u32) -> &'static str {
    match kind {
        c::TYPE_IPADDR => "ipv4_addr",
        c::TYPE_IP6ADDR => "ipv6_addr",
        c::TYPE_INET_PROTOCOL => "inet_proto",
        _ => "inet_service",
    }
}
