//! From a recipe to a plan: every default filled in, every name looked up, and each mistake told with its key.

use std::collections::BTreeMap;

use super::{CollectPlan, DataPlan, EvaluatePlan, Plan, RECORDED, ScreenPlan, StudentPlan, TEACHER};
use crate::{
    arm::{Arm, Strategy, Way},
    cost,
    datasets::DatasetKind,
    model::ModelSource,
    prompts::decompose::Style,
    recipe::{self, EvalSplit, Method, Numerics, Recipe, RecipeError, Rule, Structured, StudentPrompt, Target},
};

/// Resolves names against one recipe.
pub(super) struct Names<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) origin: &'a str,
}

impl Names<'_> {
    pub(super) fn fail<T>(&self, key: &str, message: impl std::fmt::Display) -> Result<T, RecipeError> {
        Err(RecipeError::at_key(self.origin, key, message))
    }

    pub(super) fn data(&self) -> Result<DataPlan, RecipeError> {
        let data = &self.recipe.data;
        self.data_set("data.train", &data.train)?;
        if let Some(test) = &data.test {
            self.data_set("data.test", test)?;
        }
        Ok(DataPlan {
            train: data.train.dataset.clone(),
            test: data.test.as_ref().map(|test| test.dataset.clone()),
            dev_rows: data.dev_rows,
            content: BTreeMap::new(),
        })
    }

    fn data_set(&self, key: &str, set: &recipe::DataSet) -> Result<(), RecipeError> {
        let name = set.dataset.as_str();
        if let Err(error) = name.parse::<DatasetKind>() {
            return self.fail(&format!("{key}.dataset"), error);
        }
        if set.lines.is_some() && name != "traffic" {
            return self
                .fail(&format!("{key}.lines"), "this key is for `traffic` alone; `rows` takes some of any data set");
        }
        match name {
            "traffic" if key == "data.test" => {
                self.fail(&format!("{key}.dataset"), "`traffic` has no gold answers, so nothing can be scored on it")
            }
            "traffic" => Ok(()),
            "synth" if set.rows.is_none() => {
                self.fail(&format!("{key}.rows"), "`synth` makes as many rows as you say: write rows = 400")
            }
            "synth" => Ok(()),
            _ if set.files.is_empty() => {
                self.fail(&format!("{key}.files"), format!("`{name}` is read from files: write files = [\"…\"]"))
            }
            "rows" if set.columns.is_none() => self.fail(
                &format!("{key}.columns"),
                "`rows` needs to know its columns: columns = { question = \"…\", answer = \"…\" }",
            ),
            _ => Ok(()),
        }
    }

    pub(super) fn model(&self, key: &str, name: &str) -> Result<(), RecipeError> {
        if self.recipe.models.contains_key(name) {
            return Ok(());
        }
        let error = RecipeError::at_key(self.origin, key, format!("no model is called `{name}`"));
        if name == RECORDED {
            return Err(error.hint(format!("the recorded teacher goes by the name of its role, `{TEACHER}`")));
        }
        let known = self.recipe.models.keys().map(String::as_str);
        Err(match recipe::nearest(name, known) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("add [models.{name}] with a source")),
        })
    }

    pub(super) fn sources(&self) -> Result<(), RecipeError> {
        for (name, model) in &self.recipe.models {
            let key = format!("models.{name}.source");
            match model.source.parse::<ModelSource>() {
                Err(error) => return self.fail(&key, error),
                Ok(ModelSource::Endpoint { .. }) if model.model.is_none() => {
                    return self
                        .fail(&format!("models.{name}.model"), "an endpoint serves many models: write model = \"…\"");
                }
                Ok(ModelSource::Endpoint { .. } | ModelSource::Recorded(_)) if model.numerics != Numerics::Exact => {
                    return self.fail(&format!("models.{name}.numerics"), "this key is for local models alone");
                }
                Ok(ModelSource::Student(_)) => {
                    return self.fail(&key, "a student is used by its name, `student:NAME`, not defined as a model");
                }
                Ok(source) => self.endpoint(name, model, &source)?,
            }
            if let Some(Err(error)) = model.price.as_ref().map(cost::Prices::parse) {
                return self.fail(&format!("models.{name}.price"), error);
            }
            if name == TEACHER || name == RECORDED {
                return self.fail(&format!("models.{name}"), "this name has a meaning of its own; choose another");
            }
        }
        Ok(())
    }

    /// A cap in money is worth nothing where a price is unknown.
    pub(super) fn money(&self, plan: &Plan) -> Result<(), RecipeError> {
        let Some(dollars) = &self.recipe.budget.dollars else { return Ok(()) };
        if cost::parse_dollars(dollars).is_err() {
            let message = format!("`{dollars}` is no amount; write plain decimals, as in dollars = \"5.00\"");
            return self.fail("budget.dollars", message);
        }
        let free = |name: &String| {
            let model = &self.recipe.models[name];
            model.price.is_some() || !matches!(model.source.parse(), Ok(ModelSource::Endpoint { .. }))
        };
        match plan.models_in_use().iter().find(|name| !free(name)) {
            Some(name) => self.fail(
                &format!("models.{name}.price"),
                "a budget in dollars needs it: price = { input = \"0.15\", output = \"0.60\" }, dollars per million tokens",
            ),
            None => Ok(()),
        }
    }

    /// Keys that mean something for endpoints alone, and their values.
    fn endpoint(&self, name: &str, model: &recipe::Model, source: &ModelSource) -> Result<(), RecipeError> {
        let at = |key: &str| format!("models.{name}.{key}");
        let numbers = [
            ("requests_per_minute", model.requests_per_minute),
            ("tokens_per_minute", model.tokens_per_minute),
            ("weight", model.weight.map(u64::from)),
            ("stall_seconds", model.stall_seconds),
        ];
        let numbers: Vec<(&str, u64)> = numbers.into_iter().filter_map(|(key, most)| Some((key, most?))).collect();
        if let Some((key, _)) = numbers.iter().find(|(_, value)| *value == 0) {
            return self.fail(&at(key), "nothing could ever be sent; leave the line out for no limit");
        }
        let keys = numbers.iter().map(|(key, _)| *key);
        let keys = keys.chain(model.provider.as_ref().map(|_| "provider"));
        let keys = keys.chain((model.structured != Structured::Off).then_some("structured"));
        let keys = keys.chain(model.batch.as_ref().map(|_| "batch"));
        let keys = keys.chain((model.mode == recipe::Mode::Batch).then_some("mode"));
        let mut keys = keys.chain(model.endpoints.first().map(|_| "endpoints"));
        self.batch(name, model)?;
        match (source, keys.next()) {
            (ModelSource::Endpoint { .. }, _) => self.further(name, model),
            (_, Some(key)) => self.fail(&at(key), "this key is for endpoints alone"),
            (_, None) => Ok(()),
        }
    }

    fn further(&self, name: &str, model: &recipe::Model) -> Result<(), RecipeError> {
        for further in &model.endpoints {
            let numbers = [
                ("requests_per_minute", further.requests_per_minute),
                ("tokens_per_minute", further.tokens_per_minute),
                ("weight", further.weight.map(u64::from)),
            ];
            let at = |key: &str| format!("models.{name}.endpoints.{key}");
            if !matches!(further.url.parse(), Ok(ModelSource::Endpoint { .. })) {
                let message = format!("`{}` is no endpoint; write http(s)://host/v1", further.url);
                return self.fail(&at("url"), message);
            }
            if let Some((key, _)) = numbers.iter().find(|(_, value)| *value == Some(0)) {
                let message = format!("`{}` would never be asked; leave the line out", further.url);
                return self.fail(&at(key), message);
            }
        }
        Ok(())
    }

    pub(super) fn collect(&self) -> Result<CollectPlan, RecipeError> {
        let collect = &self.recipe.collect;
        if collect.teacher != RECORDED {
            self.model("collect.teacher", &collect.teacher)?;
        }
        let (samples, temperature) = self.sampling("collect", collect.samples, collect.temperature)?;
        if collect.teacher == RECORDED && samples > 1 {
            return self.fail("collect.samples", "a recorded teacher has one decomposition a question");
        }
        Ok(CollectPlan {
            teacher: collect.teacher.clone(),
            samples,
            temperature,
            max_tokens: collect.max_tokens.unwrap_or(256),
            max_subquestions: collect.max_subquestions.unwrap_or(10),
        })
    }

    fn sampling(&self, table: &str, samples: Option<u32>, temperature: Option<f64>) -> Result<(u32, f64), RecipeError> {
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

    pub(super) fn screen(&self, screen: &recipe::Screen) -> Result<ScreenPlan, RecipeError> {
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
            max_tokens: screen.max_tokens.unwrap_or(400),
            rule: screen.rule,
            threshold,
            rows: screen.rows,
            until: screen.until,
        })
    }

    pub(super) fn students(&self) -> Result<BTreeMap<String, StudentPlan>, RecipeError> {
        self.recipe.students.iter().map(|(name, student)| Ok((name.clone(), self.student(name, student)?))).collect()
    }

    fn student(&self, name: &str, student: &recipe::Student) -> Result<StudentPlan, RecipeError> {
        self.model(&format!("students.{name}.base"), &student.base)?;
        let target = student.target;
        if target.needs_screening() && self.recipe.screen.is_none() {
            let other = if target == Target::SdR { "SD-T" } else { "SE-A-direct" };
            return self.fail(
                &format!("students.{name}.target"),
                format!("{} is trained on screened rows: add [screen], or write {other}", target.name()),
            );
        }
        if student.prompt == StudentPrompt::Question && !target.decomposes() {
            return self.fail(&format!("students.{name}.prompt"), "this key is for decomposers alone");
        }
        let rank = student.rank.unwrap_or(16);
        let full = student.method == Method::Full;
        let plan = StudentPlan {
            base: student.base.clone(),
            target: student.target,
            style: match student.prompt {
                StudentPrompt::Instruction => Style::default(),
                StudentPrompt::Question => Style::QuestionOnly,
            },
            method: student.method,
            rank,
            alpha: student.alpha.unwrap_or(2.0 * rank as f64),
            epochs: student.epochs.unwrap_or(3),
            learning_rate: student.learning_rate.unwrap_or(if full { 2e-4 } else { 1e-3 }),
            batch_rows: student.batch_rows.unwrap_or(16),
            warmup_ratio: student.warmup_ratio.unwrap_or(0.05),
            weight_decay: student.weight_decay.unwrap_or(0.0),
            max_grad_norm: student.max_grad_norm.unwrap_or(1.0),
            max_row_tokens: student.max_row_tokens.unwrap_or(1024),
            checkpoint_every: student.checkpoint_every.unwrap_or(25),
            eval_every: student.eval_every.unwrap_or(25),
        };
        let positive = [
            ("rank", rank as f64),
            ("epochs", plan.epochs as f64),
            ("learning_rate", plan.learning_rate),
            ("batch_rows", plan.batch_rows as f64),
        ];
        match positive.iter().find(|(_, value)| *value <= 0.0) {
            Some((key, _)) => self.fail(&format!("students.{name}.{key}"), "must be above 0"),
            None => Ok(plan),
        }
    }

    pub(super) fn evaluate(&self, evaluate: &recipe::Evaluate) -> Result<EvaluatePlan, RecipeError> {
        let split = evaluate.split.unwrap_or(EvalSplit::Test);
        if split == EvalSplit::Test && self.recipe.data.test.is_none() {
            return self.fail("evaluate.split", "there is no [data.test]; add it, or write split = \"dev\"");
        }
        if split == EvalSplit::Dev && self.recipe.data.dev_rows == 0 {
            return self.fail("data.dev_rows", "split = \"dev\" needs rows: write dev_rows = 100 under [data]");
        }
        Ok(EvaluatePlan {
            split,
            arms: self.arms(evaluate)?,
            direct_tokens: evaluate.direct_tokens.unwrap_or(48),
            solve_tokens: evaluate.solve_tokens.unwrap_or(400),
            decompose_tokens: evaluate.decompose_tokens.unwrap_or(256),
            max_subquestions: evaluate.max_subquestions.unwrap_or(10),
            repetition_penalty: evaluate.repetition_penalty.unwrap_or(1.0),
            scorers: self.scorers(&evaluate.scorers)?,
            code: evaluate.code.as_ref().map_or(Ok(None), |code| self.code(code))?,
            judge: evaluate.judge.as_ref().map(|judge| self.judge(judge)).transpose()?,
        })
    }

    fn arms(&self, evaluate: &recipe::Evaluate) -> Result<Vec<Arm>, RecipeError> {
        for (key, empty) in
            [("evaluate.solvers", evaluate.solvers.is_empty()), ("evaluate.strategies", evaluate.strategies.is_empty())]
        {
            if empty {
                return self.fail(key, "name at least one");
            }
        }
        for solver in &evaluate.solvers {
            self.part("evaluate.solvers", solver, |target| target.solves().is_some())?;
        }
        for decomposer in evaluate.decomposers.iter().filter(|name| *name != TEACHER) {
            self.part("evaluate.decomposers", decomposer, Target::decomposes)?;
        }
        let mut arms = Vec::new();
        for solver in &evaluate.solvers {
            for &way in &evaluate.strategies {
                arms.extend(self.arms_of(way, solver, &evaluate.decomposers)?);
            }
            if !arms.iter().any(|arm: &Arm| arm.solver == *solver) {
                let wanted = self.student_target(solver).and_then(Target::solves).unwrap_or(Strategy::TwoStage);
                let message = format!("`{solver}` answers by `{wanted}` alone, which is not among evaluate.strategies");
                return self.fail("evaluate.solvers", message);
            }
        }
        self.distinct(&arms)?;
        Ok(arms)
    }

    /// Records are kept by slug: two arms of one would be one.
    fn distinct(&self, arms: &[Arm]) -> Result<(), RecipeError> {
        let mut slugs: Vec<String> = arms.iter().map(Arm::slug).collect();
        slugs.sort();
        match slugs.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => self.fail(
                "evaluate",
                format!("two arms are called `{}`: name nothing twice, and a student unlike any model", pair[0]),
            ),
            None => Ok(()),
        }
    }

    fn arms_of(&self, way: Way, solver: &str, decomposers: &[String]) -> Result<Vec<Arm>, RecipeError> {
        let Way { strategy, variant } = way;
        let arm = |decomposer: Option<&String>| Arm {
            strategy,
            variant,
            decomposer: decomposer.cloned(),
            solver: solver.to_owned(),
        };
        // A student answers in the way that it was taught, and its other arms would measure a prompt it never saw.
        let taught = |target: Target| {
            target.solves() == Some(strategy) && (strategy.needs_decomposer() || variant.shots.is_none())
        };
        if self.student_target(solver).is_some_and(|target| !taught(target)) {
            return Ok(Vec::new());
        }
        if !strategy.needs_decomposer() {
            return Ok(vec![arm(None)]);
        }
        if decomposers.is_empty() {
            return self.fail("evaluate.decomposers", format!("`{way}` needs at least one decomposer"));
        }
        let arms: Vec<Arm> =
            decomposers.iter().filter(|name| self.fits(way, name)).map(|name| arm(Some(name))).collect();
        if arms.is_empty() {
            let why = match strategy {
                Strategy::SelfAsk => "students and a recorded teacher write whole decompositions",
                _ => {
                    "students are asked as they were trained, without demonstrations, and a recorded teacher is not asked"
                }
            };
            let message = format!("`{way}` needs a decomposer that is a model of [models]: {why}");
            return self.fail("evaluate.decomposers", message);
        }
        Ok(arms)
    }

    /// The grid has no arm for a decomposer that cannot do what the strategy asks of it.
    fn fits(&self, way: Way, decomposer: &str) -> bool {
        let recorded = decomposer == TEACHER && self.recipe.collect.teacher == RECORDED;
        let instructed = way.strategy == Strategy::SelfAsk || way.variant.shots.is_some();
        !(instructed && (recorded || decomposer.starts_with("student:")))
    }

    fn student_target(&self, name: &str) -> Option<Target> {
        let student = self.recipe.students.get(name.strip_prefix("student:")?)?;
        Some(student.target)
    }

    /// A model, or a student that was trained for this part.
    fn part(&self, key: &str, name: &str, trained_for: impl Fn(Target) -> bool) -> Result<(), RecipeError> {
        let Some(student) = name.strip_prefix("student:") else { return self.model(key, name) };
        match self.student_target(name) {
            Some(target) if trained_for(target) => Ok(()),
            Some(target) => self
                .fail(key, format!("`{name}` has the target {}, which does not train it for this part", target.name())),
            None => Err(RecipeError::at_key(self.origin, key, format!("no student is called `{student}`"))
                .hint(format!("add [students.{student}]"))),
        }
    }
}
