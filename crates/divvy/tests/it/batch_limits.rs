//! Batches and their limits: rows, bytes and tokens of a file, money, time.

use divvy_testkit::{
    script::Step,
    teacher::{Bureau, Door, Fate, Lesson, Mishap},
};

use crate::{
    bench::Bench,
    school::{RECIPE, TRAIN, bureau, in_batches},
};

#[test]
fn more_rows_than_a_batch_takes_are_several_batches() {
    let bench = Bench::new(bureau(Bureau::default()));
    bench.recipe(&in_batches(", rows = 5")).done(&["collect", "recipe.toml"]);
    assert_eq!(bench.batches(), [5, 5, 2]);
}

#[test]
fn no_file_is_longer_than_it_may_be() {
    let bench = Bench::new(bureau(Bureau::default()));
    bench.recipe(&in_batches(", bytes = 4000")).done(&["collect", "recipe.toml"]);
    let bytes: Vec<usize> = bench.teacher.handed_in().iter().map(|batch| batch.bytes).collect();
    assert!(bytes.len() > 1 && bytes.iter().all(|bytes| (1000..=4000).contains(bytes)), "{bytes:?}");
    assert_eq!(bench.batches().iter().sum::<usize>(), TRAIN);
}

/// A refused batch has cost nothing; smaller ones follow, none of which the endpoint's queue is too short for.
#[test]
fn a_queue_that_is_too_short_is_learnt_from_the_refusal() {
    let code = "token_limit_exceeded".to_owned();
    for message in
        ["Enqueued token limit reached. Limit: 900 enqueued tokens. Try again later.", "Too many tokens wait."]
    {
        let fates = vec![Fate::Refuse { code: code.clone(), message: message.to_owned() }];
        let bench = Bench::new(bureau(Bureau { fates, ..Bureau::default() }));
        let ended = bench.recipe(&in_batches("")).done(&["collect", "recipe.toml"]);
        let batches = bench.batches();
        assert!(batches[0] == TRAIN && batches.len() > 2, "{batches:?}");
        assert_eq!(batches[1..].iter().sum::<usize>(), TRAIN, "{batches:?}");
        assert!(ended.stderr.contains("smaller batches follow"), "{}", ended.stderr);
    }
}

#[test]
fn at_the_deadline_the_rest_is_asked_online() {
    let fates = vec![Fate::Hold { answered: 5 }];
    let bench = Bench::new(bureau(Bureau { fates, ..Bureau::default() }));
    let ended = bench.recipe(&in_batches(", deadline_hours = 0.0002")).done(&["collect", "recipe.toml"]);
    assert_eq!((bench.batches(), bench.teacher.asked().len()), (vec![TRAIN], TRAIN - 5));
    assert_eq!((bench.teacher.handed_in()[0].status, bench.committed().len()), ("cancelled", TRAIN));
    assert!(ended.stderr.contains("is not back at its deadline and is cancelled"), "{}", ended.stderr);
}

/// A row that is asked online and has to be asked again is in no further batch.
#[test]
fn what_is_asked_online_after_its_deadline_stays_online() {
    let bureau = Bureau { fates: vec![Fate::Hold { answered: 5 }], ..Bureau::default() };
    let script = vec![Step::status(503); 3];
    let bench = Bench::new(Lesson { script, ..self::bureau(bureau) });
    bench.recipe(&in_batches(", deadline_hours = 0.0002")).done(&["collect", "recipe.toml"]);
    assert_eq!((bench.batches(), bench.committed().len()), (vec![TRAIN], TRAIN));
    assert_eq!(bench.teacher.asked().len(), TRAIN - 5 + 3);
}

/// It may answer them all, and charges for what it answers.
#[test]
fn rows_of_a_batch_that_is_not_cancelled_are_asked_nowhere_else() {
    let mishaps = vec![(Door::Cancel, Mishap::Status(503, None)); 3];
    let fates = vec![Fate::Hold { answered: 5 }];
    let bench = Bench::new(bureau(Bureau { fates, mishaps, ..Bureau::default() }));
    bench.recipe(&in_batches(", deadline_hours = 0.0002")).done(&["collect", "recipe.toml"]);
    assert_eq!((bench.batches(), bench.teacher.asked().len()), (vec![TRAIN], TRAIN - 5));
    assert_eq!(
        (bench.teacher.mishaps_left(), bench.teacher.handed_in()[0].status),
        (0, "cancelled"),
        "asked until it was"
    );
}

