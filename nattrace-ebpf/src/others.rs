//! Packets of others: what a trace table need not judge, as its filter cannot be about them, nor what is followed by headers.
//! Nearly all are; a table's rules take several times as long to say so as a program that knows the filter.

use aya_ebpf::programs::SkBuffContext;

use crate::{
    emit::load,
    filter::{Key, key_of_ipv4, key_of_ipv6, matches_either_way},
};

/// Whether a packet's headers are another's: of neither direction that the filter is about. Headers with options or
/// extensions are left to the table.
#[inline(always)]
pub(crate) fn is_packet(ctx: &SkBuffContext) -> bool {
    header(ctx).is_some_and(|key| !matches_either_way(&key))
}

/// The headers of a packet, which begins with that of the network in the hooks of IP.
#[inline(always)]
fn header(ctx: &SkBuffContext) -> Option<Key> {
    let header: [u32; 6] = load(ctx, 0)?;
    if u32::from_be(header[0]) >> 28 == 6 { key_of_ipv6(&load(ctx, 0)?) } else { key_of_ipv4(&header) }
}
