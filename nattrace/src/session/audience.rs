//! Who is told the results of a run, each the same and in the same order.

use std::io::Write;

use anyhow::Result;
use nattrace_core::conversation::Conversation;
use nattrace_core::event::{Loss, NetnsId};
use nattrace_core::journey::{Journey, JourneyId};
use nattrace_core::record::NftTool;

use crate::render::{Passed, Renderer, Start, Summary};

/// One that is told. An error ends the run: one that must not, keeps its troubles to itself.
pub(crate) trait Audience {
    /// The namespace that this program runs in.
    fn current_netns(&mut self, inum: NetnsId);
    /// A namespace has a name.
    fn netns_name(&mut self, inum: NetnsId, name: &str);
    /// The nft whose lines are to be printed, should any be.
    fn nft(&mut self, tool: &NftTool);
    /// What this run is; before all that follows.
    fn start(&mut self, start: &Start) -> Result<()>;
    /// A finished journey.
    fn journey(&mut self, journey: &Journey) -> Result<()>;
    /// Whether it tells in the order of time, and so has to know what has settled.
    fn waits_for_order(&self) -> bool {
        false
    }
    /// All journeys that began before this moment have been told: nanoseconds since the epoch. Told to all if to one that
    /// waits for it.
    fn settled(&mut self, _before_ns: u64) -> Result<()> {
        Ok(())
    }
    /// What came of a connection.
    fn conversation(&mut self, conversation: &Conversation) -> Result<()>;
    /// Events were lost, just now: for who cannot wait for the end, when [`Audience::loss`] says whom it may hurt.
    fn losing(&mut self, _loss: &Loss) {}
    /// Events that were lost, and the journeys that may lack steps for it.
    fn loss(&mut self, loss: &Loss, journeys: &[JourneyId]) -> Result<()>;
    /// All has been told: what became of what was to be passed on to others, for the summary.
    fn passed(&mut self) -> Option<Passed> {
        None
    }
    /// The end of the run.
    fn summary(&mut self, summary: &Summary) -> Result<()>;
}

impl<W: Write> Audience for Renderer<W> {
    fn current_netns(&mut self, inum: NetnsId) {
        self.namespaces().set_current(inum);
    }

    fn netns_name(&mut self, inum: NetnsId, name: &str) {
        self.namespaces().set_name(inum, name);
    }

    fn nft(&mut self, tool: &NftTool) {
        Self::nft(self, tool);
    }

    fn start(&mut self, start: &Start) -> Result<()> {
        Ok(Self::start(self, start)?)
    }

    fn journey(&mut self, journey: &Journey) -> Result<()> {
        Ok(Self::journey(self, journey)?)
    }

    fn waits_for_order(&self) -> bool {
        Self::waits_for_order(self)
    }

    fn settled(&mut self, before_ns: u64) -> Result<()> {
        Ok(Self::settled(self, before_ns)?)
    }

    fn conversation(&mut self, conversation: &Conversation) -> Result<()> {
        Ok(Self::conversation(self, conversation)?)
    }

    fn loss(&mut self, loss: &Loss, journeys: &[JourneyId]) -> Result<()> {
        Ok(Self::loss(self, loss, journeys)?)
    }

    fn summary(&mut self, summary: &Summary) -> Result<()> {
        Ok(Self::summary(self, summary)?)
    }
}
