//! Kernel addresses to function names, from /proc/kallsyms.

use std::io::{BufRead as _, BufReader};

/// Text symbols by address; empty where the kernel hides addresses (`kptr_restrict`).
#[derive(Debug, Default)]
pub struct Symbols {
    /// Address and start of the name in `names`, sorted by address: a kernel has some 150,000 of them.
    entries: Vec<(u64, u32)>,
    /// Names, each ended by a newline.
    names: String,
}

impl Symbols {
    /// Reads /proc/kallsyms.
    #[must_use]
    pub fn read() -> Self {
        let Ok(file) = std::fs::File::open("/proc/kallsyms") else { return Self::default() };
        let mut symbols = Self::default();
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            symbols.add(&line);
        }
        symbols.sort();
        symbols
    }

    fn add(&mut self, line: &str) {
        let Some((address, name)) = parse(line) else { return };
        let Ok(start) = u32::try_from(self.names.len()) else { return };
        self.entries.push((address, start));
        self.names.push_str(name);
        self.names.push('\n');
    }

    fn sort(&mut self) {
        self.entries.sort_unstable_by_key(|(address, _)| *address);
        self.entries.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    fn name(&self, start: u32) -> &str {
        self.names.get(start as usize..).and_then(|rest| rest.split('\n').next()).unwrap_or_default()
    }

    /// The function that contains `address`; module symbols included.
    #[must_use]
    pub fn function(&self, address: u64) -> Option<&str> {
        let after = self.entries.partition_point(|(addr, _)| *addr <= address);
        let (_, start) = self.entries.get(after.checked_sub(1)?)?;
        let name = self.name(*start);
        // Compilers split and specialise functions; the user knows them by their source name.
        Some(name.split('.').next().unwrap_or(name))
    }

    /// Whether addresses are hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// `ffffffff81000000 T name\t[module]`; data and hidden (zero) addresses are passed over.
fn parse(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok().filter(|a| *a != 0)?;
    matches!(words.next()?, "t" | "T" | "w" | "W").then_some(())?;
    Some((address, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let mut symbols = Symbols::default();
        for line in
            ["ffff0040 t second.constprop.0\t[nf_tables]", "ffff0010 T first", "ffff0080 d data", "0 T zero"]
        {
            symbols.add(line);
        }
        symbols.sort();
        assert_eq!(symbols.function(0xffff_0012), Some("first"));
        assert_eq!(symbols.function(0xffff_0041), Some("second"));
        assert_eq!(symbols.function(0xffff_0000), None);
        assert_eq!(symbols.entries.len(), 2);
    }
}
