//! Asks the routing tables for what journeys want to know, while the packets are still about.

use std::collections::BTreeMap;

use nattrace_core::event::{Body, Event, NetnsId};
use nattrace_core::fib::RouteQuery;

use super::clock::now_ns;
use crate::source::netlink::fib::FibSocket;

/// Questions in [`WINDOW_NS`]: what more packets than that took is not told, or the asking would keep the ring waiting.
const MOST: u32 = 200;
/// See [`MOST`].
const WINDOW_NS: u64 = 100_000_000;

/// The tables of the watched namespaces.
#[derive(Debug, Default)]
pub(super) struct Tables {
    sockets: BTreeMap<NetnsId, FibSocket>,
    since_ns: u64,
    asked: u32,
}

impl Tables {
    /// Asks in one more namespace.
    pub(super) fn add(&mut self, netns: NetnsId, socket: FibSocket) {
        self.sockets.insert(netns, socket);
    }

    /// A namespace went.
    pub(super) fn forget(&mut self, netns: NetnsId) {
        self.sockets.remove(&netns);
    }

    /// The answer, if there is one to be had.
    pub(super) fn ask(&mut self, netns: NetnsId, query: RouteQuery) -> Option<Event> {
        let now = now_ns();
        if now.saturating_sub(self.since_ns) >= WINDOW_NS {
            (self.since_ns, self.asked) = (now, 0);
        }
        self.asked += 1;
        if self.asked > MOST {
            return None;
        }
        let answer = self.sockets.get_mut(&netns)?.ask(query).ok()?;
        Some(Event { time_ns: now_ns(), cpu: u32::MAX, netns, body: Body::Fib(answer) })
    }
}
