//! XDP programs on a device, small enough to be written down instruction by instruction
//! (include/uapi/linux/bpf.h and if_link.h, v6.12).

#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the crates that this one uses")]

use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::net::{self, AddressFamily, SocketType};
use serde::Deserialize;
use serde_json::json;

use super::say;

/// What a program does with every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Program {
    /// Lets it pass.
    Pass,
    /// Drops it.
    Drop,
    /// Swaps the halves of an IPv4 source, 10.2.1.2 becomes 1.2.10.2: no checksum changes by that.
    SwapSource,
}

/// How a program is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// By the stack, to packets that have a buffer.
    #[default]
    Generic,
    /// The same, by a program that takes packets in several pieces: from 6.9 on it is given a copy.
    GenericFrags,
    /// By the driver.
    Native,
}

/// Opcode, registers (source in the upper half), offset, immediate.
type Instruction = (u8, u8, i16, i32);

const PASS: [Instruction; 2] = [(0xb7, 0x00, 0, 2), (0x95, 0, 0, 0)];
const DROP: [Instruction; 2] = [(0xb7, 0x00, 0, 1), (0x95, 0, 0, 0)];
const SWAP_SOURCE: [Instruction; 15] = [
    // r2 = ctx->data, r3 = ctx->data_end; less than an Ethernet and an IPv4 header: pass.
    (0x61, 0x12, 0, 0),
    (0x61, 0x13, 4, 0),
    (0xbf, 0x24, 0, 0),
    (0x07, 0x04, 0, 34),
    (0x2d, 0x34, 8, 0),
    // Ethertype: not IPv4: pass.
    (0x69, 0x25, 12, 0),
    (0x55, 0x05, 6, 0x0008),
    // The source, turned by 16 bits.
    (0x61, 0x25, 26, 0),
    (0xbc, 0x56, 0, 0),
    (0x64, 0x05, 0, 16),
    (0x74, 0x06, 0, 16),
    (0x4c, 0x65, 0, 0),
    (0x63, 0x52, 26, 0),
    (0xb7, 0x00, 0, 2),
    (0x95, 0, 0, 0),
];

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const F_XDP_HAS_FRAGS: u32 = 1 << 5;
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to `prog_flags`.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct Link {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Runs a program on what `device` takes in, until killed.
pub(super) fn attach(device: &str, program: Program, mode: Mode) -> Result<()> {
    // Before 5.11 programs count as locked memory, of which the lab leaves no more than a login has.
    rustix::process::setrlimit(
        rustix::process::Resource::Memlock,
        rustix::process::Rlimit { current: None, maximum: None },
    )
    .context("no more memory may be locked")?;
    let instructions: &[Instruction] = match program {
        Program::Pass => &PASS,
        Program::Drop => &DROP,
        Program::SwapSource => &SWAP_SOURCE,
    };
    let code: Vec<u8> = instructions.iter().copied().flat_map(encode).collect();
    let load = Load {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: u32::try_from(instructions.len())?,
        insns: code.as_ptr() as u64,
        license: c"".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: if mode == Mode::GenericFrags { F_XDP_HAS_FRAGS } else { 0 },
    };
    let loaded = bpf(BPF_PROG_LOAD, &load).context("the kernel refuses the program")?;
    let any = net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let link = Link {
        prog_fd: u32::try_from(loaded.as_raw_fd())?,
        target_ifindex: net::netdevice::name_to_index(&any, device)
            .with_context(|| format!("no device {device}"))?,
        attach_type: ATTACH_TYPE_XDP,
        flags: if mode == Mode::Native { DRV_MODE } else { SKB_MODE },
    };
    // The kernel takes the program off the device when this is closed.
    let _link = bpf(BPF_LINK_CREATE, &link).with_context(|| format!("{device} does not take the program"))?;
    say(&json!({"event": "listening", "on": device}));
    loop {
        std::thread::park();
    }
}

fn encode((code, registers, offset, immediate): Instruction) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&[code, registers]);
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&immediate.to_ne_bytes());
    bytes
}

/// bpf(2), for commands that give a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> Result<OwnedFd> {
    let attributes = std::ptr::from_ref(attributes);
    // SAFETY: the kernel reads as many bytes as it is told, and what they point to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let fd = i32::try_from(fd)?;
    if fd < 0 {
        return Err(Error::last_os_error().into());
    }
    // SAFETY: a descriptor that the kernel has just made, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
