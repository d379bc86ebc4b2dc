//! A prompt as something asks it: its wording, demonstrations and cap. What `divvy prompts` lists and shows.

use std::{borrow::Cow, fmt};

use super::{
    Demonstration, PromptId, PromptName, Prompts, cot,
    decompose::{self, Manner, Style},
    direct, self_ask,
    stepwise::{self, Known, filled_in},
    two_stage,
};
use crate::{arm::Variant, chat::Message, decomposition::Decomposition, question::Question};

/// Written `cot+shots=4`, `decompose+max=3`, `cot+prompt=terse`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    pub name: PromptName,
    pub variant: Variant,
    /// Its demonstrations are recorded decompositions, where those of arms are the teacher's own.
    pub recorded: bool,
}

impl From<PromptName> for Usage {
    fn from(name: PromptName) -> Self {
        Self { name, variant: Variant::default(), recorded: false }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, self.variant, if self.recorded { "+recorded" } else { "" })
    }
}

impl Usage {
    fn manner<'a>(&self, shots: &'a [Demonstration]) -> Manner<'a> {
        let style = match self.name {
            PromptName::DecomposeJson => Style::Structured,
            PromptName::DecomposeQuestion => Style::QuestionOnly,
            _ => Style::Free,
        };
        Manner { style, most: self.variant.max_subquestions.map(std::num::NonZeroU32::get), shots }
    }

    /// The prompt whose demonstrations it shows: of a decomposer, the same whatever its style.
    #[must_use]
    pub fn shown_in(&self) -> PromptName {
        match self.name {
            PromptName::DecomposeJson | PromptName::DecomposeQuestion => PromptName::Decompose,
            name => name,
        }
    }

    /// The prompts with this one in the words that it is asked in.
    #[must_use]
    pub fn wording<'p>(&self, prompts: &'p Prompts) -> Cow<'p, Prompts> {
        match &self.variant.prompt {
            None => Cow::Borrowed(prompts),
            // Two of the solver's prompts end in this one where there is nothing to decompose.
            Some(variant) => Cow::Owned(prompts.varied(variant, &[self.name, PromptName::Cot])),
        }
    }

    #[must_use]
    pub fn id(&self, prompts: &Prompts, shots: &[Demonstration]) -> PromptId {
        let prompts = &*self.wording(prompts);
        match self.name {
            PromptName::Decompose | PromptName::DecomposeJson | PromptName::DecomposeQuestion => {
                decompose::prompt_id(prompts, self.manner(shots))
            }
            PromptName::SelfAsk => self_ask::prompt_id(prompts, shots),
            PromptName::Direct => direct::prompt_id(prompts, shots),
            PromptName::Cot => cot::prompt_id(prompts, shots),
            PromptName::TwoStage => two_stage::prompt_id(prompts, shots),
            PromptName::Subquestion => stepwise::subquestion_id(prompts),
            PromptName::Conclusion => stepwise::conclusion_id(prompts),
        }
    }

    /// What a model receives for this question. Where the prompt has subquestions and answers in it, they are the data
    /// set's, or places that say what would stand there.
    #[must_use]
    pub fn render(&self, prompts: &Prompts, shots: &[Demonstration], question: &Question) -> Vec<Message> {
        let (known, prompts) = (known(question), &*self.wording(prompts));
        match self.name {
            PromptName::Decompose | PromptName::DecomposeJson | PromptName::DecomposeQuestion => {
                decompose::messages(prompts, self.manner(shots), question)
            }
            PromptName::SelfAsk => self_ask::messages(prompts, shots, question, &known[..1]),
            PromptName::Direct => direct::messages(prompts, shots, question),
            PromptName::Cot => cot::messages(prompts, shots, question),
            PromptName::TwoStage => two_stage::messages(prompts, shots, question, &steps(question)),
            PromptName::Subquestion => {
                let (next, before) = known.split_last().expect("there is a step");
                stepwise::subquestion(prompts, question, before, &next.subquestion)
            }
            PromptName::Conclusion => stepwise::conclusion(prompts, question, &known),
        }
    }
}

fn steps(question: &Question) -> Decomposition {
    let recorded = question.recorded.clone().filter(|steps| !steps.steps().is_empty());
    recorded.unwrap_or_else(|| Decomposition::from_texts(["(the first subquestion)", "(the second subquestion)"]))
}

fn known(question: &Question) -> Vec<Known> {
    let steps = steps(question);
    let has_answers = question.worked.len() == steps.steps().len();
    let mut known: Vec<Known> = Vec::new();
    for (at, step) in steps.steps().iter().enumerate() {
        let recorded = question.worked.get(at).filter(|_| has_answers).and_then(|worked| worked.answer.clone());
        let answer = recorded.unwrap_or_else(|| format!("(the answer to subquestion {})", at + 1));
        known.push(Known { subquestion: filled_in(&step.text, &known), answer: Some(answer) });
    }
    known
}
