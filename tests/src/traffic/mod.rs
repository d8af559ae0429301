//! Traffic: clients and servers that say in JSON Lines what they did and what they saw.
//!
//! They are sub-commands of this program, run inside the namespaces, so that a scenario needs no other
//! network tool and its servers are witnesses that can be read.

mod deaf;
mod otlp;
mod packet;
mod ping;
mod queue;
pub(crate) mod random;
mod tcp;
mod udp;
pub(crate) mod xdp;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

/// What to generate.
#[derive(Debug, Subcommand)]
pub(crate) enum Traffic {
    /// Accept connections and send back what they bring.
    TcpServer {
        /// Where to listen.
        listen: SocketAddr,
        /// SCTP instead of TCP.
        #[arg(long)]
        sctp: bool,
    },
    /// Receive datagrams and send them back.
    UdpServer {
        /// Where to listen.
        listen: SocketAddr,
        /// Do not answer.
        #[arg(long)]
        sink: bool,
    },
    /// Connect, exchange one line, close.
    TcpConnect {
        /// Where to.
        to: SocketAddr,
        /// From which address and port.
        #[arg(long)]
        from: Option<SocketAddr>,
        /// How long to try, in seconds.
        #[arg(long, default_value_t = 2.0)]
        timeout: f64,
        /// SCTP instead of TCP.
        #[arg(long)]
        sctp: bool,
        /// So many bytes more, at once, and back.
        #[arg(long, default_value_t = 0)]
        more: usize,
    },
    /// Send datagrams from one socket and count what comes back.
    UdpSend {
        /// Where to.
        to: SocketAddr,
        /// From which address and port.
        #[arg(long)]
        from: Option<SocketAddr>,
        /// How many; 0 is without end.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Milliseconds between two datagrams.
        #[arg(long, default_value_t = 10)]
        interval: u64,
        /// What the datagrams hold.
        #[arg(long, default_value = "hello")]
        payload: String,
        /// How long to wait for answers after the last one, in seconds.
        #[arg(long, default_value_t = 0.5)]
        timeout: f64,
    },
    /// Send many datagrams of one shape at once, told apart by source port or by length.
    UdpBurst {
        /// Where to.
        to: SocketAddr,
        /// The source address.
        #[arg(long)]
        from: IpAddr,
        /// How many.
        #[arg(long)]
        count: u16,
        /// Sent by how many threads at the same time.
        #[arg(long, default_value_t = 4)]
        senders: u16,
        /// Equal source port, lengths 0, 1, 2, …; otherwise equal length, ports FIRST, FIRST+1, ….
        #[arg(long)]
        vary_length: bool,
        /// The (first) source port.
        #[arg(long, default_value_t = 20_000)]
        port: u16,
        /// Microseconds between two datagrams of a sender.
        #[arg(long, default_value_t = 0)]
        pause: u64,
    },
    /// Sockets that do not take what comes.
    Deaf {
        /// `udp 10.0.0.1:7 filter`: protocol, address, and what is wrong: `filter`, `small`, `device=DEVICE`,
        /// `min-ttl=TTL`, `md5=PEER`, `busy`; or `capture`, which gets copies of all packets.
        sockets: Vec<String>,
    },
    /// Take OTLP over HTTP and tell each span.
    OtlpStore {
        /// Where to listen.
        listen: SocketAddr,
    },
    /// Packets as no decent host would send them, straight to a device.
    Packet(packet::Args),
    /// Answer for the packets of an NFQUEUE.
    NfQueue {
        /// Which queue.
        number: u16,
        /// Drop them.
        #[arg(long)]
        refuse: bool,
        /// Answer only when told so by SIGUSR1.
        #[arg(long)]
        hold: bool,
        /// How many packets may wait at a time.
        #[arg(long)]
        most: Option<u32>,
        /// Write this source address into them.
        #[arg(long)]
        source: Option<Ipv4Addr>,
    },
    /// Run an XDP program on what a device takes in.
    Xdp {
        /// The device.
        device: String,
        /// Which program.
        program: xdp::Program,
        /// How it is attached.
        mode: xdp::Mode,
    },
    /// ICMP echo requests.
    Ping {
        /// Where to.
        to: IpAddr,
        /// How many.
        #[arg(long, default_value_t = 1)]
        count: u16,
        /// How long to wait for each answer, in seconds.
        #[arg(long, default_value_t = 1.0)]
        timeout: f64,
    },
}

/// Does it.
pub(crate) fn run(traffic: Traffic) -> Result<()> {
    match traffic {
        Traffic::TcpServer { listen, sctp } => tcp::serve(listen, sctp),
        Traffic::UdpServer { listen, sink } => udp::serve(listen, !sink),
        Traffic::TcpConnect { to, from, timeout, sctp, more } => {
            tcp::connect(to, from, Duration::from_secs_f64(timeout), sctp, more)
        }
        Traffic::UdpSend { to, from, count, interval, payload, timeout } => udp::send(&udp::Send {
            to,
            from,
            count,
            interval: Duration::from_millis(interval),
            payload: payload.into_bytes(),
            timeout: Duration::from_secs_f64(timeout),
        }),
        Traffic::UdpBurst { to, from, count, senders, vary_length, port, pause } => {
            let pause = Duration::from_micros(pause);
            udp::burst(&udp::Burst { to, from, count, senders, vary_length, port, pause })
        }
        Traffic::Deaf { sockets } => deaf::keep(&sockets),
        Traffic::OtlpStore { listen } => otlp::store(listen),
        Traffic::Packet(args) => packet::send(&args),
        Traffic::NfQueue { number, refuse, hold, most, source } => {
            queue::read(&queue::Reader { number, refuse, hold, most, source })
        }
        Traffic::Xdp { device, program, mode } => xdp::attach(&device, program, mode),
        Traffic::Ping { to, count, timeout } => ping::ping(to, count, Duration::from_secs_f64(timeout)),
    }
}

pub(crate) use tcp::has_sctp;

/// Prints one JSON line at once: the runner reads the file while this process still runs.
fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    // A runner that is gone needs no answer.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}
