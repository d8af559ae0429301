//! The rules of legacy iptables, by `iptables-legacy-save` and `ip6tables-legacy-save`, a table at a time.
//!
//! Only tables that are in use are listed: looking at another would create it, and load its module.

use std::fs;
use std::io;

use nattrace_core::event::NfFamily;
use nattrace_core::ruleset::iptables_quote_is_open;
use nattrace_core::ruleset::legacy::{Chain, Listing, Table};
use thiserror::Error;

use super::TIMEOUT;
use super::command::{CommandError, run};
use crate::source::netns::{self, Netns};

/// Where the kernel names the tables in use, and the tools that list them. Where iptables was built for legacy alone,
/// its tool has the plain name.
const FAMILIES: [(NfFamily, &str, &str, &str); 2] = [
    (NfFamily::Ip, "/proc/thread-self/net/ip_tables_names", "iptables-legacy-save", "iptables-save"),
    (NfFamily::Ip6, "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save", "ip6tables-save"),
];

/// Why rules cannot be listed.
#[derive(Debug, Error)]
pub enum LegacyError {
    /// No tool for them in the path.
    #[error("{0} is not installed: rules of legacy iptables are shown by number, without text and verdict")]
    NoTool(&'static str),
    /// It ran, and failed.
    #[error("{tool} -t {table} failed: {why}")]
    Failed {
        /// The tool.
        tool: &'static str,
        /// The table.
        table: String,
        /// What it said.
        why: String,
    },
    /// It cannot be told apart which line is which rule.
    #[error("{tool} -t {table} wrote what this program does not understand: its rules are shown by number")]
    NotUnderstood {
        /// The tool.
        tool: &'static str,
        /// The table.
        table: String,
    },
    /// The namespace could not be entered.
    #[error("cannot list legacy iptables: {0}")]
    Io(#[from] io::Error),
}

/// Tables that are in use in the current namespace.
fn tables_of(names: &str) -> Vec<String> {
    fs::read_to_string(names).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Whether legacy iptables is in use in a namespace: it has tables there.
#[must_use]
pub fn is_in_use(netns: &Netns) -> bool {
    netns::run_in(netns, || FAMILIES.iter().any(|(_, names, ..)| !tables_of(names).is_empty()))
        .unwrap_or(false)
}

/// Who writes the steps of traced packets to the kernel's log, where somebody does (`nf_log_trace`).
#[must_use]
pub fn logger() -> Option<String> {
    let bound = |family| fs::read_to_string(format!("/proc/sys/net/netfilter/nf_log/{family}"));
    [2, 10]
        .into_iter()
        .filter_map(|family| bound(family).ok())
        .map(|name| name.trim().to_owned())
        .find(|name| name != "NONE")
}

/// The tool that lists a family's tables; else the name of the one that is missing.
fn tool(family: NfFamily) -> Result<&'static str, &'static str> {
    let (_, _, legacy, plain) =
        FAMILIES.iter().find(|(f, ..)| *f == family).copied().ok_or("iptables-legacy-save")?;
    // The other backend's would list what nft lists: other rules.
    let is_legacy =
        |tool: &&str| run(tool, &["--version"], TIMEOUT).is_ok_and(|version| !version.contains("nf_tables"));
    [legacy, plain].into_iter().find(is_legacy).ok_or(legacy)
}

/// What the tool for IPv4 calls itself.
///
/// # Errors
/// When there is none.
pub fn version() -> Result<String, LegacyError> {
    let tool = tool(NfFamily::Ip).map_err(LegacyError::NoTool)?;
    Ok(run(tool, &["--version"], TIMEOUT).unwrap_or_default().trim().to_owned())
}

/// One table as its tool writes it.
fn save(tool: &'static str, table: &str) -> Result<String, LegacyError> {
    let failed = |why: String| LegacyError::Failed { tool, table: table.to_owned(), why };
    run(tool, &["-t", table], TIMEOUT).map_err(|error| match error {
        CommandError::NotFound => LegacyError::NoTool(tool),
        CommandError::Failed(why) => failed(why),
        CommandError::Timeout => failed(format!("it took longer than {} s", TIMEOUT.as_secs())),
        CommandError::Io(error) => failed(error.to_string()),
    })
}

/// A table in use.
struct Saved {
    family: NfFamily,
    table: String,
    /// As the tool that is named writes it, or why it does not.
    text: Result<(&'static str, String), LegacyError>,
}

/// Every table of the current namespace.
fn save_here() -> Vec<Saved> {
    let mut saved = Vec::new();
    for (family, names, ..) in FAMILIES {
        let tables = tables_of(names);
        if tables.is_empty() {
            continue;
        }
        let found = tool(family);
        for table in tables {
            let text = match &found {
                Ok(tool) => save(tool, &table).map(|text| (*tool, text)),
                Err(missing) => Err(LegacyError::NoTool(missing)),
            };
            saved.push(Saved { family, table, text });
        }
    }
    saved
}

/// All rules of the current namespace in one text; empty where there are none, or no tool to list them.
#[must_use]
pub fn saved_here() -> String {
    save_here().into_iter().filter_map(|saved| saved.text.ok()).map(|(_, text)| text).collect()
}

/// Lists the rules of a namespace, begun at `begun_ns`; why something is missing of it. It blocks for as long as the
/// tools run.
#[must_use]
pub fn list(netns: &Netns, begun_ns: u64) -> (Listing, Option<LegacyError>) {
    netns::run_in(netns, || list_here(begun_ns))
        .unwrap_or_else(|error| (Listing { begun_ns, tables: Vec::new() }, Some(error.into())))
}

fn list_here(begun_ns: u64) -> (Listing, Option<LegacyError>) {
    let mut listing = Listing { begun_ns, tables: Vec::new() };
    let mut missing = None;
    for Saved { family, table: name, text } in save_here() {
        let chains = text.and_then(|(tool, text)| {
            parse(&text).ok_or_else(|| LegacyError::NotUnderstood { tool, table: name.clone() })
        });
        match chains {
            Ok(chains) => listing.tables.push(Table { family, name, chains }),
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    (listing, missing)
}

/// Reads the output for one table. `None` where a line is not what it should be: one line more or less, and every number
/// behind it would name another rule.
#[must_use]
pub fn parse(text: &str) -> Option<Vec<Chain>> {
    let mut chains: Vec<Chain> = Vec::new();
    let (mut begun, mut over) = (false, false);
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            // In the middle it would be the rest of a comment with a line break.
            if begun && !over {
                return None;
            }
        } else if line.starts_with('*') && !begun {
            begun = true;
        } else if !begun || over {
            return None;
        } else if line == "COMMIT" {
            over = true;
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy) = (words.next()?, words.next()?);
            let policy = (policy != "-").then(|| policy.to_owned());
            chains.push(Chain { name: name.to_owned(), policy, rules: Vec::new() });
        } else {
            let name = line.strip_prefix("-A ")?.split(' ').next()?;
            if iptables_quote_is_open(line) {
                return None;
            }
            chains.iter_mut().find(|chain| chain.name == name)?.rules.push(line.to_owned());
        }
    }
    over.then_some(chains)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By iptables-legacy-save 1.8.9 on Debian 12.
    const SAVED: &str = include_str!("fixtures/iptables-legacy-save-1.8.9.txt");

    #[test]
    fn a_table_as_it_was_saved() {
        let chains = parse(SAVED).expect("a table");
        let shape: Vec<(&str, Option<&str>, usize)> =
            chains.iter().map(|c| (c.name.as_str(), c.policy.as_deref(), c.rules.len())).collect();
        let expected = [
            ("INPUT", Some("ACCEPT"), 0),
            ("FORWARD", Some("DROP"), 3),
            ("OUTPUT", Some("ACCEPT"), 1),
            ("web", None, 4),
        ];
        assert_eq!(shape, expected);
        assert_eq!(chains[1].rules[1], "-A FORWARD -p tcp -m tcp --dport 22 -j web");
        assert_eq!(
            chains[3].rules[1],
            "-A web -m comment --comment \"say \\\"-j DROP\\\" # twice\" -j LOG --log-prefix \"a b \""
        );
        assert_eq!(chains[3].rules[3], "-A web -j DROP");
    }

    #[test]
    fn what_could_shift_the_numbers_is_not_understood() {
        let table = |body: &str| {
            format!("# Generated\n*filter\n:FORWARD ACCEPT [0:0]\n:web - [0:0]\n{body}COMMIT\n# Completed\n")
        };
        assert!(parse(&table("-A FORWARD -j web\n")).is_some());
        for body in [
            "-A FORWARD -m comment --comment \"a\n-A FORWARD -j DROP\nb\" -j ACCEPT\n",
            "-A FORWARD -m comment --comment \"a\nCOMMIT\n\" -j ACCEPT\n",
            "-A FORWARD -m comment --comment \"a\n# b\" -j ACCEPT\n",
            "-A FORWARD -m comment --comment \"a\n\nb\" -j ACCEPT\n",
            "-A elsewhere -j ACCEPT\n",
            "-I FORWARD -j ACCEPT\n",
            "*nat\n",
        ] {
            assert_eq!(parse(&table(body)), None, "{body:?}");
        }
        assert_eq!(parse(""), None);
        assert_eq!(parse("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\n"), None, "cut off");
    }

    #[test]
    fn an_output_cut_anywhere_is_survived() {
        for end in 0..SAVED.len() {
            let whole = end >= SAVED.find("COMMIT").expect("an end") + "COMMIT".len();
            assert_eq!(parse(&SAVED[..end]).is_some(), whole, "{end}");
        }
    }
}
