#![no_std]
//! nattrace-common
