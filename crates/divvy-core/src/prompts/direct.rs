//! The single-stage prompt without reasoning: one call, the answer alone.

use super::{PromptId, answer_form, material};
use crate::{chat::Message, question::Question};

const SYSTEM: &str = "You answer questions briefly and exactly.";

#[must_use]
pub fn messages(question: &Question) -> Vec<Message> {
    let form = answer_form(question.scorer);
    let user = format!(
        "Answer the question. Give no explanation and no steps. Reply with this one line:\nThe answer is: X\nwhere \
         {form}.\n\n{}",
        material(question)
    );
    vec![Message::system(SYSTEM), Message::user(user)]
}

/// What a student is trained to reply where it is to say nothing but the answer.
#[must_use]
pub fn completion(answer: &str) -> String {
    format!("The answer is: {}", answer.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[must_use]
pub fn prompt_id() -> PromptId {
    PromptId::of("direct", crate::extract::VERSION, messages)
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
        let messages = messages(&question(Some("Ann is 7. Bo is 9."), "Who is older?", ScorerKind::Drop));
        let (system, user) = texts(&messages);
        assert_eq!(system, "You answer questions briefly and exactly.");
        assert_eq!(
            user,
            "Answer the question. Give no explanation and no steps. Reply with this one line:\n\
             The answer is: X\n\
             where X is as short as possible: a number in digits without a unit, or a date, or a few words copied from \
             the passage; several parts are separated by commas.\n\
             \n\
             <passage>\n\
             Ann is 7. Bo is 9.\n\
             </passage>\n\
             \n\
             Question: Who is older?"
        );
    }
}
