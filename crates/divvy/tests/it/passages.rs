//! In which order questions are asked that share a passage.

use divvy_testkit::teacher::Asked;
use serde_json::json;

use crate::{
    bench::Bench,
    school::{self, Manner},
};

const PASSAGES: usize = 3;
const QUESTIONS: usize = 48;

const RECIPE: &str = r#"
name = "passages"
seed = 7

[data.train]
dataset = "rows"
files = ["train.jsonl"]
columns = { question = "q", answer = "a", premise = "p" }

[data.test]
dataset = "rows"
files = ["test.jsonl"]
columns = { question = "q", answer = "a", premise = "p" }

[models.big]
source = "URL"
model = "teacher"
concurrency = 1

[collect]
teacher = "big"

[screen]
solver = "big"

[evaluate]
solvers = ["big"]
strategies = ["cot"]
"#;

/// One question on each passage after the other.
fn rows(split: &str) -> String {
    let row = |number: usize| {
        let passage = format!("{split} story {}. Ann has 40 pens and gets 2 more.", number % PASSAGES);
        format!("{}\n", json!({ "q": format!("{split} question {number}: how many pens?"), "a": "42", "p": passage }))
    };
    (0..QUESTIONS).map(row).collect()
}

/// Which passage a request is about.
fn story(asked: &Asked) -> usize {
    (0..PASSAGES).find(|story| asked.last().contains(&format!("story {story}."))).unwrap()
}

/// Whoever keeps what it read of a prompt reads each passage once.
#[test]
fn questions_on_one_passage_are_asked_one_behind_the_other() {
    let bench = Bench::new(school::lesson());
    std::fs::write(bench.file("train.jsonl"), rows("train")).unwrap();
    std::fs::write(bench.file("test.jsonl"), rows("test")).unwrap();
    bench.recipe(RECIPE);
    bench.done(&["run", "recipe.toml"]);
    let asked = bench.teacher.asked();
    for manner in [Manner::Decompose, Manner::TwoStage, Manner::Cot] {
        let mut stories: Vec<_> = asked.iter().filter(|asked| Manner::of(asked) == manner).map(story).collect();
        assert_eq!(stories.len(), QUESTIONS, "{manner:?}");
        stories.dedup();
        // Requests that are under way together may pass one another; in the split's own order some thirty would change.
        assert!(stories.len() <= 4 * PASSAGES, "{manner:?}: {stories:?}");
    }
}
