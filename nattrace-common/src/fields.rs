//! The one table of kernel fields that the programs read: resolved from BTF at start, patched in as
//! constants. No layout is compiled in.

/// The offset of a field that this kernel does not have: the verifier removes the code that would read it.
pub const ABSENT: u32 = u32::MAX;

/// Where a field is found in BTF.
#[derive(Clone, Copy, Debug)]
pub struct FieldSource {
    /// Name of the [`Fields`] member.
    pub name: &'static str,
    /// The structure's name in BTF.
    pub structure: &'static str,
    /// Members to follow, separated by dots; anonymous ones are looked through. Empty: the structure's size.
    pub path: &'static str,
    /// Without it the program cannot work at all.
    pub required: bool,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $structure:literal $path:literal $required:ident;)*) => {
        /// Byte offsets, [`ABSENT`] where the kernel lacks the field.
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct Fields {
            $($(#[$doc])* pub $name: u32,)*
        }

        impl Fields {
            /// Every field absent.
            pub const NONE: Self = Self { $($name: ABSENT,)* };

            /// Where each member is found in BTF, in order.
            pub const SOURCES: &'static [FieldSource] = &[
                $(FieldSource {
                    name: stringify!($name),
                    structure: $structure,
                    path: $path,
                    required: required!($required),
                },)*
            ];

            /// Debian's 5.10 has no module BTF: what nf_tables' structures of that series look like
            /// (include/net/netfilter/nf_tables.h, v5.10.223, x86-64). Only for what BTF left [`ABSENT`]; whether there was any.
            pub fn complete_for_5_10(&mut self) -> bool {
                let known = Self {
                    pktinfo_skb: 0,
                    pktinfo_state: 32,
                    traceinfo_pkt: 0,
                    traceinfo_basechain: 8,
                    traceinfo_rule: 24,
                    traceinfo_verdict: 32,
                    verdict_code: 0,
                    verdict_chain: 8,
                    basechain_policy: 64,
                    basechain_chain: 80,
                    chain_table: 64,
                    chain_name: 88,
                    table_handle: 224,
                    table_family: 236,
                    table_name: 240,
                    ..Self::NONE
                };
                let mut completed = false;
                $(if self.$name == ABSENT && known.$name != ABSENT {
                    self.$name = known.$name;
                    completed = true;
                })*
                completed
            }

            /// Sets each member from what `resolve` answers.
            pub fn fill(&mut self, mut resolve: impl FnMut(&FieldSource) -> u32) {
                let mut sources = Self::SOURCES.iter();
                $(if let Some(source) = sources.next() {
                    self.$name = resolve(source);
                })*
            }
        }
    };
}

macro_rules! required {
    (required) => {
        true
    };
    (optional) => {
        false
    };
}

