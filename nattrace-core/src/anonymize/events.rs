//! Event by event. Each of an event's members is named here: a new one does not compile until somebody has decided what
//! becomes of it.

use super::names::Kind;
use super::{Anonymizer, common};
use crate::conntrack::{Connection, Tuple};
use crate::event::{
    Body, Commit, ConntrackEvent, Deliver, DeviceEvent, DeviceRef, DropEvent, Event, Hook, HookReturn,
    LegacyChange, LegacyRule, Link, NftTrace, Rewrite, RouteRef, SetAnswer, TraceMessage, Verdict, Writer,
};
use crate::fib::{FibAnswer, FibRoute, RouteQuery};
use crate::neighbour::NeighbourAnswer;
use crate::packet::{Endpoint, Packet};
use crate::ruleset::{self, is_trace_table, legacy};

impl Anonymizer {
    /// An event.
    #[must_use]
    pub fn event(&mut self, event: &Event) -> Event {
        self.learn(event);
        let mut event = event.clone();
        match &mut event.body {
            Body::Hook(hook) => self.hook(hook),
            Body::HookReturn(back) => self.hook_return(back),
            Body::Rewrite(rewrite) => {
                let Rewrite { packet: _, manip: _, direction: _, before, after, connection } = rewrite;
                self.packet(before);
                self.packet(after);
                self.connection(connection.as_mut());
            }
            Body::NftTrace(trace) => {
                let NftTrace { packet: _, hint: _, table_handle: _, message } = trace;
                self.message(message);
            }
            Body::LegacyRule(rule) => {
                let LegacyRule { packet: _, family: _, hook: _, table, chain, rulenum: _, called: _ } = rule;
                self.place(table, chain);
            }
            Body::Receive(device) | Body::Transmit(device) => {
                let DeviceEvent { packet: _, header, device, connection } = device;
                self.packet(header);
                self.device_name(device);
                self.connection(connection.as_mut());
            }
            Body::Deliver(deliver) => {
                let Deliver { packet: _, function: _, header, listening: _ } = deliver;
                if let Some(header) = header {
                    self.packet(header);
                }
            }
            Body::Writer(writer) => {
                let Writer { packet: _, function: _, header } = writer;
                self.packet(header);
            }
            Body::Drop(drop) => {
                let DropEvent { packet: _, header, reason: _, function: _, device, route, circumstances: _ } =
                    drop;
                self.packet(header);
                self.device_ref(device);
                self.route(route);
            }
            Body::Conntrack(change) => {
                let ConntrackEvent { change: _, connection } = change;
                self.connection(Some(connection));
            }
            Body::Commit(commit) => self.commit(commit),
            Body::Ruleset(listing) => self.listing(listing),
            Body::SetAnswer(answer) => {
                let SetAnswer { family: _, table, set, element, has: _ } = answer;
                self.table(table);
                *set = self.names.name(Kind::Set, set);
                *element = self.element(element);
            }
            Body::LegacyRuleset(listing) => self.legacy_listing(listing),
            Body::LegacyChange(change) => match change {
                LegacyChange::Watched => {}
                LegacyChange::Begun { task } | LegacyChange::Ended { task } => self.number(task),
            },
            Body::Link(link) => {
                let Link { index: _, name } = link;
                *name = self.names.device(name);
            }
            Body::Namespace { name } => {
                if let Some(name) = name {
                    *name = self.names.name(Kind::Netns, name);
                }
            }
            Body::OwnTable { family: _, name } => self.table(name),
            Body::Fib(answer) => self.fib(answer),
            Body::Neighbour(answer) => self.neighbour(answer),
            Body::End { packet: _, function: _ }
            | Body::Left { packet: _ }
            | Body::Clock { quiet: _ }
            | Body::Full
            | Body::HeldBack { .. }
            | Body::Loss(_) => {}
        }
        event
    }

    fn hook(&mut self, hook: &mut Hook) {
        let Hook { packet: _, header, hook: _, family: _, iif, oif, connection, route } = hook;
        self.packet(header);
        self.device_ref(iif);
        self.device_ref(oif);
        self.connection(connection.as_mut());
        self.route(route);
    }

    fn hook_return(&mut self, back: &mut HookReturn) {
        let HookReturn { packet: _, hook: _, family: _, verdict: _, header, connection, route, iif, oif } =
            back;
        if let Some(header) = header {
            self.packet(header);
        }
        self.device_ref(iif);
        self.device_ref(oif);
        self.connection(connection.as_mut());
        self.route(route);
    }

    /// The fields of a header.
    pub(super) fn packet(&mut self, packet: &mut Packet) {
        let Packet { source, destination, icmp, .. } = packet;
        self.endpoint(source);
        self.endpoint(destination);
        if let Some(about) = icmp.as_mut().and_then(|icmp| icmp.about.as_mut()) {
            self.addr(&mut about.source.addr);
            self.addr(&mut about.destination.addr);
        }
    }

