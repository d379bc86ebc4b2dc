//! One model at two endpoints that share the load, of which one refuses or goes away: the other stands in, nobody is paid twice
//! for one question, and who answered makes no difference to the next run.

use std::{collections::BTreeSet, time::Duration};

use divvy_testkit::teacher::{Lesson, Teacher};

use crate::{
    bench::{Bench, ended},
    school::{self, CONCURRENCY, RECIPE, REQUESTS},
};

/// [`RECIPE`] at these two, three requests in four at the second. Who the model belongs to is said: the first URL's host would
/// be taken for it.
fn at(first: &str, second: &str) -> String {
    let further = format!("[[models.big.endpoints]]\nurl = \"{second}\"\nweight = 3\nconcurrency = {CONCURRENCY}");
    let named = RECIPE.replace("concurrency = 4", "concurrency = 4\nprovider = \"school\"");
    named.replace("URL", first).replace("\n[collect]", &format!("{further}\n\n[collect]"))
}

fn slow() -> Lesson {
    Lesson { latency: Duration::from_millis(25), ..school::lesson() }
}

fn messages(teacher: &Teacher) -> BTreeSet<String> {
    teacher.asked().iter().map(|asked| asked.body["messages"].to_string()).collect()
}

/// The same plan with the endpoints the other way round is done.
#[track_caller]
fn asks_nothing_when_swapped(bench: &Bench, other: &Teacher) {
    let before = (bench.teacher.asked().len(), other.asked().len());
    bench.recipe(&at(&other.url(), &bench.teacher.url())).done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), other.asked().len()), before);
}

#[test]
fn one_that_goes_away_in_the_middle_of_a_run_is_stood_in_for() {
    let bench = Bench::new(slow());
    let leaving = bench.another(slow());
    bench.recipe(&at(&bench.teacher.url(), &leaving.url()));
    let child = bench.run_until(REQUESTS / 8);
    leaving.leave();
    let run = ended(child);
    assert_eq!(run.code, Some(0), "{run:?}");

    let (here, there) = (messages(&bench.teacher), messages(&leaving));
    assert!(!there.is_empty() && here.len() > there.len(), "{} and {}", here.len(), there.len());
    assert_eq!(here.intersection(&there).count(), 0, "a message was heard at both");
    assert_eq!((here.len() + there.len(), bench.committed().len()), (REQUESTS, REQUESTS));
    assert_eq!((bench.teacher.asked().len(), leaving.asked().len()), (here.len(), there.len()), "nor twice at one");
    asks_nothing_when_swapped(&bench, &leaving);
}

#[test]
fn one_that_refuses_the_key_is_stood_in_for() {
    let bench = Bench::new(school::lesson());
    let locked = bench.another(Lesson { api_key: Some("sk-other".to_owned()), ..school::lesson() });
    bench.recipe(&at(&bench.teacher.url(), &locked.url()));
    let run = bench.done(&["run", "recipe.toml"]);
    assert!((1..=CONCURRENCY).contains(&locked.asked().len()), "{}: {run:?}", locked.asked().len());
    assert_eq!((locked.answered(), bench.teacher.answered(), bench.repeats()), (0, REQUESTS, 0));
    assert_eq!(bench.committed().len(), REQUESTS);
    asks_nothing_when_swapped(&bench, &locked);
}
