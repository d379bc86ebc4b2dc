//! A store with any number of graded rows that nobody was asked for: what a long run leaves, in seconds. Ten arms; replies are
//! as long as real ones and differ.

use divvy_core::{
    chat::{ChatRequest, Finish, Message, Reply, Sampling, Usage},
    decomposition::Decomposition,
    digest::Digest,
    model::ModelId,
    question::{Question, QuestionId, Split},
    records::{Grade, ItemState, Outcome, Stage},
    synth::{self, Style},
};
use divvy_flow::evaluate::{Graded, Spent};
use divvy_store::{CallRecord, ItemRow, Store};
use serde_json::Value;

use crate::bench::Bench;

pub(crate) const ARMS: usize = 10;

const RECIPE: &str = r#"
name = "forged"
seed = 7

[data.train]
dataset = "synth"
rows = 8

TEST

[models.big]
source = "URL"
model = "teacher"
price = { input = "1.00", output = "2.00" }

[models.small]
source = "URL"
model = "small"
price = { input = "0.10", output = "0.20" }

[collect]
teacher = "big"

[evaluate]
solvers = ["big", "small"]
strategies = ["direct", "cot", "two-stage"]
decomposers = ["teacher", "big", "small"]
"#;

/// Writes `recipe.toml` and its store, and gives the number of rows.
pub(crate) fn forge(bench: &Bench, questions: usize) -> usize {
    let test = format!("[data.test]\ndataset = \"synth\"\nrows = {questions}");
    fill(bench, &test, &synth::generate(Split::Test, questions, 7), |_| ())
}

/// The same of two data sets with so many questions each. Of the first call of all nobody has counted the tokens.
pub(crate) fn forge_sets(bench: &Bench, each: usize) -> usize {
    let set =
        |name| format!("[[data.test]]\ndataset = \"synth\"\nname = \"{name}\"\nstyle = \"{name}\"\nrows = {each}\n");
    let of = |name: &str, style| -> Vec<Question> {
        let named = |(row, question)| Question {
            id: QuestionId::new(name, Split::Test, row),
            dataset: name.to_owned(),
            ..question
        };
        synth::of_style(style, Split::Test, 7).take(each).enumerate().map(named).collect()
    };
    let questions = [of("stories", Style::Arithmetic), of("facts", Style::Facts)].concat();
    let first = questions[0].id.clone();
    fill(bench, &["stories", "facts"].map(set).concat(), &questions, |(items, calls)| {
        if items[0].question == first {
            calls[0].reply.usage = Usage::default();
        }
    })
}

/// A question's rows and calls.
type Written = (Vec<ItemRow>, Vec<CallRecord>);

fn fill(bench: &Bench, test: &str, questions: &[Question], bend: impl Fn(&mut Written)) -> usize {
    bench.recipe(&RECIPE.replace("TEST", test));
    bench.wait(async |path| Store::open(&path).await.unwrap().close().await.unwrap());
    let plan = bench.json(&["report", "recipe.toml", "--json"])["plan"].clone();
    let plan = Digest::from_hex(plan.as_str().unwrap()).unwrap();
    bench.wait(async |path| {
        let store = Store::open(&path).await.unwrap();
        store.put_plan(&plan, "{}").await.unwrap();
        let written = |question: &Question| {
            let mut written = of(&plan, question);
            bend(&mut written);
            written
        };
        for part in questions.chunks(128) {
            let (items, calls): (Vec<_>, Vec<_>) = part.iter().map(written).unzip();
            let kept = calls.into_iter().flatten().map(|call| store.record_call(call));
            futures::future::join_all(kept).await.into_iter().for_each(|kept| kept.unwrap());
            store.put_items(&items.concat()).await.unwrap();
        }
        store.close().await.unwrap();
    });
    questions.len() * ARMS
}

