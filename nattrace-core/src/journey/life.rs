//! What becomes of a packet's connection while the packet is under way, as its own buffer tells.

use super::open::{ChainName, Draft, Moment, Note, Open};
use super::{ConnectionStep, StepKind};
use crate::conntrack::{Connection, Direction, IPS_NAT_CLASH, State};

/// `NF_IP_PRI_CONNTRACK` (include/uapi/linux/netfilter_ipv4.h, v6.12).
pub(super) const CONNTRACK_PRIORITY: i32 = -200;

impl Open {
    /// Adds the steps that lie between what was known of the connection and what is seen now; to be called before
    /// the latter is taken over.
    pub(super) fn connection_lives(&mut self, at: Moment, now: &Connection) {
        let confirmed = now.is_confirmed();
        let id = now.id;
        let Some(before) = &self.connection else {
            let first = now.state == Some(State::New)
                && now.direction == Some(Direction::Original)
                && confirmed == Some(false);
            if first {
                self.fresh = true;
                self.connection_step(at, ConnectionStep::Created, id);
            }
            return;
        };
        if at.netns != 0 && at.netns != self.connection_netns {
            return;
        }
        let id = id.or(before.id);
        let replaced = before.key != 0
            && now.key != 0
            && before.key != now.key
            && before.original.is_some()
            && before.original == now.original;
        let was_confirmed = before.is_confirmed() == Some(true);
        if self.fresh && replaced && !was_confirmed && confirmed == Some(true) {
            self.connection_step(at, ConnectionStep::ClashResolved, now.id);
            // What follows is the other entry's.
            self.fresh = false;
            self.replaced = true;
            if let Some(mine) = &mut self.connection {
                (mine.key, mine.id) = (now.key, now.id);
            }
        } else if self.fresh && !was_confirmed && confirmed == Some(true) {
            let clashed = now.status.is_some_and(|status| status & IPS_NAT_CLASH != 0);
            let step = if clashed { ConnectionStep::ClashResolved } else { ConnectionStep::Confirmed };
            self.connection_step(at, step, id);
        }
    }

    /// Adds one such step.
    pub(super) fn connection_step(&mut self, at: Moment, event: ConnectionStep, id: Option<u32>) {
        // What the return of a hook shows was made in it.
        let over = |at: &usize| self.visits.get(*at).is_some_and(|v| v.over);
        let inside = self.current().filter(|at| event == ConnectionStep::Created || !over(at));
        self.push(at, StepKind::Connection { event, id }, inside, Note::Nothing);
    }

    /// The entry was removed by then: at the earliest time at which that was known.
    pub(super) fn entry_ended(&mut self, at: Moment, id: Option<u32>) {
        match self.drafts.iter_mut().rev().find(|draft| is_destruction(draft)) {
            Some(told) => told.step.time_ns = told.step.time_ns.min(at.time_ns),
            None => self.connection_step(at, ConnectionStep::Destroyed, id),
        }
    }

    /// The entry was seen some time after conntrack had made it: puts the step where that is done, at the beginning
    /// of the hook, behind the chains that come before conntrack.
    pub(super) fn place_creation(&mut self, priority: impl Fn(&ChainName, &Draft) -> Option<i32>) {
        let created = |draft: &Draft| {
            matches!(draft.step.kind, StepKind::Connection { event: ConnectionStep::Created, .. })
        };
        let Some(from) = self.drafts.iter().position(created) else { return };
        let Some(visit) = self.drafts.get(from).and_then(|draft| draft.visit) else { return };
        let Some(hook) = self.visits.get(visit).and_then(|visit| visit.draft) else { return };
        let before_conntrack = |draft: &Draft| match &draft.note {
            Note::Rule { base, .. } => {
                priority(base, draft).is_some_and(|priority| priority < CONNTRACK_PRIORITY)
            }
            Note::Legacy { .. } | Note::ChainEnd => is_legacy_raw(&draft.step.kind),
            _ => false,
        };
        let earlier = self.drafts.iter().enumerate().take(from).skip(hook + 1);
        let to = earlier.rev().find(|(_, d)| before_conntrack(d)).map_or(hook + 1, |(at, _)| at + 1);
        if to < from {
            self.move_step(from, to);
        }
    }

    /// What the ring tells and ctnetlink's word of the entry's end are read in any order: puts that step where its time
    /// is. ctnetlink's word has the time at which it was read: when the packet was not seen afterwards, nothing says
    /// that the entry had not outlived it, and the step goes.
    pub(super) fn place_destruction(&mut self) {
        let Some(from) = self.drafts.iter().rposition(is_destruction) else { return };
        let Some(time_ns) = self.drafts.get(from).map(|draft| draft.step.time_ns) else { return };
        if time_ns > self.last_seen_ns {
            self.move_step(from, self.drafts.len() - 1);
            self.drafts.pop();
            return;
        }
        let earlier = self.drafts.iter().take(from).position(|draft| draft.step.time_ns > time_ns);
        let later = self.drafts.iter().skip(from + 1).rposition(|draft| draft.step.time_ns < time_ns);
        if let Some(to) = earlier.or_else(|| later.map(|behind| from + 1 + behind)) {
            self.move_step(from, to);
        }
    }
}

fn is_destruction(draft: &Draft) -> bool {
    matches!(draft.step.kind, StepKind::Connection { event: ConnectionStep::Destroyed, .. })
}

