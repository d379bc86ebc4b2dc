//! Which prompts a plan asks with, and who is asked.

use std::collections::BTreeMap;

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
            self.decomposers(TEACHER).for_each(|name| note(&mut usages, name.into(), "collect"));
        }
        if self.screen.is_some() {
            note(&mut usages, PromptName::TwoStage.into(), "screen");
        }
        for (name, student) in &self.students {
            let trained = |name: PromptName| Usage::from(name);
            let decomposes = student.target.decomposes().then(|| student.style.prompt());
            let solves = student.target.solves().map(|strategy| match strategy {
                Strategy::Direct => PromptName::Direct,
                _ => PromptName::TwoStage,
            });
            let prompts = decomposes.into_iter().chain(solves).map(trained);
            prompts.for_each(|usage| note(&mut usages, usage, &format!("students.{name}")));
        }
        for arm in self.evaluate.iter().flat_map(|evaluate| &evaluate.arms) {
            self.of_arm(arm).for_each(|usage| note(&mut usages, usage, &arm.slug()));
        }
        usages
    }

    fn of_arm(&self, arm: &Arm) -> impl Iterator<Item = Usage> {
        let shots = Variant { max_subquestions: None, ..arm.variant };
        let told = self.told_most(arm).and(arm.variant.max_subquestions);
        let asked = Variant { max_subquestions: told, ..shots };
        let decomposer = arm.decomposer.as_deref().filter(|name| self.is_asked(name));
        let whole = decomposer.into_iter().flat_map(|name| self.decomposers(name));
        let whole: Vec<Usage> = whole.map(|name| Usage { name, variant: asked }).collect();
        let own = |name| vec![Usage { name, variant: shots }];
        let (first, then): (Vec<Usage>, &[PromptName]) = match arm.strategy {
            Strategy::Direct => (own(PromptName::Direct), &[]),
            Strategy::Cot => (own(PromptName::Cot), &[]),
            Strategy::TwoStage => (whole, &[PromptName::TwoStage]),
            Strategy::Sequential => (whole, &[PromptName::Subquestion, PromptName::Conclusion]),
            Strategy::SelfAsk => (own(PromptName::SelfAsk), &[PromptName::Subquestion, PromptName::Conclusion]),
        };
        first.into_iter().chain(then.iter().map(|name| Usage::from(*name)))
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
