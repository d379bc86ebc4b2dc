//! Many rows in one statement. Each statement is a trip to SQLite's thread and back, which costs more than the insert
//! itself: a transaction of some hundred replies makes a dozen trips instead of thousands.

use sqlx::SqliteConnection;

use crate::statement::Statement;

/// Rows of one statement, largest first: few trips for any number of rows, few lengths, so that prepared statements are
/// found again, and never more placeholders than SQLite takes.
const LENGTHS: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

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
            let mut rest = &rows[..];
            for length in LENGTHS {
                while let Some((now, later)) = rest.split_at_checked(length) {
                    Statement::execute_all(now, connection).await?;
                    rest = later;
                }
            }
        }
        Ok(())
    }
}
