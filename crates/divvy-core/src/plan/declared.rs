//! What a recipe says of its own account beforehand: the comparisons that a run is to decide, and the terms on which its costs
//! are counted.

use super::names::Names;
use crate::{
    arm::{Arm, ArmPair},
    recipe::{Evaluate, RecipeError, nearest},
    results::costs::StatedTerms,
};

impl Names<'_> {
    pub(super) fn comparisons(&self, evaluate: &Evaluate, arms: &[Arm]) -> Result<Vec<ArmPair>, RecipeError> {
        let mut slugs: Vec<String> = Vec::new();
        for slug in arms.iter().map(|arm| self.pooled(arm).slug()) {
            if !slugs.contains(&slug) {
                slugs.push(slug);
            }
        }
        for (at, pair) in evaluate.comparisons.iter().enumerate() {
            self.arm("evaluate.comparisons.a", &pair.a, &slugs)?;
            self.arm("evaluate.comparisons.b", &pair.b, &slugs)?;
            if pair.a == pair.b {
                return self.fail("evaluate.comparisons", format!("`{}` is compared with itself", pair.a));
            }
            let same = |other: &ArmPair| pair == other || (&pair.a, &pair.b) == (&other.b, &other.a);
            if evaluate.comparisons[..at].iter().any(same) {
                let message = format!("`{}` and `{}` are compared twice", pair.a, pair.b);
                return self.fail("evaluate.comparisons", message);
            }
        }
        Ok(evaluate.comparisons.clone())
    }

    fn arm(&self, key: &str, name: &str, slugs: &[String]) -> Result<(), RecipeError> {
        if slugs.iter().any(|slug| slug == name) {
            return Ok(());
        }
        let error = RecipeError::at_key(self.origin, key, format!("no arm of this recipe is called `{name}`"));
        Err(match nearest(name, slugs.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("the arms are {}", slugs.join(", "))),
        })
    }

    pub(super) fn terms(&self) -> Result<(), RecipeError> {
        let checked = StatedTerms::of(&self.recipe.costs);
        checked.map(drop).or_else(|error| self.fail(&format!("costs.{}", error.key), error))
    }
}
