//! The packets that are kept, by connection, and which of them the list shows.

use std::collections::{BTreeMap, VecDeque};

use jiff::tz::TimeZone;
use nattrace_core::conntrack::Tuple;
use nattrace_core::conversation::Conversation;
use nattrace_core::event::NetnsId;
use nattrace_core::journey::{Journey, JourneyId, Outcome};

use super::pattern::Pattern;
use crate::render::style::Role;
use crate::render::text::{Text, words};
use crate::render::{Namespaces, Tally};

/// A packet that was kept.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) journey: Journey,
    /// The connection it belongs to.
    pub(crate) connection: u64,
    /// All that is shown of it, in lower case.
    text: String,
    fits: bool,
}

/// A connection, or one packet that belongs to none.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    tuple: Option<(NetnsId, Tuple)>,
    reply: Option<Tuple>,
    /// How its packets ended, also those that are not kept any more.
    pub(crate) tally: Tally,
    /// What came of it, as it was last told.
    pub(crate) conversation: Option<Conversation>,
    /// Whether its packets are hidden, where the user said so of this one.
    folded: Option<bool>,
    packets: VecDeque<u64>,
    /// All that is shown of it itself, in lower case.
    text: String,
    fits: bool,
}

impl Connection {
    /// Both ends; `None` of a packet without a connection.
    pub(crate) fn ends(&self) -> Option<String> {
        self.tuple.map(|(_, original)| words::connection_ends(original, self.reply))
    }

    /// Whether one line is enough for it and its packet.
    fn is_its_packet(&self) -> bool {
        self.tuple.is_none() || self.tally.total() == 1
    }

    fn describe(&mut self) {
        let ends = self.ends().unwrap_or_default();
        let (told, why) = match &self.conversation {
            Some(conversation) => {
                let why = conversation.findings.iter().flat_map(|finding| {
                    std::iter::once(finding.text.as_str()).chain(finding.fix.iter().map(String::as_str))
                });
                (conversation.text.as_str(), why.collect::<Vec<_>>().join(" "))
            }
            None => ("", String::new()),
        };
        self.text = format!("{ends} {told} {why}").to_lowercase();
    }
}

/// A line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// Of a connection.
    Connection(u64),
    /// Of a packet, by the order in which it came.
    Packet(u64),
}

/// All packets that are kept.
#[derive(Debug)]
pub(crate) struct List {
    most: usize,
    packets: VecDeque<Packet>,
    /// The number, by arrival, of the oldest one.
    first: u64,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    by_tuple: BTreeMap<(NetnsId, Tuple), u64>,
    by_id: BTreeMap<JourneyId, u64>,
    filter: Pattern,
    all_folded: bool,
    /// Packets that are not kept any more.
    pub(crate) left: u64,
}

