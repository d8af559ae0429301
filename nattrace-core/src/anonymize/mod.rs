//! A recording for strangers: each address and name is replaced by another one, the same by the same, so that a replay
//! tells the same journeys of other people.
//!
//! ```text
//! address   prefixes and intervals hold what they held; private, multicast … stay so     address
//! mac       the vendor is gone                                                           mac
//! names     enp0 → enp1, a chain → chain1; what every machine has stays                  names, common
//! rules     word by word; what is not understood becomes a placeholder                   text
//! headers   addresses and checksums in the bytes; payload, options are removed           bytes
//! ```
//!
//! What is not replaced: ports, protocols, marks, lengths, sequence numbers, times, the kernel's release and its symbols,
//! handles, numbers of namespaces and devices. The key is whoever's who makes it; without it nothing leads back.

mod address;
mod bytes;
mod common;
mod events;
mod mac;
mod names;
mod text;

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::event::{Body, Event, Source};
use crate::filter::{Filter, Prefix};
use crate::record::{Header, ON};
use crate::ruleset::Listing;
use address::Addresses;
use names::Names;

/// Replaces addresses and names in recordings. See the module's documentation.
#[derive(Debug)]
pub struct Anonymizer {
    key: [u8; 16],
    addresses: Addresses,
    names: Names,
}

/// How much was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// Addresses and prefixes that are others now.
    pub addresses: usize,
    /// Names, comments and the like.
    pub names: usize,
    /// Words of rules that were not understood.
    pub words: usize,
}

impl Anonymizer {
    /// With a key that is to be random, and forgotten afterwards.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, addresses: Addresses::new(key), names: Names::default() }
    }

    /// Looks at an event that is to be replaced later. What rules ask for by intervals of addresses and by patterns of
    /// devices' names can be kept only as long as nothing like it was replaced: so rules are to be learnt first.
    pub fn learn(&mut self, event: &Event) {
        match &event.body {
            Body::Ruleset(listing) => self.learn_rules(texts(listing)),
            Body::LegacyRuleset(listing) => {
                let chains = listing.tables.iter().flat_map(|table| &table.chains);
                self.learn_rules(chains.flat_map(|chain| &chain.rules).map(String::as_str));
            }
            _ => {}
        }
    }

    /// A recording's first line.
    #[must_use]
    pub fn header(&mut self, header: &Header) -> Header {
        let mut new = header.clone();
        new.filter = self.filter(&header.filter);
        for (source, state) in &mut new.sources {
            if state != ON {
                *state = reason(*source);
            }
        }
        if let Some(nft) = &mut new.nft {
            // What is not assigned (IANA's "Assigned Internet Protocol Numbers") is somebody's own.
            nft.protocols.retain(|number, _| *number <= LAST_ASSIGNED);
        }
        new
    }

    /// A filter.
    #[must_use]
    pub fn filter(&mut self, filter: &Filter) -> Filter {
        let mut new = filter.clone();
        for prefix in [&mut new.saddr, &mut new.daddr, &mut new.addr].into_iter().flatten() {
            *prefix = Prefix { addr: self.addresses.prefix(prefix.addr, prefix.len), len: prefix.len };
        }
        for name in [&mut new.iif, &mut new.oif].into_iter().flatten() {
            *name = self.names.device(name);
        }
        new
    }

    /// How much was replaced so far.
    #[must_use]
    pub fn replaced(&self) -> Replaced {
        let (names, words) = self.names.count();
        Replaced { addresses: self.addresses.count(), names, words }
    }

    fn addr(&mut self, addr: &mut IpAddr) {
        *addr = self.addresses.addr(*addr);
    }

    fn mac(&self, mac: mac::Mac) -> mac::Mac {
        mac::mac(&self.key, mac)
    }

    /// A number that tells things apart, where it may be an address of the kernel's; 0 is none.
    fn number(&self, number: &mut u64) {
        if *number != 0 {
            let mut hasher = SipHasher24::new_with_key(&self.key);
            hasher.write_u64(*number);
            *number = hasher.finish().max(1);
        }
    }
}

/// The last protocol number that IANA has assigned, but for experiments.
const LAST_ASSIGNED: u8 = 146;

/// Instead of the reason why a source was off, which may hold names.
fn reason(source: Source) -> String {
    format!("{} were off", source.name())
}

/// All texts of a ruleset.
fn texts(listing: &Listing) -> impl Iterator<Item = &str> {
    let rules = listing.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    rules.flat_map(|rule| [Some(&rule.text), rule.iptables.as_ref()]).flatten().map(String::as_str)
}
