//! `nattrace check`: what this kernel and these privileges allow.
