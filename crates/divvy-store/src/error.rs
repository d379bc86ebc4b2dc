//! What can go wrong with the store, each with its way out. Clonable, because one failed commit answers many writers.

use std::path::{Path, PathBuf};

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    #[error(
        "the store {path} is in use by another divvy{holder}; wait for it, stop it, or name another store \
         (reading with `divvy status` or `divvy report` works meanwhile)", path = path.display()
    )]
    Locked { path: PathBuf, holder: String },
    #[error("no store at {path}; a run creates it, or check the path", path = path.display())]
    Missing { path: PathBuf },
    #[error(
        "the disk takes no more while writing {path} ({detail}): it is full, a quota or a limit on files is reached, or it fails; make \
         room and run the same command again: everything committed so far is kept", path = path.display()
    )]
    DiskFull { path: PathBuf, detail: String },
    #[error(
        "another program holds {path} and does not let go (a backup, a database browser?); end it and run the same command \
         again: everything committed so far is kept", path = path.display()
    )]
    Busy { path: PathBuf },
    #[error("cannot {action} {path}: {detail}", path = path.display())]
    Io { path: PathBuf, action: &'static str, detail: String },
    #[error(
        "{path} is not a usable divvy store ({detail}); move it away and run again, or restore a copy of it together \
         with its -wal file", path = path.display()
    )]
    Corrupt { path: PathBuf, detail: String },
    #[error("{path} was written by a newer divvy ({detail}); use that version or another store", path = path.display())]
    Newer { path: PathBuf, detail: String },
    #[error("the store {path} is open for reading only", path = path.display())]
    ReadOnly { path: PathBuf },
    #[error("the store {path} is closed", path = path.display())]
    Closed { path: PathBuf },
    #[error("the store {path} refuses to {action}: {detail}", path = path.display())]
    Refused { path: PathBuf, action: &'static str, detail: String },
    #[error("a store on a server is postgres://USER@HOST:PORT/DATABASE, and this is none: {detail}")]
    Address { detail: String },
    #[error(
        "the store {store} does not answer ({detail}); see that the server runs and run the same command again: everything \
         acknowledged so far is kept"
    )]
    Away { store: String, detail: String },
}

impl StoreError {
    /// Sorts a database error by SQLite's result code (<https://sqlite.org/rescode.html>).
    pub(crate) fn from_sql(path: &Path, action: &'static str, error: &sqlx::Error) -> Self {
        let (path, detail) = (path.to_owned(), error.to_string());
        if matches!(error, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }) {
            return Self::Corrupt { path, detail };
        }
        let code = code(error);
        if code == Some(SQLITE_IOERR_WRITE) {
            return Self::DiskFull { path, detail };
        }
        match code.map(|code| code & 0xff) {
            Some(SQLITE_BUSY) => Self::Busy { path },
            Some(SQLITE_FULL) => Self::DiskFull { path, detail },
            Some(SQLITE_IOERR | SQLITE_CANTOPEN | SQLITE_READONLY | SQLITE_PERM) => Self::Io { path, action, detail },
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Corrupt { path, detail },
            _ => Self::Refused { path, action, detail },
        }
    }

    /// Sorts an error of a server by its SQLSTATE (<https://www.postgresql.org/docs/15/errcodes-appendix.html>).
    pub(crate) fn from_postgres(store: &str, action: &'static str, error: &sqlx::Error) -> Self {
        const DISK_FULL: &str = "53100";
        let (path, detail) = (PathBuf::from(store), error.to_string());
        match error.as_database_error().and_then(|error| error.code()) {
            Some(code) if code == DISK_FULL => Self::DiskFull { path, detail },
            _ => Self::Refused { path, action, detail },
        }
    }

    pub(crate) fn from_io(path: &Path, action: &'static str, error: &std::io::Error) -> Self {
        let (path, detail) = (path.to_owned(), error.to_string());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull { path, detail },
            _ => Self::Io { path, action, detail },
        }
    }
}

const SQLITE_PERM: i32 = 3;
const SQLITE_BUSY: i32 = 5;
const SQLITE_READONLY: i32 = 8;
const SQLITE_IOERR: i32 = 10;
/// What SQLite makes of any error of `write` but a full disk: of a quota and of a limit on the size of files, too.
const SQLITE_IOERR_WRITE: i32 = 778;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_NOTADB: i32 = 26;

/// SQLite's extended result code; its low byte is the primary one.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}
