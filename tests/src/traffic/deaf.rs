//! Sockets that do not take what comes to them, each for a reason of its own.

#![expect(unsafe_code, reason = "these socket options have no wrapper in the crates that this one uses")]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::net::{self, AddressFamily, Protocol, SocketType, sockopt};
use serde_json::json;

use super::say;

/// What is wrong with a socket.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// Its filter refuses everything.
    Filter,
    /// Hardly anything fits into its buffer.
    Small,
    /// It takes only what comes in by this device.
    Device(String),
    /// It takes only packets with this TTL or more.
    MinTtl(u8),
    /// It wants segments of this peer signed.
    Md5(IpAddr),
    /// It never accepts, and one connection may wait.
    Busy,
    /// It has been in a connection with this peer since before the scenario, and may be sent only so many bytes.
    Established { peer: SocketAddr, window: Option<u32> },
}

/// The connection's next sequence number from the peer, and the next of this end.
const RECEIVED: u32 = 1000;
const SENT: u32 = 2000;

/// A socket, as `udp 10.0.0.1:7 filter` tells it.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    tcp: bool,
    listen: SocketAddr,
    fault: Fault,
}

/// Opens the sockets (`capture`: one that gets a copy of every packet) and keeps them until killed, reading nothing.
pub(super) fn keep(sockets: &[String]) -> Result<()> {
    let mut kept = Vec::new();
    for text in sockets {
        let socket = if text == "capture" {
            // ETH_P_ALL, network byte order.
            let all = Protocol::from_raw(std::num::NonZeroU32::new(0x0300).context("is not zero")?);
            net::socket(AddressFamily::PACKET, SocketType::RAW, Some(all))?
        } else {
            open(&parse(text)?).with_context(|| format!("no socket `{text}`"))?
        };
        kept.push(socket);
    }
    say(&json!({"event": "listening", "local": sockets}));
    loop {
        std::thread::park();
    }
}

fn parse(text: &str) -> Result<Plan> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [protocol, listen, fault] = words[..] else { bail!("`{text}` is not PROTOCOL ADDRESS FAULT") };
    let fault = match fault.split_once('=') {
        Some(("device", device)) => Fault::Device(device.to_owned()),
        Some(("min-ttl", ttl)) => Fault::MinTtl(ttl.parse()?),
        Some(("md5", peer)) => Fault::Md5(peer.parse()?),
        Some(("established", peer)) => {
            let (peer, window) =
                peer.split_once('/').map_or((peer, None), |(peer, window)| (peer, Some(window)));
            Fault::Established { peer: peer.parse()?, window: window.map(str::parse).transpose()? }
        }
        _ if fault == "filter" => Fault::Filter,
        _ if fault == "small" => Fault::Small,
        _ if fault == "busy" => Fault::Busy,
        _ => bail!("there is no fault `{fault}`"),
    };
    Ok(Plan { tcp: protocol == "tcp", listen: listen.parse()?, fault })
}

fn open(plan: &Plan) -> Result<OwnedFd> {
    let family = if plan.listen.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if plan.tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = net::socket(family, kind, None)?;
    match &plan.fault {
        Fault::Filter => {
            // BPF_RET | BPF_K, 0: keep no byte.
            let code = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
            let program = libc::sock_fprog { len: 1, filter: code.as_ptr().cast_mut() };
            set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        }
        Fault::Small => sockopt::set_socket_recv_buffer_size(&socket, 1)?,
        Fault::Device(device) => {
            let mut name = [0_u8; 16];
            name.iter_mut().zip(device.bytes()).for_each(|(to, from)| *to = from);
            set(&socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)?;
        }
        Fault::MinTtl(ttl) => set(&socket, libc::IPPROTO_IP, libc::IP_MINTTL, &libc::c_int::from(*ttl))?,
        Fault::Md5(peer) => set(&socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &signature(*peer)?)?,
        Fault::Busy => {}
        Fault::Established { .. } => set(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &1_i32)?,
    }
    net::bind(&socket, &plan.listen)?;
    if let Fault::Established { peer, window } = plan.fault {
        establish(&socket, peer, window)?;
    } else if plan.tcp {
        net::listen(&socket, 0)?;
    }
    Ok(socket)
}

/// Puts a socket under repair into a connection that nobody opened (`do_tcp_setsockopt`, net/ipv4/tcp.c, v6.12).
fn establish(socket: &OwnedFd, peer: SocketAddr, window: Option<u32>) -> Result<()> {
    /// include/uapi/linux/tcp.h: `TCP_RECV_QUEUE`, `TCP_SEND_QUEUE`, `TCP_REPAIR_OFF_NO_WP`; net/tcp.h:
    /// `TCPOPT_TIMESTAMP`.
    const RECV_QUEUE: i32 = 1;
    const SEND_QUEUE: i32 = 2;
    const OFF: i32 = -1;
    const TIMESTAMP: u32 = 8;
    for (queue, next) in [(SEND_QUEUE, SENT), (RECV_QUEUE, RECEIVED)] {
        set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, &queue)?;
        set(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, &next)?;
    }
    net::connect(socket, &peer)?;
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, &[TIMESTAMP, 0])?;
    if let Some(window) = window {
        // struct tcp_repair_window: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup.
        set(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR_WINDOW,
            &[RECEIVED, 1 << 16, 1 << 16, window, RECEIVED],
        )?;
    }
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &OFF)
}

/// `struct tcp_md5sig` (include/uapi/linux/tcp.h): an address, then flags, prefix, length of the key, device, key.
fn signature(peer: IpAddr) -> Result<[u8; 216]> {
    let IpAddr::V4(peer) = peer else { bail!("only IPv4 peers are known") };
    let mut bytes = [0; 216];
    bytes[..2].copy_from_slice(&u16::try_from(libc::AF_INET)?.to_ne_bytes());
    bytes[4..8].copy_from_slice(&peer.octets());
    let key = b"secret";
    bytes[130..132].copy_from_slice(&u16::try_from(key.len())?.to_ne_bytes());
    bytes[136..136 + key.len()].copy_from_slice(key);
    Ok(bytes)
}

fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).context("options are small")?;
    // SAFETY: the kernel reads `size` bytes of `value`, which outlives the call.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), size) };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("setsockopt failed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_told_in_three_words() {
        let listen = "10.0.0.1:7".parse().expect("an address");
        let plan = parse("udp 10.0.0.1:7 device=lo").expect("it is one");
        assert_eq!(plan, Plan { tcp: false, listen, fault: Fault::Device("lo".to_owned()) });
        let plan = parse("tcp 10.0.0.1:7 min-ttl=255").expect("it is one");
        assert_eq!(plan, Plan { tcp: true, listen, fault: Fault::MinTtl(255) });
        let plan = parse("tcp 10.0.0.1:7 established=10.0.0.2:5/100").expect("it is one");
        let peer = "10.0.0.2:5".parse().expect("an address");
        assert_eq!(plan, Plan { tcp: true, listen, fault: Fault::Established { peer, window: Some(100) } });
        assert!(parse("tcp 10.0.0.1:7").is_err());
        assert!(parse("tcp 10.0.0.1:7 odd").is_err());
    }
}
