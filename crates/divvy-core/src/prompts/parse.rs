//! Reads a decomposer's reply, whoever wrote it: numbered or bulleted lines, labels ("Subquestion 2:"), a JSON list, a
//! chatty preamble, thoughts, answers behind the question mark, loops. What was left out is reported, never lost in silence.
//!
//! Where any line is marked (number, bullet, label), only marked lines count; else only lines with a question mark that
//! do not introduce a list.

use std::{borrow::Cow, collections::HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{decompose::NO_DECOMPOSITION, single_spaced};
use crate::{
    chat::Finish,
    decomposition::Decomposition,
    thoughts::{has_thoughts, without_thoughts},
};

/// Raised when the same reply would be read differently. 2: a JSON list counts only where it stands as one, not where a
/// subquestion quotes it; every label of a line is left out, not the first alone. 3: thoughts before the reply are passed over,
/// whatever they list.
pub(super) const VERSION: u32 = 3;

/// What a decomposer's reply says. `decomposition` is `None` when nothing in it can be read as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsed {
    pub decomposition: Option<Decomposition>,
    /// One entry an occurrence, in the order found.
    pub problems: Vec<Problem>,
}

/// Something in a reply that is not a plain list of subquestions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// The reply is blank.
    Empty,
    /// Thoughts before the reply were left out.
    Thoughts,
    /// There is text, but no subquestion and no "No decomposition".
    NoSubquestions,
    /// A line of chatter was left out.
    SkippedLine,
    /// A subquestion came a second time and was left out.
    Duplicate,
    /// A line repeats a phrase over and over and was left out.
    Loop,
    /// Text behind the question mark (often the answer) was cut off.
    TrailingText,
    /// The reply hit the token limit inside its last line, which was left out.
    UnfinishedLine,
    /// A subquestion beyond the cap was left out.
    OverCap,
    /// "No decomposition" and subquestions in one reply; whichever came first counts.
    Contradiction,
}

/// Reads a reply. At most `cap` subquestions are kept; `finish` tells whether the last line may be cut off.
///
/// # Panics
/// Never, whatever the reply (tested by property).
#[must_use]
pub fn parse(reply: &str, finish: &Finish, cap: usize) -> Parsed {
    if reply.trim().is_empty() {
        return Parsed { decomposition: None, problems: vec![Problem::Empty] };
    }
    let mut problems = Vec::new();
    let body = unquoted(without_fences(without_thoughts(reply)));
    let candidates = match json_texts(&body) {
        Some(texts) => texts,
        None => line_texts(&body, finish, &mut problems),
    };
    decide(candidates, cap, problems).behind_thoughts_of(reply)
}

impl Parsed {
    /// What was read behind the thoughts of this reply, if it has any.
    pub(super) fn behind_thoughts_of(mut self, reply: &str) -> Self {
        if has_thoughts(reply) {
            self.problems.insert(0, Problem::Thoughts);
        }
        self
    }
}

/// Turns candidate texts into a decomposition.
fn decide(candidates: Vec<String>, cap: usize, mut problems: Vec<Problem>) -> Parsed {
    let declined = candidates.iter().position(|text| says_none(text));
    if declined.is_some() && candidates.len() > 1 {
        problems.push(Problem::Contradiction);
    }
    if declined == Some(0) {
        return Parsed { decomposition: Some(Decomposition::None), problems };
    }
    let mut texts = Vec::new();
    let mut seen = HashSet::new();
    for text in candidates.into_iter().filter(|text| !says_none(text)) {
        let text = clean(&text, &mut problems);
        let key = letters_and_digits(&text);
        if key.is_empty() {
            problems.push(Problem::SkippedLine);
        } else if is_loop(&text) {
            problems.push(Problem::Loop);
        } else if !seen.insert(key) {
            problems.push(Problem::Duplicate);
        } else if texts.len() >= cap {
            problems.push(Problem::OverCap);
        } else {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        problems.push(Problem::NoSubquestions);
        return Parsed { decomposition: None, problems };
    }
    Parsed { decomposition: Some(Decomposition::from_texts(texts)), problems }
}

/// The reply without Markdown code fences.
fn without_fences(reply: &str) -> Cow<'_, str> {
    // Lines may also end as in Windows.
    if !reply.contains("```") && !reply.contains('\r') {
        return Cow::Borrowed(reply.trim_start());
    }
    let lines: Vec<&str> = reply.trim_start().lines().filter(|line| !line.trim_start().starts_with("```")).collect();
    let mut body = lines.join("\n");
    if reply.ends_with('\n') {
        body.push('\n');
    }
    Cow::Owned(body)
}

