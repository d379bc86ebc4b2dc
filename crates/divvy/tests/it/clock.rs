//! A run on a machine whose clock jumps by a day, forth and back, whenever it is read: no wait, cap, rate, latency or
//! record follows it.

use std::{path::PathBuf, process::Command};

use crate::{
    bench::{Bench, ended},
    school::{self, RECIPE, REQUESTS},
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

/// The library, if there is a C compiler and a loader that takes it.
fn jumping_clock(bench: &Bench) -> Option<PathBuf> {
    let (source, library) = (bench.workspace.write("clock.c", JUMPING), bench.file("clock.so"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
    (cfg!(target_os = "linux") && built.is_ok_and(|status| status.success())).then_some(library)
}

#[test]
fn a_clock_that_jumps_bends_nothing() {
    let bench = Bench::new(school::lesson());
    let Some(library) = jumping_clock(&bench) else {
        eprintln!("SKIPPED: there is no C compiler to build the clock with");
        return;
    };
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
