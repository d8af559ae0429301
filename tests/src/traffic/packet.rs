//! Packets as no decent host would send them, straight to a device.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, PacketBuilder,
    TcpHeader, TcpOptionElement::Timestamp,
};
use pnet_datalink::{Channel, Config, MacAddr, NetworkInterface};
use serde_json::json;

use super::say;

/// Where the IP header begins in a frame.
const IP: usize = 14;

/// What to send.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The device.
    #[arg(long)]
    device: String,
    /// Link-layer destination; without it that of the other end of the scenario's link.
    #[arg(long)]
    link: Option<MacAddr>,
    /// Source address and port.
    #[arg(long)]
    from: SocketAddr,
    /// Destination address and port.
    #[arg(long)]
    to: SocketAddr,
    /// `tcp`, `udp`, `icmp` (an echo request), or a number.
    #[arg(long, default_value = "udp")]
    proto: String,
    /// TCP flags.
    #[arg(long, value_delimiter = ',', default_value = "syn")]
    flags: Vec<String>,
    /// TCP sequence number.
    #[arg(long, default_value_t = 1000)]
    seq: u32,
    /// TCP acknowledgement number.
    #[arg(long, default_value_t = 0)]
    ack: u32,
    /// TCP timestamp option.
    #[arg(long)]
    timestamp: Option<u32>,
    /// TTL or hop limit.
    #[arg(long, default_value_t = 64)]
    ttl: u8,
    /// Bytes behind the transport header.
    #[arg(long, default_value_t = 10)]
    payload: usize,
    /// IPv4: do not fragment.
    #[arg(long)]
    dont_fragment: bool,
    /// IPv4 identification.
    #[arg(long, default_value_t = 1)]
    id: u16,
    /// IPv4: a fragment that begins at this many bytes; behind 0 it has no transport header.
    #[arg(long)]
    fragment: Option<u16>,
    /// IPv4: the last fragment.
    #[arg(long)]
    last: bool,
    /// IPv4: a loose source route by this address.
    #[arg(long)]
    source_route: Option<Ipv4Addr>,
    /// What is wrong with it.
    #[arg(long)]
    spoil: Vec<Spoil>,
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// Milliseconds between two of them.
    #[arg(long, default_value_t = 0)]
    interval: u64,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spoil {
    /// The checksum of the IPv4 header.
    IpChecksum,
    /// The checksum of the transport header.
    Checksum,
    /// The version of IP.
    Version,
    /// The IP header tells of more than there is.
    Length,
    /// The packet ends within its transport header.
    Short,
}

/// Sends it.
pub(super) fn send(args: &Args) -> Result<()> {
    let device = pnet_datalink::interfaces()
        .into_iter()
        .find(|device| device.name == args.device)
        .with_context(|| format!("there is no device {}", args.device))?;
    let frame = frame(args, &device)?;
    let Channel::Ethernet(mut sender, _) = pnet_datalink::channel(&device, Config::default())? else {
        bail!("{} is no Ethernet device", args.device);
    };
    for number in 0..args.count {
        if number > 0 {
            std::thread::sleep(Duration::from_millis(args.interval));
        }
        sender.send_to(&frame, None).context("the device takes none")??;
    }
    say(&json!({"sent": args.count, "bytes": frame.len()}));
    Ok(())
}

fn frame(args: &Args, device: &NetworkInterface) -> Result<Vec<u8>> {
    let own = device.mac.with_context(|| format!("{} has no link-layer address", device.name))?;
    // The topologies number both ends of a link alike but for the last bit.
    let mut other = own;
    other.5 ^= 1;
    let link = args.link.unwrap_or(other);
    let mut frame = Vec::new();
    let mut payload: Vec<u8> = (0..args.payload).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
    let builder = PacketBuilder::ethernet2(own.octets(), link.octets()).ip(ip(args)?);
    let (from, to) = (args.from.port(), args.to.port());
    if args.fragment.is_some_and(|offset| offset > 0) {
        builder.write(&mut frame, IpNumber(number(args)?), &payload)?;
        return Ok(frame);
    }
    match (args.proto.as_str(), args.to.ip()) {
        ("tcp", _) => builder.tcp_header(tcp(args)?).write(&mut frame, &payload)?,
        ("udp", _) => builder.udp(from, to).write(&mut frame, &payload)?,
        ("icmp", IpAddr::V4(_)) => builder.icmpv4_echo_request(from, to).write(&mut frame, &payload)?,
        ("icmp", IpAddr::V6(_)) => builder.icmpv6_echo_request(from, to).write(&mut frame, &payload)?,
        _ => {
            // Ports where those of the transport protocols are.
            payload.splice(0..0, [from.to_be_bytes(), to.to_be_bytes()].concat());
            builder.write(&mut frame, IpNumber(number(args)?), &payload)?;
        }
    }
    for fault in &args.spoil {
        spoil(&mut frame, *fault, args)?;
    }
    Ok(frame)
}

fn ip(args: &Args) -> Result<IpHeaders> {
    Ok(match (args.from.ip(), args.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = Ipv4Header::new(0, args.ttl, IpNumber(0), from.octets(), to.octets())?;
            header.identification = args.id;
            header.dont_fragment = args.dont_fragment;
            if let Some(offset) = args.fragment {
                header.fragment_offset = IpFragOffset::try_new(offset / 8)?;
                header.more_fragments = !args.last;
            }
            if let Some(by) = args.source_route {
                let [a, b, c, d] = by.octets();
                // RFC 791, section 3.1: type, length, pointer; and the end of the options.
                header.options = [131, 7, 4, a, b, c, d, 0].into();
            }
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let header = Ipv6Header { hop_limit: args.ttl, source, destination, ..Ipv6Header::default() };
            IpHeaders::Ipv6(header, Ipv6Extensions::default())
        }
        _ => bail!("--from and --to are of two families"),
    })
}

