//! The built-in families and word tables, read once from the text files beside this module.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use serde::Deserialize;

use super::{
    family::{Family, Style, Written},
    value::{Value, preferred},
};

pub(super) struct Bank {
    pub(super) families: Vec<Family>,
    pub(super) tables: BTreeMap<String, Table>,
}

/// Rows of facts or of words that belong together (a name and its pronouns). An empty cell is not asked about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// What other tables call a row → where it is. Every draw looks rows up.
    #[serde(skip)]
    by_name: HashMap<String, usize>,
    #[serde(skip)]
    cells: Vec<Cells>,
}

/// What can be asked of a row: its columns, and where a column `country@country` names a row of another table, that row's
/// too, as `country.capital`.
pub(super) type Cells = Vec<(String, Value)>;

impl Table {
    /// The first row of this name.
    pub(super) fn row(&self, name: &str) -> Option<&[String]> {
        self.by_name.get(name).map(|at| self.rows[*at].as_slice())
    }

    /// Of the row at this place.
    pub(super) fn cells(&self, at: usize) -> &Cells {
        &self.cells[at]
    }

    fn with_index(mut self) -> Self {
        for (at, row) in self.rows.iter().enumerate() {
            self.by_name.entry(preferred(&row[0]).to_owned()).or_insert(at);
        }
        self
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyFile {
    family: Vec<Written>,
}

const FAMILIES: [(Style, &str); 6] = [
    (Style::Arithmetic, include_str!("arithmetic_train.toml")),
    (Style::Arithmetic, include_str!("arithmetic_test.toml")),
    (Style::Passage, include_str!("passages_train.toml")),
    (Style::Passage, include_str!("passages_test.toml")),
    (Style::Facts, include_str!("facts_train.toml")),
    (Style::Facts, include_str!("facts_test.toml")),
];
const TABLES: [&str; 2] = [include_str!("words.toml"), include_str!("world.toml")];

pub(super) static BANK: LazyLock<Bank> = LazyLock::new(|| read().expect("the built-in families are tested"));

pub(super) fn read() -> Result<Bank, String> {
    let mut families = Vec::new();
    for (style, text) in FAMILIES {
        let file: FamilyFile = toml::from_str(text).map_err(|error| error.to_string())?;
        for written in file.family {
            families.push(written.read(style)?);
        }
    }
    let mut tables = BTreeMap::new();
    for text in TABLES {
        let file: BTreeMap<String, Table> = toml::from_str(text).map_err(|error| error.to_string())?;
        tables.extend(file);
    }
    if let Some((name, _)) =
        tables.iter().find(|(_, table)| table.rows.iter().any(|row| row.len() != table.columns.len()))
    {
        return Err(format!("table {name}: a row has another length than the columns"));
    }
    let mut tables: BTreeMap<_, _> = tables.into_iter().map(|(name, table)| (name, table.with_index())).collect();
    let all = |table: &Table| table.rows.iter().map(|row| cells(table, row, &tables)).collect::<Result<_, _>>();
    let all: Vec<Vec<Cells>> = tables.values().map(all).collect::<Result<_, String>>()?;
    tables.values_mut().zip(all).for_each(|(table, cells)| table.cells = cells);
    Ok(Bank { families, tables })
}

fn cells(table: &Table, row: &[String], tables: &BTreeMap<String, Table>) -> Result<Cells, String> {
    let mut all = Cells::new();
    for (column, cell) in table.columns.iter().zip(row) {
        let (column, target) = column.split_once('@').map_or((&**column, None), |(name, target)| (name, Some(target)));
        let Some(target) = target.and_then(|target| tables.get(target)) else {
            all.push((column.to_owned(), cell_value(cell)));
            continue;
        };
        let named = target.row(cell).ok_or_else(|| format!("`{cell}` of column {column} is in no table"))?;
        let theirs = cells(target, named, tables)?;
        all.extend(theirs.into_iter().map(|(name, value)| (format!("{column}.{name}"), value)));
        all.push((column.to_owned(), cell_value(&named[0])));
    }
    Ok(all)
}

/// A cell that is an integer is a number.
fn cell_value(cell: &str) -> Value {
    cell.parse().map_or_else(|_| Value::Text(cell.to_owned()), Value::whole)
}
