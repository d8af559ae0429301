#![no_std]
//! The bytes that cross between the kernel side and user space: records of the ring buffer, the table of
//! kernel fields, the kernel's copy of the filter.
//!
//! Everything here is `repr(C)` without padding that is read; numbers are in host byte order unless a field
//! says otherwise (what the kernel keeps in network order stays so, to be decoded in user space).

pub mod fields;
pub mod filter;
pub mod record;
