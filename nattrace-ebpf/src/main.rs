#![no_std]
#![no_main]
//! The kernel side.
