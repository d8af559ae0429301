//! Rulesets of numbered generations, and when each was in force.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Shared, now_ns};
use crate::lab::Lab;

/// The ports that the router's rules tell apart.
pub(super) const PORTS: std::ops::Range<u16> = 4000..4008;

/// From one ruleset to the next.
const EACH: Duration = Duration::from_secs(1);

/// How far the clock that a packet's time is made of and the system's may be apart, and what a processor may take from
/// looking a rule up to telling of it.
const TOLERANCE_NS: u64 = 20_000_000;

/// When loading each generation began and had ended, in their order.
#[derive(Debug, Default)]
pub(super) struct History {
    loaded: Mutex<Vec<(u64, u64)>>,
}

impl History {
    /// How many there were.
    pub(super) fn len(&self) -> usize {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether a generation may have been in force at a time.
    pub(super) fn may_hold(&self, generation: usize, time_ns: u64) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((begun, _)) = loaded.get(generation) else { return false };
        let ended = loaded.get(generation + 1).map_or(u64::MAX, |(_, ended)| *ended);
        (begun.saturating_sub(TOLERANCE_NS)..=ended.saturating_add(TOLERANCE_NS)).contains(&time_ns)
    }
}

/// Loads a generation at the router.
pub(super) fn load(lab: &Lab, history: &History, generation: usize) -> Result<()> {
    let begun = now_ns();
    // The next one is in force while its loading is not over, and what came before may still be.
    history.loaded.lock().unwrap_or_else(PoisonError::into_inner).push((begun, u64::MAX - TOLERANCE_NS));
    lab.output_with_input(Some("router"), "nft", &["-f", "-"], &ruleset(generation))?;
    if let Some(last) = history.loaded.lock().unwrap_or_else(PoisonError::into_inner).last_mut() {
        last.1 = now_ns();
    }
    Ok(())
}

/// Each port has its rule, which names generation and port, at another place in each generation. In turn the table is
/// another one, whose handles begin anew, and the same one with further handles: what was known of a handle is wrong then.
fn ruleset(generation: usize) -> String {
    let mut text = String::from("add table inet soak\n");
    text.push_str(if generation.is_multiple_of(2) {
        "delete table inet soak\n"
    } else {
        "flush table inet soak\n"
    });
    text.push_str(
        "table inet soak {\nchain nat { type nat hook prerouting priority dstnat; policy accept;\n\
         ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22\n}\n\
         chain forward { type filter hook forward priority filter; policy accept;\n",
    );
    let count = PORTS.len();
    for index in 0..count {
        let port = usize::from(PORTS.start) + (index * 3 + generation) % count;
        let _ = writeln!(text, "udp dport {port} counter comment \"generation {generation} port {port}\"");
    }
    text.push_str("}\n}\n");
    text
}

/// One after the other until it is over.
pub(super) fn reload_for_ever(lab: &Lab, history: &History, shared: &Shared) -> Result<()> {
    let mut next = Instant::now() + EACH;
    while !shared.is_over() {
        lab.limits.sleep(next.saturating_duration_since(Instant::now()))?;
        next = Instant::now() + EACH;
        load(lab, history, history.len())?;
    }
    Ok(())
}

/// Generation and port of a rule's text.
pub(super) fn named(text: &str) -> Option<(usize, u16)> {
    let (generation, rest) = text.split_once("comment \"generation ")?.1.split_once(" port ")?;
    Some((generation.parse().ok()?, rest.split('"').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_its_generation_and_port() {
        let text = ruleset(7);
        let mut named: Vec<_> = text.lines().filter_map(named).collect();
        assert_ne!(named, ruleset(8).lines().filter_map(super::named).collect::<Vec<_>>());
        named.sort_unstable();
        assert_eq!(named, PORTS.map(|port| (7, port)).collect::<Vec<_>>());
        assert_eq!(super::named("counter"), None);
    }

    #[test]
    fn a_generation_holds_until_the_next_is_loaded() {
        let history = History::default();
        *history.loaded.lock().expect("one thread") =
            vec![(1_000_000_000, 1_100_000_000), (2_000_000_000, 2_200_000_000)];
        assert!(history.may_hold(0, 1_050_000_000));
        assert!(history.may_hold(0, 2_210_000_000), "within the tolerance");
        assert!(!history.may_hold(0, 2_300_000_000));
        assert!(!history.may_hold(1, 1_900_000_000));
        assert!(history.may_hold(1, 9_000_000_000));
        assert!(!history.may_hold(2, 9_000_000_000));
    }
}
