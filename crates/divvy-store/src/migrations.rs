//! The schema, as numbered steps that are applied in order and never edited once released. A store that holds a step
//! we do not know was written by a newer divvy.

use std::{borrow::Cow, path::Path};

use sqlx::{
    SqlStr, SqliteConnection,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use crate::error::StoreError;

type Step = (i64, &'static str, &'static str);

const STEPS: [Step; 4] = [
    (1, "init", include_str!("../migrations/0001_init.sql")),
    (2, "question by plan", include_str!("../migrations/0002_question_by_plan.sql")),
    (3, "recipe of run", include_str!("../migrations/0003_recipe_of_run.sql")),
    (5, "batch", include_str!("../migrations/0005_batch.sql")),
];

fn migrator(steps: &[Step]) -> Migrator {
    let step = |&(version, name, sql): &Step| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(steps.iter().map(step).collect())
}

pub(crate) async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    migrator(&STEPS).run(connection).await.map_err(|error| match &error {
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

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Connection;

    #[tokio::test]
    async fn an_older_store_is_brought_up_to_date_and_keeps_its_plans() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        migrator(&STEPS[..1]).run(&mut connection).await.unwrap();
        sqlx::raw_sql("INSERT INTO plan (digest, json) VALUES (x'01', '{}')").execute(&mut connection).await.unwrap();
        let old = check(Path::new("s"), &mut connection).await.unwrap_err();
        assert!(old.to_string().contains("any run on it brings it up to date"), "{old}");
        migrate(Path::new("s"), &mut connection).await.unwrap();
        check(Path::new("s"), &mut connection).await.unwrap();
        let plans: i64 = sqlx::query_scalar("SELECT count(*) FROM plan").fetch_one(&mut connection).await.unwrap();
        assert_eq!(plans, 1);
        sqlx::raw_sql("INSERT INTO question (plan, id, json) VALUES (x'01', 'q', '{}')")
            .execute(&mut connection)
            .await
            .unwrap();
    }
}
