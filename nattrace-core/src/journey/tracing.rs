//! nf_tables' trace messages to their journeys.

use super::assemble::{Assembler, Begins};
use super::evaluation::{Message, Role, connection, headers, own_chain};
use super::identity::Sighting;
use super::open::Moment;
use crate::event::{DeviceRef, HookPoint, NetnsId, NfFamily, NftTrace, Verdict};
use crate::packet::{Headers, Packet};
use crate::ruleset::is_trace_table;

impl Assembler {
    pub(super) fn trace(&mut self, at: Moment, trace: &NftTrace) {
        let message = &trace.message;
        let own = self.is_own(at.netns, message.family, &message.table);
        // Another instance's chains are no more the user's rules than our own; they tell nothing new.
        if !own && is_trace_table(&message.table) {
            return;
        }
        let (role, hook) = if own {
            own_chain(message)
        } else {
            let hook = self.rulesets.get(&at.netns).and_then(|history| {
                let (table, chain) = (&message.table, &message.chain);
                history.base_chain(message.family, table, trace.table_handle, chain, at.time_ns)
            });
            (Role::Rules, hook.map(|base| base.hook))
        };
        let chain = self.names.chain(message.family, &message.table, &message.chain);
        let mut device = |index: Option<u32>| {
            index.map(|index| self.names.device(at.netns, &DeviceRef { index, name: None }))
        };
        let m = Message {
            at,
            trace,
            header: headers(trace),
            role,
            chain,
            hook,
            iif: device(message.iif),
            oif: device(message.oif),
        };
        let Some(seq) = self.traced(&m) else { return };
        let keeps = self.options.keep_messages && !own;
        self.with(seq, |open| {
            open.seen(at);
            if keeps {
                open.keep(m.kept());
            }
            if let Some(header) = &m.header {
                open.sees(at, header, || Headers::of(message));
            }
            open.traced(at.netns, message.id);
            open.evaluate(&m);
        });
        self.identity.bind(at.netns, message.id, seq);
        self.connected(seq, at, connection(trace).as_ref());
    }

    /// The journey of a trace message; a new one where the message is the first sign of a selected packet.
    fn traced(&mut self, m: &Message<'_>) -> Option<u64> {
        let (at, id) = (m.at, m.trace.message.id);
        if let Some(packet) = m.trace.packet {
            let entry = match m.hook {
                Some(hook) if m.header.is_some() && m.role != Role::Rules => Begins::in_hook(hook),
                _ => Begins::No,
            };
            let begun = self.next_seq;
            let seq = match (self.identity.packet(packet), &m.header) {
                (Some(seq), Some(header)) => Some(self.repacked(seq, at, packet, header, false)),
                (Some(seq), None) => Some(seq),
                (None, Some(header)) => self.moving(at, packet, Some(header), entry),
                (None, None) => None,
            };
            if let Some(seq) = seq.filter(|seq| *seq >= begun) {
                self.perhaps_of_another(seq, at);
            }
            if seq.is_none() {
                self.counters.stray += 1;
            }
            return seq;
        }
        let timing = self.timing();
        let Some(header) = &m.header else {
            let seq = self.identity.trace(at.netns, id).filter(|seq| self.opens.contains(*seq));
            if seq.is_none() {
                self.counters.stray += 1;
            }
            return seq;
        };
        let sighting = Sighting {
            at,
            id,
            hint: m.trace.hint,
            header,
            hook: m.hook,
            family: m.hook.map(|_| m.hook_family()),
            chain: &m.chain,
            looped: m.iif.as_deref() == Some("lo"),
        };
        if let Some(seq) = self.identity.find(&self.opens, &sighting, timing) {
            return Some(seq);
        }
        if !self.asked_for(m, header) {
            self.identity.unbind(at.netns, id);
            self.counters.foreign += 1;
            return None;
        }
        let seq = self.open(at, None, header.clone());
        if m.hook == Some(HookPoint::Output) {
            self.perhaps_answers(seq, at);
        }
        Some(seq)
    }

    /// Whether a packet that only trace messages tell of is one that the user asked for: others may have
    /// rules that trace, too.
    fn asked_for(&self, m: &Message<'_>, header: &Packet) -> bool {
        let filter = &self.options.filter;
        let iif_fits = filter.iif.is_empty()
            || m.iif.as_ref().is_some_and(|iif| filter.iif.iter().any(|name| name == iif));
        if filter.matches(header) && iif_fits {
            return true;
        }
        // A rule of our own table accepted it, which those that select do: they look at the connection, which here may be
        // unknown. (Others, and those of a second run, lead on, or back.) What comes by loopback was selected when it was
        // sent; who has used up the limit is not.
        let message = &m.trace.message;
        let selects = matches!(m.role, Role::Enter | Role::Select)
            && m.iif.as_deref() != Some("lo")
            && message.chain != "limit";
        if selects && message.rule_handle.is_some() && message.verdict == Some(Verdict::Accept) {
            return true;
        }
        if !self.options.follow {
            return false;
        }
        let followed = |index: u64| self.connections.get(index).is_some_and(|known| known.followed);
        self.connections.find_packet(m.at.netns, header).is_some_and(|(index, _)| followed(index))
            || connection(m.trace).and_then(|c| self.connections.find(m.at.netns, &c)).is_some_and(followed)
    }

    fn is_own(&self, netns: NetnsId, family: NfFamily, table: &str) -> bool {
        let named =
            |netns| self.own_tables.get(&(netns, family)).is_some_and(|tables| tables.contains(table));
        named(netns) || named(0)
    }
}
