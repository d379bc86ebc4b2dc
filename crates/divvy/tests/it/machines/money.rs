//! One budget for several workers: what each of them spends is on the plan's account, however it ended.

use std::time::Duration;

use divvy_testkit::{
    script::{Fault, Step},
    teacher::Lesson,
};

use super::{DATABASE, Machines, TRAIN_ROWS, long, signal};
use crate::{
    bench::{ended, interrupt},
    school::{self, RECIPE},
};

#[test]
fn a_budget_in_dollars_holds_for_all_workers_together() {
    let Some(machines) = Machines::slow() else { return };
    let priced = long().replace("concurrency = 4", "concurrency = 4\nprice = { input = \"10\", output = \"100\" }");
    machines.bench.recipe(&format!("{priced}\n[budget]\ndollars = \"0.4\"\n"));
    for worker in machines.workers() {
        ended(worker).complains(3, &["budget", "(of $0.4000)", "everything finished so far is kept"]);
    }
    let spent: i64 = machines.server.query(DATABASE, "SELECT sum(price_nanos) FROM divvy.call").parse().unwrap();
    let booked = machines.server.query(DATABASE, "SELECT calls, nanos, held_calls, held_nanos FROM divvy.account");
    assert_eq!(booked, format!("{}|{spent}|0|0", machines.count("call")));
    // What is left is less than the most that a call may cost.
    assert!((280_000_000..=400_000_000).contains(&spent), "{spent}");
    assert_eq!((machines.heard(), machines.bench.repeats()), (machines.count("call"), 0));
    // The cap is the plan's, not the command's: another worker has nothing more to spend.
    machines.run(&["eval", "recipe.toml"]).complains(3, &["(of $0.4000)"]);
    assert_eq!(machines.heard(), machines.count("call"));
    machines.bench.recipe(&format!("{priced}\n[budget]\ndollars = \"40\"\n"));
    machines.done(&["eval", "recipe.toml"]);
    machines.assert_finished();
    assert_eq!(machines.bench.repeats(), 0);
}

/// Two wait for a reply when it comes to Ctrl-C, and those behind them for their turn.
#[test]
fn what_was_interrupted_is_booked_as_far_as_it_was_sent() {
    let script = vec![Step::fault(Fault::Hang); 2];
    let Some(machines) = Machines::new(Lesson { script, ..school::lesson() }) else { return };
    let slow = RECIPE.replace("concurrency = 4", "concurrency = 4\nrequests_per_minute = 2");
    machines.bench.recipe(&format!("{slow}\n[budget]\ncalls = 60\n"));
    let mut worker = machines.command(&["collect", "recipe.toml"]).spawn().unwrap();
    machines.until(&mut worker, 2);
    // They are waited for until the second one.
    interrupt(&worker);
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&worker);
    ended(worker).complains(130, &["interrupted"]);
    assert_eq!(machines.server.query(DATABASE, "SELECT calls, held_calls FROM divvy.account"), "2|0");
}

#[test]
fn what_others_finished_is_not_left_when_the_budget_ends() {
    let Some(machines) = Machines::slow() else { return };
    machines.bench.recipe(&format!("{}\n[budget]\ncalls = 60\n", long()));
    let workers = [(); 3].map(|()| machines.command(&["collect", "recipe.toml"]).spawn().unwrap());
    let left = workers.map(|worker| {
        let ended = ended(worker);
        ended.complains(3, &["budget", "items are left"]);
        let told = ended.stderr.split("collect: ").filter_map(|told| told.split_once(" items are left"));
        told.last().and_then(|(items, _)| items.parse::<usize>().ok()).unwrap_or_else(|| panic!("{ended:?}"))
    });
    let asked = machines.count("item");
    let done = machines.count("item WHERE state = 'done'");
    assert!(done > 0 && done < TRAIN_ROWS, "{done} of {asked}");
    // Who ends last knows of everybody's.
    assert_eq!(left.into_iter().min(), Some(TRAIN_ROWS - done), "{left:?}");
}

#[test]
fn an_estimate_gives_back_what_it_did_not_spend() {
    let Some(machines) = Machines::new(school::lesson()) else { return };
    // Just enough for the whole run: 12 training and 8 test questions.
    machines.bench.recipe(&format!("{RECIPE}\n[budget]\ncalls = {}\n", 2 * 12 + 4 * 8));
    machines.done(&["run", "recipe.toml", "--estimate=2"]);
    machines.done(&["run", "recipe.toml"]);
}

/// It stood still for longer than its lease, and others asked again. Nobody died, so that nothing may count as lost.
#[test]
fn a_reply_that_comes_late_is_charged() {
    let Some(machines) = Machines::slow() else { return };
    machines.bench.recipe(&format!("{}\n[budget]\ncalls = 100000\n", long()));
    let [mut paused, steady] = [(); 2].map(|()| machines.command(&["collect", "recipe.toml"]).spawn().unwrap());
    machines.until(&mut paused, 30);
    let in_flight = format!("SELECT id FROM divvy.worker WHERE name = 'process {}'", paused.id());
    let in_flight = format!("flight WHERE worker = ({in_flight})");
    signal(&paused, "-STOP");
    while machines.count(&in_flight) == 0 {
        signal(&paused, "-CONT");
        signal(&paused, "-STOP");
    }
    let steady = ended(steady);
    assert_eq!(steady.code, Some(0), "{steady:?}");
    signal(&paused, "-CONT");
    let paused = ended(paused);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    assert!(machines.bench.repeats() > 0, "nothing was late");
    let spending = machines.status()["spending"].clone();
    let calls = |of: &str| spending[of]["calls"].as_u64().unwrap() as usize;
    assert_eq!(calls("lost"), 0, "{spending}");
    assert!(calls("spent") >= machines.heard(), "{} heard, {spending}", machines.heard());
}