fn tcp(args: &Args) -> Result<TcpHeader> {
    let mut header = TcpHeader::new(args.from.port(), args.to.port(), args.seq, 64_000);
    header.acknowledgment_number = args.ack;
    for flag in &args.flags {
        match flag.as_str() {
            "fin" => header.fin = true,
            "syn" => header.syn = true,
            "rst" => header.rst = true,
            "psh" => header.psh = true,
            "ack" => header.ack = true,
            "urg" => header.urg = true,
            "none" => {}
            other => bail!("TCP has no flag {other}"),
        }
    }
    if let Some(value) = args.timestamp {
        header.set_options(&[Timestamp(value, 0)])?;
    }
    Ok(header)
}

fn number(args: &Args) -> Result<u8> {
    Ok(match (args.proto.as_str(), args.to.ip()) {
        ("tcp", _) => 6,
        ("udp", _) => 17,
        ("icmp", IpAddr::V4(_)) => 1,
        ("icmp", IpAddr::V6(_)) => 58,
        (number, _) => number.parse().with_context(|| format!("there is no protocol {number}"))?,
    })
}

fn spoil(frame: &mut Vec<u8>, fault: Spoil, args: &Args) -> Result<()> {
    let v4 = args.to.is_ipv4();
    let transport = IP + if v4 { 20 } else { 40 };
    match fault {
        Spoil::IpChecksum if v4 => frame[IP + 10] ^= 0x55,
        Spoil::IpChecksum => bail!("IPv6 headers have no checksum"),
        Spoil::Checksum => {
            let within = match args.proto.as_str() {
                "tcp" => 16,
                "udp" => 6,
                "icmp" => 2,
                other => bail!("where {other} has its checksum is not known"),
            };
            frame[transport + within] ^= 0x55;
        }
        Spoil::Version => frame[IP] = 0x50 | (frame[IP] & 0x0f),
        Spoil::Length => set_length(frame, v4, 200)?,
        Spoil::Short => {
            frame.truncate(transport + 4);
            set_length(frame, v4, 0)?;
        }
    }
    Ok(())
}

/// Has the IP header tell of `more` bytes than the frame has.
fn set_length(frame: &mut [u8], v4: bool, more: usize) -> Result<()> {
    let length = u16::try_from(frame.len() - IP + more)?;
    if v4 {
        frame[IP + 2..IP + 4].copy_from_slice(&length.to_be_bytes());
        let (header, _) = Ipv4Header::from_slice(&frame[IP..])?;
        frame[IP + 10..IP + 12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    } else {
        frame[IP + 4..IP + 6].copy_from_slice(&(length - 40).to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn bytes(line: &str) -> Vec<u8> {
        let line = format!("packet --device eth0 {line}");
        let args = Cli::parse_from(line.split_whitespace()).args;
        let device = NetworkInterface {
            name: "eth0".into(),
            description: String::new(),
            index: 1,
            mac: Some(MacAddr(2, 0, 0, 0, 0, 0)),
            ips: Vec::new(),
            flags: 0,
        };
        frame(&args, &device).unwrap()
    }

    fn header_is_sound(frame: &[u8]) -> bool {
        let (header, _) = Ipv4Header::from_slice(&frame[IP..]).unwrap();
        header.calc_header_checksum() == header.header_checksum
    }

    #[test]
    fn faults_are_the_only_ones() {
        let sound = bytes("--from 10.0.0.1:1 --to 10.0.0.2:2");
        assert!(header_is_sound(&sound));
        assert_eq!(sound[..6], [2, 0, 0, 0, 0, 1]);
        assert_eq!(sound.len(), 14 + 20 + 8 + 10);
        assert!(!header_is_sound(&bytes("--from 10.0.0.1:1 --to 10.0.0.2:2 --spoil ip-checksum")));
        let long = bytes("--from 10.0.0.1:1 --to 10.0.0.2:2 --spoil length");
        assert!(header_is_sound(&long));
        assert_eq!(u16::from_be_bytes([long[16], long[17]]), 238);
        let spoiled = bytes("--from 10.0.0.1:1 --to 10.0.0.2:2 --spoil checksum");
        let differing: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != spoiled[*at]).collect();
        assert_eq!(differing, [14 + 20 + 6]);
    }

    #[test]
    fn a_source_route_stands_in_the_header() {
        let frame = bytes("--from 10.0.0.1:1 --to 10.0.0.2:2 --source-route 10.0.0.3");
        assert!(header_is_sound(&frame));
        assert_eq!((frame[IP], &frame[IP + 20..IP + 28]), (0x47, &[131, 7, 4, 10, 0, 0, 3, 0][..]));
    }

    #[test]
    fn fragments_behind_the_first_have_no_ports() {
        let frame = bytes("--from 10.0.0.1:1 --to 10.0.0.2:2 --fragment 16 --last --payload 8");
        assert_eq!(frame.len(), 14 + 20 + 8);
        assert_eq!(frame[20..22], [0, 2]);
        assert_eq!(frame[23], 17);
    }
}
