//! How a student is asked: the one place where the prompts of its training rows are written. Arms write theirs with the same
//! functions, wording, style and demonstrations.

use divvy_core::{
    chat::Message,
    decomposition::Decomposition,
    digest::Digest,
    plan::StudentPlan,
    prompts::{
        PromptId, PromptName, Prompts,
        decompose::{self, Manner},
        direct, two_stage,
    },
    question::Question,
    recipe::Target,
};

use crate::demonstrations::Shown;

#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) prompts: &'a Prompts,
    pub(crate) shown: &'a Shown,
    pub(crate) plan: &'a StudentPlan,
}

impl Asked<'_> {
    pub(crate) fn decomposing(&self, question: &Question) -> Vec<Message> {
        let shots = &self.shown.beside(PromptName::Decompose, self.plan.shots, question);
        decompose::messages(self.prompts, Manner { style: self.plan.style, most: None, shots }, question)
    }

    pub(crate) fn solving(&self, question: &Question, steps: &Decomposition) -> Vec<Message> {
        let shots = self.shown.beside(PromptName::TwoStage, self.plan.shots, question);
        two_stage::messages(self.prompts, &shots, question, steps)
    }

    pub(crate) fn answering(&self, question: &Question) -> Vec<Message> {
        let shots = self.shown.beside(PromptName::Direct, self.plan.shots, question);
        direct::messages(self.prompts, &shots, question)
    }

    /// Digest of the prompts that a target is trained on and their parsers: another prompt is another student.
    pub(crate) fn prompt_id(&self) -> String {
        let shots = |name| self.shown.staged(name, self.plan.shots);
        let (first, then) = (shots(PromptName::Decompose), shots(PromptName::TwoStage));
        let manner = Manner { style: self.plan.style, most: None, shots: &first };
        let PromptId(decomposes) = decompose::prompt_id(self.prompts, manner);
        let PromptId(solves) = two_stage::prompt_id(self.prompts, &then);
        let PromptId(answers) = direct::prompt_id(self.prompts, &shots(PromptName::Direct));
        let id = match self.plan.target {
            Target::SdT | Target::SdR => decomposes,
            Target::SeT | Target::SeA | Target::SeTDirect | Target::SeADirect => solves,
            Target::Direct => answers,
            Target::Joint => Digest::of("prompts/1", &[decomposes, solves]),
        };
        id.hex().to_owned()
    }
}
