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
    let mut trace = TraceMessage::new(family, TraceType::Rule, String::new(), String::new());
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
    let kind = kind.ok_or(ParseError::Missing("type"))?;
    trace.kind = trace_type(kind).ok_or(ParseError::Type(kind))?;
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

/// `enum nft_trace_types`.
pub(crate) fn trace_type(number: u32) -> Option<TraceType> {
    Some(match number {
        NFT_TRACETYPE_POLICY => TraceType::Policy,
        NFT_TRACETYPE_RETURN => TraceType::Return,
        NFT_TRACETYPE_RULE => TraceType::Rule,
        _ => return None,
    })
}

/// include/uapi/linux/netfilter.h: the low byte is the verdict, the upper half an error or a queue number.
/// `enum nft_verdicts` are all negative, and whole.
pub(crate) fn verdict_from_code(code: i32, chain: Option<String>) -> Verdict {
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

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nattrace_core::packet::decode;

    use super::*;
    use crate::source::netlink::attribute::AttributeWriter;
    use crate::source::netlink::fixtures::{datagrams, mutilate};
    use crate::source::netlink::message::{nfgenmsg, write};

    /// Linux 6.18: a datagram to 127.0.0.2 port 1222 and one to [::1] port 1223, with
    /// `chain out { … meta nftrace set 1 }`, `chain in { policy drop; ct state new meta mark set 7;
    /// udp dport 1222 jump other }` and `chain other { udp dport 1222 return }`.
    const TRACE: &str = include_str!("fixtures/trace-6.18.hex");

    fn messages() -> Vec<TraceMessage> {
        let parsed = datagrams(TRACE, "trace").into_iter().map(|bytes| parse(&bytes));
        parsed.map(|message| message.expect("readable").expect("a trace message")).collect()
    }

    #[test]
    fn a_journey_is_read_step_by_step() {
        let messages = messages();
        let steps: Vec<_> = messages
            .iter()
            .map(|m| (m.chain.as_str(), m.kind, m.rule_handle, m.verdict.clone().expect("a verdict")))
            .collect();
        let (rule, policy) = (TraceType::Rule, TraceType::Policy);
        let go = Verdict::Continue;
        assert_eq!(
            steps[..8],
            [
                ("out", rule, Some(8), go.clone()),
                ("out", rule, None, go.clone()),
                ("out", policy, None, Verdict::Accept),
                ("in", rule, Some(5), go.clone()),
                ("in", rule, Some(6), Verdict::Jump("other".to_owned())),
                ("other", rule, Some(4), Verdict::Return),
                ("in", rule, None, go),
                ("in", policy, None, Verdict::Drop),
            ]
        );
        assert!(messages.iter().all(|m| m.table == "t" && m.family == NfFamily::Inet));
        assert_eq!(messages[0].id, 0x3d65_92d7);
        assert_eq!((messages[0].nfproto, messages[8].nfproto), (Some(2), Some(10)));
    }

    #[test]
    fn the_first_message_of_a_chain_has_headers_devices_and_the_connection() {
        let messages = messages();
        let first = &messages[3];
        assert_eq!((first.iif, first.iif_type, first.oif, first.mark), (Some(1), Some(772), None, Some(7)));
        let mut bytes = first.network_header.clone();
        bytes.extend(&first.transport_header);
        let packet = decode(&bytes, 0).expect("a packet");
        assert_eq!(packet.destination.expect("an end").to_string(), "127.0.0.2:1222");
        assert_eq!(first.link_header.len(), 14);
        // conntrack -L -o id printed id=2681609206.
        assert_eq!(first.ct_id, Some(2_681_609_206));
        assert_eq!((first.ct_direction, first.ct_state), (Some(Direction::Original), Some(8)));
        // Confirmed, when it was sent.
        assert_eq!(first.ct_status, Some(8));
        assert_eq!((messages[0].oif, messages[0].oif_type, messages[0].iif), (Some(1), Some(772), None));
        assert!(messages[4].network_header.is_empty());
    }

    fn message(fill: impl FnOnce(&mut AttributeWriter)) -> Vec<u8> {
        let mut attributes = AttributeWriter::new();
        attributes.text(NFTA_TRACE_TABLE, "t").text(NFTA_TRACE_CHAIN, "c");
        attributes.bytes(NFTA_TRACE_ID, &7_u32.to_ne_bytes());
        fill(&mut attributes);
        let mut bytes = Vec::new();
        let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE;
        write(&mut bytes, kind, 0, 0, &nfgenmsg(2, 0), attributes.as_bytes());
        bytes
    }

    fn verdict_of(code: u32, chain: Option<&str>) -> Verdict {
        let bytes = message(|w| {
            w.be32(NFTA_TRACE_TYPE, NFT_TRACETYPE_RULE).nest(NFTA_TRACE_VERDICT, |w| {
                w.be32(NFTA_VERDICT_CODE, code);
                if let Some(chain) = chain {
                    w.text(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
        parse(&bytes).expect("readable").expect("a message").verdict.expect("a verdict")
    }

    #[test]
    fn every_verdict_has_its_name() {
        let negative = |code: i32| code.cast_unsigned();
        assert_eq!(verdict_of(0, None), Verdict::Drop);
        assert_eq!(verdict_of(1, None), Verdict::Accept);
        assert_eq!(verdict_of(2, None), Verdict::Stolen);
        assert_eq!(verdict_of(3, None), Verdict::Queue(0));
        assert_eq!(verdict_of(0x0102_0003, None), Verdict::Queue(0x0102));
        assert_eq!(verdict_of(4, None), Verdict::Unknown(4));
        // NF_DROP_ERR: an error in the upper half.
        assert_eq!(verdict_of(0x0001_0000, None), Verdict::Drop);
        assert_eq!(verdict_of(negative(-2), None), Verdict::Break);
        assert_eq!(verdict_of(negative(-4), Some("x")), Verdict::Goto("x".to_owned()));
        assert_eq!(verdict_of(negative(-3), None), Verdict::Unknown(-3));
        assert_eq!(verdict_of(negative(-9), None), Verdict::Unknown(-9));
    }

    #[test]
    fn kernels_before_6_7_end_chains_with_a_type_of_their_own() {
        let bytes = message(|w| {
            w.be32(NFTA_TRACE_TYPE, NFT_TRACETYPE_RETURN).nest(NFTA_TRACE_VERDICT, |w| {
                w.be32(NFTA_VERDICT_CODE, NFT_CONTINUE.cast_unsigned());
            });
        });
        let parsed = parse(&bytes).expect("readable").expect("a message");
        assert_eq!((parsed.kind, parsed.verdict), (TraceType::Return, Some(Verdict::Continue)));
        assert_eq!(parsed.id, 7);
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        assert_eq!(parse(&message(|_| {})), Err(ParseError::Missing("type")));
        let unknown = message(|w| {
            w.be32(NFTA_TRACE_TYPE, 9);
        });
        assert_eq!(parse(&unknown), Err(ParseError::Type(9)));
        assert_eq!(parse(&[1, 2, 3]), Err(ParseError::Short(3)));
        let mut other = Vec::new();
        write(&mut other, 0x0a0f, 0, 0, &nfgenmsg(0, 0), &[]);
        assert_eq!(parse(&other), Ok(None));
    }

    #[test]
    fn anything_at_all_is_survived() {
        mutilate(&datagrams(TRACE, "trace"), |bytes| {
            let _ = parse(bytes);
        });
    }
}
