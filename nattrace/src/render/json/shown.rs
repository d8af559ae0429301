//! Values that are written as they are gone through: nothing is made of them before.

use std::fmt::Display;

use nattrace_core::conntrack::status_names;
use nattrace_core::packet::tcp_flag_names;
use serde::{Serialize, Serializer};

/// A string: what is shown of a value.
pub(super) struct Shown<T>(pub(super) T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An array of strings: what is shown of each value.
pub(super) struct AllShown<'a, T>(pub(super) &'a [T]);

impl<T: Display> Serialize for AllShown<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Shown))
    }
}

/// An array of the names of TCP's flags that are set.
pub(super) struct TcpFlags(pub(super) u8);

impl Serialize for TcpFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(tcp_flag_names(self.0))
    }
}

/// An array of the names of the bits that are set in a connection's status.
pub(super) struct Status(pub(super) u32);

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(status_names(self.0))
    }
}

/// An array of trace ids, as `nft monitor trace` prints them.
pub(super) struct TraceIds<'a>(pub(super) &'a [u32]);

impl TraceIds<'_> {
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for TraceIds<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|id| Shown(TraceId(id.swap_bytes()))))
    }
}

struct TraceId(u32);

impl Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
