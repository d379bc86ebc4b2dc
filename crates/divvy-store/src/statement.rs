//! A write as plain data: SQL and its values. The writer can so put many callers' writes into one transaction, and try
//! them again one by one when the transaction fails.

use std::sync::Arc;

use sqlx::{Arguments, AssertSqlSafe, SqliteConnection, sqlite::SqliteArguments};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Int(Option<i64>),
    /// Shared, so that what goes to SQLite's thread is no copy.
    Text(Option<Arc<str>>),
    Blob(Option<Vec<u8>>),
}

/// The text of a statement, taken apart. One that is written with every row is a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sql {
    text: &'static str,
    /// Where it inserts one row that is all placeholders: its text before the row, the row, what follows.
    insert: Option<(&'static str, &'static str, &'static str)>,
}

impl Sql {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, insert: insert_parts(text) }
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self::new(text)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statement {
    sql: Sql,
    values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new(sql: impl Into<Sql>) -> Self {
        Self { sql: sql.into(), values: Vec::with_capacity(16) }
    }

    pub(crate) fn int(mut self, value: impl Into<Option<i64>>) -> Self {
        self.values.push(Value::Int(value.into()));
        self
    }

    pub(crate) fn text(mut self, value: impl Into<Arc<str>>) -> Self {
        self.values.push(Value::Text(Some(value.into())));
        self
    }

    pub(crate) fn text_or_null(mut self, value: Option<String>) -> Self {
        self.values.push(Value::Text(value.map(Arc::from)));
        self
    }

    pub(crate) fn blob(mut self, value: impl Into<Option<Vec<u8>>>) -> Self {
        self.values.push(Value::Blob(value.into()));
        self
    }

    /// Runs it and returns the id of the last inserted row.
    pub(crate) async fn execute(&self, connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
        let arguments = arguments(&[self])?;
        Ok(sqlx::query_with(self.sql.text, arguments).execute(connection).await?.last_insert_rowid())
    }

    /// Whether it inserts one row that is all placeholders, so that several of its kind can be one statement.
    pub(crate) fn is_plain_insert(&self) -> bool {
        self.sql.insert.is_some()
    }

    pub(crate) fn sql(&self) -> &'static str {
        self.sql.text
    }

    /// Runs plain inserts of one kind as a single statement, in their order, between `begin` and `end`.
    pub(crate) async fn execute_all(
        statements: &[&Statement],
        begin: &'static str,
        end: &'static str,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let Some((head, row, tail)) = statements.first().and_then(|first| first.sql.insert) else {
            return Ok(());
        };
        let rows = vec![row; statements.len()].join(", ");
        // Made of our own statements' text alone.
        let text = AssertSqlSafe(format!("{begin}{head}{rows}{tail}{end}"));
        sqlx::query_with(text, arguments(statements)?).execute(connection).await.map(drop)
    }
}

/// `INSERT … VALUES `, `(?, ?)`, and what follows.
const fn insert_parts(sql: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    const VALUES: &[u8] = b" VALUES ";
    let text = sql.as_bytes();
    if !begins(text, 0, b"INSERT ") {
        return None;
    }
    let mut open = 0;
    while !(begins(text, open, VALUES) && begins(text, open + VALUES.len(), b"(")) {
        open += 1;
        if open == text.len() {
            return None;
        }
    }
    open += VALUES.len();
    let mut close = open + 1;
    while close < text.len() && matches!(text[close], b'?' | b',' | b' ') {
        close += 1;
    }
    if !begins(text, close, b")") {
        return None;
    }
    let (before, rest) = sql.split_at(open);
    let (row, after) = rest.split_at(close + 1 - open);
    Some((before, row, after))
}

const fn begins(text: &[u8], at: usize, with: &[u8]) -> bool {
    let mut same = 0;
    while same < with.len() {
        if at + same >= text.len() || text[at + same] != with[same] {
            return false;
        }
        same += 1;
    }
    true
}

/// The values of all of them behind one another.
fn arguments(statements: &[&Statement]) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(statements.iter().map(|statement| statement.values.len()).sum(), 0);
    for value in statements.iter().flat_map(|statement| &statement.values) {
        let added = match value {
            Value::Int(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(value.clone()),
            Value::Blob(value) => arguments.add(value.clone()),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_placeholders_are_put_together() {
        let parts = insert_parts("INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT DO NOTHING");
        assert_eq!(parts, Some(("INSERT INTO t (a, b) VALUES ", "(?, ?)", " ON CONFLICT DO NOTHING")));
        assert_eq!(insert_parts("INSERT INTO t (a, b) VALUES (?, 'x')"), None);
        assert_eq!(insert_parts("UPDATE t SET a = ?"), None);
        assert_eq!(insert_parts("INSERT INTO t SELECT 1"), None);
    }
}
