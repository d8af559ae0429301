//! ctnetlink as this kernel speaks it.
