//! Many requests in one file: a run in batches comes to what a run online comes to, whatever a batch does to its rows.

use divvy_testkit::teacher::{Bureau, Door, Fate, Lesson, Mishap, RowFate};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, RECIPE, REQUESTS, TEST, TRAIN, bureau, in_batches},
};

fn correct(bench: &Bench) -> Vec<Value> {
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    report["arms"].as_array().unwrap().iter().map(|arm| arm["correct"].clone()).collect()
}

/// Who is right depends on nothing but the questions.
fn as_online() -> [Value; 3] {
    [json!(TEST / 2), json!(TEST), json!(TEST)]
}

#[test]
fn a_whole_run_is_a_batch_a_turn_and_costs_nothing_again_in_any_mode() {
    let bench = Bench::new(bureau(Bureau::default()));
    bench.recipe(&in_batches("")).done(&["run", "recipe.toml"]);
    assert_eq!(bench.batches(), [TRAIN, TRAIN, 3 * TEST, TEST], "collect, screen, first turns, solving");
    assert_eq!(correct(&bench), as_online());
    let handed_in = bench.teacher.handed_in();
    assert!(handed_in.iter().all(|batch| batch.metadata["divvy"].is_string() && batch.window == "24h"));
    let call: Value = serde_json::from_str(&bench.done(&["calls", "--last", "1", "--json"]).stdout).unwrap();
    let endpoint = call["endpoint"].as_str().unwrap();
    assert!(endpoint.ends_with("/v1/batches") && call["raw_reply"].as_str().unwrap().contains("custom_id"), "{call}");
    for again in [in_batches(""), RECIPE.to_owned()] {
        bench.recipe(&again).done(&["run", "recipe.toml"]);
        assert_eq!((bench.batches().len(), bench.teacher.asked().len()), (4, 0));
    }
}

#[test]
fn what_was_asked_online_is_in_no_batch() {
    let bench = Bench::new(bureau(Bureau::default()));
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    bench.recipe(&in_batches("")).done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.uploads(), bench.teacher.asked().len()), (0, REQUESTS));
}

#[test]
fn rows_that_expire_are_handed_in_again_and_those_that_came_are_kept() {
    let fates = vec![Fate::Expire { answered: 7 }];
    let bench = Bench::new(bureau(Bureau { fates, ..Bureau::default() }));
    let ended = bench.recipe(&in_batches("")).done(&["collect", "recipe.toml"]);
    let batches = bench.batches();
    // One batch again, or on a busy machine more: what is late for one comes in the next.
    assert_eq!((batches[0], batches[1..].iter().sum::<usize>()), (TRAIN, TRAIN - 7), "{batches:?}");
    assert_eq!(bench.teacher.asked().len(), 0);
    assert!(ended.stderr.contains("batch batch_1 is expired: 7 rows answered"), "{}", ended.stderr);
    assert!(bench.attempts().contains(&("ok".to_owned(), TRAIN as u64)), "{:?}", bench.attempts());
}

/// Whether it says so of each row or of the file, the next file says it in the endpoint's word.
#[test]
fn an_endpoint_that_calls_the_limit_otherwise_is_told_in_its_own_word() {
    const WANTS: &str = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
    let row = |_: &divvy_testkit::teacher::Asked, batch: usize| match batch {
        1 => RowFate::Status(400, WANTS.to_owned()),
        _ => RowFate::Answered,
    };
    let of_rows = Bureau { row: Box::new(row), ..Bureau::default() };
    let refused = Fate::Refuse { code: "invalid_request".to_owned(), message: WANTS.to_owned() };
    for bureau_ in [of_rows, Bureau { fates: vec![refused], ..Bureau::default() }] {
        let bench = Bench::new(bureau(bureau_));
        bench.recipe(&in_batches("")).done(&["collect", "recipe.toml"]);
        assert_eq!((bench.batches(), bench.committed().len()), (vec![TRAIN, TRAIN], TRAIN));
        let handed_in = bench.teacher.handed_in();
        let words = |batch: usize| {
            let all = handed_in[batch].asked.iter();
            all.map(|asked| ["max_tokens", "max_completion_tokens"].map(|word| !asked.body[word].is_null()))
        };
        assert!(words(0).all(|says| says == [true, false]) && words(1).all(|says| says == [false, true]));
    }
}

