//! Kernel addresses to function names, from /proc/kallsyms.

use std::io::{BufRead as _, BufReader};

/// Text symbols by address; empty where the kernel hides addresses (`kptr_restrict`).
#[derive(Debug, Default)]
pub struct Symbols {
    /// Sorted by address.
    entries: Vec<(u64, Box<str>)>,
}

impl Symbols {
    /// Reads /proc/kallsyms.
    #[must_use]
    pub fn read() -> Self {
        let Ok(file) = std::fs::File::open("/proc/kallsyms") else { return Self::default() };
        let mut entries = Vec::new();
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            if let Some(entry) = parse(&line) {
                entries.push(entry);
            }
        }
        entries.sort_unstable_by_key(|(addr, _)| *addr);
        entries.shrink_to_fit();
        Self { entries }
    }

    /// The function that contains `address`; module symbols included.
    #[must_use]
    pub fn function(&self, address: u64) -> Option<&str> {
        let after = self.entries.partition_point(|(addr, _)| *addr <= address);
        let (_, name) = self.entries.get(after.checked_sub(1)?)?;
        // Compilers split and specialise functions; the user knows them by their source name.
        Some(name.split('.').next().unwrap_or(name))
    }

    /// Whether a function can be found by name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(_, known)| **known == *name)
    }

    /// Whether addresses are hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// `ffffffff81000000 T name\t[module]`; data and hidden (zero) addresses are passed over.
fn parse(line: &str) -> Option<(u64, Box<str>)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok().filter(|a| *a != 0)?;
    matches!(words.next()?, "t" | "T" | "w" | "W").then_some(())?;
    Some((address, words.next()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let entries = ["ffff0010 T first", "ffff0040 t second.constprop.0\t[nf_tables]", "ffff0080 d data", "0 T zero"];
        let mut symbols = Symbols { entries: entries.iter().filter_map(|l| parse(l)).collect() };
        symbols.entries.sort_unstable_by_key(|(a, _)| *a);
        assert_eq!(symbols.function(0xffff_0012), Some("first"));
        assert_eq!(symbols.function(0xffff_0041), Some("second"));
        assert_eq!(symbols.function(0xffff_0000), None);
        assert_eq!(symbols.entries.len(), 2);
    }
}
