use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use divvy_core::digest::Digest;
use divvy_store::{CallFilter, CallRecord, CallUsage, Store, StoreError};

use crate::{call, key};

const CHILD_STORE: &str = "DIVVY_TEST_CHILD_STORE";
const CHILD_FIRST: &str = "DIVVY_TEST_CHILD_FIRST";
/// A page in the log, with its header.
const FRAME: usize = 8192 + 24;
/// What stands before the frames.
const HEAD: usize = 32;

/// Not a test of its own: the process that the tests below start and kill. Writes calls, many at once, and prints the
/// number of each after the store has acknowledged it.
#[test]
fn child_writer() {
    let Ok(path) = std::env::var(CHILD_STORE) else { return };
    let first: u32 = std::env::var(CHILD_FIRST).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&path)).await.unwrap();
        println!("\nopen");
        let workers = (0..8).map(|worker| tokio::spawn(write_until_it_fails(store.clone(), first + worker)));
        for worker in workers.collect::<Vec<_>>() {
            if let Err(error) = worker.await.unwrap() {
                println!("\nerror {} {error}", matches!(error, StoreError::DiskFull { .. }));
            }
        }
    });
}

async fn write_until_it_fails(store: Store, mut number: u32) -> Result<(), StoreError> {
    loop {
        store.record_call(call(number)).await?;
        // One write, so that lines of several threads do not mix.
        std::io::stdout().write_all(format!("\nacknowledged {number}\n").as_bytes()).unwrap();
        number += 8;
    }
}

