//! A cap on calls stops a command with a code of its own, and the next command goes on from there.

use crate::{
    bench::Bench,
    school::{self, RECIPE, REQUESTS},
};

#[test]
fn a_run_stops_at_its_budget_and_goes_on_with_the_next() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&format!("{RECIPE}\n[budget]\ncalls = 5\n"));
    for runs in 1..=2 {
        bench
            .run(&["run", "recipe.toml"])
            .complains(3, &["budget", "5 calls (of 5)", "everything finished so far is kept"]);
        assert_eq!(bench.teacher.asked().len(), 5 * runs);
    }
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (REQUESTS, 0));
}

#[test]
fn a_budget_of_tokens_that_no_call_fits_asks_nobody() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&format!("{RECIPE}\n[budget]\ntokens = 10\n"));
    bench.run(&["run", "recipe.toml"]).complains(3, &["[budget]"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}
