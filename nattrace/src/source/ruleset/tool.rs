//! Which nft there is, and the names it prints.

use std::collections::BTreeMap;
use std::fs;

use nattrace_core::record::NftTool;

/// The nft of this machine. It blocks for as long as nft takes to say its version.
#[must_use]
pub fn nft_tool() -> NftTool {
    let protocols = fs::read_to_string("/etc/protocols").unwrap_or_default();
    NftTool { version: super::version().ok(), protocols: protocol_names(&protocols) }
}

/// As getprotobynumber(3) finds them: the first line with the number.
fn protocol_names(text: &str) -> BTreeMap<u8, String> {
    let mut names = BTreeMap::new();
    for (number, name) in text.lines().filter_map(protocol) {
        names.entry(number).or_insert(name);
    }
    names
}

/// `tcp 6 TCP # transmission control protocol`.
fn protocol(line: &str) -> Option<(u8, String)> {
    let mut words = line.split('#').next()?.split_whitespace();
    let name = words.next()?;
    Some((words.next()?.parse().ok()?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let names =
            protocol_names("# Internet\nip\t0\tIP\t\t# internet\n#hopopt\t0\ntcp 6 TCP\ntcp2 6\n\nx\n");
        assert_eq!(names, BTreeMap::from([(0, "ip".to_owned()), (6, "tcp".to_owned())]));
    }
}
