//! The schema, as numbered steps that are applied in order and never edited once released. A store that holds a step
//! we do not know was written by a newer divvy.

use std::{borrow::Cow, path::Path};

use sqlx::{
    SqlStr, SqliteConnection,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use crate::error::StoreError;

const STEPS: [(i64, &str, &str); 1] = [(1, "init", include_str!("../migrations/0001_init.sql"))];

fn migrator() -> Migrator {
    let step = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(STEPS.iter().map(step).collect())
}

pub(crate) async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    migrator().run(connection).await.map_err(|error| match &error {
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) | MigrateError::VersionTooNew(..) => {
            StoreError::Newer { path: path.to_owned(), detail: error.to_string() }
        }
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            StoreError::from_sql(path, "set up the tables", cause)
        }
        _ => StoreError::Corrupt { path: path.to_owned(), detail: error.to_string() },
    })
}

/// A reader cannot migrate: the schema must be exactly ours.
pub(crate) async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let version: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(|e| StoreError::from_sql(path, "read its schema version", &e))?;
    let ours = STEPS[STEPS.len() - 1].0;
    match version.cmp(&ours) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => {
            Err(StoreError::Newer { path: path.to_owned(), detail: format!("schema {version}, ours is {ours}") })
        }
        std::cmp::Ordering::Less => Err(StoreError::Refused {
            path: path.to_owned(),
            action: "be read",
            detail: format!("its schema is {version}, ours is {ours}; any run on it brings it up to date"),
        }),
    }
}
