//! Rule text, by listing the ruleset with the tools that own it.
//!
//! `nft -a -s -t list ruleset`: with handles, without counters and without the contents of named sets, which
//! can be millions. No `-n`: text is to be what `nft list` shows, and that is what its author recognises.
//! Anonymous sets are part of their rule and are listed all the same (checked with nft 1.0.6). What iptables-nft
//! made is then listed by its own tool, too.

mod command;
pub mod iptables;
pub mod legacy;
pub mod parse;
pub mod tool;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use nattrace_core::event::NfFamily;
use nattrace_core::ruleset::{Listing, Table};
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

/// Whether what rules have counted is listed, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Texts alone.
    No,
    /// For those who show rules as `nft monitor trace` does; a second run of nft where a rule counts.
    Yes,
}

/// Lists the ruleset of a namespace. It blocks for as long as nft runs.
///
/// The generation is told only when it was the same before and after: then every rule of the listing was
/// in force at that generation.
pub fn list(netns: &Netns) -> Result<Listed, ListError> {
    list_with(netns, Counted::No)
}

/// As [`list()`], with what rules have counted where that is asked for.
pub fn list_with(netns: &Netns, counted: Counted) -> Result<Listed, ListError> {
    netns::run_in(netns, || list_here(counted))?
}

/// A listing, and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// The ruleset.
    pub listing: Listing,
    /// Programs of iptables-nft that could tell the rules of tables in their own syntax, and cannot be run.
    pub missing: Vec<&'static str>,
}

/// Whether a set of a namespace has an element; `None` where that cannot be asked. It blocks for as long as nft runs.
#[must_use]
pub fn has_element(netns: &Netns, family: NfFamily, table: &str, set: &str, element: &str) -> Option<bool> {
    let wanted = format!("{{ {element} }}");
    let asked = ["get", "element", family.name(), table, set, &wanted];
    match netns::run_in(netns, || run("nft", &asked, TIMEOUT)).ok()? {
        Ok(_) => Some(true),
        Err(CommandError::Failed(why)) if why.contains("No such file or directory") => {
            // The same is said of a set that is not there.
            let listed = ["-t", "list", "set", family.name(), table, set];
            netns::run_in(netns, || run("nft", &listed, TIMEOUT)).ok()?.ok().map(|_| false)
        }
        Err(_) => None,
    }
}

fn list_here(counted: Counted) -> Result<Listed, ListError> {
    let mut tables = Vec::new();
    for _ in 0..TRIES {
        let before = generation().ok();
        tables = parse::parse(&run("nft", &["-a", "-s", "-t", "list", "ruleset"], TIMEOUT)?);
        for rule in tables.iter_mut().flat_map(|table| &mut table.chains).flat_map(|chain| &mut chain.rules) {
            rule.text = rule.text.trim_start().to_owned();
        }
        if counted == Counted::Yes && tables.iter().any(counts) {
            let values = parse::parse(&run("nft", &["-a", "-t", "list", "ruleset"], TIMEOUT)?);
            add_counted(&mut tables, &values);
        }
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

/// Whether a table may have rules that `-s` lists otherwise.
fn counts(table: &Table) -> bool {
    let mut rules = table.chains.iter().flat_map(|chain| &chain.rules);
    rules.any(|rule| ["counter", "quota", "last"].iter().any(|word| rule.text.contains(word)))
}

/// Adds the texts of a listing with values to one without. A rule of either that the other lacks was changed
/// between the two; then the generation tells, and both are listed again.
fn add_counted(tables: &mut [Table], values: &[Table]) {
    for table in tables {
        let Some(other) = values.iter().find(|other| other.handle == table.handle) else { continue };
        let texts: BTreeMap<u64, &String> = other
            .chains
            .iter()
            .flat_map(|chain| chain.rules.iter().map(|rule| (rule.handle, &rule.text)))
            .collect();
        for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            let text = texts.get(&rule.handle).filter(|text| ***text != rule.text);
            rule.counted = text.map(|text| (*text).clone());
        }
    }
}

/// What nft calls itself: `nftables v1.0.6 (Lester Gooch #5)`.
pub fn version() -> Result<String, ListError> {
    Ok(run("nft", &["--version"], TIMEOUT)?.trim().to_owned())
}
