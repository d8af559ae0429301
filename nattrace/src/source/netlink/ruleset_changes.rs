//! What changes in the ruleset, and its generation (net/netfilter/nf_tables_api.c `nf_tables_commit`:
//! the notifications of a transaction are followed by one `NFT_MSG_NEWGEN`).

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nattrace_core::event::{Commit, NfFamily};
use thiserror::Error;

use super::attribute::AttributeWriter;
use super::constants::{
    NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES, NFT_MSG_DELRULE, NFT_MSG_DELTABLE, NFT_MSG_GETGEN,
    NFT_MSG_NEWGEN, NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE, NFTA_GEN_ID, NFTA_RULE_HANDLE, NFTA_RULE_TABLE,
    NFTA_TABLE_HANDLE, NFTA_TABLE_NAME,
};
use super::message::{Message, Messages, netfilter_request};
use super::socket::{NetlinkSocket, OpenError, RECEIVE_BUFFER, Received};

/// The kernel answers before `send` returns.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the generation could not be read.
#[derive(Debug, Error)]
pub enum GenerationError {
    /// No socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel has no nf_tables.
    #[error("this kernel has no nf_tables (CONFIG_NF_TABLES)")]
    NoNfTables,
    /// No CAP_NET_ADMIN over the namespace.
    #[error("reading the ruleset needs CAP_NET_ADMIN in this network namespace")]
    Permission,
    /// Anything else.
    #[error("cannot read the ruleset's generation: {0}")]
    Io(#[from] io::Error),
}

/// The number of the last transaction in the current namespace (`NFT_MSG_GETGEN`).
pub fn generation() -> Result<u32, GenerationError> {
    let mut socket = NetlinkSocket::open()?;
    let request = netfilter_request(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN, 0, 0, &AttributeWriter::new());
    socket.send(&request)?;
    loop {
        match socket.receive_within(ANSWER_TIMEOUT)? {
            Received::Item(datagram) => {
                for message in Messages::new(datagram) {
                    if let Some(generation) = generation_of(&message) {
                        return Ok(generation);
                    }
                    match message.answer().map(|answer| answer.errno) {
                        Some(libc::EPERM) => return Err(GenerationError::Permission),
                        Some(libc::EINVAL | libc::EOPNOTSUPP) => return Err(GenerationError::NoNfTables),
                        Some(errno) => return Err(io::Error::from_raw_os_error(errno).into()),
                        None => {}
                    }
                }
            }
            Received::Empty | Received::Lost => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

fn generation_of(message: &Message<'_>) -> Option<u32> {
    if message.netfilter()? != (NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN) {
        return None;
    }
    message.attributes().find_kind(NFTA_GEN_ID)?.be32()
}

/// Gathers notifications until the transaction they belong to is complete.
#[derive(Debug, Default)]
pub struct CommitReader {
    deleted: Vec<(NfFamily, String, Option<u64>)>,
    created: Vec<(NfFamily, String, Option<u64>)>,
    deleted_rules: BTreeSet<(NfFamily, String, u64)>,
    created_rules: BTreeSet<(NfFamily, String, u64)>,
    replaced_rules: Vec<(NfFamily, String, u64)>,
    changes: u32,
}

impl CommitReader {
    /// Takes one message; a whole transaction when this was its end.
    pub fn push(&mut self, message: &Message<'_>) -> Option<Commit> {
        let (NFNL_SUBSYS_NFTABLES, kind) = message.netfilter()? else { return None };
        self.changes = self.changes.saturating_add(1);
        match kind {
            NFT_MSG_NEWTABLE => self.created.extend(table(message)),
            NFT_MSG_DELTABLE => self.deleted.extend(table(message)),
            // `nf_tables_newrule`, NLM_F_REPLACE: the old rule is deleted, the new one has its handle. Which of the two is told
            // first depends on the kernel (v5.10: the new one).
            NFT_MSG_DELRULE => {
                if let Some(rule) = rule(message) {
                    self.replaced_rules.extend(self.created_rules.get(&rule).cloned());
                    self.deleted_rules.insert(rule);
                }
            }
            NFT_MSG_NEWRULE => {
                if let Some(rule) = rule(message) {
                    self.replaced_rules.extend(self.deleted_rules.get(&rule).cloned());
                    self.created_rules.insert(rule);
                }
            }
            NFT_MSG_NEWGEN => {
                let generation = generation_of(message)?;
                let mut gathered = std::mem::take(self);
                // In a table that is made anew, handles begin anew.
                gathered.replaced_rules.retain(|(family, table, _)| {
                    !gathered.deleted.iter().any(|(f, name, _)| f == family && name == table)
                });
                return Some(Commit {
                    generation,
                    deleted_tables: gathered.deleted,
                    new_tables: gathered.created,
                    replaced_rules: gathered.replaced_rules,
                    changes: gathered.changes,
                    uncertain_ns: None,
                });
            }
            // Chains, sets, other rules: the listing that follows a commit tells them.
            _ => {}
        }
        None
    }

    /// Forgets a transaction of which messages were lost.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

fn table(message: &Message<'_>) -> Option<(NfFamily, String, Option<u64>)> {
    let family = NfFamily::from_number(message.family()?)?;
    let attributes = message.attributes();
    let name = attributes.find_kind(NFTA_TABLE_NAME)?.text().into_owned();
    Some((family, name, attributes.find_kind(NFTA_TABLE_HANDLE).and_then(|a| a.be64())))
}

fn rule(message: &Message<'_>) -> Option<(NfFamily, String, u64)> {
    let family = NfFamily::from_number(message.family()?)?;
    let attributes = message.attributes();
    let table = attributes.find_kind(NFTA_RULE_TABLE)?.text().into_owned();
    Some((family, table, attributes.find_kind(NFTA_RULE_HANDLE)?.be64()?))
}

/// Receives the ruleset changes of one namespace (group `NFNLGRP_NFTABLES`).
#[derive(Debug)]
pub struct RulesetSocket {
    socket: NetlinkSocket,
    reader: CommitReader,
    /// Transactions of a datagram that ended more than one.
    pending: VecDeque<Commit>,
}

impl RulesetSocket {
    /// Opens it in the current namespace.
    pub fn open() -> Result<Self, OpenError> {
        let socket = NetlinkSocket::open()?;
        socket.raise_receive_buffer(RECEIVE_BUFFER)?;
        socket.join(NFNLGRP_NFTABLES)?;
        Ok(Self { socket, reader: CommitReader::default(), pending: VecDeque::new() })
    }

    /// The next transaction, without waiting. After [`Received::Lost`] the ruleset must be listed anew:
    /// what happened to it is unknown.
    pub fn receive(&mut self) -> io::Result<Received<Commit>> {
        loop {
            if let Some(commit) = self.pending.pop_front() {
                return Ok(Received::Item(commit));
            }
            match self.socket.receive()? {
                Received::Item(datagram) => {
                    let reader = &mut self.reader;
                    self.pending.extend(Messages::new(datagram).filter_map(|m| reader.push(&m)));
                }
                Received::Empty => return Ok(Received::Empty),
                Received::Lost => {
                    self.reader.clear();
                    return Ok(Received::Lost);
                }
            }
        }
    }
}

impl AsFd for RulesetSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for RulesetSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use crate::source::netlink::fixtures::{datagrams, mutilate};

    /// Linux 6.18: a table with three chains is loaded, and then flushed and loaded in one transaction.
    const RULESET: &str = include_str!("fixtures/ruleset-6.18.hex");

    fn commits(word: &str) -> Vec<Commit> {
        let mut reader = CommitReader::default();
        let datagrams = datagrams(RULESET, word);
        datagrams.iter().flat_map(|d| Messages::new(d)).filter_map(|message| reader.push(&message)).collect()
    }

    #[test]
    fn a_transaction_is_one_commit() {
        let table = |handle| (NfFamily::Inet, "t".to_owned(), Some(handle));
        let loaded = commits("load");
        assert_eq!(loaded.len(), 1);
        assert_eq!((&loaded[0].new_tables, &loaded[0].deleted_tables), (&vec![table(1)], &vec![]));
        let reloaded = commits("reload");
        assert_eq!(reloaded.len(), 1);
        assert_eq!(reloaded[0].new_tables, [table(2)]);
        assert_eq!(reloaded[0].deleted_tables, [table(1)]);
        assert_eq!(reloaded[0].generation, loaded[0].generation + 1);
    }

    #[test]
    fn a_rule_that_gets_another_s_handle_replaces_it_whichever_is_told_first() {
        let told = |kind: u16, handle: u64| {
            let mut attributes = AttributeWriter::new();
            attributes.text(NFTA_RULE_TABLE, "t").be64(NFTA_RULE_HANDLE, handle);
            netfilter_request(NFNL_SUBSYS_NFTABLES, kind, 0, 2, &attributes)
        };
        let mut generation = AttributeWriter::new();
        generation.be32(NFTA_GEN_ID, 7);
        let end = netfilter_request(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN, 0, 0, &generation);
        for order in [[NFT_MSG_DELRULE, NFT_MSG_NEWRULE], [NFT_MSG_NEWRULE, NFT_MSG_DELRULE]] {
            let mut reader = CommitReader::default();
            let datagrams = [told(NFT_MSG_NEWRULE, 3), told(order[0], 2), told(order[1], 2), end.clone()];
            let messages = datagrams.iter().flat_map(|datagram| Messages::new(datagram));
            let commits: Vec<Commit> = messages.filter_map(|message| reader.push(&message)).collect();
            assert_eq!(commits.len(), 1);
            assert_eq!(commits[0].replaced_rules, [(NfFamily::Ip, "t".to_owned(), 2)]);
        }
    }

    #[test]
    fn anything_at_all_is_survived() {
        let mut reader = CommitReader::default();
        mutilate(&datagrams(RULESET, "reload"), |bytes| {
            for message in Messages::new(bytes) {
                let _ = reader.push(&message);
            }
            reader.clear();
        });
    }
}
