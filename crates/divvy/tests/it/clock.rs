//! Runs whose clocks jump. That of the day, forth and back, whenever it is read: no wait, cap, rate, latency or record
//! follows it. And the one that counts on, which goes a minute ahead at a moment that a test chooses: a budget's minutes are
//! used up without anybody waiting for it. And one that goes forty times as fast, for what takes minutes.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use divvy_testkit::{
    script::{Fault, Step},
    teacher::{Asked, Lesson},
    workspace::Workspace,
};

use crate::{
    bench::{Bench, ended},
    school::{self, RECIPE, REQUESTS, TRAIN},
};

/// Stands before the C library and lies about the time of day.
const JUMPING: &str = r#"
#define _GNU_SOURCE
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    static int reads;
    long result = syscall(SYS_clock_gettime, id, at);
    if (id == CLOCK_REALTIME) at->tv_sec += (__sync_fetch_and_add(&reads, 1) % 2) ? 86400 : -86400;
    return (int) result;
}
"#;

/// The same for the clock that nobody sets: it is later by a minute as soon as there is a file.
const LATER: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    long result = syscall(SYS_clock_gettime, id, at);
    const char *file = getenv("DIVVY_TEST_LATER");
    if (id == CLOCK_MONOTONIC && file && access(file, F_OK) == 0) at->tv_sec += 60;
    return (int) result;
}
"#;

/// The same for a program that lives [`FASTER`] times as fast: it waits for the network so much less long.
const FAST: &str = r#"
#define _GNU_SOURCE
#include <stddef.h>
#include <time.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
#define FASTER 40
#define SECOND 1000000000LL
static long long began;
static long long now(clockid_t id, struct timespec *at) {
    syscall(SYS_clock_gettime, id, at);
    return at->tv_sec * SECOND + at->tv_nsec;
}
__attribute__((constructor)) static void begin(void) {
    struct timespec at;
    began = now(CLOCK_MONOTONIC, &at);
}
int clock_gettime(clockid_t id, struct timespec *at) {
    long long then = now(id, at);
    if (id == CLOCK_MONOTONIC) {
        then = began + FASTER * (then - began);
        at->tv_sec = then / SECOND;
        at->tv_nsec = then % SECOND;
    }
    return 0;
}
int epoll_wait(int file, struct epoll_event *events, int most, int ms) {
    if (ms > 0) ms = (ms + FASTER - 1) / FASTER;
    return syscall(SYS_epoll_pwait, file, events, most, ms, NULL, 8);
}
"#;
const FASTER: u32 = 40;

