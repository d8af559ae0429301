//! Asking the neighbour table for one entry (`neigh_get`, net/core/neighbour.c, v6.12; since Linux 5.0).

use std::io;
use std::net::IpAddr;

use nattrace_core::neighbour::{Neighbour, NeighbourQuery};
use rustix::net::netdevice::name_to_index;

use super::attribute::AttributeWriter;
use super::constants::{NDA_DST, NDA_LLADDR};
use super::fib::{self, bytes_of};
use super::message::{Message, REQUEST, write};
use super::socket::{NetlinkSocket, OpenError};

/// Bytes of `struct ndmsg`.
const NDMSG: usize = 12;

/// Why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// No socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The request, or its answer.
    #[error("asking the neighbour table: {0}")]
    Io(#[from] io::Error),
}

/// Asks, in the current namespace of this thread. `None`: there is no such entry, or no such device.
pub fn ask(query: &NeighbourQuery) -> Result<Option<Neighbour>, NeighbourError> {
    let mut socket = NetlinkSocket::open_route()?;
    let Ok(index) = name_to_index(&socket, &query.device) else { return Ok(None) };
    let family = match query.address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let mut fixed = [0; NDMSG];
    fixed[0] = u8::try_from(family).unwrap_or_default();
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut attributes = AttributeWriter::new();
    attributes.bytes(NDA_DST, &bytes_of(query.address));
    let mut request = Vec::new();
    write(&mut request, libc::RTM_GETNEIGH, REQUEST, 1, &fixed, attributes.as_bytes());
    Ok(fib::ask(&mut socket, &request, 1, entry)?)
}

/// Reads the answer to a request; `None` when it is no neighbour.
#[must_use]
pub fn entry(message: &Message<'_>) -> Option<Neighbour> {
    if message.kind != libc::RTM_NEWNEIGH {
        return None;
    }
    let fixed = message.payload.get(..NDMSG)?;
    let state = u16::from_ne_bytes([*fixed.get(8)?, *fixed.get(9)?]);
    let lladdr = message.attributes_after(NDMSG).find_kind(NDA_LLADDR);
    Some(Neighbour { state, lladdr: lladdr.map(|attribute| attribute.value.to_vec()).unwrap_or_default() })
}
