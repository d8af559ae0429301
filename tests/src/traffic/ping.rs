//! ICMP echo over raw sockets: identifiers and sequence numbers are ours, and no ping program is needed.

use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use serde_json::json;

use super::say;

/// The identifier of all our requests: ICMP has no ports, and scenarios like to know it.
const IDENTIFIER: u16 = 0x4e54;

/// Sends `count` requests, waits up to `timeout` for the answer of each, and tells how many came.
pub(super) fn ping(to: IpAddr, count: u16, timeout: Duration) -> Result<()> {
    let (family, protocol, request, reply, skip) = match to {
        // IPv4 raw sockets give the IP header too: 20 bytes, as we ask for no options.
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129, 0),
    };
    let socket = net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
        .context("no raw socket: this needs root")?;
    let mut replies = 0;
    for sequence in 1..=count {
        let packet = echo_request(request, sequence);
        match net::sendto(&socket, &packet, SendFlags::empty(), &SocketAddr::new(to, 0)) {
            // Dropped by an output chain: the kernel tells the sender, who goes on.
            Ok(_) | Err(Errno::PERM) => {}
            Err(error) => return Err(error).with_context(|| format!("sending to {to}")),
        }
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(left))?;
            let mut buffer = [MaybeUninit::uninit(); 2048];
            match net::recv(&socket, &mut buffer, RecvFlags::empty()) {
                Ok(((received, _), _)) if answers(&received[skip.min(received.len())..], reply, sequence) => {
                    replies += 1;
                    break;
                }
                // Raw sockets see everybody's ICMP.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error).context("recv failed"),
            }
        }
    }
    say(&json!({"sent": count, "replies": replies, "identifier": IDENTIFIER}));
    Ok(())
}

/// An echo request with its checksum (which the kernel overwrites for ICMPv6).
fn echo_request(kind: u8, sequence: u16) -> Vec<u8> {
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(IDENTIFIER.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(*b"nattrace");
    let sum = checksum(&packet).to_be_bytes();
    packet[2..4].copy_from_slice(&sum);
    packet
}

fn answers(message: &[u8], kind: u8, sequence: u16) -> bool {
    message.len() >= 8
        && message[0] == kind
        && message[4..6] == IDENTIFIER.to_be_bytes()
        && message[6..8] == sequence.to_be_bytes()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correct_message_sums_to_zero() {
        let packet = echo_request(8, 7);
        assert_eq!(checksum(&packet), 0);
        let mut damaged = packet;
        damaged[9] ^= 1;
        assert_ne!(checksum(&damaged), 0);
    }

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let mut reply = echo_request(0, 7);
        assert!(answers(&reply, 0, 7));
        assert!(!answers(&reply, 0, 8));
        reply[0] = 8;
        assert!(!answers(&reply, 0, 7));
        assert!(!answers(&reply[..7], 8, 7));
    }
}
