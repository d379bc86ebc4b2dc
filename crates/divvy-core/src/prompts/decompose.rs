//! The decomposer's prompt, the completion a student is trained to write, and the parser that reads any decomposer's
//! reply. [`parse`] of a [`completion`] gives the decomposition back.

use serde::{Deserialize, Serialize};

pub use super::parse::{Parsed, Problem, parse};
use super::{PromptId, material};
use crate::{chat::Message, decomposition::Decomposition, question::Question};

const SYSTEM: &str = "You break questions into subquestions.";

/// What a decomposer says when a question needs no subquestions.
pub const NO_DECOMPOSITION: &str = "No decomposition";

/// Raised when the same reply would be read differently.
const PARSER_VERSION: u32 = 1;

/// How much the decomposer is told. A limit is the paper's (three subquestions, two for Bamboogle); what a student is
/// trained on decides better, so the default names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    #[default]
    Free,
    AtMost(u32),
    /// No instruction: a student that was trained to decompose needs none, and a third of its input is saved.
    QuestionOnly,
}

#[must_use]
pub fn messages(question: &Question, style: Style) -> Vec<Message> {
    let user = match style {
        Style::Free => instruction("") + &material(question),
        Style::AtMost(most) => instruction(&format!(" Write at most {most}.")) + &material(question),
        Style::QuestionOnly => material(question),
    };
    vec![Message::system(SYSTEM), Message::user(user)]
}

fn instruction(limit: &str) -> String {
    format!(
        "Break the question into the most helpful subquestions, in the order to answer them. Write one subquestion per \
         line, numbered 1., 2., 3. Do not answer them.{limit} If no subquestions are needed, write: \
         {NO_DECOMPOSITION}\n\n"
    )
}

/// The training target: numbered lines, or [`NO_DECOMPOSITION`]. Line breaks inside a subquestion become spaces.
#[must_use]
pub fn completion(decomposition: &Decomposition) -> String {
    if decomposition.steps().is_empty() {
        return NO_DECOMPOSITION.to_owned();
    }
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = decomposition
        .steps()
        .iter()
        .enumerate()
        .map(|(index, step)| format!("{}. {}", index + 1, one_line(&step.text)))
        .collect();
    lines.join("\n")
}

#[must_use]
pub fn prompt_id(style: Style) -> PromptId {
    PromptId::of("decompose", PARSER_VERSION, |question| messages(question, style))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        prompts::tests::{question, texts},
        question::ScorerKind,
    };

    #[test]
    fn rendered() {
        let q = question(Some("Ann is 7. Bo is 9."), "How much older is Bo than Ann?", ScorerKind::Drop);
        let messages = messages(&q, Style::AtMost(3));
        let (system, user) = texts(&messages);
        assert_eq!(system, "You break questions into subquestions.");
        assert_eq!(
            user,
            "Break the question into the most helpful subquestions, in the order to answer them. Write one subquestion \
             per line, numbered 1., 2., 3. Do not answer them. Write at most 3. If no subquestions are needed, write: \
             No decomposition\n\
             \n\
             <passage>\n\
             Ann is 7. Bo is 9.\n\
             </passage>\n\
             \n\
             Question: How much older is Bo than Ann?"
        );
    }

    #[test]
    fn the_question_alone() {
        let q = question(None, "How many?", ScorerKind::Numeric);
        let messages = messages(&q, Style::QuestionOnly);
        assert_eq!(texts(&messages), ("You break questions into subquestions.", "Question: How many?"));
    }

    #[test]
    fn completions() {
        let steps = Decomposition::from_texts(["How old is\nAnn?", "How old is Bo?"]);
        assert_eq!(completion(&steps), "1. How old is Ann?\n2. How old is Bo?");
        assert_eq!(completion(&Decomposition::None), "No decomposition");
    }
}
