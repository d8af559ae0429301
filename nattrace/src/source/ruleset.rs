//! Rule text, by listing the ruleset with the tools that own it.
//!
//! `nft -a -s -t list ruleset`: with handles, without counters and without the contents of named sets, which
//! can be millions. No `-n`: text is to be what `nft list` shows, and that is what its author recognises.
//! Anonymous sets are part of their rule and are listed all the same (checked with nft 1.0.6). What iptables-nft
//! made is then listed by its own tool, too.

mod command;
mod iptables;
pub mod legacy;
mod parse;

use std::io;
use std::time::Duration;

use nattrace_core::ruleset::Listing;
use thiserror::Error;

use super::netlink::ruleset_changes::generation;
use super::netns::{self, Netns};
use command::{CommandError, run};

/// Longer than nft needs for a hundred thousand rules.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A ruleset that changes during every listing changes too fast to be listed.
const TRIES: usize = 4;

/// Why there is no listing.
#[derive(Debug, Error)]
pub enum ListError {
    /// No nft in the path.
    #[error("nft is not installed: rules are shown by their handles, without text")]
    NoNft,
    /// It ran, and failed.
    #[error("nft list ruleset failed: {0}")]
    Failed(String),
    /// It ran for too long.
    #[error("nft list ruleset took longer than {} seconds", TIMEOUT.as_secs())]
    Timeout,
    /// The namespace could not be entered, or nft not be started.
    #[error("cannot run nft: {0}")]
    Io(#[from] io::Error),
}

impl From<CommandError> for ListError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotFound => Self::NoNft,
            CommandError::Failed(text) => Self::Failed(text),
            CommandError::Timeout => Self::Timeout,
            CommandError::Io(error) => Self::Io(error),
        }
    }
}

/// Lists the ruleset of a namespace. It blocks for as long as nft runs.
///
/// The generation is told only when it was the same before and after: then every rule of the listing was
/// in force at that generation.
pub fn list(netns: &Netns) -> Result<Listed, ListError> {
    netns::run_in(netns, list_here)?
}

/// A listing, and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// The ruleset.
    pub listing: Listing,
    /// Programs of iptables-nft that could tell the rules of tables in their own syntax, and cannot be run.
    pub missing: Vec<&'static str>,
}

fn list_here() -> Result<Listed, ListError> {
    let mut tables = Vec::new();
    for _ in 0..TRIES {
        let before = generation().ok();
        tables = parse::parse(&run("nft", &["-a", "-s", "-t", "list", "ruleset"], TIMEOUT)?);
        if before.is_none() {
            break;
        }
        let mut both = tables.clone();
        let missing = iptables::tell(&mut both, TIMEOUT);
        if generation().ok() == before {
            return Ok(Listed { listing: Listing { generation: before, tables: both }, missing });
        }
    }
    Ok(Listed { listing: Listing { generation: None, tables }, missing: Vec::new() })
}

/// What nft calls itself: `nftables v1.0.6 (Lester Gooch #5)`.
pub fn version() -> Result<String, ListError> {
    Ok(run("nft", &["--version"], TIMEOUT)?.trim().to_owned())
}
