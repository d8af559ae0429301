//! Things and how often they were met: so many kinds, and the rest as a number.

/// Distinct things in the order they were met first, each with how often; what there is no room for is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::render::report) struct Counted<T> {
    entries: Vec<(T, u64)>,
    most: usize,
    others: u64,
}

impl<T: PartialEq> Counted<T> {
    /// Room for so many kinds.
    pub(in crate::render::report) fn new(most: usize) -> Self {
        Self { entries: Vec::new(), most, others: 0 }
    }

    /// Met once more.
    pub(in crate::render::report) fn add(&mut self, thing: T) {
        match self.entries.iter().position(|(known, _)| *known == thing) {
            Some(at) => self.entries[at].1 += 1,
            None if self.entries.len() < self.most => self.entries.push((thing, 1)),
            None => self.others += 1,
        }
    }

    /// Each kind, and how often.
    pub(in crate::render::report) fn iter(&self) -> impl ExactSizeIterator<Item = (&T, u64)> {
        self.entries.iter().map(|(thing, count)| (thing, *count))
    }

    /// How many had no room, all kinds together.
    pub(in crate::render::report) fn others(&self) -> u64 {
        self.others
    }

    /// Whether nothing was met.
    pub(in crate::render::report) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_still() {
        let mut counted = Counted::new(2);
        for thing in ["a", "b", "a", "c", "d", "c"] {
            counted.add(thing);
        }
        assert_eq!(counted.iter().collect::<Vec<_>>(), [(&"a", 2), (&"b", 1)]);
        assert_eq!(counted.others(), 3);
    }
}
