//! How answers are graded, from recipe to plan.

use super::{CodePlan, JudgePlan, names::Names};
use crate::recipe::{self, FurtherScorer, RecipeError};

impl Names<'_> {
    pub(super) fn scorers(&self, named: &[FurtherScorer]) -> Result<Vec<FurtherScorer>, RecipeError> {
        let twice = named.iter().enumerate().find(|(at, scorer)| named[..*at].contains(scorer));
        match twice {
            Some((_, scorer)) => self.fail("evaluate.scorers", format!("`{}` is named twice", scorer.name())),
            None => Ok(named.to_vec()),
        }
    }

    /// `None` where the recipe says that nothing is run.
    pub(super) fn code(&self, code: &recipe::Code) -> Result<Option<CodePlan>, RecipeError> {
        let (seconds, memory_mb) = (code.seconds.unwrap_or(10), code.memory_mb.unwrap_or(512));
        if seconds == 0 {
            return self.fail("evaluate.code.seconds", "no program ends at once; leave the line out for 10");
        }
        if !(32..=1 << 20).contains(&memory_mb) {
            return self.fail("evaluate.code.memory_mb", "Python needs 32 at least; leave the line out for 512");
        }
        let interpreter = code.interpreter.clone().unwrap_or_else(|| "python3".to_owned());
        Ok(code.run.then_some(CodePlan { interpreter, seconds, memory_mb }))
    }

    pub(super) fn judge(&self, judge: &recipe::Judge) -> Result<JudgePlan, RecipeError> {
        self.model("evaluate.judge.model", &judge.model)?;
        Ok(JudgePlan { model: judge.model.clone(), max_tokens: judge.max_tokens.unwrap_or(256) })
    }
}
