//! Everything that reads what the kernel, another program, a file or a user wrote, as functions of bytes that must not panic,
//! overflow, or take long, whatever the bytes are.
//!
//! ```text
//! corpus/TARGET/* ─┬─ tests/corpora.rs   each input as it is, and changed at random, in `cargo test`
//!                  └─ main.rs            libFuzzer, in `cargo xtask fuzz`
//! ```

pub mod mutate;
mod recording;
mod text;
mod wire;

/// One reader.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus`.
    pub name: &'static str,
    /// Reads; what it says of the input does not matter.
    pub run: fn(&[u8]),
    /// Whether inputs are lines and words, which [`mutate::text`] can change without breaking all of it.
    pub is_text: bool,
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target { name: "trace", run: wire::trace, is_text: false },
    Target { name: "conntrack", run: wire::conntrack, is_text: false },
    Target { name: "netlink", run: wire::netlink, is_text: false },
    Target { name: "ring", run: wire::ring, is_text: false },
    Target { name: "btf", run: wire::btf, is_text: false },
    Target { name: "packet", run: wire::packet, is_text: false },
    Target { name: "listing", run: text::listing, is_text: true },
    Target { name: "iptables-save", run: text::iptables_save, is_text: true },
    Target { name: "rules", run: text::rules, is_text: true },
    Target { name: "command-line", run: text::command_line, is_text: true },
    Target { name: "recording", run: recording::read, is_text: true },
    Target { name: "replay", run: recording::replay, is_text: true },
];

/// The target of that name.
#[must_use]
pub fn named(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
