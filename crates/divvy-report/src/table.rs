//! A table as data, built once and written twice: as aligned Markdown here, as sortable HTML in `html/table.rs`.

use unicode_width::UnicodeWidthStr;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// Element id on the page; unique in a report.
    pub id: &'static str,
    pub caption: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    /// Columns of one group stand under a common heading; empty for none.
    pub group: &'static str,
    pub title: String,
    /// Unit in the heading, empty for none.
    pub unit: &'static str,
    pub align: Align,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub text: String,
    /// Sort key; `None` sorts by text, and last where the column is numeric.
    pub number: Option<f64>,
    /// A small interval drawn beside the text, on the page only.
    pub bar: Option<Bar>,
    /// Class of the colour dot before the text, on the page only.
    pub mark: Option<&'static str>,
}

/// An estimate with its interval on an axis that the whole column shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bar {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub domain: (f64, f64),
}

impl Column {
    pub(crate) fn left(title: impl Into<String>) -> Self {
        Self { group: "", title: title.into(), unit: "", align: Align::Left }
    }

    pub(crate) fn right(title: impl Into<String>, unit: &'static str) -> Self {
        Self { group: "", title: title.into(), unit, align: Align::Right }
    }

    pub(crate) fn grouped(group: &'static str, title: impl Into<String>, unit: &'static str) -> Self {
        Self { group, title: title.into(), unit, align: Align::Right }
    }

    /// Heading in one line: `Decompose in (tokens)`.
    pub(crate) fn heading(&self) -> String {
        let title = if self.group.is_empty() { self.title.clone() } else { format!("{} {}", self.group, self.title) };
        if self.unit.is_empty() { title } else { format!("{title} ({})", self.unit) }
    }
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), number: None, bar: None, mark: None }
    }

    pub(crate) fn number(text: String, number: f64) -> Self {
        Self { text, number: number.is_finite().then_some(number), bar: None, mark: None }
    }
}

/// Pipe table whose columns line up in a terminal.
pub(crate) fn markdown(table: &Table) -> String {
    let heads: Vec<String> = table.columns.iter().map(|column| clean(&column.heading())).collect();
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(|cell| clean(&cell.text)).collect()).collect();
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| rows.iter().map(|row| row[column].width()).chain([heads[column].width(), 3]).max().unwrap_or(3))
        .collect();
    let mut text = line(&heads, &widths, &table.columns);
    text.push_str(&rule(&widths, &table.columns));
    for row in &rows {
        text.push_str(&line(row, &widths, &table.columns));
    }
    text
}

fn line(cells: &[String], widths: &[usize], columns: &[Column]) -> String {
    let mut text = String::from("|");
    for ((cell, width), column) in cells.iter().zip(widths).zip(columns) {
        let padding = " ".repeat(width.saturating_sub(cell.width()));
        match column.align {
            Align::Left => text.push_str(&format!(" {cell}{padding} |")),
            Align::Right => text.push_str(&format!(" {padding}{cell} |")),
        }
    }
    text.push('\n');
    text
}

fn rule(widths: &[usize], columns: &[Column]) -> String {
    let mut text = String::from("|");
    for (width, column) in widths.iter().zip(columns) {
        let dashes = "-".repeat(width.saturating_sub(1));
        match column.align {
            Align::Left => text.push_str(&format!(" {dashes}- |")),
            Align::Right => text.push_str(&format!(" {dashes}: |")),
        }
    }
    text.push('\n');
    text
}

/// Text from a recipe or a model, safe in a terminal and in a cell: no control characters, no pipe.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_characters() {
        let table = Table {
            id: "t",
            caption: String::new(),
            columns: vec![Column::left("Arm"), Column::right("Accuracy", "%")],
            rows: vec![
                vec![Cell::text("分かち/cot"), Cell::number("48.1".into(), 0.481)],
                vec![Cell::text("a|b\u{1b}[31m\n"), Cell::text("–")],
            ],
        };
        let text = markdown(&table);
        let widths: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(text.lines().next(), Some("| Arm        | Accuracy (%) |"));
        assert_eq!(text.lines().nth(1), Some("| ---------- | -----------: |"));
    }
}
