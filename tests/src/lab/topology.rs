//! The named topologies: which hosts there are and how they are wired.
//!
//! Neighbours are permanent entries and link addresses are chosen here, so that no ARP or neighbour discovery
//! mixes with the traffic of a scenario and no first packet waits for a resolution.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Lab, netns};

/// One end of a link.
#[derive(Debug, Clone, Copy)]
struct End {
    role: &'static str,
    device: &'static str,
    /// With prefix lengths; the first of each family is what the other end has as its neighbour.
    addresses: &'static [&'static str],
}

/// A topology: links, default routes, and who forwards.
#[derive(Debug, Clone, Copy)]
struct Plan {
    links: &'static [(End, End)],
    /// Role and gateway.
    defaults: &'static [(&'static str, &'static str)],
    forwarding: &'static [&'static str],
    /// Role whose devices are ports of a bridge, and the bridge's name.
    bridge: Option<(&'static str, &'static str)>,
}

/// The article: a client, the machine that runs the container, the container.
const ARTICLE: Plan = Plan {
    links: &[
        (
            End { role: "client", device: "eth0", addresses: &["10.2.1.2/24", "fd00:2::2/64"] },
            End {
                role: "router",
                device: "enp0",
                addresses: &["10.2.1.1/24", "fd00:2::1/64", "10.1.2.3/32", "fd00:1::3/128"],
            },
        ),
        (
            End { role: "router", device: "veth21", addresses: &["192.168.70.1/24", "fd00:70::1/64"] },
            End { role: "container", device: "eth0", addresses: &["192.168.70.10/24", "fd00:70::10/64"] },
        ),
    ],
    defaults: &[
        ("client", "10.2.1.1"),
        ("client", "fd00:2::1"),
        ("container", "192.168.70.1"),
        ("container", "fd00:70::1"),
    ],
    forwarding: &["router"],
    bridge: None,
};

/// One host and somebody who talks to it.
const HOST: Plan = Plan {
    links: &[(
        End { role: "client", device: "eth0", addresses: &["10.3.0.2/24", "fd00:3::2/64"] },
        End { role: "host", device: "enp0", addresses: &["10.3.0.1/24", "fd00:3::1/64"] },
    )],
    defaults: &[("client", "10.3.0.1"), ("client", "fd00:3::1"), ("host", "10.3.0.2"), ("host", "fd00:3::2")],
    forwarding: &[],
    bridge: None,
};

/// Two hosts, each of them watched: what leaves one is seen again in the other.
const PAIR: Plan = Plan {
    links: &[(
        End { role: "left", device: "wire", addresses: &["10.4.0.1/24", "fd00:4::1/64"] },
        End { role: "right", device: "wire", addresses: &["10.4.0.2/24", "fd00:4::2/64"] },
    )],
    defaults: &[],
    forwarding: &[],
    bridge: None,
};

/// Two hosts of one network, and the bridge between them.
const BRIDGE: Plan = Plan {
    links: &[
        (
            End { role: "left", device: "eth0", addresses: &["10.5.0.1/24", "fd00:5::1/64"] },
            End { role: "bridge", device: "port1", addresses: &[] },
        ),
        (
            End { role: "right", device: "eth0", addresses: &["10.5.0.2/24", "fd00:5::2/64"] },
            End { role: "bridge", device: "port2", addresses: &[] },
        ),
    ],
    defaults: &[],
    forwarding: &[],
    bridge: Some(("bridge", "br0")),
};

/// Two routers between a client and a server, each with a nattrace of its own.
const ROUTERS: Plan = Plan {
    links: &[
        (
            End { role: "client", device: "eth0", addresses: &["10.6.0.2/24", "fd00:6::2/64"] },
            End { role: "edge", device: "lan", addresses: &["10.6.0.1/24", "fd00:6::1/64"] },
        ),
        (
            End { role: "edge", device: "wan", addresses: &["10.6.1.1/24", "fd00:6:1::1/64"] },
            End { role: "core", device: "wan", addresses: &["10.6.1.2/24", "fd00:6:1::2/64"] },
        ),
        (
            End { role: "core", device: "dmz", addresses: &["10.6.2.1/24", "fd00:6:2::1/64"] },
            End { role: "server", device: "eth0", addresses: &["10.6.2.10/24", "fd00:6:2::10/64"] },
        ),
    ],
    defaults: &[
        ("client", "10.6.0.1"),
        ("client", "fd00:6::1"),
        ("edge", "10.6.1.2"),
        ("edge", "fd00:6:1::2"),
        ("core", "10.6.1.1"),
        ("core", "fd00:6:1::1"),
        ("server", "10.6.2.1"),
        ("server", "fd00:6:2::1"),
    ],
    forwarding: &["edge", "core"],
    bridge: None,
};

