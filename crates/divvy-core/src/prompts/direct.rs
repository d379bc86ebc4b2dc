//! The single-stage prompt without reasoning: one call, the answer alone.

use super::{
    BuiltIn, Demonstration, PromptId, PromptName, Prompts, answer_form, demonstration, material, template::Place,
};
use crate::{chat::Message, question::Question};

pub(super) const BUILT_IN: BuiltIn = BuiltIn {
    system: "You answer questions briefly and exactly.",
    template: "Answer the question. Give no explanation and no steps. Reply with this one line:\nThe answer is: X\nwhere \
               {answer_form}.\n\n{question}",
    places: &[Place::needed("question"), Place::optional("answer_form")],
    parser_version: crate::extract::VERSION,
};

#[must_use]
pub fn messages(prompts: &Prompts, shots: &[Demonstration], question: &Question) -> Vec<Message> {
    demonstration::shown(shots, (question, &[]), |question, _| {
        let places = [("question", &*material(question)), ("answer_form", answer_form(question.scorer))];
        prompts.write(PromptName::Direct, &places)
    })
}

/// What a student is trained to reply where it is to say nothing but the answer.
#[must_use]
pub fn completion(answer: &str) -> String {
    format!("The answer is: {}", answer.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[must_use]
pub fn prompt_id(prompts: &Prompts, shots: &[Demonstration]) -> PromptId {
    PromptId::of(PromptName::Direct, |question| messages(prompts, shots, question))
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
            &question(Some("Ann is 7. Bo is 9."), "Who is older?", ScorerKind::Drop),
        );
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