impl List {
    /// None yet, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            packets: VecDeque::new(),
            first: 0,
            connections: BTreeMap::new(),
            next: 0,
            by_tuple: BTreeMap::new(),
            by_id: BTreeMap::new(),
            filter: Pattern::default(),
            all_folded: false,
            left: 0,
        }
    }

    /// A packet's journey ended.
    pub(crate) fn add(&mut self, journey: Journey, namespaces: &Namespaces, zone: &TimeZone) {
        let tuple = journey.conversation();
        let number = self.first + self.packets.len() as u64;
        let key = match tuple.and_then(|tuple| self.by_tuple.get(&tuple)) {
            Some(known) => *known,
            None => self.open(tuple),
        };
        let connection = self.connections.entry(key).or_default();
        connection.tally.add(&journey);
        connection.packets.push_back(number);
        connection.reply = journey.connection.as_ref().and_then(|known| known.reply).or(connection.reply);
        connection.describe();
        connection.fits = self.filter.fits(&connection.text);
        let text = Text::whole(&journey, None, zone, namespaces, None).paint(false).to_lowercase();
        self.by_id.insert(journey.id, number);
        let fits = self.filter.fits(&text);
        self.packets.push_back(Packet { journey, connection: key, text, fits });
        if self.packets.len() > self.most {
            self.forget();
        }
    }

    fn open(&mut self, tuple: Option<(NetnsId, Tuple)>) -> u64 {
        let key = self.next;
        self.next += 1;
        self.connections.insert(key, Connection { tuple, ..Connection::default() });
        if let Some(tuple) = tuple {
            self.by_tuple.insert(tuple, key);
        }
        key
    }

    /// The oldest packet leaves, and with its last packet a connection.
    fn forget(&mut self) {
        let Some(oldest) = self.packets.pop_front() else { return };
        self.first += 1;
        self.left += 1;
        self.by_id.remove(&oldest.journey.id);
        let Some(connection) = self.connections.get_mut(&oldest.connection) else { return };
        connection.packets.pop_front();
        if connection.packets.is_empty() {
            if let Some(tuple) = connection.tuple {
                self.by_tuple.remove(&tuple);
            }
            self.connections.remove(&oldest.connection);
        }
    }

    /// What came of a connection; of one whose packets have left, nobody wants to know.
    pub(crate) fn converse(&mut self, conversation: Conversation) {
        let key = (conversation.netns, conversation.original);
        let known = self.by_tuple.get(&key).and_then(|known| self.connections.get_mut(known));
        if let Some(connection) = known {
            connection.reply = conversation.reply.or(connection.reply);
            connection.conversation = Some(conversation);
            connection.describe();
            connection.fits = self.filter.fits(&connection.text);
        }
    }

    /// Shows what fits alone.
    pub(crate) fn filter(&mut self, filter: Pattern) {
        for packet in &mut self.packets {
            packet.fits = filter.fits(&packet.text);
        }
        for connection in self.connections.values_mut() {
            connection.fits = filter.fits(&connection.text);
        }
        self.filter = filter;
    }

    /// What is shown alone.
    pub(crate) fn filtered_by(&self) -> &Pattern {
        &self.filter
    }

    /// Packets that are kept, and how many of them fit.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.packets.len(), self.packets.iter().filter(|packet| self.is_shown(packet)).count())
    }

    /// How many connections are kept.
    pub(crate) fn connections(&self) -> usize {
        self.by_tuple.len()
    }

    /// The lines of the list, connections in the order in which they appeared.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (key, connection) in &self.connections {
            let fits = |number: &&u64| self.packet(**number).is_some_and(|packet| self.is_shown(packet));
            let fitting = connection.packets.iter().filter(fits);
            if connection.is_its_packet() {
                rows.extend(fitting.map(|number| Row::Packet(*number)));
            } else if self.is_folded(connection) {
                rows.extend((connection.fits || fitting.count() > 0).then_some(Row::Connection(*key)));
            } else {
                let before = rows.len();
                rows.push(Row::Connection(*key));
                rows.extend(fitting.map(|number| Row::Packet(*number)));
                if !connection.fits && rows.len() == before + 1 {
                    rows.truncate(before);
                }
            }
        }
        rows
    }

    /// Whether a packet fits the filter, or its connection does, where one line stands for both.
    fn is_shown(&self, packet: &Packet) -> bool {
        packet.fits || self.alone(packet).is_some_and(|connection| connection.fits)
    }

    /// The connection of a packet whose line stands for both.
    fn alone(&self, packet: &Packet) -> Option<&Connection> {
        self.connections.get(&packet.connection).filter(|known| known.is_its_packet())
    }

    /// The packet of this number.
    pub(crate) fn packet(&self, number: u64) -> Option<&Packet> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.packets.get(index)
    }

    /// The packet of this journey.
    pub(crate) fn packet_of(&self, id: JourneyId) -> Option<(u64, &Packet)> {
        let number = *self.by_id.get(&id)?;
        Some((number, self.packet(number)?))
    }

    /// A connection.
    pub(crate) fn connection(&self, key: u64) -> Option<&Connection> {
        self.connections.get(&key)
    }

    /// Its packets that are kept, in the order in which they ended.
    pub(crate) fn packets_of(&self, key: u64) -> impl Iterator<Item = &Packet> {
        let numbers = self.connections.get(&key).map(|connection| connection.packets.iter());
        numbers.into_iter().flatten().filter_map(|number| self.packet(*number))
    }

    /// The newest packet that is shown.
    pub(crate) fn newest(&self) -> Option<u64> {
        let index = self.packets.iter().rposition(|packet| self.is_shown(packet))?;
        Some(self.first + index as u64)
    }

    /// The first packet that is shown and was dropped, or where none was, the first.
    pub(crate) fn first_to_look_at(&self) -> Option<u64> {
        let dropped =
            |packet: &Packet| self.is_shown(packet) && matches!(packet.journey.outcome, Outcome::Dropped(_));
        let index = self.packets.iter().position(dropped);
        let index = index.or_else(|| self.packets.iter().position(|packet| self.is_shown(packet)))?;
        Some(self.first + index as u64)
    }

    /// The connection that a line is of or belongs to.
    pub(crate) fn connection_of(&self, row: Row) -> Option<u64> {
        match row {
            Row::Connection(key) => Some(key),
            Row::Packet(number) => self.packet(number).map(|packet| packet.connection),
        }
    }

    /// Whether a packet's line stands below its connection's.
    pub(crate) fn is_below(&self, packet: &Packet) -> bool {
        self.connections.get(&packet.connection).is_some_and(|connection| !connection.is_its_packet())
    }

    /// Whether a line fits what is searched.
    pub(crate) fn fits(&self, row: Row, pattern: &Pattern) -> bool {
        match row {
            Row::Connection(key) => self.connections.get(&key).is_some_and(|known| pattern.fits(&known.text)),
            Row::Packet(number) => self.packet(number).is_some_and(|packet| {
                pattern.fits(&packet.text)
                    || self.alone(packet).is_some_and(|known| pattern.fits(&known.text))
            }),
        }
    }

    /// Whether the packets of a connection are hidden.
    pub(crate) fn is_folded(&self, connection: &Connection) -> bool {
        connection.folded.unwrap_or(self.all_folded)
    }

    /// Hides the packets of a connection, or shows them.
    pub(crate) fn fold(&mut self, key: u64, folded: bool) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.folded = Some(folded);
        }
    }

    /// The same for all, also for those to come.
    pub(crate) fn fold_all(&mut self) {
        self.all_folded = !self.all_folded;
        self.connections.values_mut().for_each(|connection| connection.folded = None);
    }

    /// The command that mends what is wrong with a line's packet or connection; of whom it is.
    pub(crate) fn fix(&self, row: Row) -> Option<(String, Vec<String>)> {
        let first_fix = |findings: &[nattrace_core::findings::Finding]| {
            findings.iter().find(|finding| !finding.fix.is_empty()).map(|finding| finding.fix.clone())
        };
        let of_packet =
            |packet: &Packet| Some((format!("#{}", packet.journey.id), first_fix(&packet.journey.findings)?));
        let of_connection = |key: u64| {
            let connection = self.connections.get(&key)?;
            let told = connection.conversation.as_ref()?;
            Some((connection.ends().unwrap_or_default(), first_fix(&told.findings)?))
        };
        match row {
            Row::Packet(number) => {
                let packet = self.packet(number)?;
                of_packet(packet).or_else(|| of_connection(packet.connection))
            }
            Row::Connection(key) => of_connection(key).or_else(|| self.packets_of(key).find_map(of_packet)),
        }
    }
}

/// The worst of several ends: what a connection is marked by.
pub(crate) fn worst(tally: &Tally) -> (Role, &'static str) {
    let (role, sign) = match tally {
        tally if tally.dropped > 0 => (Role::Drop, "✗"),
        tally if tally.unfinished > 0 => (Role::Warn, "?"),
        tally if tally.queued > 0 => (Role::Other, "»"),
        tally if tally.transmitted > 0 => (Role::Pass, "→"),
        tally if tally.delivered > 0 => (Role::Pass, "✓"),
        _ => (Role::Other, "•"),
    };
    (role, sign)
}
