//! GSM8K (Cobbe et al. 2021): grade-school arithmetic stories, plain or Socratic. One kind; a Socratic row is known by the
//! ` ** ` between each subquestion and its solution. Plain, then Socratic:
//!
//! ```json
//! {"question": "Mia reads 6 pages a day. How many pages does she read in 2 weeks?", "answer": "Two weeks have 7*2 = <<7*2=14>>14 days.\nShe reads 6*14 = <<6*14=84>>84 pages.\n#### 84"}
//! {"question": "Mia reads …", "answer": "How many days are two weeks? ** Two weeks have 7*2 = <<7*2=14>>14 days.\nHow many pages does she read? ** She reads 6*14 = <<6*14=84>>84 pages.\n#### 84"}
//! ```

use serde_json::Value;

use super::{RowContext, RowError, fail, object, text};
use crate::{
    decomposition::Decomposition,
    question::{Gold, Question, ScorerKind, Worked},
    scorers::number,
};

const SOCRATIC: &str = " ** ";

/// Reads one row. `steps` is the number of solution lines.
///
/// # Errors
/// [`RowError`] without a question, without a number behind `####`, or with a Socratic line without ` ** `.
pub fn parse(row: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    let (solution, gold) = split_answer(text(row, "answer")?)?;
    // Not trimmed: a few real Socratic lines end in ` ** ` with an empty solution.
    let lines: Vec<&str> = solution.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut question = context.question(text(row, "question")?.to_owned(), ScorerKind::Numeric);
    question.golds = vec![Gold::single(gold)];
    question.steps = u32::try_from(lines.len()).ok().filter(|steps| *steps > 0);
    question.worked = lines.iter().map(|line| worked(line)).filter(|step| !step.text.is_empty()).collect();
    if lines.iter().any(|line| line.contains(SOCRATIC)) {
        question.recorded = Some(socratic(&lines)?);
    }
    Ok(question)
}

/// One line of a solution; its answer is what the last calculator annotation comes to.
fn worked(line: &str) -> Worked {
    let solution = line.split_once(SOCRATIC).map_or(line, |(_, solution)| solution);
    let annotation = solution.rsplit_once("<<").and_then(|(_, rest)| rest.split_once(">>"));
    let result = annotation.and_then(|(calculation, _)| calculation.rsplit_once('='));
    let answer = result.map(|(_, result)| result.trim().to_owned()).filter(|result| !result.is_empty());
    Worked { text: one_line(&without_annotations(solution)), answer }
}

/// Solution, and the gold number behind the last `####`.
fn split_answer(answer: &str) -> Result<(&str, &str), RowError> {
    let (solution, gold) = answer.rsplit_once("####").ok_or_else(|| fail("`answer` has no `#### gold` at its end"))?;
    match number::stated(gold) {
        Some(_) => Ok((solution, gold.trim())),
        None => Err(fail(format!("`answer` has no number behind `####` but `{}`", gold.trim()))),
    }
}

/// One subquestion may span several solution lines and then stands before each (in one row of six): it is taken once, or
/// a student would learn to repeat itself.
fn socratic(lines: &[&str]) -> Result<Decomposition, RowError> {
    let mut texts: Vec<String> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let subquestion = line.split_once(SOCRATIC).map(|(subquestion, _)| one_line(subquestion));
        match subquestion.filter(|subquestion| !subquestion.is_empty()) {
            None => {
                return Err(fail(format!(
                    "line {} of the Socratic answer has no `subquestion ** solution`",
                    index + 1
                )));
            }
            Some(text) if texts.contains(&text) => {}
            Some(text) => texts.push(text),
        }
    }
    Ok(Decomposition::from_texts(texts))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `6*14 = <<6*14=84>>84` → `6*14 = 84`.
fn without_annotations(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("<<") {
        let Some((_, behind)) = after.split_once(">>") else { break };
        out.push_str(before);
        rest = behind;
    }
    out + rest
}
