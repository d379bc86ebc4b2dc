//! `[collect]` and `[screen]`.

use super::{
    super::{CollectPlan, RECORDED, ScreenPlan},
    Names,
};
use crate::recipe::{self, RecipeError, Rule};

impl Names<'_> {
    pub(in crate::plan) fn collect(&self) -> Result<CollectPlan, RecipeError> {
        let collect = &self.recipe.collect;
        if collect.teacher != RECORDED {
            self.model("collect.teacher", &collect.teacher)?;
        }
        let (samples, temperature) = self.sampling("collect", collect.samples, collect.temperature)?;
        if collect.teacher == RECORDED && samples > 1 {
            return self.fail("collect.samples", "a recorded teacher has one decomposition a question");
        }
        if collect.teacher == RECORDED && collect.shots > 0 {
            return self.fail("collect.shots", "a recorded teacher is not asked, and sees no demonstrations");
        }
        Ok(CollectPlan {
            teacher: collect.teacher.clone(),
            samples,
            temperature,
            draw: self.collect_draw()?,
            max_tokens: collect.max_tokens.unwrap_or(256),
            max_subquestions: collect.max_subquestions.unwrap_or(10),
            shots: collect.shots,
        })
    }

    pub(super) fn sampling(
        &self,
        table: &str,
        samples: Option<u32>,
        temperature: Option<f64>,
    ) -> Result<(u32, f64), RecipeError> {
        let (samples, temperature) = (samples.unwrap_or(1), temperature.unwrap_or(0.0));
        if samples == 0 {
            return self.fail(&format!("{table}.samples"), "at least one sample is needed");
        }
        if samples > 1 && temperature <= 0.0 {
            return self.fail(
                &format!("{table}.temperature"),
                "several greedy samples are all the same; set a temperature above 0",
            );
        }
        if !(0.0..=2.0).contains(&temperature) {
            return self.fail(&format!("{table}.temperature"), "a temperature lies between 0 and 2");
        }
        Ok((samples, temperature))
    }

    pub(in crate::plan) fn screen(&self, screen: &recipe::Screen) -> Result<ScreenPlan, RecipeError> {
        self.model("screen.solver", &screen.solver)?;
        let (samples, temperature) = self.sampling("screen", screen.samples, screen.temperature)?;
        let threshold = match (screen.rule, screen.threshold) {
            (Rule::Threshold, None) => {
                return self.fail("screen.threshold", "the rule `threshold` needs one, between 0 and 1");
            }
            (_, Some(share)) if !(0.0..=1.0).contains(&share) => {
                return self.fail("screen.threshold", "a share lies between 0 and 1");
            }
            (Rule::Agreement, share) => share.unwrap_or(0.5),
            (_, share) => share.unwrap_or(0.0),
        };
        if screen.rule == Rule::Agreement && samples < 2 {
            return self.fail("screen.samples", "one sample agrees with itself; the rule `agreement` needs several");
        }
        if screen.until == Some(0) {
            return self.fail("screen.until", "screening would never begin; leave the line out to screen every row");
        }
        Ok(ScreenPlan {
            solver: screen.solver.clone(),
            samples,
            temperature,
            draw: self.screen_draw(screen)?,
            max_tokens: screen.max_tokens.unwrap_or(400),
            rule: screen.rule,
            threshold,
            rows: screen.rows,
            until: screen.until,
            shots: screen.shots,
        })
    }
}
