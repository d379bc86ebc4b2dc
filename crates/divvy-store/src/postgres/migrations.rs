//! The schema on a server, as numbered steps that are applied in order and never edited once released. Workers that start
//! together wait for the one that makes the tables.

use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, PgConnection, SqlStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::{address::SCHEMA, line::Server};
use crate::error::StoreError;

const STEPS: [(i64, &str, &str); 8] = [
    (1, "init", include_str!("../../migrations-postgres/0001_init.sql")),
    (2, "worked", include_str!("../../migrations-postgres/0002_worked.sql")),
    (3, "latency of reply", include_str!("../../migrations-postgres/0003_latency_of_reply.sql")),
    (4, "price of try", include_str!("../../migrations-postgres/0004_price_of_try.sql")),
    (5, "batch", include_str!("../../migrations-postgres/0005_batch.sql")),
    (6, "outstanding", include_str!("../../migrations-postgres/0006_outstanding.sql")),
    (7, "fenced requests", include_str!("../../migrations-postgres/0007_fenced_requests.sql")),
    (8, "windows of shares", include_str!("../../migrations-postgres/0008_windows_of_shares.sql")),
];

fn migrator() -> Migrator {
    let step = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(STEPS.iter().map(step).collect())
}

pub(super) async fn migrate(server: &Server, connection: &mut PgConnection) -> Result<(), StoreError> {
    let failed = |error: &sqlx::Error| server.error("set up the tables", error);
    if !has_schema(connection).await.map_err(|e| failed(&e))? {
        make_schema(connection).await.map_err(|e| failed(&e))?;
    }
    migrator().run(connection).await.map_err(|error| match &error {
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) | MigrateError::VersionTooNew(..) => {
            StoreError::Newer { path: server.name().into(), detail: error.to_string() }
        }
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => failed(cause),
        _ => StoreError::Refused { path: server.name().into(), action: "set up the tables", detail: error.to_string() },
    })
}

async fn has_schema(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL").bind(SCHEMA).fetch_one(connection).await
}

/// Two that make it at once would both find it missing: one does it while the other waits.
async fn make_schema(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let make = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtext('{SCHEMA}')); CREATE SCHEMA IF NOT EXISTS {SCHEMA}; COMMIT"
    );
    let made = sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut *connection).await;
    if made.is_err() {
        sqlx::raw_sql("ROLLBACK").execute(connection).await?;
    }
    made.map(drop)
}

/// A reader cannot migrate: the schema must be exactly ours.
pub(super) async fn check(server: &Server, connection: &mut PgConnection) -> Result<(), StoreError> {
    let found: Result<Option<bool>, sqlx::Error> =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_optional(&mut *connection).await;
    if found.map_err(|e| server.error("read its schema", &e))? != Some(true) {
        return Err(StoreError::Missing { path: server.name().into() });
    }
    let version: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(|e| server.error("read its schema version", &e))?;
    let ours = STEPS[STEPS.len() - 1].0;
    match version.cmp(&ours) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => {
            Err(StoreError::Newer { path: server.name().into(), detail: format!("schema {version}, ours is {ours}") })
        }
        std::cmp::Ordering::Less => Err(StoreError::Refused {
            path: server.name().into(),
            action: "be read",
            detail: format!("its schema is {version}, ours is {ours}; any run on it brings it up to date"),
        }),
    }
}
