//! Programs of a few instructions, written down and loaded as they are, by bpf(2)
//! (include/uapi/linux/bpf.h and perf_event.h, v6.12).

#![expect(
    unsafe_code,
    reason = "bpf(2) and perf_event_open(2) have no wrapper in the crates that this one uses"
)]

use std::ffi::CStr;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// Opcode, registers (source in the upper half), offset, immediate.
pub(crate) type Instruction = (u8, u8, i16, i32);

/// `BPF_PROG_TYPE_*`.
pub(crate) mod program {
    /// `BPF_PROG_TYPE_KPROBE`.
    pub(crate) const KPROBE: u32 = 2;
    /// `BPF_PROG_TYPE_XDP`.
    pub(crate) const XDP: u32 = 6;
    /// `BPF_PROG_TYPE_RAW_TRACEPOINT`.
    pub(crate) const RAW_TRACEPOINT: u32 = 17;
    /// `BPF_PROG_TYPE_TRACING`: fentry and fexit.
    pub(crate) const TRACING: u32 = 26;
}

const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BTF_GET_FD_BY_ID: libc::c_int = 19;
const LINK_CREATE: libc::c_int = 28;

/// What `BPF_PROG_LOAD` is told besides the instructions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    /// One of [`program`].
    pub(crate) kind: u32,
    /// `BPF_F_*`.
    pub(crate) flags: u32,
    /// `BPF_TRACE_FENTRY` and the like.
    pub(crate) attach_type: u32,
    /// The function, as its number in the kernel's BTF or in a module's.
    pub(crate) attach_btf_id: u32,
    /// That BTF, where it is not the kernel's own.
    pub(crate) attach_btf: Option<RawFd>,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to `attach_btf_obj_fd`.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_btf_obj_fd: u32,
    zero: u32,
}

/// `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkAttributes {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct TracepointAttributes {
    name: u64,
    prog_fd: u32,
    zero: u32,
}

/// Loads a program.
pub(crate) fn load(instructions: &[Instruction], what: Load) -> Result<OwnedFd> {
    let code: Vec<u8> = instructions.iter().copied().flat_map(encode).collect();
    let fd = |fd: RawFd| fd.try_into().unwrap_or_default();
    bpf(
        PROG_LOAD,
        &LoadAttributes {
            prog_type: what.kind,
            insn_cnt: (code.len() / 8).try_into().unwrap_or_default(),
            insns: code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            prog_flags: what.flags,
            expected_attach_type: what.attach_type,
            attach_btf_id: what.attach_btf_id,
            attach_btf_obj_fd: what.attach_btf.map_or(0, fd),
            ..LoadAttributes::default()
        },
    )
}

/// Attaches an XDP program to a device; `attach_type` is `BPF_XDP`. It hangs there as long as the link is open.
pub(crate) fn link(program: RawFd, target: u32, attach_type: u32, flags: u32) -> Result<OwnedFd> {
    let prog_fd = program.try_into().unwrap_or_default();
    bpf(LINK_CREATE, &LinkAttributes { prog_fd, target, attach_type, flags })
}

/// Attaches a program to a raw tracepoint or, without a name, to the function that it was loaded for.
pub(crate) fn open_tracepoint(program: RawFd, name: Option<&CStr>) -> Result<OwnedFd> {
    let name = name.map_or(0, |name| name.as_ptr() as u64);
    let prog_fd = program.try_into().unwrap_or_default();
    bpf(RAW_TRACEPOINT_OPEN, &TracepointAttributes { name, prog_fd, zero: 0 })
}

/// The BTF with this number: the kernel's or a module's.
pub(crate) fn btf(id: u32) -> Result<OwnedFd> {
    bpf(BTF_GET_FD_BY_ID, &id)
}

/// `struct perf_event_attr`, `PERF_ATTR_SIZE_VER1`, as kprobes need it.
#[repr(C)]
#[derive(Default)]
struct ProbeAttributes {
    kind: u32,
    size: u32,
    config: u64,
    samples: [u64; 4],
    wakeup: u32,
    bp_type: u32,
    function: u64,
    offset: u64,
}

/// Attaches a program to a kprobe or, with `config` set so, to a kretprobe at `function`; `kind` is the number of the
/// source of kprobes.
pub(crate) fn attach_probe(program: RawFd, kind: u32, config: u64, function: &CStr) -> Result<OwnedFd> {
    const CLOEXEC: libc::c_ulong = 8;
    const SET_BPF: libc::Ioctl = 0x4004_2408;
    const ENABLE: libc::Ioctl = 0x2400;
    let size = size_of::<ProbeAttributes>().try_into().unwrap_or_default();
    let function = function.as_ptr() as u64;
    let attributes = ProbeAttributes { kind, size, config, function, ..ProbeAttributes::default() };
    // SAFETY: the kernel reads as many bytes as `size` says, and the name outlives the call.
    let event = descriptor(unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, 0, -1, CLOEXEC)
    })?;
    for (request, argument) in [(SET_BPF, program), (ENABLE, 0)] {
        // SAFETY: both take a number.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } < 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(event)
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
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) })
}

/// What a call that makes a descriptor has returned.
fn descriptor(returned: libc::c_long) -> Result<OwnedFd> {
    match i32::try_from(returned) {
        // SAFETY: a descriptor that the kernel has just made, for nobody else.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Error::last_os_error()),
    }
}
