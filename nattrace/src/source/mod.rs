//! Where events come from: everything that touches the kernel or runs another program.

pub mod bpf;
pub mod holder;
pub mod netlink;
pub mod netns;
pub mod ruleset;
