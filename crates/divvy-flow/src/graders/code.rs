//! Code by unit tests: the program of a reply, and gold's tests behind it, in a Python process of its own. Off unless
//! `[evaluate.code]` says `run = true`, since a model's program is a stranger's.
//!
//! The process has a folder of its own for its files, no environment, and limits of processor time, memory, file size and
//! open files; it is ended when its time is up. Where the machine allows unprivileged user namespaces it also has no network,
//! sees no other process, and takes every child along when it ends. It can read what its user can read: run strangers' code as a
//! user who has no secrets, or in a container.
//!
//! No file tells a program its tests, nor how a pass is proved: `code.py`, which runs both, is handed the tests when the program's own
//! statements are through, and then a word that it must say back. But tests run in the interpreter of what they test, and
//! a program that is written against this grader can still pass without being right: it may answer with an object that equals
//! everything, look into the frames below its own or into its memory, or talk with divvy in the place of `code.py`. A model that
//! answers a question has no cause to; whoever asks one that was trained to pass here should read what it wrote.

use std::{
    io::{Read, Write},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use divvy_core::{
    extract,
    plan::CodePlan,
    question::{Gold, Question},
    records::{Grade, Outcome},
};

use crate::error::FlowError;

/// Largest file that a program may write.
const FILE_BYTES: u64 = 16 << 20;
const OPEN_FILES: u64 = 64;
const PROCESSES: u64 = 32;
/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Runs the program, and then its tests.
const HARNESS: &str = include_str!("code.py");

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    Passed,
    Failed,
    /// Its wall time was up.
    TimedOut,
}

/// A place where programs of others are run.
#[derive(Clone, Debug)]
pub struct Sandbox {
    interpreter: PathBuf,
    prlimit: PathBuf,
    /// `unshare`, where it may make namespaces.
    unshare: Option<PathBuf>,
    /// The kernel does not hold root to a number of processes.
    is_root: bool,
    seconds: u64,
    memory_bytes: u64,
}

impl Sandbox {
    /// # Errors
    /// [`FlowError::Input`] where the interpreter or `prlimit` is missing: without limits nothing is run.
    pub fn find(plan: &CodePlan) -> Result<Self, FlowError> {
        let prlimit = found("prlimit").ok_or_else(|| {
            FlowError::Input(
                "[evaluate.code] needs `prlimit` (package util-linux) to limit what programs may use".to_owned(),
            )
        })?;
        let interpreter = found(&plan.interpreter).ok_or_else(|| {
            FlowError::Input(format!("evaluate.code.interpreter: there is no program `{}` in PATH", plan.interpreter))
        })?;
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        let unshare = found("unshare").filter(|unshare| isolates(unshare));
        Ok(Self { interpreter, prlimit, unshare, is_root, seconds: plan.seconds, memory_bytes: plan.memory_mb << 20 })
    }

    /// What holds programs, and what does not, in one sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        let (seconds, memory) = (self.seconds, self.memory_bytes >> 20);
        let limits = format!(
            "code is run for at most {seconds} s and {memory} MiB, in a folder of its own, without environment"
        );
        let processes = if self.is_root { "; run by root, its processes are not counted" } else { "" };
        match self.unshare {
            Some(_) => format!("{limits}, network and sight of other processes{processes}"),
            None => format!(
                "{limits}; NOT cut off from the network, nor limited in processes: this machine allows no unprivileged user namespaces"
            ),
        }
    }

    /// Whether it is cut off from the network.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.unshare.is_some()
    }

    /// Grades the last fenced block of a reply. Blocking: a process is waited for.
    ///
    /// # Errors
    /// The system's, when no process can be started at all.
    pub fn grade(&self, question: &Question, reply: &str) -> std::io::Result<Grade> {
        let Some(program) = extract::program(reply) else {
            return Ok(Grade { correct: false, score: 0.0, answer: None, outcome: Outcome::NoAnswer });
        };
        let mut correct = false;
        for Gold(tests) in &question.golds {
            correct |= self.run(program, &tests.join("\n"))? == Ran::Passed;
        }
        let (answer, outcome) = (Some(program.to_owned()), Outcome::Answered);
        Ok(Grade { correct, score: f64::from(u8::from(correct)), answer, outcome })
    }

    /// Runs the tests behind the program. A program that ends the process before its tests are through has failed.
    ///
    /// # Errors
    /// The system's, when no process can be started at all.
    pub fn run(&self, program: &str, tests: &str) -> std::io::Result<Ran> {
        let (folder, word) = (Folder::new()?, word()?);
        std::fs::write(folder.0.join("main.py"), program)?;
        let mut child = self.command(&folder.0).spawn()?;
        let proved = proof(&mut child, tests.to_owned(), word);
        let Some(status) = self.wait(&mut child)? else { return Ok(Ran::TimedOut) };
        // It came before the end or never does; who got away with the other end of the pipe is not waited for.
        let proved = proved.recv_timeout(Duration::from_secs(self.seconds)).unwrap_or(false);
        Ok(if status.success() && proved { Ran::Passed } else { Ran::Failed })
    }

    fn command(&self, folder: &Path) -> Command {
        let mut words: Vec<String> = Vec::new();
        let path = |path: &Path| path.display().to_string();
        if let Some(unshare) = &self.unshare {
            words.push(path(unshare));
            words.extend(NAMESPACES.map(str::to_owned));
        }
        words.push(path(&self.prlimit));
        words.push(format!("--cpu={}", self.seconds));
        words.push(format!("--as={}", self.memory_bytes));
        words.push(format!("--fsize={FILE_BYTES}"));
        words.push(format!("--nofile={OPEN_FILES}"));
        words.push("--core=0".to_owned());
        // Outside a namespace it would count all processes of this user.
        words.extend(self.unshare.as_ref().map(|_| format!("--nproc={PROCESSES}")));
        words.extend([path(&self.interpreter), "-I".to_owned(), "-B".to_owned(), "-c".to_owned(), HARNESS.to_owned()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(folder).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// `None` when its time was up; then it and its children are gone.
    fn wait(&self, child: &mut Child) -> std::io::Result<Option<std::process::ExitStatus>> {
        // Processor time is limited by the kernel; a program that sleeps is not.
        let until = Instant::now() + Duration::from_secs(self.seconds + 1);
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() >= until => break None,
                None => std::thread::sleep(LOOK),
            }
        };
        // Also behind one that ended: it may have left children.
        end_group(child.id());
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        Ok(status)
    }
}

