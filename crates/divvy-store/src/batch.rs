//! Many rows in one statement. Each statement is a trip to SQLite's thread and back, which costs more than the insert
//! itself: a transaction of some hundred replies makes a dozen trips instead of thousands.

use sqlx::SqliteConnection;

use crate::statement::Statement;

/// Most rows of one statement: few trips for any number of rows, few lengths, so that prepared statements are found
/// again, and never more placeholders than SQLite takes.
const MOST: usize = 32;

/// Plain inserts that wait to be written together, by kind, in the order in which a kind came first.
#[derive(Default)]
pub(crate) struct Batch<'s> {
    kinds: Vec<(&'static str, Vec<&'s Statement>)>,
}

impl<'s> Batch<'s> {
    /// A plain insert, see [`Statement::is_plain_insert`]. Rows of different kinds may change places: no insert looks at
    /// another table, but for foreign keys, which the transaction checks at its end.
    pub(crate) fn add(&mut self, statement: &'s Statement) {
        match self.kinds.iter_mut().find(|(sql, _)| *sql == statement.sql()) {
            Some((_, rows)) => rows.push(statement),
            None => self.kinds.push((statement.sql(), vec![statement])),
        }
    }

    pub(crate) async fn write(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for (_, rows) in self.kinds.drain(..) {
            for some in rows.chunks(MOST) {
                Statement::execute_all(some, "", "", connection).await?;
            }
        }
        Ok(())
    }

    /// A transaction of these alone. It begins with the first statement and ends with the last, which saves two trips.
    pub(crate) async fn commit(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let trips: Vec<&[&Statement]> = self.kinds.iter().flat_map(|(_, rows)| rows.chunks(MOST)).collect();
        for (at, some) in trips.iter().enumerate() {
            let begin = if at == 0 { "BEGIN IMMEDIATE; " } else { "" };
            let end = if at + 1 == trips.len() { "; COMMIT" } else { "" };
            Statement::execute_all(some, begin, end, connection).await?;
        }
        Ok(())
    }
}
