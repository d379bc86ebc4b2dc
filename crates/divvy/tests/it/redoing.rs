//! `divvy redo`: what it puts back is asked anew, once; the old replies stay.

use divvy_testkit::script::{Fault, Step};
use divvy_testkit::teacher::Lesson;

use crate::{
    bench::{Bench, calls_of_stages},
    school::{self, RECIPE, REQUESTS, TRAIN},
};

#[test]
fn what_is_put_back_is_asked_anew_and_screened_anew() {
    let bench = Bench::new(Lesson { script: vec![Step::fault(Fault::Truncated); 3], ..school::lesson() });
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS - 3, "three decompositions were cut off and not screened");
    let redo = |conditions: &[&str]| {
        let flags = conditions.iter().flat_map(|condition| ["--where", condition]);
        bench.done(&["redo", "recipe.toml"].into_iter().chain(flags).collect::<Vec<_>>())
    };
    assert!(redo(&["reason=truncated"]).stderr.contains("collect: 3 items put back"));
    bench.done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (REQUESTS + 3, 3), "each of them once, and screened");
    assert_eq!(bench.committed().len(), REQUESTS + 3, "the old replies are kept");
    assert!(redo(&["reason=truncated"]).stderr.contains("nothing is like that"));

    let again = redo(&["stage=collect", "state=done"]);
    assert!(again.stderr.contains(&format!("screen: {TRAIN} items put back")), "{again:?}");
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS + 3 + 2 * TRAIN);
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS + 3 + 2 * TRAIN, "and no more");
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    assert_eq!(calls_of_stages(&status), REQUESTS + 3 + 2 * TRAIN, "what was replaced was paid for");
    assert_eq!(status["spending"]["spent"]["calls"], REQUESTS + 3 + 2 * TRAIN);
}

/// The plan stays as it is: nobody else is asked again.
#[test]
fn what_was_cut_off_is_given_more_room() {
    let bench = Bench::new(Lesson { script: vec![Step::fault(Fault::Truncated); 3], ..school::lesson() });
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    bench
        .run(&["redo", "recipe.toml", "--where", "reason=truncated", "--max-tokens", "0"])
        .complains(2, &["--max-tokens"]);
    let told = bench.done(&["redo", "recipe.toml", "--where", "reason=truncated", "--max-tokens", "777"]).stderr;
    assert!(told.contains("collect: 3 items put back") && !told.contains("temperature 0"), "{told}");
    let before = bench.teacher.asked().len();
    bench.done(&["run", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let roomy = asked[before..].iter().filter(|asked| asked.body["max_tokens"] == 777).count();
    assert_eq!((roomy, asked.len()), (3, before + 6), "these with more room, and their screening as ever");
    assert_eq!(bench.stage("collect")["states"], serde_json::json!({ "done": TRAIN, "pending": 0 }));

    // A screening that follows another collection keeps the room that it was given before.
    bench.done(&["redo", "recipe.toml", "--where", "stage=screen", "--max-tokens", "999"]);
    bench.done(&["screen", "recipe.toml"]);
    bench.done(&["redo", "recipe.toml", "--where", "stage=collect"]);
    bench.done(&["screen", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let roomy = asked.iter().filter(|asked| asked.body["max_tokens"] == 999).count();
    assert_eq!(roomy, 2 * TRAIN, "{} were asked", asked.len());
}

#[test]
fn a_condition_that_makes_no_sense_is_refused() {
    let bench = Bench::idle();
    bench.recipe(RECIPE);
    for (condition, words) in [
        ("truncated", "written key=value"),
        ("why=truncated", "known keys are reason, stage, state and question"),
        ("state=lost", "a state is done, failed or rejected"),
        ("stage=evaluate", "an answer that was measured stays"),
    ] {
        bench.run(&["redo", "recipe.toml", "--where", condition]).complains(2, &["--where", words]);
    }
}
