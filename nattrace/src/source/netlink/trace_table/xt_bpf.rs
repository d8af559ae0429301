//! The `bpf` match of x_tables (net/netfilter/xt_bpf.c) within nf_tables (net/netfilter/nft_compat.c): a rule that
//! asks a loaded program about each packet.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::source::netlink::attribute::AttributeWriter;
use crate::source::netlink::constants as c;
use crate::source::netlink::message::{ACK, Messages, netfilter_request};
use crate::source::netlink::socket::{NetlinkSocket, OpenError, Received};

/// The name of the match.
pub(super) const NAME: &str = "bpf";
/// The revision that takes programs by descriptor, Linux 4.8.
pub(super) const REVISION: u32 = 1;
/// `XT_BPF_MODE_FD_ELF`: of a program that was loaded by `bpf(2)`.
const BY_DESCRIPTOR: u16 = 2;
/// `sizeof(struct xt_bpf_info_v1)`: mode, number of instructions, descriptor, 512 bytes for other modes, a pointer of
/// the kernel's own.
const INFO_BYTES: usize = 528;
/// Loading a module takes its time, on a busy machine seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// `struct xt_bpf_info_v1`.
pub(super) fn info(program: RawFd) -> Vec<u8> {
    let mut info = Vec::with_capacity(INFO_BYTES);
    info.extend(BY_DESCRIPTOR.to_ne_bytes());
    info.extend([0, 0]);
    info.extend(program.to_ne_bytes());
    info.resize(INFO_BYTES, 0);
    info
}

/// Has the kernel load what the match needs. For a table of the inet family it would not by itself: it knows the
/// module by its IPv4 and IPv6 names alone (net/netfilter/x_tables.c `xt_request_find_match`).
pub(super) fn request_modules() -> Result<(), OpenError> {
    let mut w = AttributeWriter::new();
    w.text(c::NFTA_COMPAT_NAME, NAME).be32(c::NFTA_COMPAT_REV, REVISION);
    w.be32(c::NFTA_COMPAT_TYPE, c::NFT_COMPAT_MATCH);
    let request =
        netfilter_request(c::NFNL_SUBSYS_NFT_COMPAT, c::NFNL_MSG_COMPAT_GET, ACK, c::NFPROTO_IPV4, &w);
    let mut socket = NetlinkSocket::open()?;
    socket.send(&request)?;
    loop {
        match socket.receive_within(ANSWER_TIMEOUT)? {
            Received::Item(datagram) => {
                for message in Messages::new(datagram) {
                    match message.answer().map(|answer| answer.errno) {
                        Some(0) => return Ok(()),
                        Some(errno) => return Err(io::Error::from_raw_os_error(errno).into()),
                        None => {}
                    }
                }
            }
            Received::Empty | Received::Lost => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_has_the_kernels_size_and_the_descriptor_in_its_place() {
        let info = info(0x0102_0304);
        assert_eq!(info.len(), 528);
        assert_eq!(info[..4], [2_u16.to_ne_bytes(), [0, 0]].concat());
        assert_eq!(info[4..8], 0x0102_0304_i32.to_ne_bytes());
    }
}
