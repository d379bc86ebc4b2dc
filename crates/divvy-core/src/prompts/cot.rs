//! Chain of thought: one call, reasoning before the answer.

use super::{PromptId, answer_form, material};
use crate::{chat::Message, question::Question};

const SYSTEM: &str = "You are a careful assistant.";

#[must_use]
pub fn messages(question: &Question) -> Vec<Message> {
    let user = format!(
        "{}\n\nReason step by step in short sentences. Then answer on a last line: \"The answer is: X\", where {}.",
        material(question),
        answer_form(question.scorer)
    );
    vec![Message::system(SYSTEM), Message::user(user)]
}

#[must_use]
pub fn prompt_id() -> PromptId {
    PromptId::of("cot", crate::extract::VERSION, messages)
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
        let messages = messages(&question(None, "Ann has 3 pens and\nbuys 4. How many?", ScorerKind::Numeric));
        let (system, user) = texts(&messages);
        assert_eq!(system, "You are a careful assistant.");
        assert_eq!(
            user,
            "Question: Ann has 3 pens and buys 4. How many?\n\
             \n\
             Reason step by step in short sentences. Then answer on a last line: \"The answer is: X\", where X is one \
             number, in digits, without a unit."
        );
    }
}