/// Of legacy iptables' tables, `raw` alone comes before conntrack (`NF_IP_PRI_RAW`).
fn is_legacy_raw(kind: &StepKind) -> bool {
    match kind {
        StepKind::Rule(step) => step.rule.table == "raw",
        StepKind::Policy { table, .. } => table == "raw",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conntrack::IPS_CONFIRMED;
    use crate::event::{HookPoint, NfFamily, TraceType, Verdict};
    use crate::journey::Backend;
    use crate::packet::{Endpoint, datagram};

    const AT: Moment = Moment { time_ns: 1, cpu: 0, netns: 1 };

    fn open() -> Open {
        let end = |last: u8| Endpoint { addr: [10, 0, 0, last].into(), port: Some(7) };
        Open::new(AT, Some(1), datagram(end(1), end(2)))
    }

    fn seen(key: u64, status: u32) -> Connection {
        let end = |last: u8| Endpoint { addr: [10, 0, 0, last].into(), port: Some(7) };
        Connection {
            key,
            state: Some(State::New),
            direction: Some(Direction::Original),
            status: Some(status),
            original: Some(crate::conntrack::Tuple { protocol: 17, source: end(1), destination: end(2) }),
            ..Connection::default()
        }
    }

    fn steps(observations: &[Connection]) -> Vec<&'static str> {
        let mut open = open();
        for connection in observations {
            open.connection_lives(AT, connection);
            open.merge_connection(AT, connection);
        }
        open.drafts
            .iter()
            .filter_map(|draft| match draft.step.kind {
                StepKind::Connection { event, .. } => Some(event.name()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn an_end_that_was_read_early_stands_where_its_time_is() {
        let mut open = open();
        let later = Moment { time_ns: 9, ..AT };
        open.delivered(AT, None);
        open.delivered(later, None);
        open.seen(later);
        open.entry_ended(Moment { time_ns: 5, ..AT }, None);
        open.place_destruction();
        let times = |open: &Open| open.drafts.iter().map(|draft| draft.step.time_ns).collect::<Vec<_>>();
        assert_eq!(times(&open), [1, 5, 9]);
        // Or later than what is read behind it.
        open.ending.verdict = Some(2);
        open.seen(Moment { time_ns: 12, ..AT });
        open.drafts[1].step.time_ns = 12;
        open.place_destruction();
        assert_eq!(times(&open), [1, 9, 12]);
        assert_eq!(open.ending.verdict, Some(1));
    }

    #[test]
    fn an_end_of_which_was_read_when_the_packet_was_gone_may_not_be_its_own() {
        let mut open = open();
        open.entry_ended(Moment { time_ns: 5, ..AT }, None);
        open.delivered(AT, None);
        open.ending.verdict = Some(1);
        open.place_destruction();
        assert!(!open.drafts.iter().any(is_destruction));
        assert_eq!(open.ending.verdict, Some(0));
    }

    #[test]
    fn an_end_stands_where_it_was_known_first() {
        let mut open = open();
        open.entry_ended(Moment { time_ns: 5, ..AT }, None);
        open.entry_ended(Moment { time_ns: 3, ..AT }, None);
        open.entry_ended(Moment { time_ns: 4, ..AT }, None);
        let times: Vec<u64> = open.drafts.iter().map(|draft| draft.step.time_ns).collect();
        assert_eq!(times, [3]);
    }

    #[test]
    fn a_first_packet_makes_an_entry_and_has_it_confirmed() {
        let steps_of = steps(&[seen(1, 0), seen(1, 0), seen(1, IPS_CONFIRMED), seen(1, IPS_CONFIRMED)]);
        assert_eq!(steps_of, ["created", "confirmed"]);
    }

    /// The step at which the entry stands, after the hook and these chains.
    fn created_at(backend: Backend, chains: [(&str, &str, Note); 2]) -> Option<usize> {
        let mut open = open();
        let visit = open.enter(AT, HookPoint::Prerouting, NfFamily::Ip, None, None, true);
        for (table, chain, note) in chains {
            let kind = StepKind::Policy {
                backend,
                family: NfFamily::Ip,
                table: table.into(),
                chain: chain.into(),
                verdict: Verdict::Accept,
                hook: None,
            };
            open.push(AT, kind, Some(visit), note);
        }
        open.connection_lives(AT, &seen(1, 0));
        open.place_creation(|base, _| Some(if &*base.chain == "raw" { -300 } else { -100 }));
        open.drafts.iter().position(|draft| matches!(draft.step.kind, StepKind::Connection { .. }))
    }

    #[test]
    fn the_entry_is_made_behind_raw_chains_and_before_nat() {
        let nft = |chain: &str| Note::Rule {
            table_handle: None,
            base: Arc::new(ChainName { family: NfFamily::Ip, table: "t".into(), chain: chain.into() }),
        };
        let chains = [("t", "raw", nft("raw")), ("t", "nat", nft("nat"))];
        assert_eq!(created_at(Backend::Nft, chains), Some(2));
        let legacy = Note::Legacy { called: TraceType::Policy };
        let chains = [("raw", "PREROUTING", legacy.clone()), ("nat", "PREROUTING", legacy)];
        assert_eq!(created_at(Backend::Legacy, chains), Some(2));
    }

    #[test]
    fn a_packet_of_a_known_connection_has_no_such_steps() {
        assert!(steps(&[seen(1, IPS_CONFIRMED), seen(1, IPS_CONFIRMED)]).is_empty());
    }

    #[test]
    fn the_slower_of_two_first_packets_takes_the_others_entry() {
        assert_eq!(steps(&[seen(1, 0), seen(2, IPS_CONFIRMED)]), ["created", "clash-resolved"]);
    }

    #[test]
    fn or_keeps_its_own_for_the_answers_where_nat_sent_the_two_to_different_places() {
        let clashed = seen(1, IPS_CONFIRMED | IPS_NAT_CLASH);
        assert_eq!(steps(&[seen(1, 0), clashed]), ["created", "clash-resolved"]);
    }
}
