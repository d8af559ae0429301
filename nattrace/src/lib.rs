//! nattrace: says where a packet went, what rewrote it, what dropped it, and why.
//!
//! ```text
//! source (bpf, netlink, ruleset) ──Event──▶ nattrace-core (journeys, findings) ─┬▶ render (text, json, nft)
//!                                                                               ├▶ tui
//!                                                                               └▶ export (OpenTelemetry)
//!                                   cli decides what, session joins the stages
//! ```

pub mod cli;
mod export;
pub mod privileges;
pub mod render;
pub mod session;
pub mod source;
mod tui;
