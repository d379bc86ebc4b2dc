//! One writer a store: an advisory lock on `<store>.lock`, which the kernel drops when the process dies, however it
//! dies. The file holds the writer's process id for the message that the second writer gets; it is never removed, since
//! removing a lock file races with the next process that opens it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::error::StoreError;

/// Held for as long as it lives.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _file: File,
}

/// A writer that was just interrupted may still be closing: wait this often before giving up.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn lock_writer(store: &Path) -> Result<WriterLock, StoreError> {
    let path = lock_path(store);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| StoreError::from_io(&path, "open the lock file", &e))?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return sign(file, &path),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
            Err(TryLockError::Error(e)) => return Err(StoreError::from_io(&path, "lock", &e)),
        }
    }
    Err(StoreError::Locked { path: store.to_owned(), holder: holder(file) })
}

/// Whether a process writes to this store now. A look holds the lock for no longer than a writer's pause between tries.
pub(crate) fn is_locked(store: &Path) -> bool {
    let opened = File::open(lock_path(store));
    opened.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn lock_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn sign(mut file: File, path: &Path) -> Result<WriterLock, StoreError> {
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(|e| StoreError::from_io(path, "write the lock file", &e))?;
    Ok(WriterLock { _file: file })
}

/// ` (process 4711)`, or nothing when the file does not say.
fn holder(mut file: File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (process {pid})"),
        _ => String::new(),
    }
}
