//! What conntrack tells, to the journeys of the connection's packets.

use super::StepKind;
use super::assemble::Assembler;
use super::connections::tuple_of;
use super::identity::is_entry;
use super::open::{Moment, Open};
use crate::conntrack::{Connection, Direction};
use crate::event::{ConntrackChange, ConntrackEvent};

impl Assembler {
    pub(super) fn conntrack(&mut self, at: Moment, event: &ConntrackEvent) {
        if event.change == ConntrackChange::Destroy {
            if let Some(index) = self.connections.find(at.netns, &event.connection) {
                self.entry_ends(index, |open| {
                    open.entry_ended(at, event.connection.id);
                    open.entry_gone = true;
                });
            }
            self.connections.destroyed(at.netns, &event.connection);
            return;
        }
        let Some(index) = self.connections.learn(at.netns, &event.connection) else { return };
        if event.change == ConntrackChange::New
            && let Some(known) = self.connections.get_mut(index)
        {
            known.created_ns = Some(at.time_ns);
        }
        let followed = self.connections.get(index).is_some_and(|known| known.followed);
        let asked = !followed
            && self.opens.values().any(|open| {
                open.known.is_none()
                    && open.connection_netns == at.netns
                    && self.options.filter.matches(&open.packet)
                    && event.connection.original.is_some()
                    && tuple_of(&open.packet) == event.connection.original
            });
        if asked && let Some(known) = self.connections.get_mut(index) {
            known.followed = true;
        }
    }

    /// Tells the packets that are under way with an entry that it was removed.
    fn entry_ends(&mut self, index: u64, tell: impl Fn(&mut Open)) {
        let under_way = self.connections.get(index).map_or(&[][..], |known| &known.under_way);
        for seq in under_way {
            if let Some(open) = self.opens.get_mut(*seq) {
                tell(open);
            }
        }
    }

    /// Takes over what an event says of the packet's connection.
    pub(super) fn connected(&mut self, seq: u64, at: Moment, connection: Option<&Connection>) {
        let Some(connection) = connection else { return };
        let Some(open) = self.opens.get_mut(seq) else { return };
        open.connection_lives(at, connection);
        open.merge_connection(at, connection);
        let netns = if at.netns == 0 { open.netns } else { at.netns };
        if netns != open.connection_netns {
            return;
        }
        // Conntrack itself looks at the packet before any rewrite: so does who sees it come in.
        let unchanged = matches!(open.drafts.first().map(|d| &d.step.kind), Some(StepKind::Device { .. }))
            || open.visits.first().is_some_and(|v| v.exact && is_entry(v.hook));
        if unchanged && let Some(mine) = &mut open.connection {
            match mine.direction {
                Some(Direction::Original) if mine.original.is_none() => {
                    mine.original = tuple_of(&open.packet);
                }
                Some(Direction::Reply) if mine.reply.is_none() => mine.reply = tuple_of(&open.packet),
                _ => {}
            }
        }
        // Still the packet's, but nobody finds it any more: it is not to stand for the next one of the same tuples.
        if open.entry_gone {
            return;
        }
        let mine = open.connection.clone().unwrap_or_default();
        let before = open.known;
        open.known = self.connections.learn(netns, &mine).or(before);
        let mine_known = open.known;
        if open.known != before {
            self.connections.leaves(seq, before);
            if let Some(known) = open.known.and_then(|known| self.connections.get_mut(known)) {
                known.under_way.push(seq);
            }
        }
        if let Some(known) = open.known.and_then(|k| self.connections.get_mut(k))
            && !known.followed
        {
            known.followed = self.options.filter.matches(&open.packet);
        }
        // The kernel's own word for it, at a time of its own: ctnetlink's is dated when it is read.
        if connection.is_removed()
            && let Some(known) = mine_known
        {
            self.entry_ends(known, |open| open.entry_ended(at, mine.id));
        }
    }
}
