//! NFQUEUE: a program in user space that decides over packets (nfnetlink_queue,
//! include/uapi/linux/netfilter/nfnetlink_queue.h, v6.12).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use serde_json::json;

use super::say;

/// `NFNL_SUBSYS_QUEUE << 8`, and the messages of that subsystem.
const SUBSYSTEM: u16 = 3 << 8;
const MSG_PACKET: u16 = SUBSYSTEM;
const MSG_VERDICT: u16 = SUBSYSTEM | 1;
const MSG_CONFIG: u16 = SUBSYSTEM | 2;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// `NFQA_CFG_CMD` with `NFQNL_CFG_CMD_BIND`, `NFQA_CFG_PARAMS` with `NFQNL_COPY_PACKET`, `NFQA_CFG_QUEUE_MAXLEN`.
const CFG_CMD: u16 = 1;
const CFG_PARAMS: u16 = 2;
const CFG_QUEUE_MAXLEN: u16 = 3;
const CMD_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
/// Attributes of packets and verdicts.
const PACKET_HDR: u16 = 1;
const VERDICT_HDR: u16 = 2;
const PAYLOAD: u16 = 10;
/// nlmsghdr and nfgenmsg.
const HEADERS: usize = 20;

/// What [`read`] must do.
pub(super) struct Reader {
    /// The queue.
    pub(super) number: u16,
    /// `NF_DROP` instead of `NF_ACCEPT`.
    pub(super) refuse: bool,
    /// Answer only when told so by SIGUSR1.
    pub(super) hold: bool,
    /// Packets that may wait at a time.
    pub(super) most: Option<u32>,
    /// A source address to be written into them.
    pub(super) source: Option<Ipv4Addr>,
}

/// Answers for the packets of a queue until killed.
pub(super) fn read(reader: &Reader) -> Result<()> {
    let released = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&released))?;
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))
        .context("no netfilter netlink socket")?;
    configure(&socket, reader)?;
    say(&json!({"event": "listening", "queue": reader.number}));
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(20)))?;
    let mut held = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        if released.swap(false, Ordering::Relaxed) {
            for packet in &held {
                answer(&socket, reader, packet)?;
            }
            say(&json!({"event": "released", "packets": held.len()}));
            held.clear();
        }
        let length = match net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(error) => return Err(error).context("recv failed"),
        };
        let packet = packet(&buffer[..length])?;
        say(&json!({"event": "queued", "peer": source(&packet.payload), "bytes": packet.payload.len()}));
        if reader.hold {
            held.push(packet);
        } else {
            answer(&socket, reader, &packet)?;
        }
    }
}

/// A packet in the queue.
#[derive(Debug, PartialEq, Eq)]
struct Queued {
    id: [u8; 4],
    payload: Vec<u8>,
}

fn configure(socket: &OwnedFd, reader: &Reader) -> Result<()> {
    let bind = attribute(CFG_CMD, &[CMD_BIND, 0, 0, 0]);
    let mut copy = attribute(CFG_PARAMS, &[0, 0, 0xff, 0xff, COPY_PACKET]);
    if let Some(most) = reader.most {
        copy.extend(attribute(CFG_QUEUE_MAXLEN, &most.to_be_bytes()));
    }
    for attributes in [bind, copy] {
        send(socket, MSG_CONFIG, NLM_F_REQUEST | NLM_F_ACK, reader.number, &attributes)?;
        let mut reply = [0; 1024];
        let (length, _) = net::recv(socket, reply.as_mut_slice(), RecvFlags::empty())?;
        let (kind, body) = message(&reply[..length])?;
        // nlmsgerr begins where nfgenmsg would.
        let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        if kind != NLMSG_ERROR || code != 0 {
            bail!("queue {} cannot be had: {}", reader.number, std::io::Error::from_raw_os_error(-code));
        }
    }
    Ok(())
}

fn answer(socket: &OwnedFd, reader: &Reader, packet: &Queued) -> Result<()> {
    let verdict = u32::from(!reader.refuse).to_be_bytes();
    let mut attributes = attribute(VERDICT_HDR, &[verdict, packet.id].concat());
    if let Some(source) = reader.source {
        let mut payload = packet.payload.clone();
        write_source(&mut payload, source)?;
        attributes.extend(attribute(PAYLOAD, &payload));
    }
    send(socket, MSG_VERDICT, NLM_F_REQUEST, reader.number, &attributes)
}