    fn addr_if(&mut self, addr: &mut Option<std::net::IpAddr>) {
        if let Some(addr) = addr {
            self.addr(addr);
        }
    }

    fn endpoint(&mut self, end: &mut Option<Endpoint>) {
        if let Some(Endpoint { addr, port: _ }) = end {
            self.addr(addr);
        }
    }

    fn connection(&mut self, connection: Option<&mut Connection>) {
        let Some(connection) = connection else { return };
        let Connection { key, original, reply, .. } = connection;
        self.number(key);
        for Tuple { protocol: _, source, destination } in [original, reply].into_iter().flatten() {
            self.addr(&mut source.addr);
            self.addr(&mut destination.addr);
        }
    }

    fn device_ref(&mut self, device: &mut Option<DeviceRef>) {
        if let Some(device) = device {
            self.device_name(device);
        }
    }

    fn device_name(&mut self, device: &mut DeviceRef) {
        let DeviceRef { index: _, name } = device;
        if let Some(name) = name {
            *name = self.names.device(name);
        }
    }

    fn route(&mut self, route: &mut Option<RouteRef>) {
        if let Some(RouteRef { kind: _, oif, gateway, error: _ }) = route {
            self.device_ref(oif);
            self.addr_if(gateway);
        }
    }

    fn fib(&mut self, answer: &mut FibAnswer) {
        let FibAnswer { query, routes } = answer;
        let RouteQuery { source, destination, .. } = query;
        self.addr(source);
        self.addr(destination);
        for FibRoute { table: _, kind: _, prefix, source, hops } in routes {
            prefix.addr = self.addresses.prefix(prefix.addr, prefix.length);
            self.addr_if(source);
            for hop in hops {
                self.addr_if(&mut hop.gateway);
            }
        }
    }

    fn neighbour(&mut self, answer: &mut NeighbourAnswer) {
        let NeighbourAnswer { query, neighbour } = answer;
        query.device = self.names.device(&query.device);
        self.addr(&mut query.address);
        if let Some(neighbour) = neighbour {
            match <[u8; 6]>::try_from(neighbour.lladdr.as_slice()) {
                Ok(mac) => neighbour.lladdr = self.mac(mac).to_vec(),
                // A tunnel's, which is an IP address: how long it is says what it is.
                Err(_) => neighbour.lladdr.fill(0),
            }
        }
    }

    fn message(&mut self, message: &mut TraceMessage) {
        if let Some(Verdict::Jump(chain) | Verdict::Goto(chain)) = &mut message.verdict {
            self.chain(&message.table, chain);
        }
        self.place(&mut message.table, &mut message.chain);
        self.bytes(message);
    }

    fn table(&mut self, table: &mut String) {
        *table = self.names.name(Kind::Table, table);
    }

    /// A table and a chain in it.
    fn place(&mut self, table: &mut String, chain: &mut String) {
        self.chain(table, chain);
        self.table(table);
    }

    /// A chain of a table; those of this program's tables say what they are for.
    fn chain(&mut self, table: &str, chain: &mut String) {
        if !(is_trace_table(table) && common::is_own_chain(chain)) {
            *chain = self.names.name(Kind::Chain, chain);
        }
    }

    fn commit(&mut self, commit: &mut Commit) {
        let Commit { generation: _, deleted_tables, new_tables, replaced_rules, changes: _, uncertain_ns: _ } =
            commit;
        for (_, table, _) in deleted_tables.iter_mut().chain(new_tables) {
            self.table(table);
        }
        for (_, table, _) in replaced_rules {
            self.table(table);
        }
    }

    fn listing(&mut self, listing: &mut ruleset::Listing) {
        let ruleset::Listing { generation: _, tables } = listing;
        for ruleset::Table { family: _, name: table, handle: _, chains } in tables {
            let own = is_trace_table(table);
            for ruleset::Chain { name, handle: _, base, rules } in chains {
                self.chain(table, name);
                for device in base.iter_mut().flat_map(|base| &mut base.devices) {
                    *device = self.names.device(device);
                }
                if own {
                    // They are the filter, and nobody's rules.
                    rules.clear();
                }
                for ruleset::Rule { handle: _, text, iptables, counted } in rules {
                    *text = self.rule(text);
                    for text in [iptables, counted].into_iter().flatten() {
                        *text = self.rule(text);
                    }
                }
            }
            self.table(table);
        }
    }

    fn legacy_listing(&mut self, listing: &mut legacy::Listing) {
        let legacy::Listing { begun_ns: _, tables } = listing;
        for legacy::Table { family: _, name, chains } in tables {
            self.table(name);
            for legacy::Chain { name, policy: _, rules } in chains {
                *name = self.names.name(Kind::Chain, name);
                for rule in rules {
                    *rule = self.rule(rule);
                }
            }
        }
    }
}