/// Talks with `code.py`; what comes is whether the word was said back.
fn proof(child: &mut Child, tests: String, word: String) -> Receiver<bool> {
    let (tell, heard) = mpsc::channel();
    let ends = child.stdin.take().zip(child.stdout.take());
    // Nobody may want to know any more: then its time was up.
    thread::spawn(move || tell.send(ends.is_some_and(|(to, from)| talk(to, from, &tests, &word).unwrap_or(false))));
    heard
}

/// The tests when the program is there, the word when they are through, and whether that comes back.
fn talk(mut to: ChildStdin, mut from: ChildStdout, tests: &str, word: &str) -> std::io::Result<bool> {
    from.read_exact(&mut [0])?;
    to.write_all(format!("{}\n{tests}", tests.len()).as_bytes())?;
    from.read_exact(&mut [0])?;
    to.write_all(word.as_bytes())?;
    let mut back = vec![0; word.len()];
    from.read_exact(&mut back)?;
    Ok(back == word.as_bytes())
}

/// A line that nobody can know beforehand.
fn word() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}\n", u128::from_ne_bytes(bytes)))
}

const NAMESPACES: [&str; 8] =
    ["--user", "--map-current-user", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--"];

/// Ends every process of the group; that none is left is no error.
fn end_group(group: u32) {
    let target = format!("-{group}");
    let quiet =
        |command: &mut Command| command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let _ = quiet(Command::new("kill").args(["-KILL", "--", &target]));
}

fn isolates(unshare: &Path) -> bool {
    let mut command = Command::new(unshare);
    command.args(NAMESPACES).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A program by its path, or by its name in PATH: the sandbox has no PATH to look it up in.
fn found(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return std::fs::canonicalize(program).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// A new folder that only this user may enter, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!("divvy-code-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let folder = std::env::temp_dir().join(name);
            match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                // Left by a process of the same number that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean, as every temporary file.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `None`, said loudly, where there is no Python or no `prlimit`.
    fn sandbox() -> Option<Sandbox> {
        let plan = CodePlan { interpreter: "python3".to_owned(), seconds: 2, memory_mb: 256 };
        let sandbox = Sandbox::find(&plan);
        if let Err(error) = &sandbox {
            println!("SKIPPED: {error}");
        }
        sandbox.ok()
    }

    const DOUBLE: &str = "def double(n):\n    return 2 * n";

    #[test]
    fn tests_decide() {
        let Some(sandbox) = sandbox() else { return };
        let ran = |program: &str, tests: &str| sandbox.run(program, tests).unwrap();
        assert_eq!(ran(DOUBLE, "assert double(3) == 6"), Ran::Passed);
        assert_eq!(ran(DOUBLE, "assert double(3) == 7"), Ran::Failed);
        assert_eq!(ran("def double(n)", "assert double(3) == 6"), Ran::Failed);
        // It leaves with a good status before any test has run.
        assert_eq!(ran("raise SystemExit(0)", "assert False"), Ran::Failed);
        assert_eq!(ran("import os\nos._exit(0)", "assert False"), Ran::Failed);
    }

    #[test]
    fn a_program_finds_no_proof_to_forge_in_what_it_can_read() {
        let Some(sandbox) = sandbox() else { return };
        // The folder, and what the system tells of the process; a file without an end would keep it.
        let read = "import os\nnames = [os.path.join(at, name) for at, _, names in os.walk('.') for name in names]\n\
                    names += ['/proc/self/' + name for name in ('cmdline', 'environ', 'comm', 'stat')]\n\
                    text = ''.join(open(name, errors='replace').read() for name in names)\n";
        let forge = format!(
            "{read}import re\nfor word in re.findall('[0-9a-f]{{32,}}', text):\n    open('passed', 'w').write(word)\n\
             os._exit(0)"
        );
        assert_eq!(sandbox.run(&forge, "assert False").unwrap(), Ran::Failed);
        let peek = format!("{read}assert 'chosen' + ' by nobody' not in text");
        assert_eq!(sandbox.run(&peek, "'chosen by nobody'").unwrap(), Ran::Passed, "the tests are there to be read");
        assert_eq!(sandbox.run("import sys\nassert sys.stdin.read() == ''", "").unwrap(), Ran::Passed);
        assert_eq!(sandbox.run("print('..')\nraise SystemExit(0)", "assert False").unwrap(), Ran::Failed);
    }

    /// As a program that is run by itself; what runs it is none of its names, and its names are none of what runs it.
    #[test]
    fn a_program_is_the_main_module() {
        let Some(sandbox) = sandbox() else { return };
        let ran = |program: &str, tests: &str| sandbox.run(program, tests).unwrap();
        let main = "import sys\nassert __name__ == '__main__' and sys.argv == ['main.py'] and __file__.endswith('/main.py')\n\
                    assert sys.modules['__main__'].__dict__ is globals()\nassert not {'run', 'os'} & set(globals())";
        assert_eq!(ran(main, "assert sys.argv"), Ran::Passed);
        let shadows =
            "def exec(*_): pass\ncompile = int = open = exec\nimport builtins\nbuiltins.exec = builtins.compile = exec";
        assert_eq!(ran(shadows, "assert False"), Ran::Failed);
        assert_eq!(ran(shadows, "assert True"), Ran::Passed);
        let long = format!("assert double(3) == 6\n{}", "# and so on, ä\n".repeat(20_000));
        assert_eq!(ran(DOUBLE, &long), Ran::Passed, "more than a pipe holds");
    }

    #[test]
    fn what_a_program_may_use_is_limited() {
        let Some(sandbox) = sandbox() else { return };
        let ran = |program: &str| sandbox.run(program, "").unwrap();
        assert_eq!(ran("x = bytearray(900 << 20)"), Ran::Failed, "memory");
        assert_eq!(ran("open('big', 'wb').write(b'0' * (17 << 20))"), Ran::Failed, "size of a file");
        assert_ne!(ran("while True: pass"), Ran::Passed, "processor time");
        assert_eq!(ran("import time\ntime.sleep(60)"), Ran::TimedOut, "wall time");
        // A Python that is a script of its own may set some; ours is not handed on.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let environment = "import os\nassert not {'CARGO_PKG_NAME', 'HOME', 'USER'} & set(os.environ)";
        assert_eq!(ran("import os\nassert os.listdir('.') == ['main.py']"), Ran::Passed, "a folder of its own");
        assert_eq!(ran(environment), Ran::Passed, "no environment");
    }

    #[test]
    fn nothing_outlives_it_and_nobody_is_reached() {
        let Some(sandbox) = sandbox() else { return };
        let mark = std::env::temp_dir().join(format!("divvy-code-test-{}", std::process::id()));
        let _ = std::fs::remove_file(&mark);
        let child = format!(
            "import os, time\nif os.fork() == 0:\n    time.sleep(1)\n    open({:?}, 'w')",
            mark.display().to_string()
        );
        assert_eq!(sandbox.run(&child, "").unwrap(), Ran::Passed);
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!mark.exists(), "a child went on");
        if !sandbox.is_isolated() {
            println!("SKIPPED: {}", sandbox.describe());
            return;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let call = format!(
            "import socket\nsocket.create_connection(('127.0.0.1', {}), 1)",
            listener.local_addr().unwrap().port()
        );
        assert_eq!(sandbox.run(&call, "").unwrap(), Ran::Failed, "it reached this machine");
    }

    #[test]
    fn missing_programs_are_named() {
        let plan = CodePlan { interpreter: "no-such-python".to_owned(), seconds: 1, memory_mb: 64 };
        let error = Sandbox::find(&plan).unwrap_err().to_string();
        assert!(error.contains("no-such-python") || error.contains("prlimit"), "{error}");
    }
}
