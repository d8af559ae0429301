//! One nf_tables transaction: every message or none (net/netfilter/nfnetlink.c `nfnetlink_rcv_batch`).

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::attribute::AttributeWriter;
use super::constants::{NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES};
use super::message::{ACK, Messages, REQUEST, nfgenmsg, write};
use super::socket::{NetlinkSocket, RECEIVE_BUFFER, Received};

/// The kernel answers before `send` returns; longer than this only if answers were lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The sequence number of the message that begins the batch; errors that concern all of it carry it.
const BEGIN: u32 = 1;

/// Why a transaction was refused. Nothing of it happened.
#[derive(Debug, Error)]
pub enum BatchError {
    /// The kernel refused a message.
    #[error("{what}: {}{}", io::Error::from_raw_os_error(*errno), text.as_deref().map(|t| format!(" ({t})")).unwrap_or_default())]
    Refused {
        /// Which message, in words; the batch as a whole when it is the first.
        what: String,
        /// Its place; 0 for the batch as a whole.
        index: usize,
        /// The error, positive.
        errno: i32,
        /// The kernel's own words.
        text: Option<String>,
    },
    /// Not every message was answered.
    #[error("the kernel did not answer {0} of the messages")]
    Unanswered(usize),
    /// Sending or receiving failed.
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
}

/// Messages to be committed together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// What each message does, for errors.
    names: Vec<String>,
}

impl Batch {
    /// An empty transaction.
    #[must_use]
    pub fn new() -> Self {
        let mut batch = Self::default();
        batch.frame(NFNL_MSG_BATCH_BEGIN);
        batch.names.push("the transaction".to_owned());
        batch
    }

    fn sequence(&self) -> u32 {
        u32::try_from(self.names.len()).unwrap_or(u32::MAX).saturating_add(BEGIN)
    }

    fn frame(&mut self, kind: u16) {
        let sequence = self.sequence();
        write(&mut self.bytes, kind, REQUEST, sequence, &nfgenmsg(0, NFNL_SUBSYS_NFTABLES), &[]);
    }

    /// Adds a message of nf_tables; `what` names it in errors.
    pub fn add(&mut self, what: String, message: u16, flags: u16, family: u8, attributes: &AttributeWriter) {
        let sequence = self.sequence();
        write(
            &mut self.bytes,
            NFNL_SUBSYS_NFTABLES << 8 | message,
            REQUEST | ACK | flags,
            sequence,
            &nfgenmsg(family, 0),
            attributes.as_bytes(),
        );
        self.names.push(what);
    }

    /// Sends the transaction and reads the answer to each message.
    pub fn commit(mut self, socket: &mut NetlinkSocket) -> Result<(), BatchError> {
        self.frame(NFNL_MSG_BATCH_END);
        // The kernel takes a batch in one datagram only, and answers all of it at once.
        socket.raise_send_buffer(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX).max(1 << 20))?;
        socket.raise_receive_buffer(RECEIVE_BUFFER)?;
        socket.send(&self.bytes)?;
        let mut waiting: BTreeSet<u32> = (BEGIN + 1..self.sequence()).collect();
        // The first error of the lowest message is the cause; later ones may only follow from it.
        let mut refused: Option<BatchError> = None;
        while !waiting.is_empty() {
            // A refused batch answers only the messages that failed.
            let timeout = if refused.is_some() { Duration::ZERO } else { ANSWER_TIMEOUT };
            match socket.receive_within(timeout)? {
                Received::Item(datagram) => {
                    for message in Messages::new(datagram) {
                        let Some(answer) = message.answer() else { continue };
                        waiting.remove(&message.sequence);
                        if answer.errno != 0 && refused.is_none() {
                            let index = usize::try_from(message.sequence.saturating_sub(BEGIN)).unwrap_or(0);
                            let what = self.names.get(index).cloned().unwrap_or_default();
                            refused = Some(BatchError::Refused {
                                what,
                                index,
                                errno: answer.errno,
                                text: answer.text,
                            });
                        }
                        // An error of the batch as a whole is the only answer there will be.
                        if answer.errno != 0 && message.sequence == BEGIN {
                            waiting.clear();
                        }
                    }
                }
                Received::Empty if refused.is_some() => break,
                Received::Empty | Received::Lost => return Err(BatchError::Unanswered(waiting.len())),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}
