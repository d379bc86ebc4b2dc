//! A job on this machine, in one process or several: started in a group of its own, followed while it trains, and ended
//! with whoever started it. A Ctrl-C of the terminal does not reach the group; its standard input does, whose end tells it
//! to stop, also when this process is killed.

use std::{
    fs::File,
    ops::ControlFlow,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use divvy_core::records::TrainNews;

use crate::{
    error::{LaunchError, at},
    failure,
    job::Folder,
    metrics::Tail,
    python::Python,
    words::{self, Crew},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// For the end of a step and a checkpoint, after which a job that was told to stop is killed.
const GRACE: Duration = Duration::from_secs(180);

/// What whoever waits is told, several times a second; they break to have the job stopped.
pub type Tell<'a> = dyn FnMut(TrainNews<'_>) -> ControlFlow<()> + 'a;

/// Trains in so many processes on this machine, which is the first of all that take part: for the others there is a command
/// each. Comes back when there is a result.
///
/// # Errors
/// [`LaunchError::Stopped`] when it was told to stop and did, else why there is no result.
pub fn train(folder: &Folder, python: &Python, crew: &Crew, tell: &mut Tell<'_>) -> Result<(), LaunchError> {
    let mut notes = vec![format!("torch: starting; what it says is in {}", folder.log().display())];
    for node in 1..crew.nodes {
        let command = words::line(&words::words(python, folder, crew, node));
        notes.push(format!("torch: on machine {node} of {}, run: {command}", crew.nodes));
    }
    for note in notes {
        let _ = tell(TrainNews::Note(&note));
    }
    let mut group = Group::start(&words::words(python, folder, crew, 0), &folder.log(), crew.processes)?;
    let mut tail = Tail::new(folder.metrics());
    let ended = follow(&mut group, &mut tail, tell)?;
    if folder.result().is_dir() {
        return Ok(());
    }
    match ended {
        Ended::Asked => Err(LaunchError::Stopped),
        Ended::Itself(status) => {
            Err(LaunchError::Failed(failure::tell(folder, &format!("ended with {status}"), killed(status))))
        }
    }
}

/// Tells the steps of a job that has its result already: whoever waited for it may have gone before it ended.
///
/// # Errors
/// An unreadable log.
pub fn replay(folder: &Folder, tell: &mut Tell<'_>) -> Result<(), LaunchError> {
    pass_on(&mut Tail::new(folder.metrics()), tell).map(drop)
}

/// Tells what came since the last call, and asks whether to go on.
pub(crate) fn pass_on(tail: &mut Tail, tell: &mut Tell<'_>) -> Result<ControlFlow<()>, LaunchError> {
    let mut wanted = tell(TrainNews::Nothing);
    for line in tail.poll()? {
        if tell(TrainNews::Step(&line.point, line.total)).is_break() {
            wanted = ControlFlow::Break(());
        }
    }
    Ok(wanted)
}

enum Ended {
    Itself(ExitStatus),
    /// It was told to.
    Asked,
}

fn follow(group: &mut Group, tail: &mut Tail, tell: &mut Tell<'_>) -> Result<Ended, LaunchError> {
    loop {
        let status = group.status();
        match (status, pass_on(tail, tell)?) {
            (Some(status), ControlFlow::Continue(())) => return Ok(Ended::Itself(status)),
            (Some(_), ControlFlow::Break(())) => return Ok(Ended::Asked),
            (None, ControlFlow::Continue(())) => thread::sleep(PAUSE),
            (None, ControlFlow::Break(())) => {
                group.stop(GRACE);
                // What was trained meanwhile belongs to the log.
                let _ = pass_on(tail, tell)?;
                return Ok(Ended::Asked);
            }
        }
    }
}

/// A process and all that it starts. None of them outlives it.
struct Group {
    child: Child,
}

impl Group {
    fn start(words: &[String], log: &Path, processes: u32) -> Result<Self, LaunchError> {
        let out = File::create(log).map_err(at(log))?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.stdin(Stdio::piped()).stdout(out.try_clone().map_err(at(log))?).stderr(out);
        command.env("DIVVY_WATCH_STDIN", "1").env("HF_HUB_OFFLINE", "1").env("TOKENIZERS_PARALLELISM", "false");
        for (name, value) in threads(processes) {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let told = |source| LaunchError::CannotStart { program: words[0].clone(), source };
        Ok(Self { child: command.spawn().map_err(told)? })
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of its input tells it to stop. It comes to the end of its step, or else it is killed.
    fn stop(&mut self, grace: Duration) {
        drop(self.child.stdin.take());
        let began = Instant::now();
        while self.status().is_none() {
            if began.elapsed() > grace {
                return self.kill();
            }
            thread::sleep(PAUSE);
        }
    }

    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // A group that is gone already is what is wanted.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Group {
    /// After an error of ours the job has nobody to work for, and after its own end a process of its may be left.
    fn drop(&mut self) {
        self.kill();
    }
}

/// Processes share the cores, and a thread that waits sleeps: spinning ones take the cores from each other.
fn threads(processes: u32) -> [(&'static str, String); 3] {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let each = (cores / processes.max(1) as usize).max(1);
    [
        ("OMP_NUM_THREADS", each.to_string()),
        ("OMP_WAIT_POLICY", "PASSIVE".to_owned()),
        ("GOMP_SPINCOUNT", "0".to_owned()),
    ]
}

#[cfg(unix)]
fn killed(status: ExitStatus) -> bool {
    // A shell, or a launcher of several processes, tells of a signal by 128 and its number.
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9) || status.code() == Some(137)
}

#[cfg(not(unix))]
fn killed(_: ExitStatus) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests;
