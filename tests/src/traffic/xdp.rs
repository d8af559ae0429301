//! XDP programs on a device, small enough to be written down instruction by instruction
//! (include/uapi/linux/bpf.h and if_link.h, v6.12).

use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::net::{self, AddressFamily, SocketType};
use serde::Deserialize;
use serde_json::json;

use super::say;
use crate::bpf::{self, Instruction};

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

const ATTACH_TYPE_XDP: u32 = 37;
const F_XDP_HAS_FRAGS: u32 = 1 << 5;
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;

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
    let flags = if mode == Mode::GenericFrags { F_XDP_HAS_FRAGS } else { 0 };
    let load = bpf::Load { kind: bpf::program::XDP, flags, ..bpf::Load::default() };
    let loaded = bpf::load(instructions, load).context("the kernel refuses the program")?;
    let any = net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let target =
        net::netdevice::name_to_index(&any, device).with_context(|| format!("no device {device}"))?;
    let flags = if mode == Mode::Native { DRV_MODE } else { SKB_MODE };
    // The kernel takes the program off the device when this is closed.
    let _link = bpf::link(loaded.as_raw_fd(), target, ATTACH_TYPE_XDP, flags)
        .with_context(|| format!("{device} does not take the program"))?;
    say(&json!({"event": "listening", "on": device}));
    loop {
        std::thread::park();
    }
}
