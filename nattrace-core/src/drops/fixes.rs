//! What to type against a cause, where one command is sure to remove it.

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

/// The command for a device; `None` where it needs one that is not known, or whose name a shell would not take as it is.
pub(super) fn fix(code: &str, device: Option<&str>) -> Option<String> {
    let template = template(code)?;
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

    #[test]
    fn a_device_s_name_is_written_as_sysctl_takes_it() {
        let fix = |device| fix("rp-filter", device);
        assert_eq!(fix(Some("eth0.100")).as_deref(), Some("sysctl -w net.ipv4.conf.eth0/100.rp_filter=2"));
        assert_eq!(fix(Some("a;reboot")), None);
        assert_eq!(fix(None), None);
    }

    #[test]
    fn every_fix_is_for_a_cause_of_the_catalogue() {
        for (code, _) in FIXES {
            assert!(drops::cause(code).is_some(), "{code}");
        }
    }
}
