//! nf_tables expressions as the kernel takes them (net/netfilter/nft_*.c, `*_init`).

use std::os::fd::RawFd;

use super::xt_bpf;
use crate::source::netlink::attribute::AttributeWriter;
use crate::source::netlink::constants as c;

/// A register of four bytes, counted from 0 (`NFT_REG32_00`).
pub(super) type Register = u32;

/// The ends of a header that payload expressions count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Network,
    Transport,
}

/// What ends a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Return,
    Jump(String),
    Goto(String),
}

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// nft_meta: load.
    Meta { key: u32, to: Register },
    /// nft_meta: `meta nftrace set 1` from a register.
    SetTrace { from: Register },
    /// nft_payload: load.
    Payload { base: Base, offset: u32, length: u32, to: Register },
    /// nft_ct: load a part of the connection's original tuple.
    CtOriginal { key: u32, to: Register },
    /// nft_immediate: a constant.
    Constant { value: Vec<u8>, to: Register },
    /// nft_cmp: stop unless equal.
    Equal { from: Register, value: Vec<u8> },
    /// nft_range: stop unless between, as bytes.
    Between { from: Register, first: Vec<u8>, last: Vec<u8> },
    /// nft_bitwise: and, in place.
    Mask { register: Register, mask: Vec<u8> },
    /// nft_lookup: stop unless in the set, or (`inverted`) when in it.
    Lookup { set: String, set_id: u32, from: Register, inverted: bool },
    /// nft_dynset: add; stop when the set is full.
    Add { set: String, set_id: u32, from: Register },
    /// nft_limit: stop when more than `rate` a second came, or (`over`) unless more came.
    Limit { rate: u32, over: bool },
    /// nft_compat, xt_bpf: stop where this program answers 0.
    Program { fd: RawFd },
    /// nft_immediate: a verdict.
    Verdict(Verdict),
}

