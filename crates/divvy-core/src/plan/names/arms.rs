//! `[evaluate]`: the grid of strategies, decomposers and solvers, expanded to arms.

use super::{
    super::{Draw, EvaluatePlan, PartSampling, RECORDED, TEACHER},
    Names,
};
use crate::{
    arm::{Arm, Strategy, Way},
    recipe::{self, EvalSplit, RecipeError, Target},
};

impl Names<'_> {
    pub(in crate::plan) fn evaluate(&self, evaluate: &recipe::Evaluate) -> Result<EvaluatePlan, RecipeError> {
        let split = evaluate.split.unwrap_or_default();
        if split == EvalSplit::Test && self.recipe.data.test.all().is_empty() {
            return self.fail("evaluate.split", "there is no [data.test]; add it, or write split = \"dev\"");
        }
        let data = &self.recipe.data;
        if split == EvalSplit::Dev && data.train.all().iter().all(|set| data.dev_rows_of(set) == 0) {
            return self.fail("data.dev_rows", "split = \"dev\" needs rows: write dev_rows = 100 under [data]");
        }
        let arms = self.arms(evaluate)?;
        let (solving, decomposing) = self.parts(evaluate)?;
        let penalty = evaluate.repetition_penalty.unwrap_or(decomposing.draw.repetition_penalty);
        Ok(EvaluatePlan {
            split,
            comparisons: self.comparisons(evaluate, &arms)?,
            repeats: self.repeats(evaluate, &arms, (solving, decomposing))?,
            arms,
            direct_tokens: evaluate.direct_tokens.unwrap_or(48),
            solve_tokens: evaluate.solve_tokens.unwrap_or(400),
            decompose_tokens: evaluate.decompose_tokens.unwrap_or(256),
            max_subquestions: evaluate.max_subquestions.unwrap_or(10),
            repetition_penalty: penalty,
            solving,
            decomposing: PartSampling { draw: Draw { repetition_penalty: 1.0, ..decomposing.draw }, ..decomposing },
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
        let (solvers, decomposers) = (self.versions(&evaluate.solvers), self.versions(&evaluate.decomposers));
        for solver in &solvers {
            self.part("evaluate.solvers", solver, |target| self.untaught() || target.solves().is_some())?;
        }
        for decomposer in decomposers.iter().filter(|name| *name != TEACHER) {
            self.part("evaluate.decomposers", decomposer, |target| self.untaught() || target.decomposes())?;
        }
        let mut arms = Vec::new();
        for solver in &solvers {
            for way in &evaluate.strategies {
                arms.extend(self.arms_of(way, solver, &decomposers)?);
            }
            if !arms.iter().any(|arm: &Arm| arm.solver == *solver) {
                let wanted = self.student_target(solver).and_then(Target::solves).unwrap_or(Strategy::TwoStage);
                let message = format!("`{solver}` answers by `{wanted}` alone, which is not among evaluate.strategies");
                return self.fail("evaluate.solvers", message);
            }
        }
        self.distinct(&arms)?;
        self.chosen(arms, &evaluate.arms)
    }

    /// Those that are named, in the order of the grid.
    fn chosen(&self, mut arms: Vec<Arm>, patterns: &[String]) -> Result<Vec<Arm>, RecipeError> {
        let named =
            |pattern: &str, arm: &Arm| matches(pattern, &arm.slug()) || matches(pattern, &self.pooled(arm).slug());
        if let Some(idle) = patterns.iter().find(|pattern| !arms.iter().any(|arm| named(pattern, arm))) {
            let slugs: Vec<String> = arms.iter().map(Arm::slug).collect();
            let error = RecipeError::at_key(self.origin, "evaluate.arms", format!("no arm is called `{idle}`"));
            return Err(error.hint(format!("there are {}", slugs.join(", "))));
        }
        arms.retain(|arm| patterns.is_empty() || patterns.iter().any(|pattern| named(pattern, arm)));
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

    fn arms_of(&self, way: &Way, solver: &str, decomposers: &[String]) -> Result<Vec<Arm>, RecipeError> {
        let Way { strategy, variant } = way;
        let strategy = *strategy;
        self.worded(way)?;
        let arm = |decomposer: Option<&String>| Arm {
            strategy,
            variant: variant.clone(),
            decomposer: decomposer.cloned(),
            solver: solver.to_owned(),
        };
        // A student answers in the way that it was taught, and its other arms would measure a prompt it never saw.
        let taught = |target: Target| {
            let in_its_way = self.untaught() || target.solves() == Some(strategy);
            in_its_way && (strategy.needs_decomposer() || variant.shots.is_none())
        };
        if self.student_target(solver).is_some_and(|target| !taught(target)) {
            return Ok(Vec::new());
        }
        if !strategy.needs_decomposer() {
            return Ok([arm(None)].into_iter().filter(|arm| self.is_worded(arm)).collect());
        }
        if decomposers.is_empty() {
            return self.fail("evaluate.decomposers", format!("`{way}` needs at least one decomposer"));
        }
        let mut arms: Vec<Arm> = Vec::new();
        for name in decomposers.iter().filter(|name| self.fits(way, name)) {
            arms.extend(self.of_one_seed(name, solver)?.then(|| arm(Some(name))).filter(|arm| self.is_worded(arm)));
        }
        if arms.is_empty() && (variant.prompt.is_none() || self.student_target(solver).is_none()) {
            let why = match strategy {
                Strategy::SelfAsk => "students and a recorded teacher write whole decompositions",
                _ if variant.prompt.is_some() => {
                    "students are asked as they were trained, and a recorded teacher is not asked"
                }
                _ => {
                    "students are asked as they were trained, without demonstrations, and a recorded teacher is not asked"
                }
            };
            let message = format!("`{way}` needs a decomposer that is a model of [models]: {why}");
            return self.fail("evaluate.decomposers", message);
        }
        Ok(arms)
    }

    /// Of two parts with several seeds, each seed of one goes with the same of the other.
    fn of_one_seed(&self, decomposer: &str, solver: &str) -> Result<bool, RecipeError> {
        let (Some((left, seed)), Some((right, other))) = (self.seeded(decomposer), self.seeded(solver)) else {
            return Ok(true);
        };
        let seeds = |name: &str| self.student_behind(name).and_then(|student| student.seeds.clone());
        if seeds(decomposer) != seeds(solver) {
            let message = format!("`{left}` and `{right}` go together seed by seed, and have different `seeds`");
            return self.fail("evaluate", message);
        }
        Ok(seed == other)
    }

    /// As the report names it: all seeds of a student are one arm there.
    pub(in crate::plan) fn pooled(&self, arm: &Arm) -> Arm {
        let plain = |name: &str| self.seeded(name).map_or(name, |(name, _)| name).to_owned();
        Arm { decomposer: arm.decomposer.as_deref().map(plain), solver: plain(&arm.solver), ..arm.clone() }
    }

    fn untaught(&self) -> bool {
        self.recipe.evaluate.as_ref().is_some_and(|evaluate| evaluate.untaught)
    }

    /// The grid has no arm for a decomposer that cannot do what the strategy asks of it.
    fn fits(&self, way: &Way, decomposer: &str) -> bool {
        let recorded = decomposer == TEACHER && self.recipe.collect.teacher == RECORDED;
        let instructed = way.strategy == Strategy::SelfAsk || way.variant.shots.is_some();
        !(instructed && (recorded || decomposer.starts_with("student:")))
    }
}

/// `two-stage/*/big`, with any text for each star.
fn matches(pattern: &str, slug: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = slug.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}
