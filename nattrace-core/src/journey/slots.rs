//! Values by a number that counts up: found at once, and gone through from the oldest on.

use std::collections::VecDeque;

/// Values by their number, each in a place of its own, so that none is moved when others come and go. What it takes is
/// a pointer for every number from the oldest value's on.
#[derive(Debug)]
pub(super) struct Slots<T> {
    /// Number of the first slot.
    first: u64,
    values: VecDeque<Option<Box<T>>>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { first: 0, values: VecDeque::new(), len: 0 }
    }
}

impl<T> Slots<T> {
    fn at(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        self.values.get(self.at(number)?)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.at(number)?;
        self.values.get_mut(at)?.as_deref_mut()
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// Adds a value under a number that is higher than all before.
    pub(super) fn push(&mut self, number: u64, value: T) {
        if self.len == 0 {
            self.values.clear();
            self.first = number;
        }
        let next = self.first + self.values.len() as u64;
        self.values.extend((next..number).map(|_| None));
        self.values.push_back(Some(Box::new(value)));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Box<T>> {
        let at = self.at(number)?;
        let value = self.values.get_mut(at)?.take()?;
        self.len -= 1;
        while let Some(None) = self.values.front() {
            self.values.pop_front();
            self.first += 1;
        }
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Number of the oldest value.
    pub(super) fn oldest(&self) -> Option<u64> {
        (self.len > 0).then_some(self.first)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        (self.first..).zip(&self.values).filter_map(|(number, slot)| Some((number, slot.as_deref()?)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter().filter_map(Option::as_deref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_numbers_while_others_go() {
        let mut slots = Slots::default();
        for number in [3, 4, 7] {
            slots.push(number, number * 10);
        }
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(3, &30), (4, &40), (7, &70)]);
        assert_eq!(slots.remove(3).as_deref(), Some(&30));
        assert_eq!((slots.remove(3), slots.get(5), slots.oldest()), (None, None, Some(4)));
        assert_eq!(slots.remove(4).as_deref(), Some(&40));
        assert_eq!((slots.oldest(), slots.len(), slots.get(7)), (Some(7), 1, Some(&70)));
        slots.remove(7);
        assert_eq!((slots.oldest(), slots.len()), (None, 0));
        slots.push(9, 90);
        assert_eq!(slots.get(9), Some(&90));
    }
}
