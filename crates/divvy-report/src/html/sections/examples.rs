//! A few rows of each arm as text: premise, question, subquestions, reply, answer, gold. They read without script.

use divvy_core::{
    records::Outcome,
    results::{ArmResult, Example, Results},
};

use crate::html::escape::{escape, text};

/// `None` when no arm kept an example.
pub(super) fn html(results: &Results) -> Option<String> {
    let arms = results.arms.iter().filter(|arm| !arm.examples.is_empty());
    let groups: String = arms.map(group).collect();
    (!groups.is_empty()).then_some(groups)
}

fn group(arm: &ArmResult) -> String {
    let examples: String = arm.examples.iter().map(example).collect();
    let (name, count) = (text(&arm.arm), arm.examples.len());
    format!(r#"<details class="examples"><summary>{name}: the first {count} rows</summary>{examples}</details>"#)
}

fn example(example: &Example) -> String {
    let (state, words) = verdict_words(example);
    let answers = example.sub_answers.iter().map(Option::as_deref).chain(std::iter::repeat(None));
    let subquestions: String = example.subquestions.iter().zip(answers).map(subquestion).collect();
    let list = if subquestions.is_empty() { String::new() } else { format!("<ol>{subquestions}</ol>") };
    let mut fields = String::new();
    fields.push_str(&field("Premise", example.premise.as_deref().map(prose)));
    fields.push_str(&field("Question", Some(prose(&example.question))));
    fields.push_str(&field("Subquestions", Some(list).filter(|list| !list.is_empty())));
    fields.push_str(&field("Reply", Some(format!("<pre>{}</pre>", escape(&example.reply)))));
    fields.push_str(&field(
        "Answer",
        Some(example.answer.as_deref().map_or_else(|| "<p><em>none</em></p>".to_owned(), prose)),
    ));
    fields.push_str(&field("Gold", Some(prose(&example.gold.join(" | ")))));
    format!(
        r#"<article class="example {state}"><p class="state"><strong>{words}</strong> <span>{}</span></p><dl>{fields}</dl></article>"#,
        escape(&example.question_id),
    )
}

fn subquestion((line, answer): (&String, Option<&str>)) -> String {
    let answer = answer.map_or_else(String::new, |answer| format!("<br><em>{}</em>", escape(answer)));
    format!("<li>{}{answer}</li>", escape(line))
}

/// State in words and a sign, not in colour alone.
fn verdict_words(example: &Example) -> (&'static str, &'static str) {
    match (example.correct, example.outcome) {
        (true, _) => ("right", "✓ right"),
        (false, Outcome::Answered) => ("wrong", "✗ wrong"),
        (false, Outcome::NoAnswer) => ("wrong", "✗ no answer"),
        (false, Outcome::Truncated) => ("wrong", "✗ truncated"),
        (false, Outcome::Refused) => ("wrong", "✗ refused"),
        (false, Outcome::Error) => ("wrong", "✗ error"),
    }
}

fn field(name: &str, body: Option<String>) -> String {
    body.map(|body| format!("<div><dt>{name}</dt><dd>{body}</dd></div>")).unwrap_or_default()
}

fn prose(content: &str) -> String {
    format!(r#"<p class="prose">{}</p>"#, escape(content))
}