fn spawn_child(command: &mut Command, store: &Path, first: u32) -> Child {
    command
        .env(CHILD_STORE, store)
        .env(CHILD_FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn this_test(command: &mut Command) -> &mut Command {
    command.args(["--exact", "accidents::child_writer", "--nocapture", "--test-threads=1"])
}

fn child(store: &Path, first: u32) -> Child {
    spawn_child(this_test(&mut Command::new(std::env::current_exe().unwrap())), store, first)
}

/// What the child says, until it has acknowledged `enough` calls or has ended.
fn listen(child: &mut Child, enough: usize) -> (Vec<u32>, Vec<String>, BufReader<std::process::ChildStdout>) {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut numbers, mut errors, mut line) = (Vec::new(), Vec::new(), String::new());
    while numbers.len() < enough && {
        line.clear();
        out.read_line(&mut line).unwrap() > 0
    } {
        note(line.trim(), &mut numbers, &mut errors);
    }
    (numbers, errors, out)
}

fn note(line: &str, numbers: &mut Vec<u32>, errors: &mut Vec<String>) {
    if let Some(number) = line.strip_prefix("acknowledged ") {
        numbers.push(number.parse().unwrap());
    } else if line.starts_with("error ") {
        errors.push(line.to_owned());
    }
}

async fn assert_kept(store: &Store, numbers: &[u32]) {
    for &number in numbers {
        assert_eq!(store.call(&key(number)).await.unwrap(), Some(call(number)), "call {number} was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let mut acknowledged = Vec::new();
    // Spread over the early and the later life of a log, and into its checkpoints.
    for (round, enough) in [1, 3, 10, 40, 150, 600, 1000].into_iter().enumerate() {
        let mut child = child(&path, 100_000 * round as u32);
        let (mut numbers, errors, mut out) = listen(&mut child, enough);
        std::thread::sleep(Duration::from_micros(777 * round as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        // What was still in the pipe was acknowledged too; a last line may be cut, and then its newline is missing.
        let mut line = String::new();
        while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            note(line.trim(), &mut numbers, &mut Vec::new());
            line.clear();
        }
        assert_eq!(errors, [] as [String; 0]);
        assert!(numbers.len() >= enough);
        acknowledged.extend(numbers);
        let store = Store::open(&path).await.unwrap();
        assert_kept(&store, &acknowledged).await;
        // Eight writers: no more than eight calls in flight may be there beyond the acknowledged ones.
        let all = store.calls(&CallFilter::default()).await.unwrap().len();
        assert!(all - acknowledged.len() <= 8 * (round + 1), "{all} calls, {} acknowledged", acknowledged.len());
        store.close().await.unwrap();
    }
}

/// Runs the writer in a shell that has prepared a disk for it, until it fails.
async fn written_until_full(prepare: &str, path: &Path) -> Option<Store> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{prepare}; exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    let mut child = spawn_child(this_test(&mut shell), path, 0);
    let (numbers, errors, _) = listen(&mut child, usize::MAX);
    if !child.wait().unwrap().success() {
        return None;
    }
    assert!(!numbers.is_empty());
    assert_eq!(errors.len(), 8, "every writer is told");
    let told = "error true the disk takes no more while writing";
    assert!(errors.iter().all(|error| error.starts_with(told) && error.contains("store.db")), "{errors:?}");
    let store = Store::open(path).await.unwrap();
    assert_kept(&store, &numbers).await;
    store.record_call(call(999_999)).await.unwrap();
    Some(store)
}

/// In blocks of 512 bytes or 1 KiB. The signal is ignored, so that writing fails, as it does at a quota.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_files_is_one_clear_error_and_nothing_committed_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    written_until_full("trap '' XFSZ; ulimit -f 3000", &path).await.unwrap();
}

/// A file system of its own, which an ordinary user may have on most machines. Before it is gone, the store is copied.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_one_clear_error_and_nothing_committed_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (small, path) = (directory.path().join("small"), directory.path().join("store.db"));
    fs::create_dir(&small).unwrap();
    let within = "mount -t tmpfs -o size=3m tmpfs \"$SMALL\" && DIVVY_TEST_CHILD_STORE=\"$SMALL/store.db\" \"$0\" \"$@\"; \
                  cp \"$SMALL\"/store.db* \"$SMALL/..\"";
    let prepare = format!("export SMALL='{}'; exec unshare -rm sh -c '{within}' \"$0\" \"$@\"", small.display());
    if written_until_full(&prepare, &path).await.is_none() {
        eprintln!("SKIPPED: no file system of its own for an ordinary user here (unshare -rm, mount -t tmpfs)");
    }
}

/// Files of a store with calls `0..n`, all of them in the log, and how long the log is.
async fn logged(directory: &Path, n: u32) -> (PathBuf, Vec<u8>) {
    let path = directory.join("store.db");
    let store = Store::open(&path).await.unwrap();
    for number in 0..n {
        store.record_call(call(number)).await.unwrap();
    }
    // Copied while it is open: closing would move the log into the database.
    let copy = directory.join("copy.db");
    fs::copy(&path, &copy).unwrap();
    let log = fs::read(directory.join("store.db-wal")).unwrap();
    (copy, log)
}

/// Calls that are there when the log is `log`; they must be the first ones, without a gap.
async fn recovered(copy: &Path, log: &[u8]) -> u32 {
    // A name for each log: the file of the one before may still be on its way to being closed.
    let torn = copy.with_file_name(format!("torn-{}.db", log.len()));
    fs::copy(copy, &torn).unwrap();
    fs::write(torn.with_extension("db-wal"), log).unwrap();
    let store = Store::open(&torn).await.unwrap();
    let calls = store.calls(&CallFilter::default()).await.unwrap();
    for (number, found) in calls.iter().enumerate() {
        assert_eq!(*found, call(number as u32));
    }
    store.close().await.unwrap();
    calls.len() as u32
}

#[tokio::test]
async fn a_torn_log_keeps_every_whole_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let (copy, log) = logged(directory.path(), 12).await;
    assert_eq!(recovered(&copy, &log).await, 12);
    // Behind the last acknowledged frame: bytes of a write that was on its way.
    let mut behind = log.clone();
    behind.extend(std::iter::repeat_n(0xA5, 5000));
    assert_eq!(recovered(&copy, &behind).await, 12);
    // Inside the log, as if the disk had lied about the rest: a prefix is there, never a mixture.
    let mut last = 12;
    for cut in (0..12).rev() {
        let kept = recovered(&copy, &log[..log.len() * cut / 12]).await;
        assert!(kept <= last, "{kept} calls of a shorter log, {last} of a longer");
        last = kept;
    }
    assert_eq!(last, 0);
}

/// Power that fails while the next call is written: whatever part of it came to the disk, all before it is there.
#[tokio::test]
async fn a_cut_within_the_next_transaction_keeps_every_acknowledged_call() {
    const CALLS: u32 = 8;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = Store::open(&path).await.unwrap();
    let length = || fs::metadata(directory.path().join("store.db-wal")).unwrap().len() as usize;
    let mut lengths = vec![length()];
    for number in 0..CALLS {
        store.record_call(call(number)).await.unwrap();
        lengths.push(length());
    }
    let copy = directory.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    let log = fs::read(directory.path().join("store.db-wal")).unwrap();
    for (kept, ends) in (0..).zip(lengths.windows(2)) {
        let (acknowledged, next) = (ends[0], ends[1]);
        let frames: Vec<usize> = (acknowledged.max(HEAD)..next).step_by(FRAME).collect();
        assert!(frames.len() > 1 && (next - HEAD).is_multiple_of(FRAME), "a call is several frames: {lengths:?}");
        // Between the frames, and in each of them.
        let inside = frames.into_iter().flat_map(|frame| [frame, frame + 1, frame + FRAME / 2, frame + FRAME - 1]);
        for cut in BTreeSet::from_iter(inside) {
            assert_eq!(recovered(&copy, &log[..cut]).await, kept, "cut at {cut} of {lengths:?}");
        }
    }
    assert_eq!(recovered(&copy, &log[..lengths[CALLS as usize]]).await, CALLS);
}

