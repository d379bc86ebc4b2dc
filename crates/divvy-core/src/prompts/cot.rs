//! Chain of thought: one call, reasoning before the answer.

use super::{PromptId, answer_form, material};
use crate::{chat::Message, question::Question};

const SYSTEM: &str = "You solve problems step by step.";

#[must_use]
pub fn messages(question: &Question) -> Vec<Message> {
    let form = answer_form(question.scorer);
    let user = format!(
        "Answer the question. First reason step by step and write down every calculation. On the last line give the \
         final answer in this form:\nThe answer is: X\nwhere {form}.\n\n{}\n\nReason step by step.",
        material(question)
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
        assert_eq!(system, "You solve problems step by step.");
        assert_eq!(
            user,
            "Answer the question. First reason step by step and write down every calculation. On the last line give \
             the final answer in this form:\n\
             The answer is: X\n\
             where X is one number, in digits, without a unit.\n\
             \n\
             Question: Ann has 3 pens and buys 4. How many?\n\
             \n\
             Reason step by step."
        );
    }
}
