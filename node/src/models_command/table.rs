//! Columns that are as wide as what stands in them.

use crate::terminal::{Style, printable};
use std::io::{self, Write};

/// A head, and rows under it.
#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    head: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(head: [&'static str; COLUMNS]) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// Names of files are other people's.
    pub(super) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows
            .push(cells.map(|cell| printable(&cell).replace('\n', " ")));
    }

    pub(super) fn write(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let mut widths = self.head.map(str::len);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(widths);
            let padded: Vec<String> = padded
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            padded.join("  ").trim_end().to_owned()
        };
        writeln!(out, "{}", style.bold(line(self.head.to_vec())))?;
        for row in &self.rows {
            writeln!(out, "{}", line(row.iter().map(String::as_str).collect()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(["A", "LONGER", "C"]);
        table.row(["wide".to_owned(), "b".to_owned(), "c".to_owned()]);
        table.row(["x".to_owned(), "ü\x1b[2J".to_owned(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out, Style::plain()).unwrap();
        let wanted = "A     LONGER  C\nwide  b       c\nx     ü[2J\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
