//! UDP: an echo server that records whom it saw, a client, and a burst of packets that look alike.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use super::say;

/// No datagram of a scenario is longer.
const MOST: usize = 4096;

/// Receives (and answers) until killed.
pub(super) fn serve(listen: SocketAddr, answer: bool) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("nobody can listen on udp {listen}"))?;
    // A burst must not be lost in the witness: the default buffer holds fewer than 300 datagrams.
    sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20)?;
    say(&json!({"event": "listening", "local": listen}));
    let mut buffer = [0; MOST];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // An ICMP error for an earlier answer: that peer is gone, others may come.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error).context("recv failed"),
        };
        say(&json!({"event": "datagram", "peer": peer, "bytes": length}));
        if answer && let Err(error) = socket.send_to(&buffer[..length], peer) {
            say(&json!({"event": "error", "peer": peer, "text": error.to_string()}));
        }
    }
}

/// What [`send`] must do.
pub(super) struct Send {
    /// Where to.
    pub(super) to: SocketAddr,
    /// From where.
    pub(super) from: Option<SocketAddr>,
    /// How many; 0 is without end.
    pub(super) count: u32,
    /// Between two datagrams.
    pub(super) interval: Duration,
    /// What they hold.
    pub(super) payload: Vec<u8>,
    /// How long to wait after the last.
    pub(super) timeout: Duration,
}

/// Sends datagrams from one connected socket and tells what came back.
pub(super) fn send(plan: &Send) -> Result<()> {
    let any = if plan.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let from = plan.from.map_or_else(|| any.parse(), Ok)?;
    let socket = UdpSocket::bind(from).with_context(|| format!("nobody can send from {from}"))?;
    socket.connect(plan.to).with_context(|| format!("no way to {}", plan.to))?;
    let local = socket.local_addr()?;
    let mut tally = Tally::default();
    let mut sent: u32 = 0;
    let mut forbidden: u32 = 0;
    while plan.count == 0 || sent < plan.count {
        match socket.send(&plan.payload) {
            Ok(_) => {}
            // The port-unreachable that an earlier datagram earned; this one was not sent, so again.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                tally.refused += 1;
                continue;
            }
            // An output chain dropped it: the kernel tells the sender.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => forbidden += 1,
            Err(error) => return Err(error).with_context(|| format!("sending to {}", plan.to)),
        }
        sent += 1;
        let pause = if sent == plan.count { plan.timeout } else { plan.interval };
        tally.listen(&socket, pause, (sent == plan.count).then_some(sent))?;
    }
    say(&json!({
        "sent": sent,
        "replies": tally.replies,
        "refused": tally.refused,
        "forbidden": forbidden,
        "local": local,
    }));
    Ok(())
}

/// What came back.
#[derive(Default)]
struct Tally {
    replies: u32,
    refused: u32,
}

impl Tally {
    /// Listens for `pause`, or until all `expected` answers are there.
    fn listen(&mut self, socket: &UdpSocket, pause: Duration, expected: Option<u32>) -> Result<()> {
        let end = Instant::now() + pause;
        let mut buffer = [0; MOST];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || expected.is_some_and(|expected| self.replies + self.refused >= expected) {
                return Ok(());
            }
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut buffer) {
                Ok(_) => self.replies += 1,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => self.refused += 1,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("recv failed"),
            }
        }
    }
}

/// What [`burst`] must do.
pub(super) struct Burst {
    /// Where to.
    pub(super) to: SocketAddr,
    /// The source address.
    pub(super) from: IpAddr,
    /// How many.
    pub(super) count: u16,
    /// At the same time.
    pub(super) senders: u16,
    /// By length instead of by port.
    pub(super) vary_length: bool,
    /// The (first) source port.
    pub(super) port: u16,
    /// Between two datagrams of a sender: a backlog holds only so many.
    pub(super) pause: Duration,
}

/// Sends `count` datagrams from several threads at once. All sockets are bound before the first is used.
pub(super) fn burst(plan: &Burst) -> Result<()> {
    if plan.senders == 0 || plan.port.checked_add(plan.count).is_none() {
        bail!("there is no such burst: {} datagrams from port {} on", plan.count, plan.port);
    }
    // A socket a port: more than a process may have open by default.
    let needed = u64::from(plan.count) + 64;
    if getrlimit(Resource::Nofile).current.is_some_and(|most| most < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: Some(needed) })?;
    }
    let mut shares: Vec<Vec<(UdpSocket, Vec<u8>)>> = (0..plan.senders).map(|_| Vec::new()).collect();
    for number in 0..plan.count {
        let share = &mut shares[usize::from(number % plan.senders)];
        let (port, length) = if plan.vary_length { (plan.port, number) } else { (plan.port + number, 8) };
        let socket = match share.last() {
            // One socket a sender is enough where the port is the same for all.
            Some((socket, _)) if plan.vary_length => socket.try_clone()?,
            _ => shared_port(SocketAddr::new(plan.from, port))?,
        };
        share.push((socket, vec![b'x'; usize::from(length)]));
    }
    let start = &Barrier::new(shares.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter()
            .map(|share| {
                scope.spawn(move || {
                    start.wait();
                    for (socket, payload) in share {
                        socket
                            .send_to(payload, plan.to)
                            .with_context(|| format!("sending to {}", plan.to))?;
                        if !plan.pause.is_zero() {
                            std::thread::sleep(plan.pause);
                        }
                    }
                    anyhow::Ok(share.len())
                })
            })
            .collect();
        let mut sent = 0;
        for thread in threads {
            match thread.join() {
                Ok(result) => sent += result?,
                Err(_) => bail!("a sender panicked"),
            }
        }
        say(&json!({"sent": sent}));
        Ok(())
    })
}

/// A socket on an address that others may be bound to as well.
fn shared_port(from: SocketAddr) -> Result<UdpSocket> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &from).with_context(|| format!("nobody can send from {from}"))?;
    Ok(socket.into())
}
