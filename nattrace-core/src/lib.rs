//! nattrace-core
