//! `[collect]` and `[screen]`.

use super::{
    super::{CollectPlan, Draw, RECORDED, ScreenPlan},
    Names,
};
use crate::recipe::{self, Format, RecipeError, Rule};

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
        let format = self.format(screen)?;
        if screen.until == Some(0) {
            return self.fail("screen.until", "screening would never begin; leave the line out to screen every row");
        }
        let Some(solver) = &screen.solver else { return self.by_form_alone(screen, format) };
        self.model("screen.solver", solver)?;
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
        Ok(ScreenPlan {
            solver: Some(solver.clone()),
            samples,
            temperature,
            draw: self.screen_draw(screen)?,
            max_tokens: screen.max_tokens.unwrap_or(400),
            rule: screen.rule,
            threshold,
            rows: screen.rows,
            until: screen.until,
            shots: screen.shots,
            format,
        })
    }

    /// Nobody is asked.
    fn by_form_alone(&self, screen: &recipe::Screen, format: Option<Format>) -> Result<ScreenPlan, RecipeError> {
        if screen.rule != Rule::Format {
            let error = RecipeError::at_key(self.origin, "screen.solver", "this rule asks a solver; name a model");
            return Err(error.hint("rule = \"format\" asks nobody and keeps what is well-formed"));
        }
        Ok(ScreenPlan {
            solver: None,
            samples: 0,
            temperature: 0.0,
            draw: Draw::default(),
            max_tokens: 0,
            rule: Rule::Format,
            threshold: 0.0,
            rows: screen.rows,
            until: screen.until,
            shots: 0,
            format,
        })
    }

    /// The rule `format` has conditions, written or not.
    fn format(&self, screen: &recipe::Screen) -> Result<Option<Format>, RecipeError> {
        if screen.rule == Rule::Format {
            self.asks_nobody(screen)?;
        }
        let usual = (screen.rule == Rule::Format).then(Format::default);
        let Some(format) = screen.format.or(usual) else { return Ok(None) };
        let fewest = format.min_steps;
        match format.max_steps {
            Some(0) => self.fail(
                "screen.format.max_steps",
                "nothing but `No decomposition` would be kept; write 1 at least, or leave the line out",
            ),
            Some(most) if most < fewest => self.fail(
                "screen.format.max_steps",
                format!("no decomposition has {fewest} subquestions at least and {most} at most; raise it, or lower min_steps"),
            ),
            _ => self.reaches(fewest).map(|()| Some(format)),
        }
    }

    /// A decomposition may have so many subquestions.
    fn reaches(&self, fewest: usize) -> Result<(), RecipeError> {
        let collect = self.collect()?;
        if collect.teacher == RECORDED || fewest <= collect.max_subquestions {
            return Ok(());
        }
        let message = format!(
            "collect.max_subquestions keeps {} of a decomposition, so that none has {fewest}; raise that, or lower this",
            collect.max_subquestions
        );
        self.fail("screen.format.min_steps", message)
    }

    fn asks_nobody(&self, screen: &recipe::Screen) -> Result<(), RecipeError> {
        let written = [
            ("solver", screen.solver.is_some()),
            ("samples", screen.samples.is_some()),
            ("shots", screen.shots > 0),
            ("temperature", screen.temperature.is_some()),
            ("top_p", screen.top_p.is_some()),
            ("top_k", screen.top_k.is_some()),
            ("min_p", screen.min_p.is_some()),
            ("repetition_penalty", screen.repetition_penalty.is_some()),
            ("seed", screen.seed.is_some()),
            ("max_tokens", screen.max_tokens.is_some()),
            ("threshold", screen.threshold.is_some()),
        ];
        let Some((key, _)) = written.iter().find(|(_, written)| *written) else { return Ok(()) };
        let message = "the rule `format` asks no solver; leave the line out, or write another rule, which may have \
                       [screen.format] beside it";
        self.fail(&format!("screen.{key}"), message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{plan::Plan, recipe::Recipe};

    fn plan(screen: &str, more: &str) -> Result<Plan, String> {
        let text = format!(
            "name = \"x\"\ndata.train = {{ dataset = \"synth\", rows = 4 }}\nmodels.m.source = \"path:m\"\n\
             [collect]\nteacher = \"m\"\nmax_subquestions = 6\n[screen]\n{screen}\n{more}"
        );
        let recipe = Recipe::parse(&text, "x.toml").map_err(|error| error.to_string())?;
        Plan::resolve(&recipe, "x.toml").map_err(|error| error.to_string())
    }

    fn student(target: &str, more: &str) -> String {
        format!("[students.s]\nbase = \"m\"\ntarget = \"{target}\"\n{more}")
    }

    const ASKING: &str = "solver = \"m\"";
    const BY_FORM: &str = "rule = \"format\"";

    #[test]
    fn by_form_alone_nobody_is_asked() {
        let plan = plan(BY_FORM, &student("SD-R", "")).unwrap();
        let told = serde_json::to_value(&plan.screen).unwrap();
        let format =
            json!({ "min_steps": 0, "max_steps": null, "repeats": false, "leaks": false, "refers_ahead": false });
        assert_eq!((&told["format"], &told["samples"], told.get("solver")), (&format, &json!(0), None));
        assert_eq!(serde_json::from_value::<Plan>(serde_json::to_value(&plan).unwrap()).unwrap(), plan);
        assert!(plan.prompt_usages().values().flatten().all(|place| place != "screen"));
    }

    #[test]
    fn a_form_is_part_of_the_plan_only_where_it_is_written() {
        let digest = |screen: &str| plan(screen, "").unwrap().digest();
        let any = plan(ASKING, "").unwrap();
        assert!(serde_json::to_value(&any.screen).unwrap().get("format").is_none());
        assert_ne!(digest(&format!("{ASKING}\nformat = {{}}")), any.digest());
        assert_eq!(digest(&format!("{BY_FORM}\nformat = {{ leaks = false }}")), digest(BY_FORM));
    }

    #[track_caller]
    fn refused(screen: &str, more: &str, words: &[&str]) {
        let told = plan(screen, more).unwrap_err();
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        refused("rule = \"any\"", "", &["`screen.solver`", "name a model", "rule = \"format\""]);
        for key in
            [ASKING, "samples = 2", "temperature = 0.5", "threshold = 0.5", "shots = 1", "max_tokens = 9", "seed = 1"]
        {
            let name = key.split(' ').next().unwrap();
            refused(&format!("{BY_FORM}\n{key}"), "", &[&format!("`screen.{name}`"), "asks no solver", "another rule"]);
        }
        let form = |keys: &str| format!("{ASKING}\nformat = {{ {keys} }}");
        refused(&form("min_steps = 4, max_steps = 3"), "", &["`screen.format.max_steps`", "4", "lower min_steps"]);
        refused(&form("max_steps = 0"), "", &["`screen.format.max_steps`", "No decomposition"]);
        refused(&form("min_steps = 7"), "", &["`screen.format.min_steps`", "collect.max_subquestions", "6"]);
        refused(&form("max_step = 7"), "", &["max_step", "did you mean `max_steps`"]);
    }

    #[test]
    fn who_learns_a_solvers_answers_needs_a_solver() {
        for target in ["SE-T", "SE-A", "SE-T-direct"] {
            refused(
                BY_FORM,
                &student(target, ""),
                &["`students.s.target`", target, "`format` asks none", "another rule"],
            );
            plan(&format!("{ASKING}\nformat = {{ max_steps = 3 }}"), &student(target, "")).unwrap();
        }
        plan(BY_FORM, &student("SE-A-direct", "")).unwrap();
        refused(BY_FORM, &student("SD-R", "weights = \"pass-rate\""), &["`students.s.weights`", "no pass rate"]);
    }

    #[test]
    fn what_a_student_learns_says_whether_all_is_collected() {
        let waves = |screen: &str, target: &str| plan(screen, &student(target, "")).unwrap().collects_in_waves();
        let until = &format!("{ASKING}\nuntil = 3");
        for target in ["SD-R", "SE-T", "SE-A", "SE-T-direct", "direct"] {
            assert!(waves(until, target), "{target}");
        }
        for target in ["SD-T", "SE-A-direct", "joint"] {
            assert!(!waves(until, target), "{target} learns from every decomposition");
        }
        assert!(!waves(ASKING, "SD-R"), "all of it is screened");
        assert!(plan(until, "").unwrap().collects_in_waves());
        let rows = &format!("{ASKING}\nrows = 3");
        assert!(waves(rows, "SD-R") && !waves(rows, "SD-T"), "what is not screened, SD-R never learns");
        assert!(!plan(rows, "").unwrap().collects_in_waves(), "somebody else may want all of it");
    }
}
