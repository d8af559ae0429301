//! The kernel side: fields from BTF, programs loaded and attached, raw records decoded.

mod ahead;
pub mod btf;
pub mod decode;
pub mod fields;
pub mod filter;
pub mod load;
pub mod loader;
pub mod memory;
pub mod modules;
pub mod symbols;
