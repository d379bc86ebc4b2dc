//! The built-in families and word tables, read once from the text files beside this module.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use serde::Deserialize;

use super::{
    family::{Family, Style, Written},
    value::preferred,
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
}

impl Table {
    /// The first row of this name.
    pub(super) fn row(&self, name: &str) -> Option<&[String]> {
        self.by_name.get(name).map(|at| self.rows[*at].as_slice())
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
    let tables = tables.into_iter().map(|(name, table)| (name, table.with_index())).collect();
    Ok(Bank { families, tables })
}
