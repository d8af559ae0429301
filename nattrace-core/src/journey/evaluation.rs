//! What a trace message adds to the journey it belongs to.

use std::sync::Arc;

use smallvec::SmallVec;

use super::open::{ChainName, Evaluation, Moment, Note, Open, Place};
use super::route::Routed;
use super::{Backend, RuleRef, RuleStep, StepKind, Traced};
use crate::conntrack::{Connection, State};
use crate::event::{HookPoint, HookVerdict, NfFamily, NftTrace, TraceMessage, TraceType, Verdict};
use crate::name::Name;
use crate::packet::{Packet, decode, decode_arp, has_extensions};

/// Headers of a message are no longer than 80 bytes, mostly: of IPv4 with all its options, and of TCP without.
const HEADERS: usize = 96;

/// What a message of the program's own table is for; messages of other tables are rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Somebody's rules.
    Rules,
    /// The observer before every other chain of the hook.
    Enter,
    /// The observer behind every other chain of the hook: reached only by what all of them accepted.
    Leave,
    /// A chain that selects packets: those of followed connections, or, without a hook of its own, those
    /// that the first chain of PREROUTING or OUTPUT leads there.
    Select,
}

/// The role and the hook of a chain of the program's own table, by its name. A chain that others jump to
/// is entered where packets begin their way: from a device in PREROUTING, to a device in OUTPUT.
pub(super) fn own_chain(message: &TraceMessage) -> (Role, Option<HookPoint>) {
    let named =
        message.chain.rsplit_once('_').and_then(|(role, hook)| Some((role, HookPoint::from_name(hook)?)));
    match named {
        Some(("enter", hook)) => (Role::Enter, Some(hook)),
        Some(("leave", hook)) => (Role::Leave, Some(hook)),
        Some((_, hook)) => (Role::Select, Some(hook)),
        // The shared limit.
        None => {
            let hook = match (message.iif, message.oif) {
                (Some(_), _) => Some(HookPoint::Prerouting),
                (None, Some(_)) => Some(HookPoint::Output),
                (None, None) => None,
            };
            (Role::Select, hook)
        }
    }
}

/// The headers a message carries, when it does and when they are of IP or ARP.
pub(super) fn headers(trace: &NftTrace) -> Option<Packet> {
    let message = &trace.message;
    let network = &message.network_header;
    // A bridge and a device run their hooks for all that they carry.
    if let Some(packet) = decode_arp(network) {
        return Some(Packet { mark: message.mark.unwrap_or(0), ..packet });
    }
    let first = *network.first()?;
    // The kernel cuts the network header at 40 bytes; the transport header follows wherever it ended.
    let (least, header_len, direct) = match first >> 4 {
        4 => (20, usize::from(first & 0xf) * 4, true),
        6 => (40, 40, !has_extensions(network)),
        _ => return None,
    };
    if network.len() < least {
        return None;
    }
    let mut bytes: SmallVec<[u8; HEADERS]> = SmallVec::from_slice(network);
    if direct && !message.transport_header.is_empty() {
        bytes.resize(header_len.max(least), 0);
        bytes.extend_from_slice(&message.transport_header);
    }
    // Of a packet beyond 64 KiB the header does not tell the length, and the message does not either.
    let mut packet = decode(&bytes, 0).ok()?;
    if !direct {
        // Behind extension headers, which the message leaves out.
        packet.protocol = None;
    }
    packet.mark = message.mark.unwrap_or(0);
    Some(packet)
}

/// What a message says of the packet's connection (6.16 and later).
pub(super) fn connection(trace: &NftTrace) -> Option<Connection> {
    let message = &trace.message;
    let id = message.ct_id?;
    let state = message.ct_state.and_then(|bits| match bits {
        _ if bits & 0x8 != 0 => Some(State::New),
        _ if bits & 0x2 != 0 => Some(State::Established),
        _ if bits & 0x4 != 0 => Some(State::Related),
        _ if bits & 0x40 != 0 => Some(State::Untracked),
        _ if bits & 0x1 != 0 => Some(State::Invalid),
        _ => None,
    });
    Some(Connection {
        id: Some(id),
        direction: message.ct_direction,
        state,
        // The kernel leaves it out where no bit is set (nf_trace_fill_ct_info, net/netfilter/nf_tables_trace.c, v6.18).
        status: Some(message.ct_status.unwrap_or(0)),
        ..Connection::default()
    })
}

