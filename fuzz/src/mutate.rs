//! Changes to inputs that readers of text do not refuse at the first byte, as they leave lines and words whole.

use fastrand::Rng;

/// Numbers at the ends of what something holds, and beyond.
const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "32",
    "33",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "1e400",
];

/// What quotes, comments and terminals make something of.
const PIECES: [&str; 20] = [
    "\"",
    "\\\"",
    "\\",
    "{",
    "}",
    "\n\t}\n}\n",
    " # handle 5",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\t",
    "\0",
    "\u{1b}[2J",
    "\\u001b]0;x\\u0007",
    "\u{202e}",
    "<script>",
    "]]>",
    "--",
];

/// Changes bytes, one to four times; the result has at most `most` of them.
pub fn bytes(data: &mut Vec<u8>, rng: &mut Rng, most: usize) {
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=data.len());
        match rng.u8(..5) {
            0 if at < data.len() => data[at] ^= 1 << rng.u8(..8),
            1 if at < data.len() => data[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap_or(&0),
            2 => data.insert(at, rng.u8(..)),
            3 => drop(data.drain(at..(at + rng.usize(..16)).min(data.len()))),
            _ => {
                let piece = data[at..(at + rng.usize(..64)).min(data.len())].to_vec();
                let to = rng.usize(..=data.len());
                data.splice(to..to, piece);
            }
        }
    }
    data.truncate(most);
}

/// Changes lines, words and numbers, one to four times; the result has at most `most` bytes.
pub fn text(data: &mut Vec<u8>, rng: &mut Rng, most: usize) {
    for _ in 0..rng.usize(1..5) {
        match rng.u8(..8) {
            0 | 1 => {
                let number = NUMBERS[rng.usize(..NUMBERS.len())].as_bytes();
                replace(data, rng, u8::is_ascii_digit, number);
            }
            2 | 3 => {
                let at = rng.usize(..=data.len());
                let word = data.get(span(data, at, u8::is_ascii_alphanumeric)).unwrap_or_default().to_vec();
                replace(data, rng, u8::is_ascii_alphanumeric, &word);
            }
            4 => {
                let at = rng.usize(..=data.len());
                let piece = PIECES[rng.usize(..PIECES.len())].bytes();
                data.splice(at..at, piece);
            }
            _ => lines(data, rng),
        }
    }
    data.truncate(most);
}

/// Replaces one run of such bytes.
fn replace(data: &mut Vec<u8>, rng: &mut Rng, is: fn(&u8) -> bool, with: &[u8]) {
    let from = rng.usize(..=data.len());
    let Some(at) = data[from..].iter().position(is) else { return };
    let span = span(data, from + at, is);
    data.splice(span, with.iter().copied());
}

/// The run of such bytes that this one is in.
fn span(data: &[u8], at: usize, is: fn(&u8) -> bool) -> std::ops::Range<usize> {
    let begin = data[..at].iter().rposition(|byte| !is(byte)).map_or(0, |before| before + 1);
    let length = data[at..].iter().take_while(|byte| is(byte)).count();
    begin..at + length
}

/// Repeats, moves or removes a line.
fn lines(data: &mut Vec<u8>, rng: &mut Rng) {
    let mut lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let (from, to) = (rng.usize(..lines.len()), rng.usize(..lines.len()));
    match rng.u8(..3) {
        0 => lines.insert(to, lines[from]),
        1 => lines.swap(from, to),
        _ => drop(lines.remove(from)),
    }
    *data = lines.join(&b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_input_is_changed_and_none_grows_beyond_its_most() {
        let mut rng = Rng::with_seed(1);
        for begin in [&b""[..], b"a", b"1", b"one 2 \"three\"\nfour\n", &[0xff; 40]] {
            for change in [bytes, text] {
                let mut data = begin.to_vec();
                let mut seen = std::collections::BTreeSet::new();
                for _ in 0..1000 {
                    change(&mut data, &mut rng, 100);
                    assert!(data.len() <= 100);
                    seen.insert(data.clone());
                }
                assert!(seen.len() > 100, "{} others of {begin:?}", seen.len());
            }
        }
    }
}