/// Builds the topology `name` in `lab`.
pub(crate) fn build(lab: &mut Lab, name: &str) -> Result<()> {
    let plan = match name {
        "article" => &ARTICLE,
        "host" => &HOST,
        "pair" => &PAIR,
        "bridge" => &BRIDGE,
        "routers" => &ROUTERS,
        _ => bail!("there is no topology `{name}` (there are article, host, pair, bridge, routers)"),
    };
    plan.build(lab).with_context(|| format!("the topology `{name}` cannot be built"))
}

impl Plan {
    fn build(&self, lab: &mut Lab) -> Result<()> {
        for end in self.links.iter().flat_map(|(a, b)| [a, b]) {
            if !lab.namespaces.contains_key(end.role) {
                lab.add(end.role)?;
                let namespace = lab.namespace(end.role)?;
                // Duplicate address detection would keep IPv6 addresses unusable for a second.
                namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
                if self.forwarding.contains(&end.role) {
                    namespace.sysctl("net/ipv4/ip_forward", "1")?;
                    namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
                }
            }
        }
        let mut links = String::new();
        for (number, (a, b)) in self.links.iter().enumerate() {
            writeln!(
                links,
                "link add {} address {} netns {} type veth peer name {} address {} netns {}",
                a.device,
                link_address(number, 0),
                lab.namespace(a.role)?.name,
                b.device,
                link_address(number, 1),
                lab.namespace(b.role)?.name,
            )?;
        }
        netns::ip(["-batch", "-"], &links)?;
        for role in lab.namespaces.keys() {
            let script = self.configuration(role)?;
            netns::ip(["-n", &lab.namespace(role)?.name, "-batch", "-"], &script)?;
        }
        for role in lab.namespaces.keys() {
            wait_for_links(lab, role)?;
        }
        Ok(())
    }

    /// Who is at the other end of a link, by link address: behind a bridge, everybody else.
    fn reached(&self, link: usize, side: usize, there: &End) -> Vec<(String, &'static str)> {
        let at = |link: usize, side: usize, end: &End| {
            end.addresses.iter().map(move |address| (link_address(link, side), *address)).collect::<Vec<_>>()
        };
        if self.bridge.is_none_or(|(bridging, _)| bridging != there.role) {
            return at(link, 1 - side, there);
        }
        let others = self.links.iter().enumerate().filter(|(number, _)| *number != link);
        others.flat_map(|(number, (a, b))| [at(number, 0, a), at(number, 1, b)].concat()).collect()
    }

    /// What `ip -batch` must do inside the namespace of `role`.
    fn configuration(&self, role: &str) -> Result<String> {
        let mut script = String::from("link set lo up\n");
        let bridge = self.bridge.filter(|(bridging, _)| *bridging == role);
        if let Some((_, bridge)) = bridge {
            // No port has to learn before it forwards.
            writeln!(script, "link add {bridge} type bridge forward_delay 0 mcast_snooping 0")?;
            writeln!(script, "link set {bridge} up")?;
        }
        for (number, (a, b)) in self.links.iter().enumerate() {
            for (side, here, there) in [(0, a, b), (1, b, a)] {
                if here.role != role {
                    continue;
                }
                if let Some((_, bridge)) = bridge {
                    writeln!(script, "link set {} master {bridge}", here.device)?;
                }
                writeln!(script, "link set {} up", here.device)?;
                for address in here.addresses {
                    let nodad = if address.contains(':') { " nodad" } else { "" };
                    writeln!(script, "address add {address} dev {}{nodad}", here.device)?;
                }
                for (lladdr, address) in self.reached(number, side, there) {
                    let address = address.split('/').next().unwrap_or_default();
                    writeln!(
                        script,
                        "neigh replace {address} lladdr {lladdr} dev {} nud permanent",
                        here.device
                    )?;
                }
            }
        }
        for (_, gateway) in self.defaults.iter().filter(|(who, _)| *who == role) {
            writeln!(script, "route add default via {gateway}")?;
        }
        Ok(script)
    }
}

/// Locally administered addresses: the link's number and the end.
fn link_address(link: usize, side: usize) -> String {
    format!("02:00:00:00:{link:02x}:{side:02x}")
}

/// The kernel brings a link to life from a work queue: until then packets are dropped without a word.
fn wait_for_links(lab: &Lab, role: &str) -> Result<()> {
    let name = &lab.namespace(role)?.name;
    let up = lab.limits.until(Duration::from_secs(10), || {
        let listing = netns::ip(["-n", name, "-o", "link", "show"], "")?;
        // Modules of tunnels give each namespace devices without another end (tunl0@NONE).
        let ours = |line: &&str| !line.contains("LOOPBACK") && !line.contains("@NONE");
        let waiting = listing.lines().filter(ours).any(|line| !line.contains("state UP"));
        Ok((!waiting).then_some(()))
    })?;
    up.with_context(|| format!("the links of {role} did not come up"))
}
