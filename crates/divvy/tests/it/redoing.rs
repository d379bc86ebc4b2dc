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
