//! What a guest's kernel prints: kept, and searched for signs of its death.

/// Words that mean the kernel is broken, whatever the command's exit status says.
const TROUBLE: [&str; 9] = [
    "Kernel panic",
    "Oops",
    "BUG:",
    "kernel BUG at",
    "general protection fault",
    "soft lockup",
    "Unable to handle kernel",
    "invalid opcode:",
    "detected stalls on CPUs",
];

/// A kernel that complains but goes on.
const WARNING: &str = "WARNING: CPU:";

/// How much of the end is shown when a guest fails.
const SHOWN_LINES: usize = 60;

/// The kernel's messages so far.
#[derive(Debug, Default)]
pub(crate) struct Console {
    lines: Vec<String>,
    partial: Vec<u8>,
    first_trouble: Option<usize>,
}

impl Console {
    /// Takes the next bytes of the serial line.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
                    self.add(line);
                }
                b'\r' => {}
                _ => self.partial.push(*byte),
            }
        }
    }

    /// The first line that shows the kernel broken.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.first_trouble.map(|at| self.lines[at].trim())
    }

    /// The first complaint of a kernel that went on.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.lines.iter().find(|line| line.contains(WARNING)).map(|line| line.trim())
    }

    /// What a person needs to see of it: from the first trouble on, else the end.
    pub(crate) fn shown(&self) -> String {
        // A few lines before the trouble often say what led to it.
        let start = self
            .first_trouble
            .map_or(self.lines.len().saturating_sub(SHOWN_LINES), |at| at.saturating_sub(5));
        let end = self.lines.len().min(start + SHOWN_LINES);
        let mut shown = self.lines[start..end].join("\n");
        let partial = String::from_utf8_lossy(&self.partial);
        if end == self.lines.len() && !partial.is_empty() {
            shown.push('\n');
            shown.push_str(&partial);
        }
        shown
    }

    /// Everything.
    pub(crate) fn all(&self) -> String {
        let mut all = self.lines.join("\n");
        all.push('\n');
        all.push_str(&String::from_utf8_lossy(&self.partial));
        all
    }

    fn add(&mut self, line: String) {
        if self.first_trouble.is_none() && TROUBLE.iter().any(|sign| line.contains(sign)) {
            self.first_trouble = Some(self.lines.len());
        }
        self.lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_trouble() {
        let mut console = Console::default();
        console.push(b"[    1.0] all is well\r\n[    2.0] Oops: in");
        assert_eq!(console.trouble(), None);
        console.push(b"t3: 0000 [#1]\r\n[    2.1] Kernel panic - not syncing\n[ 3");
        assert_eq!(console.trouble(), Some("[    2.0] Oops: int3: 0000 [#1]"));
        assert!(console.shown().starts_with("[    1.0] all is well\n"));
        assert!(console.shown().ends_with("not syncing\n[ 3"));
    }
}
