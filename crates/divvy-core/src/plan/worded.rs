//! The words in which an arm asks: the recipe's prompts, or with `+prompt=NAME` the variants of that name.

use std::borrow::Cow;

use super::{Plan, RECORDED, TEACHER, names::Names};
use crate::{
    arm::{Arm, Strategy, Way},
    prompts::{PromptName, Prompts},
    recipe::{RecipeError, nearest},
};

/// Of a decomposer that follows instructions.
fn decomposing(strategy: Strategy) -> &'static [PromptName] {
    match strategy {
        Strategy::Direct | Strategy::Cot => &[],
        Strategy::TwoStage | Strategy::Sequential => &[PromptName::Decompose, PromptName::DecomposeJson],
        Strategy::SelfAsk => &[PromptName::SelfAsk],
    }
}

/// Of a solver. Where a decomposer says that there is nothing to decompose, all but `direct` end in `cot`.
fn solving(strategy: Strategy) -> &'static [PromptName] {
    match strategy {
        Strategy::Direct => &[PromptName::Direct],
        Strategy::Cot => &[PromptName::Cot],
        Strategy::TwoStage => &[PromptName::TwoStage],
        Strategy::Sequential | Strategy::SelfAsk => &[PromptName::Subquestion, PromptName::Conclusion],
    }
}

/// Those that an arm may ask in other words: a student is asked as it was trained, and a data set is not asked.
fn asked(arm: &Arm, recorded: bool) -> Vec<PromptName> {
    let student = |name: &str| name.starts_with("student:");
    let keeps = |name: &str| student(name) || (recorded && name == TEACHER);
    let first = if arm.decomposer.as_deref().is_none_or(keeps) { &[] } else { decomposing(arm.strategy) };
    let then = if student(&arm.solver) { &[] } else { solving(arm.strategy) };
    [first, then].concat()
}

impl Plan {
    /// The prompts of an arm. Of a student's they are those that it learnt, whatever the arm.
    #[must_use]
    pub fn wording(&self, arm: &Arm) -> Cow<'_, Prompts> {
        let Some(variant) = &arm.variant.prompt else { return Cow::Borrowed(&self.prompts) };
        let mut names = asked(arm, self.collect.teacher == RECORDED);
        names.extend((!arm.solver.starts_with("student:")).then_some(PromptName::Cot));
        Cow::Owned(self.prompts.varied(variant, &names))
    }
}

impl Names<'_> {
    fn has_variant(&self, name: PromptName, variant: &str) -> bool {
        self.recipe.prompts.get(&name).is_some_and(|prompt| prompt.variants.contains_key(variant))
    }

    /// An arm whose prompts have none of the variant's words would be the plain one.
    pub(super) fn is_worded(&self, arm: &Arm) -> bool {
        let Some(variant) = &arm.variant.prompt else { return true };
        asked(arm, self.recipe.collect.teacher == RECORDED).into_iter().any(|name| self.has_variant(name, variant))
    }

    /// Refuses a variant that no prompt of the strategy has.
    pub(super) fn worded(&self, way: &Way) -> Result<(), RecipeError> {
        let Some(variant) = &way.variant.prompt else { return Ok(()) };
        let names = [decomposing(way.strategy), solving(way.strategy)].concat();
        if names.iter().any(|name| self.has_variant(*name, variant)) {
            return Ok(());
        }
        let of =
            |name: &PromptName| self.recipe.prompts.get(name).into_iter().flat_map(|prompt| prompt.variants.keys());
        let near = nearest(variant, names.iter().flat_map(of).map(String::as_str));
        let mut message = format!("`{way}`: no prompt of `{}` has a variant `{variant}`", way.strategy);
        message.extend(near.map(|near| format!("; did you mean `{near}`?")));
        let error = RecipeError::at_key(self.origin, "evaluate.strategies", message);
        Err(error
            .hint(format!("add [prompts.{}.variants.{variant}] with a template or system", names[names.len() - 1])))
    }
}