/// A message, with what the assembler knows about where it was made.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) at: Moment,
    pub(super) trace: &'a NftTrace,
    pub(super) header: Option<Packet>,
    pub(super) role: Role,
    pub(super) chain: Arc<ChainName>,
    /// The hook, when the chain is known to be a base chain.
    pub(super) hook: Option<HookPoint>,
    pub(super) iif: Option<Name>,
    pub(super) oif: Option<Name>,
}

impl Message<'_> {
    /// The message itself, for who shows it as it is.
    pub(super) fn kept(&self) -> Traced {
        Traced {
            time_ns: self.at.time_ns,
            netns: self.at.netns,
            table_handle: self.trace.table_handle,
            message: self.trace.message.clone(),
            iif: self.iif.clone(),
            oif: self.oif.clone(),
            text: None,
        }
    }

    /// The family of the hook: that of the packet, not of the table. Of ingress and egress an inet table's message tells
    /// the packet's family, too (`nft_do_chain_inet`), though they are hooks of devices.
    pub(super) fn hook_family(&self) -> NfFamily {
        if matches!(self.hook, Some(HookPoint::Ingress | HookPoint::Egress)) {
            return NfFamily::Netdev;
        }
        self.trace.message.nfproto.and_then(NfFamily::from_number).unwrap_or(self.trace.message.family)
    }
}

impl Open {
    pub(super) fn evaluate(&mut self, m: &Message<'_>) {
        let visit = self.visit_of(m);
        let exact = visit.and_then(|v| self.visits.get(v)).is_some_and(|v| v.exact);
        if !exact && let Some(header) = &m.header {
            self.see_header(m.at, header);
        }
        let visit = visit.or_else(|| {
            let hook = m.hook?;
            let family = m.hook_family();
            let routed = Routed {
                oif: m.oif.clone(),
                iif_index: m.trace.message.iif,
                oif_index: m.trace.message.oif,
                ..Routed::default()
            };
            self.routed(m.at, hook, family, routed);
            Some(self.enter(m.at, hook, family, m.iif.clone(), m.oif.clone(), false))
        });
        let base = self.evaluation(m, visit);
        match m.role {
            Role::Enter | Role::Select => {}
            Role::Leave => {
                if let Some(index) = visit
                    && let Some(visit) = self.visits.get_mut(index)
                    && !visit.exact
                    && !visit.over
                {
                    visit.over = true;
                    if visit.verdict != Some(HookVerdict::Drop) {
                        self.decide(index, HookVerdict::Accept);
                    }
                }
            }
            Role::Rules => self.verdict(m, visit, base),
        }
    }

    /// The passage through a hook that the message belongs to; `None` when it begins another.
    fn visit_of(&self, m: &Message<'_>) -> Option<usize> {
        let index = self.current()?;
        let visit = self.visits.get(index)?;
        if visit.exact && !visit.over {
            return Some(index);
        }
        let here = (m.at.netns == 0 || visit.netns == m.at.netns)
            && m.hook.is_none_or(|hook| hook == visit.hook)
            && (visit.family == m.hook_family() || (m.hook.is_none() && visit.family == NfFamily::Netdev))
            && !matches!(self.place, Place::Received(_));
        let again = !visit.exact && m.header.is_some() && (visit.over || visit.evaluated.contains(&m.chain));
        (here && !again).then_some(index)
    }

