//! A nonblocking netlink socket: the only file of this module that calls the kernel, and so the only one
//! with unsafe code (net/netlink/af_netlink.c).

#![expect(unsafe_code, reason = "std has no netlink sockets; each call is wrapped here, once")]

use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use thiserror::Error;

/// What a receive queue is raised to: 32 MiB hold some 26,000 trace messages, the default 166.
pub const RECEIVE_BUFFER: u32 = 32 << 20;
/// Longer than any datagram that nfnetlink sends: multicasts are page-sized, dumps at most 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// Why a socket could not be had.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The kernel has no such netlink protocol (`CONFIG_NETFILTER_NETLINK`).
    #[error("this kernel has no nfnetlink (CONFIG_NETFILTER_NETLINK)")]
    NotSupported,
    /// No CAP_NET_ADMIN over the namespace.
    #[error("joining a netfilter netlink group needs CAP_NET_ADMIN in this network namespace")]
    Permission,
    /// Anything else.
    #[error("cannot open a netlink socket: {0}")]
    Io(#[from] io::Error),
}

impl OpenError {
    fn from_errno(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission,
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => Self::NotSupported,
            _ => Self::Io(error),
        }
    }
}

/// What a receive call found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<T> {
    /// Something arrived.
    Item(T),
    /// Nothing is there now.
    Empty,
    /// The kernel dropped messages for want of room since the last call (`ENOBUFS`).
    Lost,
}

impl<T> Received<T> {
    /// Makes something else of what arrived.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Received<U> {
        match self {
            Self::Item(item) => Received::Item(make(item)),
            Self::Empty => Received::Empty,
            Self::Lost => Received::Lost,
        }
    }
}

/// A netlink socket of the namespace in which it was opened.
pub struct NetlinkSocket {
    fd: OwnedFd,
    /// Empty until something is received: some sockets are only held.
    buffer: Vec<u8>,
}

impl fmt::Debug for NetlinkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NetlinkSocket").field(&self.fd).finish()
    }
}

impl NetlinkSocket {
    /// Opens a socket of `NETLINK_NETFILTER` in the current network namespace of this thread.
    pub fn open() -> Result<Self, OpenError> {
        Self::open_protocol(libc::NETLINK_NETFILTER)
    }

    /// Opens a socket of `NETLINK_ROUTE` in the current network namespace of this thread.
    pub fn open_route() -> Result<Self, OpenError> {
        Self::open_protocol(libc::NETLINK_ROUTE)
    }

    fn open_protocol(protocol: libc::c_int) -> Result<Self, OpenError> {
        // SAFETY: takes no pointers; the result is checked before it becomes an owned descriptor.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                protocol,
            )
        };
        if fd < 0 {
            return Err(OpenError::from_errno(io::Error::last_os_error()));
        }
        // SAFETY: the kernel just gave this descriptor to us, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = kernel_address();
        // SAFETY: `address` lives through the call and the length is its own.
        let result = unsafe {
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_nl>())
        };
        if result < 0 {
            return Err(OpenError::from_errno(io::Error::last_os_error()));
        }
        let socket = Self { fd, buffer: Vec::new() };
        // Better error texts, and answers that do not repeat the request. Both since 4.12: not fatal.
        let _ = socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ = socket.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        Ok(socket)
    }

    /// Joins a multicast group (`NETLINK_ADD_MEMBERSHIP`).
    pub fn join(&self, group: u32) -> Result<(), OpenError> {
        self.set_option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group).map_err(OpenError::from_errno)
    }

    /// Raises the receive queue to `bytes`, beyond the system's limit where that is allowed, else up to it.
    pub fn raise_receive_buffer(&self, bytes: u32) -> io::Result<()> {
        self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
            .or_else(|_| self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
    }

    /// As [`Self::raise_receive_buffer`], for what is sent in one piece.
    pub fn raise_send_buffer(&self, bytes: u32) -> io::Result<()> {
        self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
            .or_else(|_| self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
    }

    fn set_option(&self, level: libc::c_int, option: libc::c_int, value: u32) -> io::Result<()> {
        // SAFETY: every option used here takes an int, which lives through the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                length_of::<libc::c_int>(),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends one datagram to the kernel. The kernel works it off before this returns.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let address = kernel_address();
        // SAFETY: the slice and the address live through the call and the lengths are their own.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                datagram.as_ptr().cast(),
                datagram.len(),
                0,
                (&raw const address).cast(),
                length_of::<libc::sockaddr_nl>(),
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes one datagram of the kernel off the queue, without waiting.
    pub fn receive(&mut self) -> io::Result<Received<&[u8]>> {
        self.buffer.resize(DATAGRAM, 0);
        loop {
            let mut sender = kernel_address();
            let mut sender_length = length_of::<libc::sockaddr_nl>();
            // SAFETY: the buffer, the address and its length live through the call; the kernel writes at
            // most the lengths given.
            let received = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    libc::MSG_TRUNC,
                    (&raw mut sender).cast(),
                    &raw mut sender_length,
                )
            };
            let Ok(length) = usize::try_from(received) else {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN) => return Ok(Received::Empty),
                    Some(libc::ENOBUFS) => return Ok(Received::Lost),
                    _ => return Err(error),
                }
            };
            // Only the kernel has port 0: whatever another process sent is nothing to believe.
            if sender.nl_pid != 0 {
                continue;
            }
            // With MSG_TRUNC the length is that of the datagram, which was longer than the buffer.
            return Ok(self.buffer.get(..length).map_or(Received::Lost, Received::Item));
        }
    }

    /// As [`Self::receive`], but waits for up to `timeout`: for the answer to a request, which the kernel has
    /// worked off before `send` returned. [`Received::Empty`] when nothing came.
    pub fn receive_within(&mut self, timeout: Duration) -> io::Result<Received<&[u8]>> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
            // SAFETY: one pollfd that lives through the call.
            let ready = unsafe { libc::poll(&raw mut poll, 1, millis) };
            match ready {
                0 => return Ok(Received::Empty),
                1.. => return self.receive(),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for NetlinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The kernel's address; also that of a socket whose port the kernel is to choose.
fn kernel_address() -> libc::sockaddr_nl {
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
    address
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}
