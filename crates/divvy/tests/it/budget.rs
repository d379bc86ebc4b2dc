//! A cap on calls stops a command with a code of its own, and the next command goes on from there.

use divvy_testkit::{
    script::{Fault, Step},
    teacher::Lesson,
};
use serde_json::json;

use crate::{
    bench::Bench,
    school::{self, CONCURRENCY, RECIPE, REQUESTS, TRAIN},
};

#[test]
fn a_run_stops_at_its_budget_and_goes_on_when_it_is_raised() {
    let bench = Bench::new(school::lesson());
    let mut asked = 0;
    // The same cap twice: what a command has spent is spent for the plan, whoever runs it again.
    for cap in [5, 5, 9] {
        asked = asked.max(cap);
        bench.recipe(&format!("{RECIPE}\n[budget]\ncalls = {cap}\n"));
        let (left, told) = (format!("collect: {} items are left", TRAIN - asked), format!("{cap} calls (of {cap})"));
        bench
            .run(&["run", "recipe.toml"])
            .complains(3, &["budget", &told, "everything finished so far is kept", &left, "raise [budget]"]);
        assert_eq!(bench.teacher.asked().len(), asked);
    }
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (REQUESTS, 0));
}

#[test]
fn a_report_of_what_a_budget_ended_says_what_is_still_to_come() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&format!("{RECIPE}\n[budget]\ncalls = {}\n", 2 * TRAIN + 10));
    bench.run(&["run", "recipe.toml"]).complains(3, &["budget"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let sum = |key: &str| report["arms"].as_array().unwrap().iter().map(|arm| arm[key].as_u64().unwrap()).sum::<u64>();
    let (pending, all) = (sum("pending"), sum("n"));
    assert!(0 < pending && pending < all && sum("errors") == 0, "{report}");
    let headline = format!("No verdict yet: {pending} of {all} answers are still to come.");
    assert_eq!((&report["verdict"]["answer"], &report["verdict"]["headline"]), (&json!("withheld"), &json!(headline)));
    let told = bench.done(&["report", "recipe.toml"]).stdout;
    assert!(told.contains("Still to come") && !told.contains("outside the models"), "{told}");
}

/// What was in flight may be on the bill: it is as good as spent.
#[test]
fn a_kill_does_not_make_room_in_the_budget() {
    const CAP: usize = 10;
    let bench = Bench::new(Lesson { latency: std::time::Duration::from_millis(25), ..school::lesson() });
    bench.recipe(&format!("{RECIPE}\n[budget]\ncalls = {CAP}\n"));
    for place in [2, 6] {
        let mut child = bench.run_until(place);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let spending = bench.spending();
    let (spent, lost) = (spending.spent.calls as usize, spending.lost.calls as usize);
    assert!(spent + lost >= bench.teacher.asked().len() && lost <= 2 * CONCURRENCY, "{spending:?}");
    let status = bench.done(&["status", "recipe.toml"]).stdout;
    assert!(status.contains(&format!("spent for this plan: {spent} of {CAP} calls")), "{status}");
    let told = format!("{lost} calls that were in flight when a process died");
    let ended = bench.run(&["run", "recipe.toml"]);
    ended.complains(3, &["budget", if lost > 0 { &told } else { "(of 10)" }]);
    assert!(bench.teacher.asked().len() <= CAP, "{} of {CAP}: {ended:?}", bench.teacher.asked().len());
}

#[test]
fn a_budget_of_tokens_that_no_call_fits_asks_nobody() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&format!("{RECIPE}\n[budget]\ntokens = 10\n"));
    bench.run(&["run", "recipe.toml"]).complains(3, &["[budget]"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

/// An endpoint charges for an empty completion, and for every try that follows one.
#[test]
fn tries_that_came_to_nothing_are_counted() {
    let script = vec![Step::fault(Fault::Empty); 3];
    let bench = Bench::new(Lesson { script, ..school::lesson() });
    bench.recipe(&format!("{RECIPE}\n[budget]\ncalls = 5\n"));
    bench.run(&["run", "recipe.toml"]).complains(3, &["5 calls (of 5)"]);
    assert_eq!(bench.teacher.asked().len(), 5);
}

#[test]
fn a_budget_in_dollars_is_never_exceeded() {
    let bench = Bench::new(school::lesson());
    let priced = RECIPE.replace("concurrency = 4", "concurrency = 4\nprice = { input = \"10\", output = \"100\" }");
    bench.recipe(&format!("{priced}\n[budget]\ndollars = \"0.12\"\n"));
    let ended = bench.run(&["run", "recipe.toml"]);
    ended.complains(3, &["budget", "(of $0.1200)", "everything finished so far is kept"]);
    let asked = bench.teacher.asked().len();
    assert!(0 < asked && asked < REQUESTS, "{asked}");
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let spent = status["calls"][0]["cost_nanos"].as_i64().unwrap();
    assert!(0 < spent && spent <= 120_000_000, "{status}");
    bench.recipe(&priced).done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (REQUESTS, 0));
}

#[test]
fn a_budget_in_dollars_knows_the_list_prices_of_known_endpoints() {
    let bench = Bench::idle();
    let at = |url: &str, model: &str, price: &str| {
        let recipe = RECIPE.replace("URL", url).replace("\"teacher\"\n", &format!("{model:?}\n{price}"));
        bench.recipe(&format!("{recipe}\n[budget]\ndollars = \"5\"\n")).run(&["run", "recipe.toml", "--dry-run"])
    };
    let listed = at("https://api.openai.com/v1", "gpt-4o-mini", "").stderr;
    let told = "big: $0.15 in and $0.6 out for a million tokens by the list in divvy (LiteLLM";
    assert!(listed.contains(told) && !listed.contains('–'), "{listed}");
    let own = at("https://api.openai.com/v1", "gpt-4o-mini", "price = { input = \"1\", output = \"2\" }\n");
    assert!(own.code == Some(0) && !own.stderr.contains("LiteLLM"), "{own:?}");
    at("http://127.0.0.1:9/v1", "gpt-4o-mini", "").complains(2, &["models.big.price", "none is listed"]);
}

/// A limit that the run fits into changes nothing but is asked; the limiter's own tests have the clock. The endpoint's minute is
/// one for all commands.
#[test]
fn a_rate_holds_requests_back_in_this_command_and_the_next() {
    let bench = Bench::new(school::lesson());
    let slow = RECIPE.replace("concurrency = 4", "concurrency = 4\nrequests_per_minute = 3");
    bench.recipe(&slow);
    for _ in 0..2 {
        let mut child = bench.command(&["collect", "recipe.toml"]).spawn().unwrap();
        crate::bench::wait_for(&mut child, || bench.teacher.asked().len() >= 3);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert_eq!(bench.teacher.asked().len(), 3);
        crate::bench::interrupt(&child);
        crate::bench::ended(child).complains(130, &["interrupted"]);
    }
}
