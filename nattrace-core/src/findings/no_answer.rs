//! A connection that was let through and got no answer: what was seen of it, and where to look next.

use std::net::IpAddr;

use super::{Certainty, Finding, is_plain};
use crate::event::{HookPoint, Manip, NetnsId};
use crate::journey::{Journey, Outcome, RouteDecision, StepKind};
use crate::name::Name;
use crate::neighbour::{Neighbour, NeighbourQuery};
use crate::packet::Endpoint;

/// How a packet left this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// Where it left.
    netns: NetnsId,
    came_by: Option<Name>,
    device: Name,
    /// The devices are those of its hooks: what is below them, a bond's or a bridge's port, is not what rules and
    /// neighbours know.
    devices_of_hooks: bool,
    gateway: Option<IpAddr>,
    source: Endpoint,
    destination: Endpoint,
    source_nat: SourceNat,
    destination_written: bool,
}

/// What became of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceNat {
    Kept,
    /// Written with an address that may be anybody's.
    Mapped,
    /// Written with one that the kernel took from the device.
    Masqueraded,
}

impl Way {
    /// The way of a packet that left; `None` for one that did not, and for one that was not followed to its last device.
    pub(crate) fn of(journey: &Journey) -> Option<Self> {
        let Outcome::Transmitted { device: Some(device) } = &journey.outcome else { return None };
        let mut way = Self {
            netns: journey.netns.inum,
            came_by: None,
            device: device.clone(),
            devices_of_hooks: false,
            gateway: None,
            source: journey.packet.source?,
            destination: journey.packet.destination?,
            source_nat: SourceNat::Kept,
            destination_written: false,
        };
        for step in &journey.steps {
            match &step.kind {
                StepKind::Hook { hook: HookPoint::Prerouting, family, iif, .. } if family.is_ip() => {
                    (way.netns, way.came_by) = (step.netns, iif.clone());
                }
                StepKind::Hook { hook: HookPoint::Output, family, .. } if family.is_ip() => {
                    (way.netns, way.came_by) = (step.netns, None);
                }
                StepKind::Hook { hook: HookPoint::Postrouting, family, oif: Some(oif), .. }
                    if family.is_ip() =>
                {
                    (way.netns, way.devices_of_hooks) = (step.netns, true);
                    way.device.clone_from(oif);
                }
                StepKind::Rewrite { nat: Manip::Snat, to, rule, inner: false, .. } => {
                    let text = rule.as_ref().and_then(|rule| rule.text.as_deref()).unwrap_or_default();
                    let masquerades = |word| matches!(word, "masquerade" | "MASQUERADE");
                    way.source = *to;
                    way.source_nat = if text.split_whitespace().any(masquerades) {
                        SourceNat::Masqueraded
                    } else {
                        SourceNat::Mapped
                    };
                }
                StepKind::Rewrite { nat: Manip::Dnat, to, inner: false, .. } => {
                    (way.destination, way.destination_written) = (*to, true);
                }
                StepKind::Route { decision: RouteDecision::Forward, gateway, .. } => way.gateway = *gateway,
                _ => {}
            }
        }
        Some(way)
    }

    /// Who is to have the packet next, and in which namespace that is known.
    pub(crate) fn neighbour(&self) -> (NetnsId, NeighbourQuery) {
        (self.netns, NeighbourQuery { device: self.device.to_string(), address: self.next_hop() })
    }

    fn next_hop(&self) -> IpAddr {
        self.gateway.unwrap_or(self.destination.addr)
    }

    /// What can be said when `attempts` of its kind left, and none was answered; with the next hop's entry in the
    /// neighbour table, where that is known.
    pub(crate) fn without_answer(&self, attempts: &str, neighbour: Option<&Neighbour>) -> Finding {
        let Self { device, source, destination, .. } = self;
        let (server, client) = (destination.addr, source.addr);
        let via = self.gateway.map(|gateway| format!(" by way of {gateway}")).unwrap_or_default();
        let seen =
            format!("{attempts} left by {device} for {destination}{via}, from {source}; nothing came back.");
        if self.is_hairpin() && neighbour.is_none_or(Neighbour::is_there) {
            return Finding {
                code: "hairpin-without-snat",
                text: format!(
                    "{seen} It had come in by {device}, too, and kept its source: {server} answers {client} directly, \
                     past this host, with an address that {client} did not ask."
                ),
                fix: self.masquerade("hairpin"),
                certainty: Certainty::Likely,
                steps: Vec::new(),
                near: None,
            };
        }
        let next_hop = self.next_hop();
        let (resolved, is_there) = match neighbour.and_then(|neighbour| neighbour.words(next_hop)) {
            Some(words) => (format!(" {words}"), String::new()),
            None => (
                String::new(),
                format!("is {next_hop} there, `ip neigh show {next_hop} dev {device}` here; "),
            ),
        };
        let port = destination.port.map(|port| format!(" and tcp port {port}")).unwrap_or_default();
        let listens = destination
            .port
            .map(|port| format!(" Does it listen: `ss -lnt 'sport = :{port}'`."))
            .unwrap_or_default();
        let end = if self.source_nat == SourceNat::Mapped { "" } else { "." };
        let back = match (self.source_nat, self.destination_written) {
            (SourceNat::Masqueraded, _) => {
                format!("{client} is this host's own address, so its answer comes here")
            }
            (SourceNat::Mapped, _) => {
                format!(
                    "its answer must come to {client}: is that an address of this host, `ip address show to {client}`?"
                )
            }
            (SourceNat::Kept, true) => {
                format!("its answer must come back through this host: `ip route get {client}` there")
            }
            (SourceNat::Kept, false) => {
                format!("its answer may go another way, unseen from here: `ip route get {client}` there")
            }
        };
        Finding {
            code: "no-answer",
            text: format!(
                "{seen}{resolved} Next: {is_there}does the packet reach \
                 {server}, `tcpdump -ni any 'host {client}{port}'` there.{listens} And {back}{end}"
            ),
            fix: Vec::new(),
            certainty: Certainty::Certain,
            steps: Vec::new(),
            near: None,
        }
    }

