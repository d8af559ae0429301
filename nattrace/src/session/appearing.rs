//! `--netns all`: namespaces that come and go while tracing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nattrace_core::event::NetnsId;
use tokio::sync::mpsc;

use super::namespace::{States, Watched};
use crate::cli::plan::TracePlan;
use crate::source::netlink::trace_table::FollowBy;
use crate::source::netns;

/// How often it is looked. What crosses a new namespace before that is not traced there.
const LOOK: Duration = Duration::from_secs(1);

/// What changed since the last look.
pub(super) struct Changed {
    /// New ones, opened, with the way in which replies can be recognised there.
    pub(super) came: Vec<(Watched, FollowBy)>,
    /// Those that have neither a name nor a process any more: to hold them would keep them from being deleted.
    pub(super) went: Vec<NetnsId>,
}

/// Looks again and again, beside the trace.
pub(super) fn watch<T: Send + 'static>(
    plan: &TracePlan,
    mut known: BTreeSet<NetnsId>,
    sender: mpsc::Sender<T>,
    input: impl Fn(Changed) -> T + Send + 'static,
) {
    let plan = Arc::new(plan.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let (looker, before) = (Arc::clone(&plan), known.clone());
            let Ok((changed, now)) = tokio::task::spawn_blocking(move || look(&looker, &before)).await else {
                return;
            };
            known = now;
            let idle = changed.came.is_empty() && changed.went.is_empty();
            if !idle && sender.send(input(changed)).await.is_err() {
                return;
            }
        }
    });
}

fn look(plan: &TracePlan, known: &BTreeSet<NetnsId>) -> (Changed, BTreeSet<NetnsId>) {
    let (new, present) = netns::others(known);
    let open = |netns| {
        let mut watched = Watched::open(netns, plan, &mut States::default());
        let follow = watched.follow_by(plan);
        (watched, follow)
    };
    let changed = Changed {
        came: new.into_iter().map(open).collect(),
        went: known.difference(&present).copied().collect(),
    };
    (changed, present)
}