    /// Keeps track of which base chain is evaluated; gives its name.
    fn evaluation(&mut self, m: &Message<'_>, visit: Option<usize>) -> Arc<ChainName> {
        let Some(visit) = visit.and_then(|v| self.visits.get_mut(v)) else { return m.chain.clone() };
        let begins = match &visit.evaluation {
            None => true,
            Some(running) => {
                m.header.is_some()
                    || running.over
                    || running.base.family != m.chain.family
                    || running.base.table != m.chain.table
                    || (m.hook.is_some() && running.base != m.chain)
            }
        };
        if begins {
            if !visit.evaluated.contains(&m.chain) {
                visit.evaluated.push(m.chain.clone());
            }
            visit.evaluation = Some(Evaluation { base: m.chain.clone(), over: false });
        }
        visit.evaluation.as_ref().map_or_else(|| m.chain.clone(), |running| running.base.clone())
    }

    fn verdict(&mut self, m: &Message<'_>, visit: Option<usize>, base: Arc<ChainName>) {
        let message = &m.trace.message;
        let Some(verdict) = &message.verdict else { return };
        let hook = visit.and_then(|v| self.visits.get(v)).map(|v| v.hook).or(m.hook);
        let draft = match (message.kind, message.rule_handle) {
            (TraceType::Policy, _) => self.push(
                m.at,
                StepKind::Policy {
                    backend: Backend::Nft,
                    family: message.family,
                    table: m.chain.table.clone(),
                    chain: m.chain.chain.clone(),
                    verdict: verdict.clone(),
                    hook,
                },
                visit,
                Note::Nothing,
            ),
            (TraceType::Rule | TraceType::Return, Some(handle)) => {
                let rule = RuleRef {
                    backend: Backend::Nft,
                    family: message.family,
                    table: m.chain.table.clone(),
                    chain: m.chain.chain.clone(),
                    handle,
                    text: None,
                    nft_text: None,
                };
                let step = RuleStep {
                    rule,
                    verdict: Some(verdict.clone()),
                    or_end: false,
                    hook,
                    mark: message.mark,
                };
                let note = Note::Rule { table_handle: m.trace.table_handle, base };
                self.push(m.at, StepKind::Rule(Box::new(step)), visit, note)
            }
            // The end of a chain: no rule, no decision.
            _ => return,
        };
        let answer = match verdict {
            Verdict::Accept => HookVerdict::Accept,
            Verdict::Drop => HookVerdict::Drop,
            Verdict::Queue(_) => HookVerdict::Queue,
            Verdict::Stolen => HookVerdict::Stolen,
            _ => return,
        };
        if answer == HookVerdict::Drop {
            self.ending.verdict = self.ending.verdict.or(draft);
            self.ending.hook = self.ending.hook.or(hook);
            self.ending.over(m.at.time_ns);
        }
        let Some(index) = visit else { return };
        let Some(visit) = self.visits.get_mut(index) else { return };
        if let Some(running) = &mut visit.evaluation {
            running.over = true;
        }
        // A probe tells of the whole hook; here, other base chains may still follow and decide otherwise.
        let derived = !visit.exact && visit.verdict != Some(HookVerdict::Drop);
        if derived || answer == HookVerdict::Drop {
            self.decide(index, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Family;

    fn message(network: &[u8], transport: &[u8]) -> NftTrace {
        NftTrace {
            packet: None,
            hint: None,
            table_handle: None,
            message: TraceMessage {
                id: 1,
                family: NfFamily::Inet,
                nfproto: Some(2),
                kind: TraceType::Rule,
                table: "t".to_owned(),
                chain: "c".to_owned(),
                rule_handle: None,
                verdict: None,
                link_header: vec![],
                network_header: network.to_vec(),
                transport_header: transport.to_vec(),
                iif: None,
                iif_type: None,
                oif: None,
                oif_type: None,
                mark: Some(9),
                ct_id: None,
                ct_direction: None,
                ct_status: None,
                ct_state: None,
            },
        }
    }

    const PORTS: [u8; 8] = [0x04, 0xc6, 0, 22, 0, 8, 0, 0];

    fn ipv4(header_len: usize) -> Vec<u8> {
        let words = u8::try_from(header_len / 4).expect("small");
        let mut bytes = vec![0x40 | words, 0, 0, 60, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.resize(header_len.min(40), 1);
        bytes
    }

    #[test]
    fn the_transport_header_is_found_behind_a_network_header_that_was_cut() {
        for header_len in [20, 24, 40, 60] {
            let packet = headers(&message(&ipv4(header_len), &PORTS)).expect("headers");
            assert_eq!(packet.destination.and_then(|e| e.port), Some(22), "{header_len} bytes");
            assert_eq!((packet.length, packet.mark), (60, 9));
        }
    }

    #[test]
    fn ipv6_has_ports_unless_extension_headers_hide_what_the_transport_is() {
        let mut network = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
        network.extend([0; 32]);
        let packet = headers(&message(&network, &PORTS)).expect("headers");
        assert_eq!(packet.source.and_then(|e| e.port), Some(0x04c6));
        network[6] = 0;
        let packet = headers(&message(&network, &PORTS)).expect("headers");
        assert_eq!(packet.source.and_then(|e| e.port), None);
    }

    #[test]
    fn arp_is_read_in_whatever_family() {
        let mut request =
            vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 3, 0, 2, 0, 0, 0, 0, 0, 0, 10, 3, 0, 1];
        request.resize(40, 0);
        for family in [3, 7, 5] {
            let mut trace = message(&request, &[]);
            trace.message.nfproto = Some(family);
            let packet = headers(&trace).expect("headers");
            assert_eq!((packet.family, packet.mark), (Family::Arp, 9));
        }
    }

    #[test]
    fn what_is_not_ip_or_not_whole_has_no_headers() {
        assert!(headers(&message(&[], &PORTS)).is_none());
        assert!(headers(&message(&[0, 1, 8, 0, 6, 4], &[])).is_none(), "ARP");
        assert!(headers(&message(&[0x45, 0, 0], &PORTS)).is_none());
        assert!(headers(&message(&[0x60; 39], &PORTS)).is_none());
    }

    #[test]
    fn own_chains_are_known_by_name_or_by_where_they_are_entered() {
        let role = |chain: &str, iif, oif| {
            let mut trace = message(&[], &[]);
            (trace.message.chain, trace.message.iif, trace.message.oif) = (chain.to_owned(), iif, oif);
            own_chain(&trace.message)
        };
        assert_eq!(role("enter_input", None, None), (Role::Enter, Some(HookPoint::Input)));
        assert_eq!(role("leave_postrouting", None, Some(1)), (Role::Leave, Some(HookPoint::Postrouting)));
        assert_eq!(role("follow_output", None, None), (Role::Select, Some(HookPoint::Output)));
        assert_eq!(role("limit", Some(1), None), (Role::Select, Some(HookPoint::Prerouting)));
        assert_eq!(role("mark_ingress", Some(1), None), (Role::Select, Some(HookPoint::Ingress)));
        assert_eq!(role("select_saddr_output", Some(1), None), (Role::Select, Some(HookPoint::Output)));
        assert_eq!(role("select_saddr", None, Some(1)), (Role::Select, Some(HookPoint::Output)));
        assert_eq!(role("mark", None, None), (Role::Select, None));
        assert_eq!(role("enter_elsewhere", None, None), (Role::Select, None));
    }

    #[test]
    fn connection_states_are_read_from_their_bits() {
        let state = |bits| {
            let mut trace = message(&[], &[]);
            trace.message.ct_id = Some(7);
            trace.message.ct_state = Some(bits);
            connection(&trace).and_then(|c| c.state)
        };
        let states = [1, 2, 4, 8, 0x40, 0].map(state);
        let expected =
            [State::Invalid, State::Established, State::Related, State::New, State::Untracked].map(Some);
        assert_eq!(states[..5], expected);
        assert_eq!(states[5], None);
        assert_eq!(connection(&message(&[], &[])), None);
    }
}
