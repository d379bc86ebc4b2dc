//! Examples to read, grouped by arm: premise, question, subquestions, reply, answer, gold. All are in the page as text;
//! script shows one at a time.

use divvy_core::{
    records::Outcome,
    results::{ArmResult, Example, Results},
};

use super::escape::{escape, text};

/// `None` when no arm kept an example.
pub(crate) fn html(results: &Results) -> Option<String> {
    let arms: Vec<&ArmResult> = results.arms.iter().filter(|arm| !arm.examples.is_empty()).collect();
    if arms.is_empty() {
        return None;
    }
    let groups: String = arms.iter().enumerate().map(|(index, arm)| group(index, arm)).collect();
    Some(format!(r#"<div class="browser" id="browser">{}{groups}</div>"#, controls(&arms)))
}

fn controls(arms: &[&ArmResult]) -> String {
    let option =
        |(index, arm): (usize, &&ArmResult)| format!(r#"<option value="{index}">{}</option>"#, escape(&arm.arm));
    let options: String = arms.iter().enumerate().map(option).collect();
    let filter = |value: &str, label: &str, checked: &str| {
        format!(r#"<label><input type="radio" name="outcome" value="{value}"{checked}><span>{label}</span></label>"#)
    };
    format!(
        r#"<div class="controls needs-script"><label class="field">Arm <select id="example-arm">{options}</select></label><fieldset><legend>Show</legend>{}{}{}</fieldset><div class="pager"><button type="button" id="example-previous" aria-label="Previous example">←</button><output id="example-position" aria-live="polite"></output><button type="button" id="example-next" aria-label="Next example">→</button></div></div><p class="empty" id="example-none" hidden>This arm has no such example here.</p>"#,
        filter("all", "all", " checked"),
        filter("right", "right", ""),
        filter("wrong", "wrong", ""),
    )
}

fn group(index: usize, arm: &ArmResult) -> String {
    let examples: String = arm.examples.iter().map(example).collect();
    format!(r#"<div class="examples" data-arm="{index}"><h3>{}</h3>{examples}</div>"#, text(&arm.arm))
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
        r#"<article class="example {state}" data-state="{state}" data-question="{}"><p class="state"><strong>{words}</strong> <span>{}</span></p><dl>{fields}</dl></article>"#,
        escape(&example.question_id),
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
