//! Kernel addresses to function names, from /proc/kallsyms.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _};
use std::sync::{Arc, OnceLock};

use super::memory;

/// Text symbols by address; empty where the kernel hides addresses (`kptr_restrict`). They are read when the first one
/// is asked for: the kernel takes long to write them, and many a trace sees nothing that needs them. The file is opened
/// at once: whether addresses are hidden is settled then (`kallsyms_open`), and privileges are let go of later. By default
/// there are none.
#[derive(Debug, Default)]
pub struct Symbols {
    file: Option<Arc<File>>,
    table: OnceLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Address and start of the name in `names`, sorted by address: a kernel has some 150,000 of them.
    entries: Vec<(u64, u32)>,
    /// Names, each ended by a newline.
    names: String,
}

impl Symbols {
    /// Those of the running kernel, as far as this thread may see them.
    #[must_use]
    pub fn open() -> Self {
        Self { file: File::open("/proc/kallsyms").ok().map(Arc::new), table: OnceLock::new() }
    }

    /// The same, to be read again: modules have come.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self { file: self.file.clone(), table: OnceLock::new() }
    }

    fn table(&self) -> &Table {
        self.table.get_or_init(|| {
            let table = self.file.as_deref().map(Table::read).unwrap_or_default();
            memory::trim();
            table
        })
    }

    /// The function that contains `address`; module symbols included.
    #[must_use]
    pub fn function(&self, address: u64) -> Option<&str> {
        self.table().function(address)
    }

    /// Whether addresses are hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table().entries.is_empty()
    }
}

impl Table {
    fn read(mut file: &File) -> Self {
        let mut symbols = Self::default();
        if file.rewind().is_err() {
            return symbols;
        }
        let (mut reader, mut line) = (BufReader::with_capacity(64 << 10, file), String::new());
        while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            symbols.add(&line);
            line.clear();
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

    fn function(&self, address: u64) -> Option<&str> {
        let after = self.entries.partition_point(|(addr, _)| *addr <= address);
        let (_, start) = self.entries.get(after.checked_sub(1)?)?;
        let name = self.name(*start);
        // Compilers split and specialise functions; the user knows them by their source name.
        Some(name.split('.').next().unwrap_or(name))
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
        let mut symbols = Table::default();
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