fn of(plan: &Digest, question: &Question) -> Written {
    let number: u64 = question.id.0.rsplit('/').next().unwrap().parse().unwrap();
    let (mut items, mut calls) = (Vec::new(), Vec::new());
    for solver in ["big", "small"] {
        for (at, way) in ["direct", "cot", "two-stage/teacher", "two-stage/big", "two-stage/small"].iter().enumerate() {
            let decomposer = way.strip_prefix("two-stage/");
            let skill = if solver == "big" { 5 } else { 2 } + at as u64;
            let grade = grade(question, (number * 7 + at as u64 * 3) % 10 < skill, number + at as u64);
            let reply = format!(
                "1. We begin with what is known of question {number}.\n2. Then {} and {} are put together, which gives {}.\n\
                 3. What is left over is counted once more to be sure.\nThe answer is: {}",
                number % 97,
                number % 89,
                number % 7919,
                grade.answer.as_deref().unwrap_or("unclear")
            );
            let mut asked = vec![call(solver, &format!("{way} {solver}"), question, &reply)];
            let steps = ["How many were there at first?", "How many of #1 are left?"];
            if let Some(decomposer) = decomposer {
                let name = if decomposer == "teacher" { "big" } else { decomposer };
                asked.insert(
                    0,
                    call(
                        name,
                        &format!("decompose {decomposer}"),
                        question,
                        &format!("1. {}\n2. {}", steps[0], steps[1]),
                    ),
                );
            }
            let graded = Graded {
                grade,
                decomposer_text: decomposer.map(|_| steps.join("\n")),
                decomposition: decomposer.map(|_| Decomposition::from_texts(steps)),
                sub_answers: decomposer.map(|_| vec![Some((number % 97).to_string()), None]).unwrap_or_default(),
                malformed: false,
                finish: Some(Finish::Stop),
                scorer_version: divvy_core::scorers::VERSION,
                reply,
                decompose: decomposer
                    .map(|_| spent(2))
                    .unwrap_or_else(|| Spent { cost_nanos: Some(0), ..Spent::default() }),
                solve: spent(4),
            };
            items.push(ItemRow {
                plan: plan.clone(),
                stage: Stage::Evaluate,
                question: question.id.clone(),
                sample: 0,
                arm: format!("{way}/{solver}"),
                state: ItemState::Done,
                payload_json: serde_json::to_string(&graded).unwrap(),
                calls: asked.iter().map(|call| call.key.clone()).collect(),
                updated_ms: 1,
            });
            calls.extend(asked);
        }
    }
    (items, calls)
}

fn grade(question: &Question, right: bool, number: u64) -> Grade {
    let outcome = match number % 41 {
        _ if right => Outcome::Answered,
        0 => Outcome::Truncated,
        1 | 2 => Outcome::NoAnswer,
        _ => Outcome::Answered,
    };
    let gold = question.golds[0].to_string();
    let answer = match outcome {
        Outcome::Answered if right => Some(gold),
        Outcome::Answered => Some(format!("{}", number % 1_009)),
        _ => None,
    };
    Grade { correct: right, score: f64::from(u8::from(right)), answer, outcome }
}

fn spent(times: u64) -> Spent {
    Spent { tokens_in: 80 * times, tokens_cached: 0, tokens_out: 30 * times, cost_nanos: Some(140_000) }
}

fn call(model: &str, manner: &str, question: &Question, reply: &str) -> CallRecord {
    let id = ModelId(Digest::of_bytes(model.as_bytes()));
    let examples = "Question: A baker has 12 trays of 8 rolls and sells 30 of them. How many rolls are left?\n\
                    1. How many rolls were there? 12 * 8 = 96\n2. How many are left? 96 - 30 = 66\nThe answer is: 66\n\n";
    let text = format!("{manner}\n\n{}Question: {}", examples.repeat(3), question.text);
    let premise = question.premise.as_deref().unwrap_or_default();
    let messages = vec![
        Message::system("You answer questions step by step, and end with the answer alone on a line of its own."),
        Message::user(format!("{text}\n\n{premise}")),
    ];
    let request = ChatRequest { model: id.clone(), messages, sampling: Sampling::greedy(400), sample: 0 };
    let usage = Usage { tokens_in: Some(160), tokens_cached: None, tokens_out: Some(60) };
    CallRecord {
        key: Digest::of("forged/1", &request),
        model_name: model.to_owned(),
        model_id: id.0,
        request_json: serde_json::to_string(&request).unwrap(),
        raw_reply: format!("{{\"choices\":[{{\"message\":{{\"content\":{}}}}}]}}", Value::from(reply)).into_bytes(),
        reply: Reply { text: reply.to_owned(), finish: Finish::Stop, usage },
        price_nanos: Some(140_000),
        latency_ms: 120 + reply.len() as i64 % 50,
        created_ms: 1,
        worked_us: None,
        endpoint: None,
    }
}
