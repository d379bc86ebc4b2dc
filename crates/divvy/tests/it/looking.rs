//! `divvy calls`: what was asked and answered, from the store alone.

use divvy_testkit::{
    script::{Fault, Step},
    teacher::Lesson,
};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, RECIPE, REQUESTS},
};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn calls_are_listed_and_one_is_shown_whole() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    let all = lines(&bench.done(&["calls", "--last", "1000", "--json"]).stdout);
    assert_eq!(all.len(), REQUESTS);
    let people = bench.done(&["calls", "--last", "3"]).stdout;
    let last: Vec<&str> = all[REQUESTS - 3..].iter().map(|call| &call["key"].as_str().unwrap()[..12]).collect();
    let shown: Vec<&str> = people.lines().map(|line| &line[..12]).collect();
    assert_eq!(shown, last, "the last calls, oldest first");

    let call = &all[0];
    let whole = bench.done(&["calls", &call["key"].as_str().unwrap()[..16]]).stdout;
    let question = call["request"]["messages"][1]["content"].as_str().unwrap();
    let reply = call["reply"]["text"].as_str().unwrap();
    assert!(whole.contains(question) && whole.contains(reply) && whole.contains("── reply (stop) ──"), "{whole}");
    assert!(call["raw_reply"].as_str().unwrap().contains("choices"), "{call}");

    assert_eq!(bench.done(&["calls", "--model", "nobody"]).stdout, "");
    assert!(lines(&bench.done(&["calls", "--model", "big", "--json"]).stdout).len() == 20);
    let ended =
        |reason: &str| bench.done(&["calls", "--finish", reason, "--since", "24h", "--last", "1000", "--json"]).stdout;
    assert_eq!((lines(&ended("stop")).len(), ended("length")), (all.len(), String::new()));
    bench.run(&["calls", "--since", "1.5h"]).complains(2, &["--since", "`1.5` is no whole number"]);
}

#[test]
fn failed_attempts_say_what_the_endpoint_said() {
    let fault =
        Step::Status { status: 500, retry_after: None, message: Some("the disk of the server is full".to_owned()) };
    let bench = Bench::new(Lesson { script: vec![fault], ..school::lesson() });
    bench.recipe(RECIPE).done(&["collect", "recipe.toml"]);
    let failed = lines(&bench.done(&["calls", "--failed", "--json"]).stdout);
    assert_eq!((failed.len(), &failed[0]["outcome"], &failed[0]["status"]), (1, &json!("server-error"), &json!(500)));
    assert!(failed[0]["message"].as_str().unwrap().contains("the disk of the server is full"), "{failed:?}");
    let key = failed[0]["key"].as_str().unwrap();
    let among = |more: &[&str]| bench.done(&[&["calls", "--failed"], more].concat()).stdout.lines().count();
    assert_eq!((among(&["--since", "1h"]), among(&[&key[..12]]), among(&["abcdef012345"])), (1, 1, 0));
    assert_eq!(among(&["--since", "0m"]), 0, "none began since now");
    let whole = bench.done(&["calls", key]).stdout;
    assert!(whole.contains("server-error (500)") && whole.contains("  ok\n"), "both attempts are there: {whole}");
}

/// Two replies that nobody could read, then one that was.
#[test]
fn every_reply_of_a_call_is_shown_as_it_was_received() {
    let bench = Bench::new(Lesson { script: vec![Step::fault(Fault::Nonsense); 2], ..school::lesson() });
    bench.recipe(&RECIPE.replace("concurrency = 4", "concurrency = 1")).done(&["collect", "recipe.toml"]);
    let failed = lines(&bench.done(&["calls", "--failed", "--json"]).stdout);
    let key = failed[0]["key"].as_str().unwrap();
    let [call] = &lines(&bench.done(&["calls", key, "--json"]).stdout)[..] else { panic!("it was answered") };
    let raws = call["raw_replies"].as_array().unwrap();
    let of_key = failed.iter().filter(|attempt| attempt["key"] == key).count();
    assert_eq!((raws.len(), &raws[of_key]["text"]), (of_key + 1, &call["raw_reply"]), "{call}");
    assert!(raws[0]["received"].is_string() && raws[0]["text"] != call["raw_reply"], "{call}");
    let whole = bench.done(&["calls", key]).stdout;
    assert_eq!(whole.matches("── as received, ").count(), raws.len());
    assert!(raws.iter().all(|raw| whole.contains(raw["text"].as_str().unwrap())), "{whole}");
}

#[test]
fn a_key_that_is_none_and_a_store_that_is_not_there() {
    let bench = Bench::new(school::lesson());
    bench.run(&["calls"]).complains(1, &["no store", "--store"]);
    bench.recipe(RECIPE).done(&["collect", "recipe.toml"]);
    bench.run(&["calls", "ffffffffffffffffffffffff"]).complains(2, &["no call's key begins with", "divvy calls"]);
    bench.run(&["calls", "recipe.toml"]).complains(2, &["recipe.toml", "hexadecimal"]);
}
