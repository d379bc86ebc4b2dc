//! The schema, as numbered steps that are applied in order and never edited once released. A store that holds a step
//! we do not know was written by a newer divvy.

use std::{borrow::Cow, path::Path};

use sqlx::{
    SqlStr, SqliteConnection,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use crate::error::StoreError;

type Step = (i64, &'static str, &'static str);

const STEPS: [Step; 11] = [
    (1, "init", include_str!("../migrations/0001_init.sql")),
    (2, "question by plan", include_str!("../migrations/0002_question_by_plan.sql")),
    (3, "recipe of run", include_str!("../migrations/0003_recipe_of_run.sql")),
    (4, "rows in order", include_str!("../migrations/0004_rows_in_order.sql")),
    (5, "batch", include_str!("../migrations/0005_batch.sql")),
    (6, "worked", include_str!("../migrations/0006_worked.sql")),
    (7, "latency of reply", include_str!("../migrations/0007_latency_of_reply.sql")),
    (8, "price of try", include_str!("../migrations/0008_price_of_try.sql")),
    (9, "spending", include_str!("../migrations/0009_spending.sql")),
    (10, "keys on disk", include_str!("../migrations/0010_keys_on_disk.sql")),
    (11, "left in flight", include_str!("../migrations/0011_left_in_flight.sql")),
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
    use divvy_core::{chat::Finish, digest::Digest, question::QuestionId, records::Stage};
    use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::{CallFilter, Store};

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

    /// Two calls, one of them over a wire, a reply that nobody could read, attempts, an item and a question, as the first
    /// versions kept them. Bodies of digests that only have to differ.
    const EARLY: &str = r#"
        INSERT INTO plan VALUES (zeroblob(32), '{}');
        INSERT INTO body VALUES (x'01', 9, 'plain', CAST('{"ask":1}' AS BLOB)), (x'02', 4, 'plain', CAST('said' AS BLOB)),
            (x'03', 3, 'plain', CAST('raw' AS BLOB)), (x'04', 4, 'plain', CAST('torn' AS BLOB));
        INSERT INTO raw_reply VALUES (3, KEY1, 1, x'04', 'http://a', 4), (5, KEY1, 2, x'03', 'http://a', 5);
        INSERT INTO call VALUES (KEY1, 'teacher', zeroblob(32), x'01', x'02', x'03', 'stop', 7, NULL, 8, 9, 10, 11, 'http://a');
        INSERT INTO call VALUES (KEY2, 'local', zeroblob(32), x'01', x'02', NULL, 'length', NULL, NULL, NULL, NULL, 1, 2, NULL);
        INSERT INTO attempt VALUES (1, KEY1, 1, 'unreadable', 200, 'torn', NULL, NULL, NULL, 1, 2),
            (2, KEY1, 2, 'ok', NULL, '', 7, NULL, 8, 11, 10);
        INSERT INTO item VALUES (1, zeroblob(32), 'collect', 'q/train/1', 0, '', 'failed', 'unreadable', '""', x'', 3),
            (2, zeroblob(32), 'collect', 'q/train/1', 0, '', 'done', NULL, '{}', KEY1, 4);
        INSERT INTO question VALUES (zeroblob(32), 'q/train/1', '{"id":"q/train/1","dataset":"q","split":"train","premise":null,
            "text":"How?","golds":[],"scorer":"exact","steps":null,"recorded":null,"cluster":null}');
    "#;

    #[tokio::test]
    async fn an_early_store_keeps_all_that_was_paid_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let (one, two) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        let mut old = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
        migrator(&STEPS[..2]).run(&mut old).await.unwrap();
        let literal = |key: &Digest| format!("x'{}'", key.hex());
        let rows = EARLY.replace("KEY1", &literal(&one)).replace("KEY2", &literal(&two));
        sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&mut old).await.unwrap();
        old.close().await.unwrap();

        let store = Store::open(&path).await.unwrap();
        let call = store.call(&one).await.unwrap().unwrap();
        assert_eq!((call.model_name.as_str(), call.request_json.as_str()), ("teacher", r#"{"ask":1}"#));
        assert_eq!((call.reply.text.as_str(), &call.raw_reply[..]), ("said", &b"raw"[..]));
        assert_eq!((call.reply.usage.tokens_in, call.reply.usage.tokens_out), (Some(7), Some(8)));
        assert_eq!((call.price_nanos, call.latency_ms, call.created_ms), (Some(9), 10, 11));
        assert_eq!((call.endpoint.as_deref(), &*call.model_id.hex()), (Some("http://a"), "0".repeat(64).as_str()));
        let local = store.call(&two).await.unwrap().unwrap();
        assert_eq!((local.reply.finish, local.raw_reply, local.endpoint), (Finish::Length, Vec::new(), None));
        assert_eq!(store.calls(&CallFilter::default()).await.unwrap().len(), 2);
        let raws = store.raw_replies(&one).await.unwrap();
        let raws: Vec<_> = raws.iter().map(|raw| (raw.number, &raw.bytes[..], raw.received_ms)).collect();
        assert_eq!(raws, [(1, &b"torn"[..], 4), (2, b"raw", 5)]);
        assert!(store.raw_replies(&two).await.unwrap().is_empty());
        let attempts = store.attempts(&one).await.unwrap();
        assert_eq!(attempts.iter().map(|attempt| attempt.outcome.as_str()).collect::<Vec<_>>(), ["unreadable", "ok"]);
        let plan = Digest::from_hex(&"0".repeat(64)).unwrap();
        let items = store.items(&plan, Stage::Collect).await.unwrap();
        assert_eq!((items.len(), &items[0].calls[..]), (1, &[one.clone()][..]));
        assert!(store.question(&plan, &QuestionId("q/train/1".into())).await.unwrap().is_some());
        // What is written now stands behind it.
        store.record_call(crate::CallRecord { key: Digest::of_bytes(b"3"), ..call }).await.unwrap();
        assert_eq!(store.calls(&CallFilter::default()).await.unwrap().len(), 3);
    }
}