/// A reply that is one JSON string says what the string says.
fn unquoted(body: Cow<'_, str>) -> Cow<'_, str> {
    if !body.trim_start().starts_with('"') {
        return body;
    }
    serde_json::from_str(body.trim()).map_or(body.clone(), Cow::Owned)
}

/// A JSON list of strings or of objects with the text under `question` or `subquestion`, alone or as the only list of
/// an object. `None` when the reply is no such JSON.
fn json_texts(body: &str) -> Option<Vec<String>> {
    const BEGINNINGS_TRIED: usize = 4;
    let end = body.rfind([']', '}'])? + 1;
    if !ends_its_line(&body[end..]) {
        return None;
    }
    let beginnings = body[..end].match_indices(['[', '{']).map(|(at, _)| at).filter(|at| begins_its_line(&body[..*at]));
    beginnings.take(BEGINNINGS_TRIED).find_map(|start| listed(&body[start..end]))
}

/// What stands in a line of its own, or behind the colon of a line without a mark, is no quotation.
fn begins_its_line(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    line.is_empty() || (line.ends_with(':') && unmark(line).is_none())
}

fn ends_its_line(after: &str) -> bool {
    after.lines().next().unwrap_or_default().chars().all(|c| !c.is_alphanumeric() && c != '?')
}

fn listed(json: &str) -> Option<Vec<String>> {
    let value: Value = serde_json::from_str(json).ok()?;
    let list = match &value {
        Value::Array(list) => list,
        Value::Object(object) => object.values().find_map(Value::as_array)?,
        _ => return None,
    };
    let text = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => ["question", "subquestion", "sub_question", "text"]
            .iter()
            .find_map(|key| Some(object.get(*key)?.as_str()?.to_owned())),
        _ => None,
    };
    let texts: Vec<String> = list.iter().filter_map(text).collect();
    (!texts.is_empty()).then_some(texts)
}

/// The lines that count, marks removed.
fn line_texts(body: &str, finish: &Finish, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut lines: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if *finish == Finish::Length && !body.ends_with('\n') && lines.last().is_some_and(|line| !line.ends_with('?')) {
        lines.pop();
        problems.push(Problem::UnfinishedLine);
    }
    // A list whose end is missing.
    let json_like = body.starts_with('[') && ends_its_line(&body[body.rfind(']').map_or(body.len(), |end| end + 1)..]);
    let lines = lines.into_iter().map(|line| if json_like { strip_json(line) } else { line });
    let lines: Vec<(&str, Option<&str>)> =
        lines.filter(|line| !line.is_empty()).map(|line| (line, unmark(line))).collect();
    let any_marked = lines.iter().any(|(_, unmarked)| unmarked.is_some());
    let mut texts = Vec::new();
    for (line, unmarked) in lines {
        match unmarked {
            Some(text) => texts.push(text.to_owned()),
            None if says_none(line) => texts.push(line.to_owned()),
            None if !any_marked && (json_like || asks(line)) => texts.push(line.to_owned()),
            None => problems.push(Problem::SkippedLine),
        }
    }
    texts
}

/// A line of a JSON list that was cut off, without its brackets, quotes and comma.
fn strip_json(line: &str) -> &str {
    line.trim_start_matches('[').trim_end_matches(']').trim().trim_end_matches(',').trim_matches('"')
}

/// An unmarked line is a subquestion if it asks something and does not introduce a list.
fn asks(line: &str) -> bool {
    const INTRODUCTIONS: [&str; 5] = ["here are", "here is", "sure", "main question", "question:"];
    let lower = line.to_lowercase();
    line.contains('?') && !INTRODUCTIONS.iter().any(|start| lower.trim_start_matches('*').starts_with(start))
}

