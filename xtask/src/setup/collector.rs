//! rotel, an OpenTelemetry collector in one file, from PyPI.

use std::path::PathBuf;

use anyhow::Result;

use super::wheel::Wheel;
use crate::cache::Cache;

/// The last release that needs no libpython and runs with every glibc.
const ROTEL: Wheel = Wheel {
    folder: "rotel-0.0.1a8",
    what: "rotel, an OpenTelemetry collector",
    requirement: "rotel==0.0.1a8 \
         --hash=sha256:1f46581987ab0e4571b8deaeb271d656d6ae07398ae01169249a0ce73b65eae7\n",
    program: "rotel/rotel-agent",
    version: "version",
    needed_for: "scenarios with a collector need",
};

/// The collector, fetched if need be.
pub(crate) fn get(cache: &Cache) -> Result<PathBuf> {
    ROTEL.get(cache)
}
