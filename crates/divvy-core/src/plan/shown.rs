//! What stages and students show before a question, beside what arms do: how many demonstrations of which prompt, and by
//! which key of the recipe.

use super::{Plan, RECORDED, demonstrates, names::Names};
use crate::{
    arm::{Arm, Strategy},
    prompts::PromptName,
    recipe::{RecipeError, Target},
    records::Stage,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Showing {
    pub stage: Stage,
    pub prompt: PromptName,
    pub shots: usize,
    /// `collect.shots`, `students.NAME.shots`
    pub key: String,
}

impl Target {
    /// The prompts that a student of this target learns, as its demonstrations know them.
    #[must_use]
    pub fn prompts(self) -> Vec<PromptName> {
        let solves = self.solves().map(|strategy| match strategy {
            Strategy::Direct => PromptName::Direct,
            _ => PromptName::TwoStage,
        });
        self.decomposes().then_some(PromptName::Decompose).into_iter().chain(solves).collect()
    }
}

impl Plan {
    /// Of collecting, screening and every student, where it shows any.
    #[must_use]
    pub fn showings(&self) -> Vec<Showing> {
        let of = |stage, prompt, shots, key: &str| Showing { stage, prompt, shots, key: format!("{key}.shots") };
        let mut all = vec![of(Stage::Collect, PromptName::Decompose, self.collect.shots, "collect")];
        let screen = self.screen.iter();
        all.extend(screen.map(|screen| of(Stage::Screen, PromptName::TwoStage, screen.shots, "screen")));
        for (name, student) in &self.students {
            let key = format!("students.{name}");
            let prompts = student.target.prompts().into_iter();
            all.extend(prompts.map(|prompt| of(Stage::Train, prompt, student.shots, &key)));
        }
        all.retain(|showing| showing.shots > 0);
        all
    }

    /// Whether the questions have all that an arm's prompt shows: whole decompositions are the teacher's, where it is a model.
    #[must_use]
    pub fn has_recorded(&self, prompt: PromptName) -> bool {
        prompt != PromptName::Decompose || self.collect.teacher == RECORDED || !self.collects()
    }

    /// How many demonstrations the decomposer of an arm sees, or its solver where it has none. A student is asked as it was
    /// trained.
    #[must_use]
    pub fn shots(&self, arm: &Arm) -> usize {
        let student = match &arm.decomposer {
            Some(name) => self.student(name).filter(|student| student.target.decomposes()),
            None => self.student(&arm.solver).filter(|student| student.target.solves() == Some(arm.strategy)),
        };
        student.map_or_else(|| arm.variant.shots(), |student| student.shots)
    }

    /// How many a student sees that solves behind a decomposer.
    #[must_use]
    pub fn solving_shots(&self, arm: &Arm) -> usize {
        let behind = arm.strategy.needs_decomposer();
        let student =
            self.student(&arm.solver).filter(|student| behind && student.target.solves() == Some(arm.strategy));
        student.map_or(0, |student| student.shots)
    }
}

impl Names<'_> {
    /// What is written must be enough for every arm, stage and student, and have some use.
    pub(super) fn shots(&self, plan: &Plan) -> Result<(), RecipeError> {
        let showings = plan.showings();
        let arms = plan.evaluate.iter().flat_map(|evaluate| &evaluate.arms);
        let arms: Vec<_> = arms.filter(|arm| arm.variant.shots() > 0).collect();
        for name in PromptName::ALL {
            let written = plan.prompts.demonstrations(name).len();
            let of_arms = arms.iter().filter(|arm| demonstrates(arm.strategy) == name);
            let of_arms = of_arms.map(|arm| (arm.slug(), arm.variant.shots()));
            let of_stages = showings.iter().filter(|showing| showing.prompt == name);
            let all = of_arms.chain(of_stages.map(|showing| (showing.key.clone(), showing.shots)));
            let key = format!("prompts.{name}.demonstrations");
            match all.max_by_key(|(_, shots)| *shots) {
                None if written > 0 => return self.fail(&key, unused(name, written)),
                Some((who, wanted)) if written > 0 && written < wanted => {
                    return self.fail(&key, format!("{written} are written, and `{who}` wants {wanted}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn unused(name: PromptName, written: usize) -> String {
    match name {
        PromptName::TwoStage => {
            format!("nothing shows them; write shots = {written} under [screen] or a student that solves")
        }
        _ => {
            let way = if name == PromptName::Decompose { "two-stage" } else { name.name() };
            format!("no strategy shows them; write \"{way}+shots={written}\" among evaluate.strategies")
        }
    }
}