#[test]
fn each_row_is_treated_like_a_request_of_its_own() {
    let row = |number: usize| number;
    let fate = move |asked: &divvy_testkit::teacher::Asked, batch: usize| {
        let question = school::questions().iter().position(|q| asked.last().contains(&q.text));
        match (question.map(row), batch) {
            (Some(0), 1) => RowFate::Status(429, "slower".to_owned()),
            (Some(1), _) => RowFate::Status(400, "I will not hear that.".to_owned()),
            (Some(2), 1) => RowFate::Missing,
            (Some(3), 1) => RowFate::Torn,
            (Some(4), 1) => RowFate::Twice,
            _ => RowFate::Answered,
        }
    };
    let bench = Bench::new(bureau(Bureau { row: Box::new(fate), ..Bureau::default() }));
    let ended = bench.recipe(&in_batches("")).done(&["collect", "recipe.toml"]);
    assert_eq!(bench.batches()[0], TRAIN);
    assert_eq!(
        bench.batches()[1..].iter().sum::<usize>(),
        3,
        "refused for now, missing and torn: {:?}",
        bench.batches()
    );
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let states = json!({"done": TRAIN - 1, "failed: bad-request": 1, "pending": 0});
    assert_eq!(status["stages"][0]["states"], states, "{status}");
    let ignored = "has lines to ignore: 2 that cannot be read, 1 that we did not ask for, 1 that came twice";
    assert!(ended.stderr.contains(ignored), "{}", ended.stderr);
    let attempts = bench.attempts();
    for outcome in ["rate-limited", "bad-request"] {
        assert!(attempts.contains(&(outcome.to_owned(), 1)), "{outcome}: {attempts:?}");
    }
}

/// Online, so many refusals in a row end a stage; rows of a batch come back together, and the others are worth having.
#[test]
fn many_rows_that_fail_together_do_not_end_a_stage() {
    let fate = |asked: &divvy_testkit::teacher::Asked, _| match asked.last().len() % 5 {
        0 => RowFate::Answered,
        _ => RowFate::Status(400, "no".to_owned()),
    };
    let bench = Bench::new(bureau(Bureau { row: Box::new(fate), ..Bureau::default() }));
    bench.recipe(&in_batches("").replace("rows = 12", "rows = 150")).done(&["collect", "recipe.toml"]);
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let failed = status["stages"][0]["states"]["failed: bad-request"].as_u64().unwrap();
    assert!((65..150).contains(&failed), "{status}");
}

#[test]
fn mishaps_on_the_way_are_waited_out_and_nothing_is_handed_in_twice() {
    let mishaps = vec![
        (Door::Upload, Mishap::Status(503, None)),
        (Door::Create, Mishap::Status(429, Some(0.05))),
        (Door::Create, Mishap::Lost(502)),
        (Door::List, Mishap::Status(500, None)),
        (Door::Look, Mishap::Status(503, None)),
        (Door::Look, Mishap::Cut),
        (Door::Content, Mishap::Status(500, None)),
        (Door::Content, Mishap::Cut),
    ];
    let bench = Bench::new(bureau(Bureau { mishaps, ..Bureau::default() }));
    bench.recipe(&in_batches("")).done(&["collect", "recipe.toml"]);
    assert_eq!((bench.batches(), bench.committed().len()), (vec![TRAIN], TRAIN));
}

/// The batch came to be though its creation is answered with an error, and nothing in the list has our name.
#[test]
fn without_metadata_a_batch_is_known_by_its_file() {
    let mishaps = vec![(Door::Create, Mishap::Lost(502))];
    let bench = Bench::new(bureau(Bureau { mishaps, nameless: true, ..Bureau::default() }));
    bench.recipe(&in_batches("")).done(&["collect", "recipe.toml"]);
    assert_eq!((bench.batches(), bench.committed().len()), (vec![TRAIN], TRAIN));
}

#[test]
fn an_endpoint_without_batches_is_named_with_the_way_out() {
    let bench = Bench::new(school::lesson());
    let ended = bench.recipe(&in_batches("")).run(&["run", "recipe.toml"]);
    ended.complains(1, &["POST …/files", "HTTP 404", "is there a Batch API?", "mode = \"batch\"", "[models.NAME]"]);
    assert!(!ended.stderr.contains("check `model`"), "{}", ended.stderr);
}

#[test]
fn a_key_that_is_refused_stops_the_run() {
    let bench = Bench::new(Lesson { api_key: Some("another".to_owned()), ..bureau(Bureau::default()) });
    bench.recipe(&in_batches("")).run(&["run", "recipe.toml"]).complains(1, &["HTTP 401", "api_key_env"]);
}

#[test]
fn a_batch_that_is_refused_says_why_and_stays_on_no_list() {
    let refusal = |code: &str| Fate::Refuse { code: code.to_owned(), message: "The body of line 3 is odd.".to_owned() };
    let bench = Bench::new(bureau(Bureau { fates: vec![refusal("invalid_request")], ..Bureau::default() }));
    let ended = bench.recipe(&in_batches("")).run(&["run", "recipe.toml"]);
    ended.complains(1, &["collect: the endpoint refused batch batch_1: The body of line 3 is odd"]);
    assert_eq!(bench.json(&["status", "recipe.toml", "--json"])["batches"], json!([]));
    bench.done(&["collect", "recipe.toml"]);
    assert_eq!(bench.batches(), [TRAIN, TRAIN], "a refused batch has answered nothing");
}

#[test]
fn a_question_that_somebody_waits_for_is_asked_online() {
    let bench = Bench::new(bureau(Bureau::default()));
    bench.recipe(&in_batches(""));
    bench.done(&["ask", "How many are 40 and 2?", "--recipe", "recipe.toml", "--arm", "cot/big"]);
    assert_eq!((bench.teacher.uploads(), bench.teacher.asked().len()), (0, 1));
}
