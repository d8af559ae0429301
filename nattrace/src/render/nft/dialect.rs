//! Which nft the lines are to be those of.

use std::collections::BTreeMap;

use nattrace_core::record::NftTool;

/// `major, minor, patch` of a release of nftables.
pub(super) type Version = (u16, u16, u16);

/// Older ones are taken for this one, and so is an nft that is not there or not known.
const OLDEST: Version = (1, 0, 6);
/// From here on bytes that belong to no known field are left out, and ICMP codes are numbers.
pub(super) const TERSE: Version = (1, 1, 0);
/// From here on the connection is told of, where the kernel tells.
pub(super) const WITH_CONNTRACK: Version = (1, 1, 4);

/// Names for recordings that do not say which their machine had.
const USUAL: &[(u8, &str)] =
    &[(1, "icmp"), (2, "igmp"), (6, "tcp"), (17, "udp"), (58, "ipv6-icmp"), (132, "sctp")];

/// How one version of nft, on one machine, prints trace messages.
#[derive(Debug, Clone)]
pub(in crate::render) struct Dialect {
    version: Version,
    protocols: BTreeMap<u8, String>,
}

impl Default for Dialect {
    fn default() -> Self {
        let protocols = USUAL.iter().map(|(number, name)| (*number, (*name).to_owned())).collect();
        Self { version: OLDEST, protocols }
    }
}

impl Dialect {
    pub(in crate::render) fn of(tool: &NftTool) -> Self {
        let version = tool.version.as_deref().and_then(version_number).unwrap_or(OLDEST);
        Self { version, protocols: tool.protocols.clone() }
    }

    pub(super) fn at_least(&self, version: Version) -> bool {
        self.version >= version
    }

    /// `tcp`, or the number where it has no name.
    pub(super) fn protocol(&self, number: u8) -> String {
        self.protocols.get(&number).cloned().unwrap_or_else(|| number.to_string())
    }
}

/// `nftables v1.0.6 (Lester Gooch #5)`.
fn version_number(text: &str) -> Option<Version> {
    let number = text.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version_number("nftables v1.1.3 (Commodore Bullmoose #4)"), Some((1, 1, 3)));
        assert_eq!(version_number("nftables v1.2 (x)"), Some((1, 2, 0)));
        assert_eq!(version_number("what is it?"), None);
        let none = Dialect::of(&NftTool::default());
        assert!(none.at_least(OLDEST) && !none.at_least(TERSE));
        assert_eq!(none.protocol(6), "6");
    }
}
