//! The kernel side: fields from BTF, programs loaded and attached, raw records decoded.
