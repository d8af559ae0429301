//! What ends a run from outside.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The signals that end a program in order.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on, they do not kill. Needs a runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
            _ = self.hangup.recv() => (),
        }
    }
}

/// Who ends a run, if its own limits do not.
pub(super) enum Stop {
    /// Whoever sends a signal.
    Signals(Signals),
    /// The part of this program that keeps the other end, when it says so or is gone.
    Told(watch::Receiver<bool>),
}

impl Stop {
    /// Waits for it.
    pub(super) async fn told(&mut self) {
        match self {
            Self::Signals(signals) => signals.any().await,
            Self::Told(told) => drop(told.wait_for(|stop| *stop).await),
        }
    }
}
