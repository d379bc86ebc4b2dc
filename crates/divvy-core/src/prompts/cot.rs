//! Chain of thought: one call, reasoning before the answer.

use super::{
    BuiltIn, Demonstration, PromptId, PromptName, Prompts, answer_form, demonstration, material, template::Place,
};
use crate::{chat::Message, question::Question};

pub(super) const BUILT_IN: BuiltIn = BuiltIn {
    system: "You are a careful assistant.",
    template: "{question}\n\nReason step by step in short sentences. Then answer on a last line: \"The answer is: X\", where \
               {answer_form}.",
    places: &[Place::needed("question"), Place::optional("answer_form")],
    parser_version: crate::extract::VERSION,
};

#[must_use]
pub fn messages(prompts: &Prompts, shots: &[Demonstration], question: &Question) -> Vec<Message> {
    demonstration::shown(shots, (question, &[]), |question, _| {
        let places = [("question", &*material(question)), ("answer_form", answer_form(question.scorer))];
        prompts.write(PromptName::Cot, &places)
    })
}

#[must_use]
pub fn prompt_id(prompts: &Prompts, shots: &[Demonstration]) -> PromptId {
    PromptId::of(PromptName::Cot, |question| messages(prompts, shots, question))
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
        let messages = messages(
            &Prompts::default(),
            &[],
            &question(None, "Ann has 3 pens and\nbuys 4. How many?", ScorerKind::Numeric),
        );
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
