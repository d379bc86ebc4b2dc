//! A write as plain data: SQL and its values. The writer can so put many callers' writes into one transaction, and try
//! them again one by one when the transaction fails.

use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Blob(Option<Vec<u8>>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statement {
    sql: &'static str,
    values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql, values: Vec::new() }
    }

    pub(crate) fn int(mut self, value: impl Into<Option<i64>>) -> Self {
        self.values.push(Value::Int(value.into()));
        self
    }

    pub(crate) fn text(self, value: impl Into<String>) -> Self {
        self.text_or_null(Some(value.into()))
    }

    pub(crate) fn text_or_null(mut self, value: Option<String>) -> Self {
        self.values.push(Value::Text(value));
        self
    }

    pub(crate) fn blob(mut self, value: impl Into<Option<Vec<u8>>>) -> Self {
        self.values.push(Value::Blob(value.into()));
        self
    }

    /// Runs it and returns the id of the last inserted row.
    pub(crate) async fn execute(&self, connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
        let query = self.values.iter().fold(sqlx::query(self.sql), bind);
        Ok(query.execute(connection).await?.last_insert_rowid())
    }
}

fn bind<'q>(query: Query<'q, Sqlite, SqliteArguments>, value: &Value) -> Query<'q, Sqlite, SqliteArguments> {
    match value {
        Value::Int(v) => query.bind(*v),
        Value::Text(v) => query.bind(v.clone()),
        Value::Blob(v) => query.bind(v.clone()),
    }
}
