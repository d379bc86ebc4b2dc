//! Which prompts a plan asks with, and who is asked.

use std::{collections::BTreeMap, num::NonZeroU32};

use super::{Plan, RECORDED, TEACHER};
use crate::{
    arm::{Arm, Strategy, Variant},
    prompts::{PromptName, Usage, decompose::Style},
    recipe::Structured,
};

type Usages = BTreeMap<Usage, Vec<String>>;

impl Plan {
    /// Every prompt that some stage asks with, and where: `collect`, `screen`, `students.NAME`, an arm.
    #[must_use]
    pub fn prompt_usages(&self) -> Usages {
        let mut usages = Usages::new();
        if self.collects() && self.collect.teacher != RECORDED {
            let asked = self.decomposers(TEACHER).map(|name| self.staged(name, self.collect.shots));
            asked.for_each(|usage| note(&mut usages, usage, "collect"));
        }
        if let Some(screen) = self.screen.as_ref().filter(|screen| screen.solver.is_some()) {
            note(&mut usages, self.staged(PromptName::TwoStage, screen.shots), "screen");
        }
        for (name, student) in &self.students {
            for prompt in student.target.prompts() {
                let prompt = if prompt == PromptName::Decompose { student.style.prompt() } else { prompt };
                note(&mut usages, self.staged(prompt, student.shots), &format!("students.{name}"));
            }
        }
        for arm in self.evaluate.iter().flat_map(|evaluate| &evaluate.arms) {
            self.of_arm(arm).for_each(|usage| note(&mut usages, usage, &arm.slug()));
        }
        usages
    }

    /// As a stage or a student asks it.
    fn staged(&self, name: PromptName, shots: usize) -> Usage {
        let shots = u32::try_from(shots).ok().and_then(NonZeroU32::new);
        let whole = Style::ALL.map(Style::prompt).contains(&name);
        let teachers = whole && !self.has_recorded(PromptName::Decompose);
        let written = !self.prompts.demonstrations(PromptName::Decompose).is_empty();
        let recorded = shots.is_some() && teachers && !written;
        Usage { name, variant: Variant { shots, ..Variant::default() }, recorded }
    }

    /// A model is asked as the arm says, a student as it was trained.
    fn of_arm(&self, arm: &Arm) -> impl Iterator<Item = Usage> {
        let behind: &[PromptName] = match arm.strategy {
            Strategy::Direct | Strategy::Cot => &[],
            Strategy::TwoStage => &[PromptName::TwoStage],
            Strategy::Sequential | Strategy::SelfAsk => &[PromptName::Subquestion, PromptName::Conclusion],
        };
        let plain = Variant { shots: None, max_subquestions: None, ..arm.variant.clone() };
        let behind = behind.iter().map(|name| match self.student(&arm.solver) {
            Some(_) => self.staged(*name, self.solving_shots(arm)),
            None => self.worded(*name, plain.clone()),
        });
        let behind: Vec<Usage> = behind.collect();
        self.first_of(arm).into_iter().chain(behind)
    }

    /// Of the decomposer, or of the solver where there is none.
    fn first_of(&self, arm: &Arm) -> Vec<Usage> {
        let max_subquestions = self.told_most(arm).and(arm.variant.max_subquestions);
        let asked = |name: PromptName, model: &str| match self.student(model) {
            Some(_) => self.staged(name, self.shots(arm)),
            None => self.worded(name, Variant { max_subquestions, ..arm.variant.clone() }),
        };
        match (arm.strategy, arm.decomposer.as_deref().filter(|name| self.is_asked(name))) {
            (Strategy::Direct, _) => vec![asked(PromptName::Direct, &arm.solver)],
            (Strategy::Cot, _) => vec![asked(PromptName::Cot, &arm.solver)],
            (Strategy::SelfAsk, _) => {
                let uncapped = Variant { max_subquestions: None, ..arm.variant.clone() };
                vec![self.worded(PromptName::SelfAsk, uncapped)]
            }
            (Strategy::TwoStage | Strategy::Sequential, Some(name)) => {
                self.decomposers(name).map(|prompt| asked(prompt, name)).collect()
            }
            (Strategy::TwoStage | Strategy::Sequential, None) => Vec::new(),
        }
    }

    /// In the words of the variant, where this prompt has them.
    fn worded(&self, name: PromptName, variant: Variant) -> Usage {
        let prompt = variant.prompt.filter(|prompt| self.prompts.has_variant(name, prompt));
        Usage { variant: Variant { prompt, ..variant }, ..name.into() }
    }

    fn is_asked(&self, decomposer: &str) -> bool {
        decomposer != TEACHER || self.collect.teacher != RECORDED
    }

    /// The prompts of a decomposer. Of one that is still to be tried whether it keeps to a schema there are two.
    fn decomposers(&self, name: &str) -> impl Iterator<Item = PromptName> + use<> {
        let tried = self.structured(name) == Structured::Auto;
        [Some(self.style(name)), tried.then_some(Style::Structured)].into_iter().flatten().map(Style::prompt)
    }
}

fn note(usages: &mut Usages, usage: Usage, place: &str) {
    let places = usages.entry(usage).or_default();
    if !places.iter().any(|known| known == place) {
        places.push(place.to_owned());
    }
}
