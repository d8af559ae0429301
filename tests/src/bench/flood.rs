//! Datagrams from the client to the server as fast as the path takes them.

use std::io::{ErrorKind, IoSlice};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg, sockopt};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::processor;
use crate::lab::Lab;

/// Where the traffic goes: through the router.
const SINK: &str = "192.168.70.10";
/// Where it comes from.
const CLIENT: &str = "10.2.1.2";
/// The port it goes to.
pub(super) const PORT: u16 = 5001;
/// The first source port.
const FROM: u16 = 20_000;

/// How many connections are new in a burst of such.
const NEW: u16 = 1000;

/// Datagrams in one call: the path takes each of them to its end before the next.
const BATCH: usize = 32;
/// Datagrams under way at most, where a processor's backlog defers them.
const WINDOW: u64 = 4096;
/// What has not arrived by then is lost.
const PATIENCE: Duration = Duration::from_millis(100);

/// 64 bytes with Ethernet's header and trailer.
const PAYLOAD: [u8; 18] = [b'x'; 18];

/// Which connections the datagrams are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// One that the router knows.
    Known,
    /// Each of its own.
    New,
}

impl Flow {
    pub(super) const BOTH: [Self; 2] = [Self::Known, Self::New];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::New => "new",
        }
    }
}

/// How a burst went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Burst {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// From the first send to the last arrival.
    pub(super) took: Duration,
}

/// The sockets at both ends. One thread sends and receives: what a datagram costs is all on one processor, and none
/// waits for another to wake up.
#[derive(Debug)]
pub(super) struct Flood {
    known: UdpSocket,
    new: Vec<UdpSocket>,
    sink: UdpSocket,
}

impl Flood {
    /// Opens them in their namespaces.
    pub(super) fn open(lab: &Lab) -> Result<Self> {
        let needed = u64::from(NEW) + 256;
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: Some(needed) })?;
        let sink = lab.namespace("container")?.inside(|| {
            let sink = UdpSocket::bind((SINK, PORT)).context("nobody can receive")?;
            sockopt::set_socket_recv_buffer_size_force(&sink, 16 << 20)?;
            sink.set_nonblocking(true)?;
            Ok(sink)
        })?;
        let mut senders = lab.namespace("client")?.inside(|| {
            let sender = |number| {
                let socket = UdpSocket::bind((CLIENT, FROM + number)).context("nobody can send")?;
                socket.connect((SINK, PORT))?;
                Ok(socket)
            };
            (0..=NEW).map(sender).collect::<Result<Vec<_>>>()
        })?;
        let known = senders.pop().context("a socket")?;
        Ok(Self { known, new: senders, sink })
    }

    /// Sends at most `most` datagrams for at most `within`, and waits for them. New connections must be forgotten by the
    /// router before.
    pub(super) fn burst(&self, flow: Flow, most: u64, within: Duration) -> Result<Burst> {
        processor::alone(|| match flow {
            Flow::Known => self.of_known(most, within),
            Flow::New => self.of_new(most, within),
        })
    }

    /// Sends `count` datagrams, one every `interval`.
    pub(super) fn paced(&self, flow: Flow, count: u64, interval: Duration) -> Result<Burst> {
        let mut burst = Burst::default();
        let begun = Instant::now();
        for new in self.new.iter().cycle().take(count.try_into()?) {
            let socket = if flow == Flow::New { new } else { &self.known };
            socket.send(&PAYLOAD).context("the datagram is not sent")?;
            burst.sent += 1;
            std::thread::sleep(interval);
            self.take(&mut burst, begun)?;
        }
        self.settle(&mut burst, begun)?;
        Ok(burst)
    }

    fn of_known(&self, most: u64, within: Duration) -> Result<Burst> {
        let slices = [IoSlice::new(&PAYLOAD)];
        let mut controls: Vec<_> = (0..BATCH).map(|_| SendAncillaryBuffer::default()).collect();
        let mut batch: Vec<_> = controls.iter_mut().map(|control| MMsgHdr::new(&slices, control)).collect();
        let mut burst = Burst::default();
        let begun = Instant::now();
        while burst.sent < most && begun.elapsed() < within {
            let sent = sendmmsg(&self.known, &mut batch, SendFlags::empty()).context("nothing is sent")?;
            burst.sent += sent as u64;
            self.take(&mut burst, begun)?;
            if burst.sent - burst.received > WINDOW {
                self.settle(&mut burst, begun)?;
            }
        }
        self.settle(&mut burst, begun)?;
        Ok(burst)
    }

    fn of_new(&self, most: u64, within: Duration) -> Result<Burst> {
        let mut burst = Burst::default();
        let begun = Instant::now();
        for socket in &self.new {
            if burst.sent >= most || begun.elapsed() >= within {
                break;
            }
            socket.send(&PAYLOAD).context("the datagram is not sent")?;
            burst.sent += 1;
            self.take(&mut burst, begun)?;
        }
        self.settle(&mut burst, begun)?;
        Ok(burst)
    }

    /// Receives what is there.
    fn take(&self, burst: &mut Burst, begun: Instant) -> Result<()> {
        let mut buffer = [0; 64];
        let before = burst.received;
        while burst.received < burst.sent {
            match self.sink.recv(&mut buffer) {
                Ok(_) => burst.received += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("nothing is received"),
            }
        }
        if burst.received > before {
            burst.took = begun.elapsed();
        }
        Ok(())
    }

    /// Receives until all is there, or nothing comes any more.
    fn settle(&self, burst: &mut Burst, begun: Instant) -> Result<()> {
        let mut quiet = Instant::now();
        while burst.received < burst.sent && quiet.elapsed() < PATIENCE {
            let before = burst.received;
            self.take(burst, begun)?;
            if burst.received > before {
                quiet = Instant::now();
            } else {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}