fn data(writer: &mut AttributeWriter, kind: u16, value: &[u8]) {
    writer.nest(kind, |inner| {
        inner.bytes(c::NFTA_DATA_VALUE, value);
    });
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::SetTrace { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::CtOriginal { .. } => "ct",
            Self::Constant { .. } | Self::Verdict(_) => "immediate",
            Self::Equal { .. } => "cmp",
            Self::Between { .. } => "range",
            Self::Mask { .. } => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::Add { .. } => "dynset",
            Self::Limit { .. } => "limit",
            Self::Program { .. } => "match",
        }
    }

    /// Appends the expression as a list element of `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn write(&self, list: &mut AttributeWriter) {
        list.nest(c::NFTA_LIST_ELEM, |element| {
            element.text(c::NFTA_EXPR_NAME, self.name());
            element.nest(c::NFTA_EXPR_DATA, |w| self.write_data(w));
        });
    }

    fn write_data(&self, w: &mut AttributeWriter) {
        let reg = |register: &Register| c::NFT_REG32_00 + register;
        match self {
            Self::Meta { key, to } => {
                w.be32(c::NFTA_META_KEY, *key).be32(c::NFTA_META_DREG, reg(to));
            }
            Self::SetTrace { from } => {
                w.be32(c::NFTA_META_KEY, c::NFT_META_NFTRACE).be32(c::NFTA_META_SREG, reg(from));
            }
            Self::Payload { base, offset, length, to } => {
                let base = match base {
                    Base::Network => c::NFT_PAYLOAD_NETWORK_HEADER,
                    Base::Transport => c::NFT_PAYLOAD_TRANSPORT_HEADER,
                };
                w.be32(c::NFTA_PAYLOAD_DREG, reg(to)).be32(c::NFTA_PAYLOAD_BASE, base);
                w.be32(c::NFTA_PAYLOAD_OFFSET, *offset).be32(c::NFTA_PAYLOAD_LEN, *length);
            }
            Self::CtOriginal { key, to } => {
                w.be32(c::NFTA_CT_DREG, reg(to)).be32(c::NFTA_CT_KEY, *key);
                w.bytes(c::NFTA_CT_DIRECTION, &[c::IP_CT_DIR_ORIGINAL]);
            }
            Self::Constant { value, to } => {
                w.be32(c::NFTA_IMMEDIATE_DREG, reg(to));
                data(w, c::NFTA_IMMEDIATE_DATA, value);
            }
            Self::Equal { from, value } => {
                w.be32(c::NFTA_CMP_SREG, reg(from)).be32(c::NFTA_CMP_OP, c::NFT_CMP_EQ);
                data(w, c::NFTA_CMP_DATA, value);
            }
            Self::Between { from, first, last } => {
                w.be32(c::NFTA_RANGE_SREG, reg(from)).be32(c::NFTA_RANGE_OP, c::NFT_RANGE_EQ);
                data(w, c::NFTA_RANGE_FROM_DATA, first);
                data(w, c::NFTA_RANGE_TO_DATA, last);
            }
            Self::Mask { register, mask } => {
                w.be32(c::NFTA_BITWISE_SREG, reg(register)).be32(c::NFTA_BITWISE_DREG, reg(register));
                w.be32(c::NFTA_BITWISE_LEN, length(mask));
                data(w, c::NFTA_BITWISE_MASK, mask);
                data(w, c::NFTA_BITWISE_XOR, &vec![0; mask.len()]);
            }
            Self::Lookup { set, set_id, from, inverted } => {
                w.text(c::NFTA_LOOKUP_SET, set).be32(c::NFTA_LOOKUP_SREG, reg(from));
                w.be32(c::NFTA_LOOKUP_SET_ID, *set_id);
                w.be32(c::NFTA_LOOKUP_FLAGS, if *inverted { c::NFT_LOOKUP_F_INV } else { 0 });
            }
            Self::Add { set, set_id, from } => {
                w.text(c::NFTA_DYNSET_SET_NAME, set).be32(c::NFTA_DYNSET_SET_ID, *set_id);
                w.be32(c::NFTA_DYNSET_OP, c::NFT_DYNSET_OP_ADD).be32(c::NFTA_DYNSET_SREG_KEY, reg(from));
            }
            Self::Limit { rate, over } => {
                w.be64(c::NFTA_LIMIT_RATE, u64::from(*rate)).be64(c::NFTA_LIMIT_UNIT, 1);
                w.be32(c::NFTA_LIMIT_BURST, *rate).be32(c::NFTA_LIMIT_TYPE, c::NFT_LIMIT_PKTS);
                w.be32(c::NFTA_LIMIT_FLAGS, if *over { c::NFT_LIMIT_F_INV } else { 0 });
            }
            Self::Program { fd } => {
                w.text(c::NFTA_MATCH_NAME, xt_bpf::NAME).be32(c::NFTA_MATCH_REV, xt_bpf::REVISION);
                w.bytes(c::NFTA_MATCH_INFO, &xt_bpf::info(*fd));
            }
            Self::Verdict(verdict) => {
                w.be32(c::NFTA_IMMEDIATE_DREG, c::NFT_REG_VERDICT);
                w.nest(c::NFTA_IMMEDIATE_DATA, |inner| {
                    inner.nest(c::NFTA_DATA_VERDICT, |inner| verdict.write(inner));
                });
            }
        }
    }
}

impl Verdict {
    fn write(&self, w: &mut AttributeWriter) {
        let (code, chain) = match self {
            Self::Accept => (c::NF_ACCEPT, None),
            Self::Return => (c::NFT_RETURN, None),
            Self::Jump(chain) => (c::NFT_JUMP, Some(chain)),
            Self::Goto(chain) => (c::NFT_GOTO, Some(chain)),
        };
        w.be32(c::NFTA_VERDICT_CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            w.text(c::NFTA_VERDICT_CHAIN, chain);
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}
