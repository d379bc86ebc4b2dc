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

async fn somebody_else(path: &Path) -> SqliteConnection {
    let mut other = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    other
}

fn a_write(text: &str) -> Vec<Statement> {
    vec![Statement::new("INSERT INTO word (text) SELECT ?").text(text)]
}

/// For longer than SQLite itself waits, and then for longer than we do.
#[tokio::test]
async fn a_database_that_another_program_holds_is_waited_for_many_times_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let mut other = somebody_else(&path).await;
    let (written, ()) = tokio::join!(store.write(a_write("x")), async {
        tokio::time::sleep(4 * BUSY).await;
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    });
    written.unwrap();
    let other = somebody_else(&path).await;
    let error = store.write(a_write("y")).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    assert!(error.to_string().contains("another program holds"), "{error}");
    drop(other);
    store.close().await.unwrap();
}
