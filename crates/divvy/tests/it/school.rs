//! A teacher that knows the generator's questions: it writes two subquestions for any, and gold for those it is meant to
//! get right.

use divvy_core::{
    question::{Question, Split},
    synth,
};
use divvy_testkit::{
    script::Step,
    teacher::{Asked, Bureau, Lesson, Misfortune, Rule},
};

pub(crate) const TRAIN: usize = 12;
pub(crate) const TEST: usize = 8;
/// Requests of a whole run of [`RECIPE`]: collect, screen, direct, cot, and two for each two-stage answer.
pub(crate) const REQUESTS: usize = TRAIN + TRAIN + TEST + TEST + 2 * TEST;
pub(crate) const CONCURRENCY: usize = 4;

/// One model on HTTP plays all parts, and no student is trained.
pub(crate) const RECIPE: &str = r#"
name = "school"
seed = 7

[data.train]
dataset = "synth"
rows = 12

[data.test]
dataset = "synth"
rows = 8

[models.big]
source = "URL"
model = "teacher"
concurrency = 4

[collect]
teacher = "big"

[screen]
solver = "big"

[evaluate]
solvers = ["big"]
strategies = ["direct", "cot", "two-stage"]
decomposers = ["teacher"]
"#;

/// [`RECIPE`] in batches, which are looked at all the time; `more` goes on in the table of the batch.
pub(crate) fn in_batches(more: &str) -> String {
    let batch = format!("batch = {{ poll_seconds = 0.01, gather_seconds = 0.5{more} }}");
    RECIPE.replace("concurrency = 4", &format!("concurrency = 4\nmode = \"batch\"\n{batch}"))
}

pub(crate) const SUBQUESTIONS: &str = "1. Which facts matter here?\n2. What follows from them?";

/// How a request asks: the prompts' system messages and instructions tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Decompose,
    Direct,
    Cot,
    TwoStage,
}

impl Manner {
    pub(crate) fn of(asked: &Asked) -> Self {
        let system = asked.body["messages"][0]["content"].as_str().unwrap_or_default();
        if system.contains("break questions") {
            Self::Decompose
        } else if system.contains("briefly") {
            Self::Direct
        } else if asked.last().contains("\nSubquestions:\n") {
            Self::TwoStage
        } else {
            Self::Cot
        }
    }
}

/// The questions that [`RECIPE`] asks.
pub(crate) fn questions() -> Vec<Question> {
    let mut questions = synth::generate(Split::Train, TRAIN, 7);
    questions.extend(synth::generate(Split::Test, TEST, 7));
    questions
}

/// Position of a question in its split.
pub(crate) fn row(question: &Question) -> usize {
    question.id.0.rsplit('/').next().unwrap().parse().unwrap()
}

/// The same with a Batch API.
pub(crate) fn bureau(bureau: Bureau) -> Lesson {
    Lesson { bureau: Some(bureau), ..lesson() }
}

/// Knows what [`answer`] says, and answers anything else with 42. It is right, but: `direct` fails on odd rows, and so does a decomposition of every fourth training row.
pub(crate) fn lesson() -> Lesson {
    Lesson { rule: rule(answer), ..Lesson::default() }
}

pub(crate) fn rule(answer: impl Fn(&Question, Manner) -> String + Send + Sync + 'static) -> Box<Rule> {
    rule_about(questions(), answer)
}

/// The same about other questions.
pub(crate) fn rule_about(
    questions: Vec<Question>,
    answer: impl Fn(&Question, Manner) -> String + Send + Sync + 'static,
) -> Box<Rule> {
    Box::new(move |asked| {
        let question = questions.iter().find(|question| is_about(asked.last(), question));
        match (question, Manner::of(asked)) {
            (Some(question), manner) => answer(question, manner),
            (None, Manner::Decompose) => SUBQUESTIONS.to_owned(),
            (None, _) => "The answer is: 42".to_owned(),
        }
    })
}

pub(crate) fn answer(question: &Question, manner: Manner) -> String {
    let wrong = match manner {
        Manner::Decompose => return SUBQUESTIONS.to_owned(),
        Manner::Direct => row(question) % 2 == 1,
        Manner::Cot => false,
        Manner::TwoStage => question.split == Split::Train && row(question).is_multiple_of(4),
    };
    if wrong { "I guess.\nThe answer is: 987654321".to_owned() } else { right(question) }
}

pub(crate) fn right(question: &Question) -> String {
    format!("Let me see.\nThe answer is: {}", question.golds[0].0.join(", "))
}

/// What comes of a try that breaks off where the model is, and is charged.
pub(crate) fn breaks_off() -> Step {
    let error = serde_json::json!({"code": 429, "message": "The provider is busy"});
    let choice = serde_json::json!({"message": {"content": "4"}, "finish_reason": "error", "error": error});
    let usage = serde_json::json!({"prompt_tokens": 90, "completion_tokens": 1});
    Step::raw(200, serde_json::json!({"choices": [choice], "usage": usage}).to_string())
}

/// What is asked of this question in this manner comes to `step`, always.
pub(crate) fn never_answered(id: &'static str, manner: Manner, step: Step) -> Box<Misfortune> {
    let question = questions().into_iter().find(|question| question.id.0 == id).unwrap();
    Box::new(move |asked| (Manner::of(asked) == manner && is_about(asked.last(), &question)).then(|| step.clone()))
}

/// Whether a prompt asks this question.
pub(crate) fn is_about(prompt: &str, question: &Question) -> bool {
    let text = question.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let asks = prompt.lines().any(|line| line.strip_prefix("Question: ") == Some(&text));
    asks && question.premise.as_ref().is_none_or(|premise| prompt.contains(premise.trim()))
}
