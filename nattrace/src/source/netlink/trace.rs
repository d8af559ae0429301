//! `NFT_MSG_TRACE` messages (net/netfilter/nf_tables_trace.c `nft_trace_notify`), of every kernel since 4.6.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nattrace_core::conntrack::Direction;
use nattrace_core::event::{NfFamily, TraceMessage, TraceType, Verdict};
use thiserror::Error;

use super::attribute::{Attribute, Attributes};
use super::constants::{
    IP_CT_DIR_ORIGINAL, IP_CT_DIR_REPLY, NF_ACCEPT, NF_DROP, NF_QUEUE, NF_STOLEN, NF_VERDICT_MASK,
    NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTRACE, NFT_BREAK, NFT_CONTINUE, NFT_GOTO, NFT_JUMP, NFT_MSG_TRACE,
    NFT_RETURN, NFT_TRACETYPE_POLICY, NFT_TRACETYPE_RETURN, NFT_TRACETYPE_RULE, NFTA_TRACE_CHAIN,
    NFTA_TRACE_CT_DIRECTION, NFTA_TRACE_CT_ID, NFTA_TRACE_CT_STATE, NFTA_TRACE_CT_STATUS, NFTA_TRACE_ID,
    NFTA_TRACE_IIF, NFTA_TRACE_IIFTYPE, NFTA_TRACE_LL_HEADER, NFTA_TRACE_MARK, NFTA_TRACE_NETWORK_HEADER,
    NFTA_TRACE_NFPROTO, NFTA_TRACE_OIF, NFTA_TRACE_OIFTYPE, NFTA_TRACE_POLICY, NFTA_TRACE_RULE_HANDLE,
    NFTA_TRACE_TABLE, NFTA_TRACE_TRANSPORT_HEADER, NFTA_TRACE_TYPE, NFTA_TRACE_VERDICT, NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE,
};
use super::message::{Message, Messages};
use super::socket::{NetlinkSocket, OpenError, RECEIVE_BUFFER, Received};

/// Why bytes are not a trace message although they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Not even the headers are there.
    #[error("{0} bytes are no netlink message")]
    Short(usize),
    /// `nfgen_family` is none of nf_tables.
    #[error("trace message of unknown family {0}")]
    Family(u8),
    /// An attribute that every kernel sends is missing or cut short.
    #[error("trace message without a readable {0}")]
    Missing(&'static str),
    /// `NFTA_TRACE_TYPE` is a number this version does not know.
    #[error("trace message of unknown type {0}")]
    Type(u32),
}

/// Reads one netlink message, header included. `None` when it is not an `NFT_MSG_TRACE`.
pub fn parse(nlmsg: &[u8]) -> Result<Option<TraceMessage>, ParseError> {
    let message = Messages::new(nlmsg).next().ok_or(ParseError::Short(nlmsg.len()))?;
    parse_message(&message)
}

/// As [`parse`], for a message whose header was read already.
pub fn parse_message(message: &Message<'_>) -> Result<Option<TraceMessage>, ParseError> {
    if message.netfilter() != Some((NFNL_SUBSYS_NFTABLES, NFT_MSG_TRACE)) {
        return Ok(None);
    }
    let family = message.family().ok_or(ParseError::Short(message.whole.len()))?;
    let family = NfFamily::from_number(family).ok_or(ParseError::Family(family))?;
    let (mut id, mut kind, mut table, mut chain) = (None, None, None, None);
    let mut policy = None;
    let mut trace = TraceMessage {
        id: 0,
        family,
        nfproto: None,
        kind: TraceType::Rule,
        table: String::new(),
        chain: String::new(),
        rule_handle: None,
        verdict: None,
        link_header: Vec::new(),
        network_header: Vec::new(),
        transport_header: Vec::new(),
        iif: None,
        iif_type: None,
        oif: None,
        oif_type: None,
        mark: None,
        ct_id: None,
        ct_direction: None,
        ct_status: None,
        ct_state: None,
    };
    for attribute in message.attributes() {
        match attribute.kind {
            NFTA_TRACE_TABLE => table = Some(attribute.text().into_owned()),
            NFTA_TRACE_CHAIN => chain = Some(attribute.text().into_owned()),
            NFTA_TRACE_RULE_HANDLE => trace.rule_handle = attribute.be64(),
            NFTA_TRACE_TYPE => kind = attribute.be32(),
            NFTA_TRACE_VERDICT => trace.verdict = verdict(attribute.nested()),
            // nla_put_u32 without a conversion: the one number in the machine's own order.
            NFTA_TRACE_ID => id = attribute.ne32(),
            NFTA_TRACE_LL_HEADER => trace.link_header = attribute.value.to_vec(),
            NFTA_TRACE_NETWORK_HEADER => trace.network_header = attribute.value.to_vec(),
            NFTA_TRACE_TRANSPORT_HEADER => trace.transport_header = attribute.value.to_vec(),
            NFTA_TRACE_IIF => trace.iif = attribute.be32(),
            NFTA_TRACE_IIFTYPE => trace.iif_type = attribute.be16(),
            NFTA_TRACE_OIF => trace.oif = attribute.be32(),
            NFTA_TRACE_OIFTYPE => trace.oif_type = attribute.be16(),
            NFTA_TRACE_MARK => trace.mark = attribute.be32(),
            NFTA_TRACE_NFPROTO => trace.nfproto = attribute.be32().and_then(|v| u8::try_from(v).ok()),
            NFTA_TRACE_POLICY => policy = attribute.be32(),
            NFTA_TRACE_CT_ID => trace.ct_id = attribute.be32(),
            NFTA_TRACE_CT_DIRECTION => trace.ct_direction = direction(attribute),
            NFTA_TRACE_CT_STATUS => trace.ct_status = attribute.be32(),
            NFTA_TRACE_CT_STATE => trace.ct_state = attribute.be32(),
            // Padding, and what later kernels add.
            _ => {}
        }
    }
    trace.id = id.ok_or(ParseError::Missing("id"))?;
    trace.table = table.ok_or(ParseError::Missing("table"))?;
    trace.chain = chain.ok_or(ParseError::Missing("chain"))?;
    trace.kind = match kind.ok_or(ParseError::Missing("type"))? {
        NFT_TRACETYPE_POLICY => TraceType::Policy,
        NFT_TRACETYPE_RETURN => TraceType::Return,
        NFT_TRACETYPE_RULE => TraceType::Rule,
        other => return Err(ParseError::Type(other)),
    };
    if let (TraceType::Policy, Some(policy)) = (trace.kind, policy) {
        trace.verdict = Some(verdict_from_code(policy.cast_signed(), None));
    }
    Ok(Some(trace))
}

