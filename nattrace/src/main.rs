//! nattrace

fn main() {}