/// nlmsghdr, nfgenmsg with the queue as its resource, attributes.
fn send(socket: &OwnedFd, kind: u16, flags: u16, queue: u16, attributes: &[u8]) -> Result<()> {
    let mut bytes = u32::try_from(HEADERS + attributes.len())?.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([0, 0]);
    bytes.extend(queue.to_be_bytes());
    bytes.extend(attributes);
    net::send(socket, &bytes, SendFlags::empty()).context("send failed")?;
    Ok(())
}

/// A netlink attribute, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Type of a message, and what follows its nlmsghdr.
fn message(bytes: &[u8]) -> Result<(u16, &[u8])> {
    match bytes {
        [_, _, _, _, low, high, ..] if bytes.len() >= 16 => {
            Ok((u16::from_ne_bytes([*low, *high]), &bytes[16..]))
        }
        _ => bail!("{} bytes are no netlink message", bytes.len()),
    }
}

fn packet(bytes: &[u8]) -> Result<Queued> {
    let (kind, body) = message(bytes)?;
    if kind != MSG_PACKET {
        bail!("the queue sent a message of type {kind:#x}");
    }
    let mut packet = Queued { id: [0; 4], payload: Vec::new() };
    let mut rest = body.get(4..).unwrap_or_default();
    while let [a, b, c, d, ..] = rest {
        let (length, kind) = (usize::from(u16::from_ne_bytes([*a, *b])), u16::from_ne_bytes([*c, *d]));
        let Some(value) = rest.get(4..length) else { bail!("an attribute of {length} bytes") };
        match kind {
            PACKET_HDR => packet.id = *value.first_chunk().context("a packet without an id")?,
            PAYLOAD => packet.payload = value.to_vec(),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(packet)
}

/// Source of an IPv4 packet with ports and no options.
fn source(payload: &[u8]) -> Option<SocketAddrV4> {
    let address = payload.get(12..)?.first_chunk::<4>()?;
    let port = payload.get(20..)?.first_chunk::<2>()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(*address), u16::from_be_bytes(*port)))
}

/// Writes the source of a UDP datagram over IPv4, as programs do who know both checksums (RFC 1624; RFC 768: 0 is none).
fn write_source(payload: &mut [u8], source: Ipv4Addr) -> Result<()> {
    let Some(header) = payload.first_chunk_mut::<28>() else { bail!("no UDP datagram is that short") };
    header[12..16].copy_from_slice(&source.octets());
    header[10..12].fill(0);
    let mut sum =
        header[..20].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!u16::try_from(sum)?).to_be_bytes());
    header[26..28].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty datagram from 10.2.1.2:40000 to 192.168.70.10:22, as the kernel sends it (`ip id 0`, DF).
    fn datagram() -> Vec<u8> {
        let mut bytes =
            vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0x27, 0x68, 10, 2, 1, 2, 192, 168, 70, 10];
        bytes.extend([0x9c, 0x40, 0, 22, 0, 8, 0x12, 0x34]);
        bytes
    }

    #[test]
    fn a_message_of_the_queue_is_read() {
        let mut bytes = vec![0; HEADERS];
        bytes[4..6].copy_from_slice(&MSG_PACKET.to_ne_bytes());
        bytes.extend(attribute(PACKET_HDR, &[0, 0, 0, 9, 8, 0, 2]));
        bytes.extend(attribute(PAYLOAD, &datagram()));
        let queued = packet(&bytes).expect("a packet");
        assert_eq!(queued, Queued { id: [0, 0, 0, 9], payload: datagram() });
        assert_eq!(source(&queued.payload), Some(SocketAddrV4::new([10, 2, 1, 2].into(), 40000)));
    }

    #[test]
    fn a_written_header_sums_to_nothing() {
        let mut bytes = datagram();
        write_source(&mut bytes, [10, 9, 9, 9].into()).expect("a datagram");
        let sum: u32 = bytes[..20].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(source(&bytes).map(|peer| *peer.ip()), Some([10, 9, 9, 9].into()));
    }
}
