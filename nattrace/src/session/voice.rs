//! Progress and warnings: on standard error, or wherever something else has the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use crate::render::escape::escape;

/// Who is told in place of the terminal.
type Listener = Box<dyn FnMut(&str) + Send>;

/// As standard error, there is one for the process.
static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// Says it. When standard error is closed there is nobody to tell.
pub(super) fn say(text: &str) {
    let mut listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(listener) = listener.as_mut() {
        listener(text);
    }
    // Where it goes to a file, nothing on the screen is torn.
    if listener.is_none() || !std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "nattrace: {}", escape(text));
    }
}

/// While it lives, what is said goes to a listener instead of to the terminal.
#[derive(Debug)]
pub(super) struct Diverted(());

impl Diverted {
    /// To this one.
    pub(super) fn to(listener: impl FnMut(&str) + Send + 'static) -> Self {
        *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(listener));
        Self(())
    }
}

impl Drop for Diverted {
    fn drop(&mut self) {
        *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
