use super::*;

/// Asked by the writing connection itself, as a write like any other: `synchronous` belongs to a connection, and another one
/// would tell its own.
#[tokio::test]
async fn the_writing_connection_syncs_every_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).await.unwrap();
    let ask = "CREATE TABLE told AS SELECT
        (SELECT synchronous FROM pragma_synchronous) AS synchronous,
        (SELECT journal_mode FROM pragma_journal_mode) AS journal_mode,
        (SELECT foreign_keys FROM pragma_foreign_keys) AS foreign_keys";
    store.write(vec![Statement::new(ask)]).await.unwrap();
    let told: (i64, String, i64) =
        sqlx::query_as("SELECT * FROM told").fetch_one(&mut *store.reader().await.unwrap()).await.unwrap();
    let full = 2; // sqlite.org/pragma.html#pragma_synchronous
    assert_eq!(told, (full, "wal".to_owned(), 1));
    store.close().await.unwrap();
}