fields! {
    /// `skb->len`, u32.
    skb_len: "sk_buff" "len" required;
    /// `skb->head`, pointer.
    skb_head: "sk_buff" "head" required;
    /// `skb->data`, pointer.
    skb_data: "sk_buff" "data" required;
    /// `skb->tail`, u32 offset from head.
    skb_tail: "sk_buff" "tail" required;
    /// `skb->end`, offset from `head`: where `skb_shared_info` is.
    skb_end: "sk_buff" "end" optional;
    /// `skb_shinfo(skb)->gso_segs`, u16.
    shinfo_gso_segs: "skb_shared_info" "gso_segs" optional;
    /// `skb->network_header`, u16 offset from head.
    skb_network_header: "sk_buff" "network_header" required;
    /// `skb->protocol`, be16.
    skb_protocol: "sk_buff" "protocol" required;
    /// `skb->dev`, pointer.
    skb_dev: "sk_buff" "dev" required;
    /// `skb->sk`, pointer.
    skb_sk: "sk_buff" "sk" optional;
    /// `skb->mark`, u32.
    skb_mark: "sk_buff" "mark" required;
    /// `skb->_nfct`, pointer with `ctinfo` in the low 3 bits.
    skb_nfct: "sk_buff" "_nfct" optional;
    /// `skb->_skb_refdst`, pointer with `SKB_DST_NOREF` in the low bit.
    skb_refdst: "sk_buff" "_skb_refdst" optional;
    /// Byte of `skb->pkt_type`, three bits.
    skb_pkt_type_byte: "sk_buff" "pkt_type@byte" optional;
    /// The lowest of them within that byte.
    skb_pkt_type_bit: "sk_buff" "pkt_type@bit" optional;
    /// Byte of the `nf_trace` bit.
    skb_nf_trace_byte: "sk_buff" "nf_trace@byte" optional;
    /// Bit within that byte.
    skb_nf_trace_bit: "sk_buff" "nf_trace@bit" optional;
    /// `dev->ifindex`.
    dev_ifindex: "net_device" "ifindex" required;
    /// `dev->name`, 16 bytes.
    dev_name: "net_device" "name" required;
    /// `dev->nd_net.net`, pointer.
    dev_net: "net_device" "nd_net.net" required;
    /// `dev->state`, unsigned long: `__LINK_STATE_*`.
    dev_state: "net_device" "state" optional;
    /// `dev->mtu`, unsigned int.
    dev_mtu: "net_device" "mtu" optional;
    /// `dev->ip_ptr`, pointer.
    dev_in: "net_device" "ip_ptr" optional;
    /// `in_dev->cnf.data`, ints, from `IPV4_DEVCONF_FORWARDING` on.
    in_forwarding: "in_device" "cnf.data" optional;
    /// `net->ipv6.devconf_all`, pointer.
    net_devconf6: "net" "ipv6.devconf_all" optional;
    /// `devconf->forwarding`, s32.
    devconf6_forwarding: "ipv6_devconf" "forwarding" optional;
    /// `net->ns.inum`, u32.
    net_inum: "net" "ns.inum" required;
    /// `state->hook`.
    state_hook: "nf_hook_state" "hook" optional;
    /// Bytes of `state->hook`: 4 up to 5.15, 1 later.
    state_hook_size: "nf_hook_state" "hook@size" optional;
    /// `state->pf`, u8.
    state_pf: "nf_hook_state" "pf" optional;
    /// `state->in`.
    state_in: "nf_hook_state" "in" optional;
    /// `state->out`.
    state_out: "nf_hook_state" "out" optional;
    /// `state->net`.
    state_net: "nf_hook_state" "net" optional;
    /// `ct->tuplehash[0]`.
    ct_tuplehash: "nf_conn" "tuplehash" optional;
    /// Size of `struct nf_conntrack_tuple_hash`.
    ct_tuplehash_size: "nf_conntrack_tuple_hash" "" optional;
    /// `tuple` within it.
    ct_tuple: "nf_conntrack_tuple_hash" "tuple" optional;
    /// `ct->status`, unsigned long.
    ct_status: "nf_conn" "status" optional;
    /// `ct->mark`, u32.
    ct_mark: "nf_conn" "mark" optional;
    /// `ct->zone.id`, u16.
    ct_zone: "nf_conn" "zone.id" optional;
    /// `sk->__sk_common.skc_num`, u16, host byte order: the local port.
    sk_num: "sock_common" "skc_num" optional;
    /// `sk->__sk_common.skc_state`, u8.
    sk_state: "sock_common" "skc_state" optional;
    /// `sk->sk_ack_backlog`, u32.
    sk_ack_backlog: "sock" "sk_ack_backlog" optional;
    /// `sk->sk_max_ack_backlog`, u32.
    sk_max_ack_backlog: "sock" "sk_max_ack_backlog" optional;
    /// `sk->__sk_common.skc_net.net`, pointer.
    sk_net: "sock_common" "skc_net.net" optional;
    /// `dst->dev`.
    dst_dev: "dst_entry" "dev" optional;
    /// `dst->error`, short.
    dst_error: "dst_entry" "error" optional;
    /// `rt->rt_type`, u16.
    rt_type: "rtable" "rt_type" optional;
    /// `rt->rt_gw_family`, u8.
    rt_gw_family: "rtable" "rt_gw_family" optional;
    /// `rt->rt_gw4`, be32, or `rt_gw6`.
    rt_gw: "rtable" "rt_gw4" optional;
    /// `rt6->rt6i_gateway`.
    rt6_gateway: "rt6_info" "rt6i_gateway" optional;
    /// `rt6->rt6i_flags`, u32.
    rt6_flags: "rt6_info" "rt6i_flags" optional;
    /// `pkt->skb`.
    pktinfo_skb: "nft_pktinfo" "skb" optional;
    /// `pkt->state`.
    pktinfo_state: "nft_pktinfo" "state" optional;
    /// `info->pkt`: only before 6.4, when the trace functions took `info` alone.
    traceinfo_pkt: "nft_traceinfo" "pkt" optional;
    /// `info->skbid`, u32: the trace id, from 5.19 on.
    traceinfo_skbid: "nft_traceinfo" "skbid" optional;
    /// `info->basechain`.
    traceinfo_basechain: "nft_traceinfo" "basechain" optional;
    /// `info->rule`: only before 6.4.
    traceinfo_rule: "nft_traceinfo" "rule" optional;
    /// `info->verdict`: only before 6.4.
    traceinfo_verdict: "nft_traceinfo" "verdict" optional;
    /// `verdict->code`, s32.
    verdict_code: "nft_verdict" "code" optional;
    /// `verdict->chain`.
    verdict_chain: "nft_verdict" "chain" optional;
    /// Size of `struct nft_rule_dp`: rules are blobs of these from 5.17 on.
    rule_dp_size: "nft_rule_dp" "" optional;
    /// `basechain->policy`, u8.
    basechain_policy: "nft_base_chain" "policy" optional;
    /// `basechain->chain`.
    basechain_chain: "nft_base_chain" "chain" optional;
    /// `chain->table`.
    chain_table: "nft_chain" "table" optional;
    /// `chain->name`, pointer.
    chain_name: "nft_chain" "name" optional;
    /// `table->name`, pointer.
    table_name: "nft_table" "name" optional;
    /// Byte whose low 6 bits are `table->family`.
    table_family: "nft_table" "family@byte" optional;
    /// `table->handle`, u64.
    table_handle: "nft_table" "handle" optional;
}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya patches read-only data through this marker")]
mod pod {
    // SAFETY: repr(C), u32 only.
    unsafe impl aya::Pod for super::Fields {}
}