fn direction(attribute: Attribute<'_>) -> Option<Direction> {
    match attribute.u8()? {
        IP_CT_DIR_ORIGINAL => Some(Direction::Original),
        IP_CT_DIR_REPLY => Some(Direction::Reply),
        _ => None,
    }
}

fn verdict(attributes: Attributes<'_>) -> Option<Verdict> {
    let (mut code, mut chain) = (None, None);
    for attribute in attributes {
        match attribute.kind {
            NFTA_VERDICT_CODE => code = attribute.be32().map(u32::cast_signed),
            NFTA_VERDICT_CHAIN => chain = Some(attribute.text().into_owned()),
            _ => {}
        }
    }
    Some(verdict_from_code(code?, chain))
}

/// include/uapi/linux/netfilter.h: the low byte is the verdict, the upper half an error or a queue number.
/// `enum nft_verdicts` are all negative, and whole.
fn verdict_from_code(code: i32, chain: Option<String>) -> Verdict {
    let queue = || u16::try_from(code.cast_unsigned() >> 16).unwrap_or_default();
    match (code, chain) {
        (NFT_CONTINUE, _) => Verdict::Continue,
        (NFT_BREAK, _) => Verdict::Break,
        (NFT_JUMP, Some(chain)) => Verdict::Jump(chain),
        (NFT_GOTO, Some(chain)) => Verdict::Goto(chain),
        (NFT_RETURN, _) => Verdict::Return,
        (0.., _) => match code & NF_VERDICT_MASK {
            NF_DROP => Verdict::Drop,
            NF_ACCEPT => Verdict::Accept,
            NF_STOLEN => Verdict::Stolen,
            NF_QUEUE => Verdict::Queue(queue()),
            _ => Verdict::Unknown(code),
        },
        _ => Verdict::Unknown(code),
    }
}

/// Why nothing was received.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// A message was there that cannot be read; the next may be.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The socket failed.
    #[error("cannot receive trace messages: {0}")]
    Io(#[from] io::Error),
}

/// Receives the trace messages of one namespace (group `NFNLGRP_NFTRACE`).
#[derive(Debug)]
pub struct TraceSocket {
    socket: NetlinkSocket,
    /// Messages of a datagram that held more than one.
    pending: VecDeque<Result<TraceMessage, ParseError>>,
}

impl TraceSocket {
    /// Opens it in the current namespace, with room for a burst.
    pub fn open() -> Result<Self, OpenError> {
        let socket = NetlinkSocket::open()?;
        socket.raise_receive_buffer(RECEIVE_BUFFER)?;
        socket.join(NFNLGRP_NFTRACE)?;
        Ok(Self { socket, pending: VecDeque::new() })
    }

    /// The next message, without waiting.
    pub fn receive(&mut self) -> Result<Received<TraceMessage>, ReceiveError> {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return Ok(Received::Item(message?));
            }
            match self.socket.receive()? {
                Received::Item(datagram) => {
                    self.pending.extend(
                        Messages::new(datagram).filter_map(|message| parse_message(&message).transpose()),
                    );
                }
                Received::Empty => return Ok(Received::Empty),
                Received::Lost => return Ok(Received::Lost),
            }
        }
    }
}

impl AsFd for TraceSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TraceSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
