//! The command line: flags as typed, then a plan that nothing after it needs flags for.
