//! Tables: for a terminal, and for a document.

/// Rows of cells below a header.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.map(str::to_owned).into(), rows: Vec::new() }
    }

    /// Adds a row; cells that it lacks are empty.
    pub(super) fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.header.len(), String::new());
        self.rows.push(cells);
    }

    /// As Markdown.
    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.header.len()));
        let rows: Vec<_> = self.rows.iter().map(|row| line(row)).collect();
        line(&self.header) + &rule + &rows.concat()
    }

    /// With columns below each other, without Markdown's marks.
    pub(super) fn aligned(&self) -> String {
        let plain = |cells: &Vec<String>| cells.iter().map(|cell| cell.replace('`', "")).collect::<Vec<_>>();
        let lines: Vec<_> = std::iter::once(&self.header).chain(&self.rows).map(plain).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.header.len()).map(width).collect();
        let shown = lines.iter().map(|line| {
            let cells: Vec<_> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned() + "\n"
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_all_cells() {
        let mut table = Table::new(["tool", "rate"]);
        table.row(vec!["`nft monitor`".to_owned(), "0.5".to_owned()]);
        table.row(vec!["none".to_owned()]);
        assert_eq!(table.markdown(), "| tool | rate |\n|---|---|\n| `nft monitor` | 0.5 |\n| none |  |\n");
        assert_eq!(table.aligned(), "tool         rate\nnft monitor  0.5\nnone\n");
    }
}
