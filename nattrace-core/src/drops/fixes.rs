//! What to type against a cause, where one command is sure to remove it.

use super::Evidence;

/// A command for each cause that has one; `DEVICE` stands for the device that the packet came in by.
///
/// Where the kernel takes the larger of two settings, or one of them (`IN_DEV_MAXCONF`, `IN_DEV_ORCONF`;
/// include/linux/inetdevice.h, v6.12), the device's own is enough.
const FIXES: &[(&str, &str)] = &[
    // The first does nothing where it is 1 already, and the device alone is exempt.
    ("forwarding-off", "sysctl -w net.ipv4.ip_forward=1 net.ipv4.conf.DEVICE.forwarding=1"),
    ("forwarding-off-ipv6", "sysctl -w net.ipv6.conf.all.forwarding=1"),
    ("rp-filter", "sysctl -w net.ipv4.conf.DEVICE.rp_filter=2"),
    ("local-source", "sysctl -w net.ipv4.conf.DEVICE.accept_local=1"),
    ("loopback-address", "sysctl -w net.ipv4.conf.DEVICE.route_localnet=1"),
];

/// The command, as it stands in the catalogue.
pub(super) fn template(code: &str) -> Option<&'static str> {
    FIXES.iter().find(|(cause, _)| *cause == code).map(|(_, command)| *command)
}

/// Whether the command lets a packet like it go on.
fn cures(code: &str, drop: &Evidence<'_>) -> bool {
    let is_loopback = |end: Option<crate::packet::Endpoint>| end.is_some_and(|end| end.addr.is_loopback());
    match code {
        // A loose filter refuses what there is no route back to at all (`__fib_validate_source`, net/ipv4/fib_frontend.c, v6.12).
        "rp-filter" => drop.way_back == Some(true),
        // What comes from such an address is refused as one of this host then, and network 0 is not loopback.
        "loopback-address" => is_loopback(drop.packet.destination) && !is_loopback(drop.packet.source),
        _ => true,
    }
}

/// The command; `None` where there is none that cures this packet's case, or where it needs a device that is not known, or
/// whose name a shell would not take as it is.
pub(super) fn fix(code: &str, drop: &Evidence<'_>) -> Option<String> {
    let template = template(code).filter(|_| cures(code, drop))?;
    let device = drop.device;
    if !template.contains("DEVICE") {
        return Some(template.to_owned());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | ':');
    let device = device.filter(|name| !name.is_empty() && name.chars().all(plain))?;
    // sysctl(8): a dot in a name is written as a slash.
    Some(template.replace("DEVICE", &device.replace('.', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drops;
    use crate::packet::{Endpoint, Packet, datagram};

    fn packet(source: [u8; 4], destination: [u8; 4]) -> Packet {
        let end = |addr: [u8; 4]| Endpoint { addr: addr.into(), port: Some(7) };
        datagram(end(source), end(destination))
    }

    #[test]
    fn a_device_s_name_is_written_as_sysctl_takes_it() {
        let packet = packet([10, 0, 0, 1], [10, 0, 0, 2]);
        let fix =
            |device| fix("rp-filter", &Evidence { way_back: Some(true), device, ..Evidence::of(&packet) });
        assert_eq!(fix(Some("eth0.100")).as_deref(), Some("sysctl -w net.ipv4.conf.eth0/100.rp_filter=2"));
        assert_eq!(fix(Some("a;reboot")), None);
        assert_eq!(fix(None), None);
    }

    #[test]
    fn what_would_not_cure_is_not_told() {
        let from_here_to = packet([10, 0, 0, 1], [10, 0, 0, 2]);
        for (way_back, cured) in [(Some(true), true), (Some(false), false), (None, false)] {
            let drop = Evidence { way_back, device: Some("eth0"), ..Evidence::of(&from_here_to) };
            assert_eq!(fix("rp-filter", &drop).is_some(), cured, "{way_back:?}");
        }
        for (source, destination, cured) in [
            ([10, 0, 0, 1], [127, 0, 0, 1], true),
            ([127, 0, 0, 1], [10, 0, 0, 2], false),
            ([127, 0, 0, 1], [127, 0, 0, 1], false),
            ([10, 0, 0, 1], [0, 0, 0, 1], false),
        ] {
            let packet = packet(source, destination);
            let drop = Evidence { device: Some("eth0"), ..Evidence::of(&packet) };
            assert_eq!(fix("loopback-address", &drop).is_some(), cured, "{source:?} {destination:?}");
        }
    }

    #[test]
    fn every_fix_is_for_a_cause_of_the_catalogue() {
        for (code, _) in FIXES {
            assert!(drops::cause(code).is_some(), "{code}");
        }
    }
}
