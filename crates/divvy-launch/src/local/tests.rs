//! The other side is a shell script in the place of the Python program.

use std::fs;

use super::*;

struct Job {
    place: tempfile::TempDir,
    folder: Folder,
}

/// `$1` is the folder.
fn job(script: &str) -> Job {
    let place = tempfile::tempdir().expect("a temporary directory");
    let folder = Folder::new(place.path().to_owned());
    fs::write(folder.program(), script).expect("a file in it");
    Job { place, folder }
}

fn run(job: &Job, tell: &mut Tell<'_>) -> Result<(), LaunchError> {
    train(&job.folder, &Python::Interpreter("sh".into()), &Crew::alone(), tell)
}

fn failure(script: &str) -> String {
    match run(&job(script), &mut |_| ControlFlow::Continue(())) {
        Err(LaunchError::Failed(told)) => told,
        other => panic!("{other:?}"),
    }
}

const STEP: &str = r#"echo '{"step":1,"total":2,"loss":2,"learning_rate":1,"grad_norm":1,"tokens":4,"tokens_per_second":1,"dev_loss":null}' >> $1/metrics.jsonl"#;

#[test]
fn steps_are_told_and_the_result_is_there() {
    let job = job(&format!("{STEP}\n{STEP}\nmkdir $1/result\n"));
    let (mut steps, mut notes) = (0, Vec::new());
    let mut tell = |news: TrainNews<'_>| {
        match news {
            TrainNews::Step(point, 2) => steps += point.step,
            TrainNews::Note(text) => notes.push(text.to_owned()),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    run(&job, &mut tell).unwrap();
    assert_eq!(steps, 2);
    assert!(notes.concat().contains("log.txt"), "{notes:?}");
}

#[test]
fn an_end_without_a_result_is_a_failure_with_its_last_words() {
    let told = failure("echo boom >&2; exit 3");
    assert!(told.contains("exit status: 3") && told.contains("| boom"), "{told}");
    let told = failure("exit 0");
    assert!(told.contains("exit status: 0") && told.contains("left no word"), "{told}");
}

#[test]
fn a_kill_by_the_system_speaks_of_memory() {
    let told = failure("kill -9 $$");
    assert!(told.contains("memory") && told.contains("micro_tokens"), "{told}");
    assert!(failure("exit 137").contains("memory"), "a launcher tells of it by a number");
}

#[test]
fn what_cannot_be_started_is_named() {
    let job = job("");
    let python = Python::Interpreter(job.place.path().join("no-python"));
    let error =
        train(&job.folder, &python, &Crew::alone(), &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("train.python") && error.contains("no-python"), "{error}");
}

/// Breaks when the first step is done.
fn impatient(news: TrainNews<'_>) -> ControlFlow<()> {
    if matches!(news, TrainNews::Step(..)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

#[test]
fn who_is_told_to_stop_comes_to_the_end_of_a_step() {
    let job = job(&format!("{STEP}\ncat\n{STEP}\n"));
    let outcome = run(&job, &mut impatient);
    assert!(matches!(outcome, Err(LaunchError::Stopped)), "{outcome:?}");
    assert_eq!(fs::read_to_string(job.folder.metrics()).unwrap().lines().count(), 2);
}

#[test]
fn a_result_that_came_meanwhile_counts() {
    run(&job(&format!("{STEP}\ncat\nmkdir $1/result\n")), &mut impatient).unwrap();
}

#[test]
fn who_does_not_stop_is_killed_with_all_that_it_started() {
    let job = job("sleep 1000 &\necho $! > $1/child.tmp; mv $1/child.tmp $1/child\nwait\n");
    let words = words::words(&Python::Interpreter("sh".into()), &job.folder, &Crew::alone(), 0);
    let mut group = Group::start(&words, &job.folder.log(), 1).unwrap();
    let child = job.place.path().join("child");
    while !child.exists() {
        assert!(group.status().is_none(), "the script ended too early");
        thread::sleep(Duration::from_millis(5));
    }
    group.stop(Duration::from_millis(50));
    let pid: i32 = fs::read_to_string(child).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    // Its new parent has yet to take note of its end.
    while rustix::process::test_kill_process(pid).is_ok() && !is_dead(pid) {
        thread::sleep(Duration::from_millis(5));
    }
}

/// A process that has ended and that nobody has asked for its status yet.
fn is_dead(pid: rustix::process::Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
