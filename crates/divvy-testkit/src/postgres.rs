//! A PostgreSQL server of its own for a test: a fresh data directory, a socket in a temporary folder, a password, fsync on.
//! Gone when the test is. Debian's package `postgresql` has the programs.

use std::{
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The oldest that docs/several-machines.md promises to work with.
const OLDEST: u32 = 15;
/// Longest wait for a server to come up.
const PATIENCE: Duration = Duration::from_secs(60);
const USER: &str = "divvy";
/// Must be nowhere in what divvy prints or keeps.
pub const PASSWORD: &str = "correct-horse-battery";

pub struct Postgres {
    programs: PathBuf,
    directory: tempfile::TempDir,
    /// The server refuses to run as root.
    runs_as: Option<(u32, u32)>,
    server: Option<Child>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

impl Postgres {
    /// A running server, or `None`, said loudly, on a machine that has none.
    ///
    /// # Panics
    /// When there is one and it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            skipped("no initdb and postgres in /usr/lib/postgresql/*/bin or PATH (Debian: apt install postgresql)");
            return None;
        };
        let runs_as = match is_root() {
            true => Some(another_user()?),
            false => None,
        };
        let directory = tempfile::Builder::new().prefix("divvy-pg-").tempdir().expect("a temporary directory");
        let mut this = Self { programs, directory, runs_as, server: None };
        this.make();
        this.go_on();
        this.say_the_version();
        Some(this)
    }

    #[expect(clippy::print_stderr, reason = "what a test on a server shows, it shows for this version")]
    fn say_the_version(&self) {
        eprintln!("on PostgreSQL {}", self.query("postgres", "SHOW server_version"));
        assert!(self.version() >= OLDEST, "divvy wants PostgreSQL {OLDEST} or newer, and its tests an installed one");
    }

    /// Its major version.
    ///
    /// # Panics
    /// When it does not say.
    #[must_use]
    pub fn version(&self) -> u32 {
        let number: u32 = self.query("postgres", "SHOW server_version_num").parse().expect("a number");
        number / 10_000
    }

    fn make(&self) {
        let password = self.directory.path().join("password");
        std::fs::write(&password, PASSWORD).expect("a file in a temporary directory");
        if let Some((user, group)) = self.runs_as {
            for path in [self.directory.path(), &password] {
                chown(path, Some(user), Some(group)).expect("root may give a file away");
            }
        }
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--username", USER]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(self.data());
        let made = initdb.output().expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Starts the server again after [`Postgres::stop`] or [`Postgres::crash`].
    ///
    /// # Panics
    /// When it does not come up.
    pub fn go_on(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("log")).expect("a file for the log");
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(self.directory.path()).args(["-c", "listen_addresses="]);
        server.stdout(Stdio::null()).stderr(log);
        self.server = Some(server.spawn().expect("postgres starts"));
        let began = Instant::now();
        while !self.is_ready() {
            assert!(began.elapsed() < PATIENCE, "the server does not come up: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        let mut asks = self.client("pg_isready");
        asks.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// What the server said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// As an operator restarts it: connections are cut, what was committed is kept.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) {
        self.end("-INT");
    }

    /// As a power cut leaves it.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn crash(&mut self) {
        self.end("-QUIT");
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut server) = self.server.take() {
            let sent = Command::new("kill").args([signal, &server.id().to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()), "kill");
            server.wait().expect("a server that was told to stop ends");
        }
    }

    /// Makes a database and returns its URL.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        let made = self.client("createdb").arg(name).output().expect("createdb starts");
        assert!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        let socket = self.directory.path().display();
        format!("postgres://{USER}:{PASSWORD}@localhost/{name}?host={socket}")
    }

    /// What a statement returns, a row a line, columns between `|`.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn query(&self, database: &str, sql: &str) -> String {
        let asked = self.client("psql").args(["-qAtX", "-d", database, "-c", sql]).output().expect("psql starts");
        assert!(asked.status.success(), "{sql}: {}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// One of the server's own programs, under its user.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.runs_as {
            command.uid(user).gid(group);
        }
        command
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-h").arg(self.directory.path()).args(["-U", USER]);
        command.env("PGPASSWORD", PASSWORD).stdin(Stdio::null());
        command
    }
}

#[expect(clippy::print_stderr, reason = "a test that does not run must say so")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: the tests on PostgreSQL: {why}");
}

/// The folder of the newest server that is installed.
fn programs() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.into_iter().rev().chain(std::env::split_paths(&in_path));
    let has_all = |folder: &Path| {
        ["initdb", "postgres", "pg_isready", "createdb", "psql"].iter().all(|program| folder.join(program).is_file())
    };
    all.into_iter().find(|folder| has_all(folder))
}

fn is_root() -> bool {
    let me = Command::new("id").arg("-u").output();
    me.is_ok_and(|me| me.stdout.trim_ascii() == b"0")
}

/// A user that the machine has for such work.
fn another_user() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = user("postgres").or_else(|| user("nobody"));
    if found.is_none() {
        skipped("this is root, as which the server does not run, and there is no user `postgres` or `nobody`");
    }
    found
}
