//! Packets of others: what a trace table need not judge, as neither its filter nor what follows a connection can be about
//! them. Nearly all are; a table's rules take several times as long to say so as a program that knows the filter.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::programs::SkBuffContext;
use nattrace_common::record::TUPLE_BYTES;

use crate::{
    emit::load,
    filter::{Key, key_of_ipv4, key_of_ipv6, key_of_tuple, matches_either_way},
    read::{self, Skb},
};

/// Whether a trace table may have marked any packet yet, and so remember its connection.
static mut MARKS: bool = false;

/// Whether a packet's headers are another's: of neither direction that the filter is about. Headers with options or
/// extensions are left to the table.
#[inline(always)]
pub(crate) fn is_packet(ctx: &SkBuffContext) -> bool {
    let others = header(ctx).is_some_and(|key| !matches_either_way(&key));
    if !others {
        // SAFETY: one byte, which is only ever set.
        unsafe { write_volatile(&raw mut MARKS, true) };
    }
    others
}

/// Whether a packet's connection is another's. What a table remembers of connections are headers that were judged by it.
#[inline(always)]
pub(crate) fn is_connection(skb: Skb) -> bool {
    // SAFETY: as above. It was set by the packet whose connection is remembered, before that was.
    if !unsafe { read_volatile(&raw const MARKS) } {
        return true;
    }
    let (ct, _) = skb.connection();
    let mut tuple = [0; TUPLE_BYTES];
    ct == 0 || read::original_tuple(ct, &raw mut tuple) && !matches_either_way(&key_of_tuple(&tuple))
}

/// The headers of a packet, which begins with that of the network in the hooks of IP.
#[inline(always)]
fn header(ctx: &SkBuffContext) -> Option<Key> {
    let header: [u32; 6] = load(ctx, 0)?;
    if u32::from_be(header[0]) >> 28 == 6 { key_of_ipv6(&load(ctx, 0)?) } else { key_of_ipv4(&header) }
}
