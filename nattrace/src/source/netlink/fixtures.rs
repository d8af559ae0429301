//! Datagrams as the kernel sent them, for tests: a word and the bytes in hex, one a line. Captured on a
//! little-endian machine, whose byte order netlink headers have.

/// The datagrams that are marked with `word`.
pub(crate) fn datagrams(text: &str, word: &str) -> Vec<Vec<u8>> {
    let hex = |digits: &str| {
        let digit =
            |at: usize| u8::from_str_radix(digits.get(at..at + 2).expect("two digits"), 16).expect("hex");
        (0..digits.len()).step_by(2).map(digit).collect()
    };
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(name, _)| *name == word).map(|(_, digits)| hex(digits)).collect()
}

/// Calls `read` with every beginning of the datagrams, and with each byte of them changed.
pub(crate) fn mutilate(datagrams: &[Vec<u8>], mut read: impl FnMut(&[u8])) {
    for datagram in datagrams {
        for end in 0..datagram.len() {
            read(&datagram[..end]);
        }
        for at in 0..datagram.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = datagram.clone();
                changed[at] = value;
                read(&changed);
            }
        }
    }
}