/// Its own limit, not the others' that wait: it would be refused for ever.
#[test]
fn a_row_that_no_queue_has_room_for_fails_alone() {
    let refuse = |message: &str| Fate::Refuse { code: "token_limit_exceeded".to_owned(), message: message.to_owned() };
    let fates = vec![refuse("Too many tokens wait."); 16];
    let bench = Bench::new(bureau(Bureau { fates, ..Bureau::default() }));
    let hurried = "poll_seconds = 0.0001, gather_seconds = 0.001";
    let alone = in_batches(", rows = 1, at_once = 1").replace("poll_seconds = 0.01, gather_seconds = 0.5", hurried);
    bench.recipe(&alone).done(&["collect", "recipe.toml"]);
    let failed = bench.attempts().into_iter().find(|(outcome, _)| outcome == "bad-request");
    assert_eq!((failed, bench.committed().len()), (Some(("bad-request".to_owned(), 1)), TRAIN - 1));
}

#[test]
fn at_the_deadline_the_rest_is_handed_in_again_where_the_recipe_says_so() {
    let fates = vec![Fate::Hold { answered: 5 }];
    let bench = Bench::new(bureau(Bureau { fates, ..Bureau::default() }));
    let again = in_batches(", deadline_hours = 0.0015, fallback = \"resubmit\"");
    bench.recipe(&again).done(&["collect", "recipe.toml"]);
    assert_eq!((bench.batches(), bench.teacher.asked().len()), (vec![TRAIN, TRAIN - 5], 0));
}

#[test]
fn a_budget_holds_for_every_row_that_is_out() {
    let bench = Bench::new(bureau(Bureau::default()));
    for (cap, batches) in [(5, &[5][..]), (5, &[5]), (10, &[5, 5])] {
        bench.recipe(&format!("{}\n[budget]\ncalls = {cap}\n", in_batches("")));
        let told = format!("{cap} calls (of {cap})");
        bench.run(&["collect", "recipe.toml"]).complains(3, &["budget", &told]);
        assert_eq!(bench.batches(), batches);
    }
    bench.recipe(&in_batches("")).done(&["collect", "recipe.toml"]);
    assert_eq!(bench.batches(), [5, 5, 2]);
}

fn priced(recipe: &str) -> String {
    let price = "price = { input = \"10\", output = \"100\", batch_discount = \"0.25\" }";
    recipe.replace("concurrency = 4", &format!("concurrency = 4\n{price}"))
}

fn paid(bench: &Bench) -> i64 {
    bench.json(&["status", "recipe.toml", "--json"])["calls"][0]["cost_nanos"].as_i64().unwrap()
}

#[test]
fn a_row_costs_less_by_the_discount() {
    let [online, batch] = [RECIPE.to_owned(), in_batches("")].map(|recipe| {
        let bench = Bench::new(bureau(Bureau::default()));
        bench.recipe(&priced(&recipe)).done(&["collect", "recipe.toml"]);
        paid(&bench)
    });
    assert_eq!(4 * batch, 3 * online);
}

#[test]
fn a_budget_in_dollars_is_settled_with_the_discount() {
    let bench = Bench::new(bureau(Bureau::default()));
    bench.recipe(&format!("{}\n[budget]\ndollars = \"0.06\"\n", priced(&in_batches(""))));
    bench.run(&["run", "recipe.toml"]).complains(3, &["budget", "(of $0.0600)"]);
    let paid = paid(&bench);
    assert!(0 < paid && paid <= 60_000_000, "{paid}");
}

#[test]
fn a_dry_run_tells_the_price_in_batches() {
    let bench = Bench::new(bureau(Bureau::default()));
    let dollars = |recipe: &str| {
        let told = bench.recipe(&priced(recipe)).done(&["run", "recipe.toml", "--dry-run"]).stderr;
        let line = told.lines().find(|line| line.starts_with("collect")).unwrap().to_owned();
        line.rsplit('$').next().unwrap().parse::<f64>().unwrap()
    };
    let (online, batch) = (dollars(RECIPE), dollars(&in_batches("")));
    assert!((batch / online - 0.75).abs() < 0.01, "{batch} of {online}");
}
