//! Links and local addresses of the current namespace (rtnetlink: net/core/rtnetlink.c `rtnl_dump_ifinfo`,
//! net/ipv4/devinet.c, net/ipv6/addrconf.c).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nattrace_core::event::Link;
use thiserror::Error;

use super::constants::{IFA_ADDRESS, IFA_LOCAL, IFLA_IFNAME};
use super::message::{DUMP, Message, Messages, REQUEST, write};
use super::socket::{NetlinkSocket, OpenError, Received};

/// Bytes of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// Bytes of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// The kernel writes each piece of a dump when the one before is taken.
const DUMP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no listing.
#[derive(Debug, Error)]
pub enum RouteError {
    /// No socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel refused, or nothing came.
    #[error("cannot list links and addresses: {0}")]
    Io(#[from] io::Error),
}

/// An address of the machine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress {
    /// `ifindex` of the device that has it.
    pub index: u32,
    /// The address.
    pub addr: IpAddr,
    /// Length of the prefix of its network.
    pub prefix: u8,
}

/// The devices of the current namespace.
pub fn links() -> Result<Vec<Link>, RouteError> {
    dump(libc::RTM_GETLINK, &[0; IFINFOMSG], link)
}

/// Reads one message; `None` when it is no device.
#[must_use]
pub fn link(message: &Message<'_>) -> Option<Link> {
    let index = message.payload.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?;
    let name = message.attributes_after(IFINFOMSG).find_kind(IFLA_IFNAME)?.text().into_owned();
    (message.kind == libc::RTM_NEWLINK).then_some(Link { index, name })
}

/// The addresses of the current namespace, of both families.
pub fn addresses() -> Result<Vec<LocalAddress>, RouteError> {
    dump(libc::RTM_GETADDR, &[0; IFADDRMSG], address)
}

/// Reads one message; `None` when it is no address.
#[must_use]
pub fn address(message: &Message<'_>) -> Option<LocalAddress> {
    let index = message.payload.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?;
    let prefix = message.payload.get(1).copied()?;
    let attributes = message.attributes_after(IFADDRMSG);
    // On point-to-point links IFA_ADDRESS is the other end; where there is an IFA_LOCAL it is ours.
    let local = attributes.find_kind(IFA_LOCAL).or_else(|| attributes.find_kind(IFA_ADDRESS))?;
    let addr = match local.value.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(local.value).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(local.value).ok()?),
    };
    (message.kind == libc::RTM_NEWADDR).then_some(LocalAddress { index, addr, prefix })
}

fn dump<T>(
    kind: u16,
    fixed: &[u8],
    mut read: impl FnMut(&Message<'_>) -> Option<T>,
) -> Result<Vec<T>, RouteError> {
    let mut socket = NetlinkSocket::open_route()?;
    let mut request = Vec::new();
    write(&mut request, kind, REQUEST | DUMP, 1, fixed, &[]);
    socket.send(&request)?;
    let mut found = Vec::new();
    loop {
        match socket.receive_within(DUMP_TIMEOUT)? {
            Received::Item(datagram) => {
                for message in Messages::new(datagram) {
                    match message.answer() {
                        Some(answer) if answer.errno != 0 => {
                            return Err(io::Error::from_raw_os_error(answer.errno).into());
                        }
                        Some(_) => return Ok(found),
                        None => found.extend(read(&message)),
                    }
                }
            }
            Received::Lost => return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into()),
            Received::Empty => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_always_there() {
        let links = links().expect("links");
        assert!(links.iter().any(|link| link.name == "lo" && link.index == 1), "{links:?}");
        for address in addresses().expect("addresses") {
            assert!(links.iter().any(|link| link.index == address.index), "{address:?}");
        }
    }
}