    /// It goes back where it came from, to a host that knows the client by its own address.
    fn is_hairpin(&self) -> bool {
        self.devices_of_hooks
            && self.came_by.as_ref() == Some(&self.device)
            && self.destination_written
            && self.source_nat == SourceNat::Kept
            && self.gateway.is_none()
    }

    /// What may be the cause where the next hop is there: a server that sends its answers another way, or nowhere.
    pub(crate) fn without_way_back(&self, neighbour: Option<&Neighbour>) -> Option<Finding> {
        let forwarded =
            self.came_by.is_some() && self.destination_written && self.source_nat == SourceNat::Kept;
        let resolves = neighbour.is_none_or(Neighbour::is_there);
        if !forwarded || !resolves || !self.devices_of_hooks || self.is_hairpin() {
            return None;
        }
        let (server, client) = (self.destination.addr, self.source.addr);
        Some(Finding {
            code: "no-way-back",
            text: format!(
                "It kept its source: where {server} has no route to {client} through this host, its answers do not come back. \
                 Mend its route, or have it see this host's address instead:"
            ),
            fix: self.masquerade("way_back"),
            certainty: Certainty::Likely,
            steps: Vec::new(),
            near: None,
        })
    }

    /// A table of its own, which says what it is for and is easily removed.
    fn masquerade(&self, table: &str) -> Vec<String> {
        let (device, server) = (&self.device, self.destination.addr);
        let Some(came_by) = self.came_by.as_ref().filter(|came_by| is_plain(came_by) && is_plain(device))
        else {
            return Vec::new();
        };
        let family = if server.is_ipv4() { "ip" } else { "ip6" };
        let chain = format!("{family} {table} postrouting");
        vec![
            format!("nft add table {family} {table}"),
            format!("nft 'add chain {chain} {{ type nat hook postrouting priority srcnat; }}'"),
            format!(
                "nft add rule {chain} iifname {came_by} oifname {device} {family} daddr {server} ct status dnat masquerade"
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint { addr: [10, 0, 0, last].into(), port: Some(port) }
    }

    fn way() -> Way {
        Way {
            netns: 1,
            came_by: Some("eth0".into()),
            device: "eth1".into(),
            devices_of_hooks: true,
            gateway: None,
            source: end(1, 4000),
            destination: end(2, 22),
            source_nat: SourceNat::Kept,
            destination_written: true,
        }
    }

    #[test]
    fn the_way_back_is_asked_for_where_the_client_s_own_address_went_out() {
        let finding = way().without_answer("3 SYNs", None);
        assert_eq!((finding.code, finding.certainty), ("no-answer", Certainty::Certain));
        assert!(
            finding
                .text
                .starts_with("3 SYNs left by eth1 for 10.0.0.2:22, from 10.0.0.1:4000; nothing came back.")
        );
        assert!(finding.text.contains("`ip route get 10.0.0.1` there"), "{}", finding.text);
        let unwritten = Way { destination_written: false, ..way() }.without_answer("3 SYNs", None);
        assert!(unwritten.text.contains("may go another way"), "{}", unwritten.text);
        let mapped = Way { source_nat: SourceNat::Mapped, ..way() }.without_answer("3 SYNs", None);
        assert!(mapped.text.contains("is that an address of this host"), "{}", mapped.text);
        let masked = Way { source_nat: SourceNat::Masqueraded, ..way() }.without_answer("3 SYNs", None);
        assert!(masked.text.contains("this host's own address"), "{}", masked.text);
    }

    #[test]
    fn a_server_without_a_way_back_is_one_cause_that_fits() {
        let finding = way().without_way_back(None).expect("a client's own address went out");
        assert_eq!((finding.code, finding.certainty), ("no-way-back", Certainty::Likely));
        assert!(
            finding.fix[2].contains("iifname eth0 oifname eth1 ip daddr 10.0.0.2 ct status dnat masquerade")
        );
        let failed = Neighbour { state: 0x20, lladdr: Vec::new() };
        for other in [
            Way { source_nat: SourceNat::Mapped, ..way() },
            Way { destination_written: false, ..way() },
            Way { came_by: None, ..way() },
            Way { device: "eth0".into(), ..way() },
            Way { devices_of_hooks: false, ..way() },
        ] {
            assert_eq!(other.without_way_back(None), None);
        }
        assert_eq!(way().without_way_back(Some(&failed)), None, "it is not there at all");
    }

    #[test]
    fn a_packet_that_goes_back_where_it_came_from_needs_another_source() {
        let hairpin = Way { device: "eth0".into(), ..way() };
        let finding = hairpin.without_answer("1 SYN", None);
        assert_eq!((finding.code, finding.certainty), ("hairpin-without-snat", Certainty::Likely));
        assert!(
            finding.fix[2].ends_with("ip daddr 10.0.0.2 ct status dnat masquerade"),
            "{}",
            finding.fix[2]
        );
        let routed = Way { gateway: Some([10, 0, 0, 9].into()), ..hairpin.clone() };
        assert_eq!(routed.without_answer("1 SYN", None).code, "no-answer");
        assert_eq!(
            Way { device: "a;b".into(), came_by: Some("a;b".into()), ..hairpin }.masquerade("hairpin"),
            Vec::<String>::new()
        );
    }
}
