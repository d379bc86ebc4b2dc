//! The solver's prompt of the static two-stage strategy (paper, section 3): all subquestions are answered in one call,
//! then the question. Without subquestions it is the chain-of-thought prompt.

use super::{PromptId, answer_form, cot, material, one_line};
use crate::{
    chat::Message,
    decomposition::{Decomposition, Subquestion},
    question::Question,
};

const SYSTEM: &str = "You are a careful assistant.";

/// Said only where a subquestion uses a reference, so that other data sets keep the shorter prompt.
const REFERENCES: &str = " In a subquestion, #1 stands for the answer to subquestion 1, #2 for that to 2, and so on.";

#[must_use]
pub fn messages(question: &Question, decomposition: &Decomposition) -> Vec<Message> {
    let steps = decomposition.steps();
    if steps.is_empty() {
        return cot::messages(question);
    }
    let references = if steps.iter().any(|step| !step.refs.is_empty()) { REFERENCES } else { "" };
    let user = format!(
        "{}\n\nSubquestions:\n{}\n\nAnswer each subquestion in turn on a line of its own, with its \
         calculation.{references} Then answer the question on a last line: \"The answer is: X\", where {}.",
        material(question),
        numbered(steps),
        answer_form(question.scorer)
    );
    vec![Message::system(SYSTEM), Message::user(user)]
}

/// `1. …` lines.
fn numbered(steps: &[Subquestion]) -> String {
    let lines: Vec<String> =
        steps.iter().enumerate().map(|(index, step)| format!("{}. {}", index + 1, one_line(&step.text))).collect();
    lines.join("\n")
}

#[must_use]
pub fn prompt_id() -> PromptId {
    let steps = Decomposition::from_texts(["SUBQUESTION", "SUBQUESTION #1"]);
    let plain = Decomposition::from_texts(["SUBQUESTION"]);
    PromptId::of("two-stage", crate::extract::VERSION, |question| {
        [&steps, &plain, &Decomposition::None].into_iter().flat_map(|steps| messages(question, steps)).collect()
    })
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
        let q = question(None, "Ann has 3 pens and buys twice as many. How many has she?", ScorerKind::Numeric);
        let d = Decomposition::from_texts(["How many does Ann buy?", "What is 3 plus #1?"]);
        let messages = messages(&q, &d);
        let (system, user) = texts(&messages);
        assert_eq!(system, "You are a careful assistant.");
        assert_eq!(
            user,
            "Question: Ann has 3 pens and buys twice as many. How many has she?\n\
             \n\
             Subquestions:\n\
             1. How many does Ann buy?\n\
             2. What is 3 plus #1?\n\
             \n\
             Answer each subquestion in turn on a line of its own, with its calculation. In a subquestion, #1 stands for \
             the answer to subquestion 1, #2 for that to 2, and so on. Then answer the question on a last line: \"The \
             answer is: X\", where X is one number, in digits, without a unit."
        );
    }

    #[test]
    fn without_subquestions_it_is_chain_of_thought() {
        let q = question(None, "Who?", ScorerKind::Exact);
        assert_eq!(messages(&q, &Decomposition::None), cot::messages(&q));
        assert_eq!(messages(&q, &Decomposition::Steps(Vec::new())), cot::messages(&q));
    }

    #[test]
    fn references_are_explained_only_where_used() {
        let q = question(None, "Who?", ScorerKind::Exact);
        let user = messages(&q, &Decomposition::from_texts(["When?", "Who then?"])).remove(1).content;
        assert!(!user.contains("stands for"), "{user}");
    }
}
