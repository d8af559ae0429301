//! Whether the evaluator says of rules and packets what the kernel did: which rules of a chain matched is told by the
//! kernel's trace messages, of which the journeys of a recording are made.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use nattrace_core::evaluate::{Answer, Expressions, Lookup, Moment};
use nattrace_core::event::{Body, HookPoint};
use nattrace_core::journey::assemble::{Assembler, Options, SourcesOn};
use nattrace_core::journey::{Journey, StepKind};
use nattrace_core::packet::Family;
use nattrace_core::record::{Decoded, Reader};
use nattrace_core::ruleset::Rule;

use crate::traffic::random::SETS;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Rules and packets that were compared.
    pub(crate) pairs: usize,
    /// Of these, such as matched.
    pub(crate) matched: usize,
    /// Of which the evaluator said that it does not know.
    pub(crate) unknown: usize,
    /// Of which it said something else than the kernel did.
    pub(crate) complaints: Vec<String>,
}

/// Compares every rule of these chains at the forward hook, none of which ends the packet's way, with every packet of a recording
/// that came there.
pub(crate) fn compare(recording: &Path, chains: &[&str]) -> Result<Comparison> {
    let (journeys, rules) = read(recording, chains)?;
    let mut found = Comparison::default();
    for journey in &journeys {
        let devices = journey.steps.iter().find_map(|step| match &step.kind {
            StepKind::Hook { hook: HookPoint::Forward, iif, oif, .. } => {
                Some((iif.as_deref(), oif.as_deref()))
            }
            _ => None,
        });
        let Some((iif, oif)) = devices else { continue };
        let matched: BTreeSet<u64> = journey
            .steps
            .iter()
            .filter_map(|step| match &step.kind {
                StepKind::Rule(step) if chains.contains(&step.rule.chain.as_str()) => Some(step.rule.handle),
                _ => None,
            })
            .collect();
        // It was one more when the device gave it (`ip_forward`, `ip6_forward`).
        let mut packet = journey.packet.clone();
        packet.ttl = packet.ttl.map(|ttl| ttl.saturating_sub(1));
        let moment = Moment {
            packet: &packet,
            iif,
            oif,
            devices_known: true,
            connection: journey.connection.as_ref(),
            mark: Some(packet.mark),
            destination_type: Some(1),
        };
        for rule in &rules {
            let did = matched.contains(&rule.handle);
            let expressions = match &rule.iptables {
                // Of IPv4: others do not come to its table.
                Some(_) if packet.family != Family::Ipv4 => continue,
                Some(text) => Expressions::read_iptables(text, false),
                None => Expressions::read(&rule.text),
            };
            found.pairs += 1;
            found.matched += usize::from(did);
            let said = expressions.judge(&moment, &has);
            let wrong = match &said {
                Answer::Unknown(_) => {
                    found.unknown += 1;
                    false
                }
                Answer::Matches(_) => !did,
                Answer::Fails { .. } => did,
            };
            if wrong {
                let did = if did { "matched" } else { "did not match" };
                let text = rule.iptables.as_ref().unwrap_or(&rule.text);
                found.complaints.push(format!("`{text}` {did} {packet:?}; the evaluator says {said:?}"));
            }
        }
    }
    Ok(found)
}

/// What the scenario put into the sets.
fn has(lookup: &Lookup) -> Option<bool> {
    let (.., elements) = SETS.iter().find(|(name, ..)| *name == lookup.set)?;
    Some(elements.contains(&lookup.element.as_str()))
}

fn read(recording: &Path, chains: &[&str]) -> Result<(Vec<Journey>, Vec<Rule>)> {
    let name = recording.display().to_string();
    let file = BufReader::new(File::open(recording).with_context(|| name.clone())?);
    let mut reader = Reader::open(file).with_context(|| name.clone())?;
    let sources = SourcesOn::where_on(|source| reader.header().is_on(source));
    let mut assembler = Assembler::new(Options { sources, ..Options::default() });
    let (mut rules, mut last_ns, mut journeys) = (Vec::new(), 0, Vec::new());
    while let Decoded::Event(event) = reader.next().with_context(|| name.clone())? {
        if let Body::Ruleset(listing) = &event.body {
            let listed = listing.tables.iter().flat_map(|table| &table.chains);
            rules = listed
                .filter(|chain| chains.contains(&chain.name.as_str()))
                .flat_map(|chain| chain.rules.clone())
                .collect();
        }
        last_ns = event.time_ns.max(last_ns);
        assembler.push(*event);
        journeys.extend(assembler.finished());
    }
    journeys.extend(assembler.finish(last_ns));
    Ok((journeys, rules))
}