/// Text of a marked line without its marks; `None` for an unmarked one. At most one bullet and one number, but every label:
/// what is left has none, and is read as it is when it is written again.
fn unmark(line: &str) -> Option<&str> {
    let start = unstarred(line);
    let start = strip_heading(start);
    let after_bullet = strip_bullet(start);
    let text = after_bullet.unwrap_or(start);
    let after_number = strip_number(text);
    let labelled = after_number.unwrap_or(text);
    let text = strip_labels(labelled);
    let after_label = (text.len() < labelled.len()).then(|| match after_number {
        None => strip_labels(strip_number(text).unwrap_or(text)),
        Some(_) => text,
    });
    after_label.or(after_number).or(after_bullet).map(str::trim)
}

fn unstarred(mut text: &str) -> &str {
    while let Some(rest) = text.strip_prefix("**") {
        text = rest;
    }
    text
}

fn strip_labels(mut text: &str) -> &str {
    while let Some(rest) = strip_label(text) {
        text = rest;
    }
    text
}

/// `### text`, but not the reference `#1`.
fn strip_heading(text: &str) -> &str {
    let rest = text.trim_start_matches('#');
    if rest.starts_with(' ') { rest.trim_start() } else { text }
}

fn strip_bullet(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(['-', '*', '•', '+', '–', '—', '◦'])?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim_start())
}

/// `1.`, `1)`, `(1)`, `1:` of at most three digits, also `**1.**`; not the number 1.5.
fn strip_number(text: &str) -> Option<&str> {
    let inner = text.trim_start_matches('*').trim_start_matches('(');
    let digits = inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if !(1..=3).contains(&digits) {
        return None;
    }
    let rest = unstarred(&inner[digits..]).strip_prefix(['.', ')', ':'])?;
    (!rest.starts_with(|c: char| c.is_ascii_digit())).then(|| unstarred(rest).trim_start())
}

/// `Subquestion 2:`, `Decomposed subquestion 2:`, `Q2.`, `Step 2:`; a bare `Subquestion:` too, but no bare `Question:`.
fn strip_label(text: &str) -> Option<&str> {
    const LABELS: [&str; 7] =
        ["decomposed subquestion", "decomposed sub-question", "subquestion", "sub-question", "question", "step", "q"];
    let inner = text.trim_start_matches('*');
    let label =
        LABELS.iter().find(|label| inner.get(..label.len()).is_some_and(|head| head.eq_ignore_ascii_case(label)))?;
    let rest = inner[label.len()..].trim_start();
    let after_digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if after_digits.len() == rest.len() && !label.contains("sub") {
        return None;
    }
    let rest = unstarred(after_digits).trim_start().strip_prefix([':', '.', ')'])?;
    Some(unstarred(rest).trim_start())
}

/// One line, without emphasis, quotes or a label, and cut behind its last question mark.
fn clean(text: &str, problems: &mut Vec<Problem>) -> String {
    let joined = single_spaced(text);
    let mut text = &*joined;
    for mark in ["**", "\"", "`"] {
        let inner = text.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        if let Some(inner) = inner.filter(|inner| !inner.contains(mark)) {
            text = inner;
        }
    }
    text = strip_labels(text.trim());
    let Some(mark) = text.rfind('?') else { return text.trim().to_owned() };
    let tail = &text[mark + 1..];
    if tail.chars().all(|c| "\"'”’)*_.!".contains(c)) {
        return text.trim().to_owned();
    }
    problems.push(Problem::TrailingText);
    text[..=mark].trim().to_owned()
}

/// "No decomposition", also "No decomposition needed." and the like.
fn says_none(text: &str) -> bool {
    let mut plain = folded(text);
    if !folded(NO_DECOMPOSITION).all(|letter| plain.next() == Some(letter)) {
        return false;
    }
    let more: usize = plain.map(char::len_utf8).sum();
    more == 0 || (more <= 12 && !text.contains('?'))
}

pub(super) fn letters_and_digits(text: &str) -> String {
    let mut letters = String::with_capacity(text.len());
    if text.is_ascii() {
        let bytes = text.bytes().filter(u8::is_ascii_alphanumeric);
        letters.extend(bytes.map(|byte| char::from(byte.to_ascii_lowercase())));
    } else {
        letters.extend(folded(text));
    }
    letters
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

/// A phrase of up to eight words, four times or more in a row.
fn is_loop(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    (1..=8).take_while(|period| 4 * period <= words.len()).any(|period| {
        let mut run = 0;
        (period..words.len()).any(|index| {
            run = if words[index] == words[index - period] { run + 1 } else { 0 };
            run >= 3 * period
        })
    })
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