#[tokio::test]
async fn concurrent_writers_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store.db")).await.unwrap();
    let before = fs::metadata(directory.path().join("store.db-wal")).unwrap().len();
    let writes = (0..400).map(|number| store.record_call(call(number)));
    for result in futures::future::join_all(writes).await {
        result.unwrap();
    }
    let after = fs::metadata(directory.path().join("store.db-wal")).unwrap().len();
    assert_eq!(store.calls(&CallFilter::default()).await.unwrap().len(), 400);
    // Alone, a call takes several pages of the log; together they share them.
    let pages = (after - before) / FRAME as u64;
    assert!(pages < 400, "{pages} pages for 400 calls");
}

#[tokio::test]
async fn one_bad_write_does_not_fail_its_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store.db")).await.unwrap();
    let unknown_plan = key(7);
    let bad = store.begin_run(&unknown_plan, "x", "0", 0);
    let good = futures::future::join_all((0..20).map(|number| store.record_call(call(number))));
    let (bad, good) = tokio::join!(bad, good);
    assert!(matches!(bad, Err(StoreError::Refused { .. })), "{bad:?}");
    assert!(good.iter().all(Result::is_ok));
    assert_eq!(store.calls(&CallFilter::default()).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_second_writer_is_told_who_holds_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/down/store.db");
    let store = Store::open(&path).await.unwrap();
    let error = Store::open(&path).await.unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())) && error.contains("divvy status"), "{error}");
    let reading = Store::open_read(&path).await.unwrap();
    store.record_call(call(1)).await.unwrap();
    assert_eq!(reading.call(&key(1)).await.unwrap(), Some(call(1)), "a reader sees what is committed");
    assert!(matches!(reading.record_call(call(2)).await, Err(StoreError::ReadOnly { .. })));
    drop(store);
    Store::open(&path).await.unwrap();
}

/// A report that is open while a run goes on.
#[tokio::test]
async fn who_reads_finds_models_and_endpoints_that_came_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = Store::open(&path).await.unwrap();
    store.record_call(call(0)).await.unwrap();
    let reading = Store::open_read(&path).await.unwrap();
    let later = CallRecord {
        model_name: "another".into(),
        model_id: Digest::of_bytes(b"another"),
        endpoint: Some("http://elsewhere/v1".into()),
        ..call(1)
    };
    let nowhere = CallRecord { endpoint: None, ..call(2) };
    for made in [&later, &nowhere] {
        store.record_call(made.clone()).await.unwrap();
    }
    let keys = [key(0), key(1), key(2)];
    for store in [&store, &reading] {
        let mut found = store.calls_of(&keys).await.unwrap();
        found.sort_by_key(|call| call.created_ms);
        let expect = [call(0), later.clone(), nowhere.clone()].map(|call| CallRecord { raw_reply: Vec::new(), ..call });
        assert_eq!(found, expect);
        assert_eq!(store.call_usages(&keys).await.unwrap(), expect.map(CallUsage::from));
    }
}

/// A backup, or a person with a database browser.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_program_holds_is_waited_for() {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = Store::open(&path).await.unwrap();
    store.record_call(call(0)).await.unwrap();
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let writes: Vec<_> = (1..20).map(|number| tokio::spawn(write_one(store.clone(), number))).collect();
    let reading = Store::open_read(&path).await.unwrap();
    assert_eq!(reading.call(&key(0)).await.unwrap(), Some(call(0)), "reading goes on");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(writes.iter().all(|write| !write.is_finished()), "nothing is acknowledged that is not on the disk");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(store.calls(&CallFilter::default()).await.unwrap().len(), 20);
}

async fn write_one(store: Store, number: u32) -> Result<(), StoreError> {
    store.record_call(call(number)).await
}

#[tokio::test]
async fn what_is_no_store_is_said_to_be_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    assert!(matches!(Store::open_read(&path).await, Err(StoreError::Missing { .. })));
    fs::write(&path, "this is a text file, and a rather long one at that\n".repeat(100)).unwrap();
    for result in [Store::open(&path).await, Store::open_read(&path).await] {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
    let nowhere = path.join("below/a/file.db");
    assert!(matches!(Store::open(&nowhere).await, Err(StoreError::Io { .. })));
}