/// The library, if there is a C compiler and a loader that takes it.
#[expect(clippy::print_stderr, reason = "a test that does not run must say so")]
fn clock(bench: &Bench, source: &str) -> Option<PathBuf> {
    let (source, library) = (bench.workspace.write("clock.c", source), bench.file("clock.so"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
    let there = cfg!(target_os = "linux") && built.is_ok_and(|status| status.success());
    if !there {
        eprintln!("SKIPPED: there is no C compiler to build the clock with");
    }
    there.then_some(library)
}

#[test]
fn a_clock_that_jumps_bends_nothing() {
    let bench = Bench::new(school::lesson());
    let Some(library) = clock(&bench, JUMPING) else { return };
    let recipe = RECIPE.replace("concurrency = 4", "concurrency = 4\nrequests_per_minute = 100000");
    bench.recipe(&format!("{recipe}\n[budget]\nminutes = 10\n"));
    let run = bench.command(&["run", "recipe.toml"]).env("LD_PRELOAD", &library).spawn().unwrap();
    let run = ended(run);
    assert_eq!((run.code, bench.teacher.asked().len(), bench.repeats()), (Some(0), REQUESTS, 0), "{run:?}");

    let mut times = bench.call_times();
    assert_eq!(times.len(), REQUESTS);
    assert!(times.iter().all(|(_, latency)| (0..60_000).contains(latency)), "{times:?}");
    times.sort_unstable();
    assert!(times[REQUESTS - 1].0 - times[0].0 < 120_000, "all in one run: {times:?}");
    for (began, over) in bench.run_times() {
        assert!((0..120_000).contains(&(over - began)), "{began} to {over}");
    }
    // The lie itself was told, or nothing is shown.
    let (first, now) = (times[0].0, std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap());
    let off = (now.as_millis() as i64 - first).abs();
    assert!((80_000_000..90_000_000).contains(&off), "the clock did not jump: {off} ms");
}

/// Answers as the school does; with its answer of this number the minute is over.
fn until_answer(last: usize, over: &Path) -> Lesson {
    let (rule, over, answers) = (school::lesson().rule, over.to_owned(), std::sync::atomic::AtomicUsize::new(1));
    let rule = Box::new(move |asked: &Asked| {
        if answers.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == last {
            std::fs::write(&over, "").unwrap();
        }
        rule(asked)
    });
    Lesson { rule, ..school::lesson() }
}

#[test]
fn a_budget_of_minutes_stops_a_run_and_the_next_goes_on() {
    let folder = Workspace::new();
    let over = folder.file("over");
    let bench = Bench::new(until_answer(5, &over));
    let Some(library) = clock(&bench, LATER) else { return };
    // More than stand in line for a model that is asked one question at a time.
    const ROWS: usize = 40;
    let long = RECIPE.replace("rows = 12", &format!("rows = {ROWS}")).replace("concurrency = 4", "concurrency = 1");
    bench.recipe(&format!("{long}\n[budget]\nminutes = 1\n"));
    let run = bench.command(&["run", "recipe.toml"]).env("LD_PRELOAD", &library).env("DIVVY_TEST_LATER", &over).spawn();
    let run = ended(run.unwrap());
    // One at a time, so that nothing else was on its way; who stood in line then is not sent.
    let asked = bench.teacher.asked().len();
    assert_eq!(asked, 5, "{run:?}");
    let left = format!("collect: {} items are left", ROWS - asked);
    run.complains(
        3,
        &["the budget of 1 minutes is used up", "[budget] minutes", "everything finished so far is kept", &left],
    );
    assert_eq!((bench.kept(), bench.repeats()), (asked, 0));

    bench.done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (REQUESTS + 2 * (ROWS - TRAIN), 0));
}

/// Two were in flight at the kill. The next command's first answer comes when one more is all that the minute has room for, and
/// ends its time.
#[test]
fn what_a_killed_command_had_in_flight_is_in_the_next_ones_minute() {
    let folder = Workspace::new();
    let over = folder.file("over");
    let script = vec![Step::fault(Fault::Hang); 2];
    let bench = Bench::new(Lesson { script, ..until_answer(1, &over) });
    let Some(library) = clock(&bench, LATER) else { return };
    bench.recipe(&RECIPE.replace("concurrency = 4", "concurrency = 2"));
    let mut killed = bench.run_until(2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let three = RECIPE.replace("concurrency = 4", "concurrency = 4\nrequests_per_minute = 3");
    bench.recipe(&format!("{three}\n[budget]\nminutes = 1\n"));
    let next =
        bench.command(&["run", "recipe.toml"]).env("LD_PRELOAD", &library).env("DIVVY_TEST_LATER", &over).spawn();
    let next = ended(next.unwrap());
    next.complains(3, &["the budget of 1 minutes is used up"]);
    assert_eq!((bench.spending().lost.calls, bench.teacher.asked().len()), (2, 3), "{next:?}");
}

/// Five requests a minute, which neither the recipe nor the endpoint says: whoever asks more often is refused, and no more.
#[test]
fn a_quota_that_nobody_states_is_waited_for_and_nothing_is_lost() {
    let bench = Bench::new(Lesson { quota: Some((5, Duration::from_mins(1) / FASTER)), ..school::lesson() });
    let Some(library) = clock(&bench, FAST) else { return };
    bench.recipe(RECIPE);
    let run = ended(bench.command(&["collect", "recipe.toml"]).env("LD_PRELOAD", &library).spawn().unwrap());
    assert_eq!((run.code, bench.teacher.answered(), bench.committed().len()), (Some(0), TRAIN, TRAIN), "{run:?}");
    assert!(
        run.stderr.contains("does not say for how long") && run.stderr.contains("`requests_per_minute`"),
        "{run:?}"
    );
    let refused = bench.teacher.asked().len() - TRAIN;
    assert!(refused > 6, "nobody had to wait: {refused} refused");
}
