//! Finds the end of a stream that has no end of file: a marker that occurs nowhere else.

/// Passes a stream on up to its marker, and holds back only what may be the marker's beginning.
#[derive(Debug)]
pub(crate) struct UntilMarker {
    marker: Vec<u8>,
    held: Vec<u8>,
    ended: bool,
}

impl UntilMarker {
    /// Looks for `marker`.
    pub(crate) fn new(marker: &str) -> Self {
        Self { marker: marker.as_bytes().to_vec(), held: Vec::new(), ended: false }
    }

    /// Takes the next bytes of the stream and returns those that can be passed on.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.ended {
            return Vec::new();
        }
        self.held.extend_from_slice(bytes);
        let found = self.held.windows(self.marker.len()).position(|window| window == self.marker);
        if let Some(at) = found {
            self.ended = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let longest = self.held.len().min(self.marker.len());
        let kept = (0..=longest)
            .rev()
            .find(|length| self.marker.starts_with(&self.held[self.held.len() - length..]));
        let rest = self.held.split_off(self.held.len() - kept.unwrap_or(0));
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether the marker was found.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_marker_wherever_the_stream_is_cut() {
        let stream = b"one [en two\n[end]late";
        for cut in 0..stream.len() {
            let mut filter = UntilMarker::new("[end]");
            let mut passed = filter.push(&stream[..cut]);
            passed.extend(filter.push(&stream[cut..]));
            assert_eq!(passed, b"one [en two\n", "cut at {cut}");
            assert!(filter.ended());
        }
    }

    #[test]
    fn a_line_is_not_held_back() {
        let mut filter = UntilMarker::new("[end]");
        assert_eq!(filter.push(b"a line\n"), b"a line\n");
        assert_eq!(filter.push(b"[en"), b"");
        assert_eq!(filter.push(b"tering\n"), b"[entering\n");
        assert!(!filter.ended());
    }
}
