//! nattrace
