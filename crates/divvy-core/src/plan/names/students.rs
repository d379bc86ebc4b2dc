//! `[students]`: what each is trained from, on what, and how.

use std::collections::BTreeMap;

use super::{
    super::{StudentPlan, tuning, without_seed},
    Names,
};
use crate::{
    prompts::decompose::Style,
    recipe::{self, DataSet, Method, Mix, OneOrMany, RecipeError, RowWeights, Rule, StudentPrompt, Target},
};

/// One of the students that an entry of `[students]` stands for.
struct Version {
    name: String,
    rows: Option<usize>,
    seed: Option<u64>,
}

/// Each size with each seed.
fn versions(name: &str, student: &recipe::Student) -> Vec<Version> {
    let sizes: Vec<(String, Option<usize>)> = match &student.rows {
        None => vec![(name.to_owned(), None)],
        Some(OneOrMany::One(rows)) => vec![(name.to_owned(), Some(*rows))],
        Some(OneOrMany::Many(sizes)) => sizes.iter().map(|rows| (format!("{name}@{rows}"), Some(*rows))).collect(),
    };
    let with_seeds = |(name, rows): (String, Option<usize>)| -> Vec<Version> {
        let one = |seed| Version { name: name.clone(), rows, seed };
        let several = |seed: &u64| Version { name: format!("{name}#{seed}"), ..one(Some(*seed)) };
        match &student.seeds {
            None => vec![one(None)],
            Some(OneOrMany::One(seed)) => vec![one(Some(*seed))],
            Some(OneOrMany::Many(seeds)) => seeds.iter().map(several).collect(),
        }
    };
    sizes.into_iter().flat_map(with_seeds).collect()
}

impl Names<'_> {
    /// Each student, and each size and seed of one that has several.
    pub(in crate::plan) fn students(&self) -> Result<BTreeMap<String, StudentPlan>, RecipeError> {
        let mut plans = BTreeMap::new();
        for (name, student) in &self.recipe.students {
            let plan = self.student(name, student)?;
            self.sizes(name, student)?;
            self.seeds(name, student)?;
            for Version { name, rows, seed, .. } in versions(name, student) {
                if plans.insert(name.clone(), StudentPlan { rows, seed, ..plan.clone() }).is_some() {
                    return self.fail("students", format!("two students are called `{name}`"));
                }
            }
        }
        Ok(plans)
    }

    fn sizes(&self, name: &str, student: &recipe::Student) -> Result<(), RecipeError> {
        match &student.rows {
            Some(rows) if rows.all().is_empty() || rows.all().contains(&0) => self
                .fail(&format!("students.{name}.rows"), "there is nothing to learn from no rows; leave it out for all"),
            _ => Ok(()),
        }
    }

    fn seeds(&self, name: &str, student: &recipe::Student) -> Result<(), RecipeError> {
        let (key, seeds) = (format!("students.{name}.seeds"), student.seeds.as_ref().map_or(&[][..], OneOrMany::all));
        let again = seeds.iter().enumerate().find(|(at, seed)| seeds[..*at].contains(seed));
        match again {
            _ if student.seeds.is_some() && seeds.is_empty() => {
                self.fail(&key, "nothing would be trained; leave it out for the recipe's seed")
            }
            Some((_, seed)) => self.fail(&key, format!("{seed} stands there twice: it is one student, trained once")),
            None => Ok(()),
        }
    }

    /// Names as a part of the evaluation has them; a student of several sizes or seeds stands for all of them, and one size
    /// for all its seeds.
    pub(super) fn versions(&self, names: &[String]) -> Vec<String> {
        let all = |name: &String| {
            let Some(wanted) = name.strip_prefix("student:") else { return vec![name.clone()] };
            let of_size = |version: &Version| without_seed(&version.name) == Some(wanted);
            let all = self.recipe.students.iter().flat_map(|(name, student)| {
                versions(name, student).into_iter().filter(move |version| name == wanted || of_size(version))
            });
            let all: Vec<String> = all.map(|version| format!("student:{}", version.name)).collect();
            if all.is_empty() { vec![name.clone()] } else { all }
        };
        names.iter().flat_map(all).collect()
    }

    /// The student of the recipe behind `sd-t`, `sd-t@400` or `sd-t@400#2`.
    fn behind(&self, student: &str) -> Option<&recipe::Student> {
        let has = |(name, one): &(&String, &recipe::Student)| {
            *name == student || versions(name, one).iter().any(|version| version.name == student)
        };
        self.recipe.students.iter().find(has).map(|(_, student)| student)
    }

    pub(super) fn student_behind(&self, part: &str) -> Option<&recipe::Student> {
        self.behind(part.strip_prefix("student:")?)
    }

    /// Of a part that is one of a student's several seeds: its name without the seed, and the seed.
    pub(super) fn seeded<'n>(&self, part: &'n str) -> Option<(&'n str, &'n str)> {
        let student = self.student_behind(part)?;
        let several = matches!(student.seeds, Some(OneOrMany::Many(_)));
        part.rsplit_once('#').filter(|_| several)
    }

    /// What a student of several sets, or of one of several, learns of each.
    fn mix(&self, name: &str, student: &recipe::Student) -> Result<BTreeMap<String, f64>, RecipeError> {
        let sets = self.recipe.data.train.all();
        let key = format!("students.{name}.data");
        let own = |set: &DataSet| (set.name().to_owned(), set.weight.unwrap_or(1.0));
        let mix: BTreeMap<String, f64> = match &student.data {
            None => sets.iter().map(own).collect(),
            Some(Mix::Weights(weights)) => weights.clone(),
            // A set by itself is learnt as it is: a weight says how sets are mixed.
            Some(Mix::Names(names)) if names.len() == 1 => [(names[0].clone(), 1.0)].into(),
            Some(Mix::Names(names)) => {
                let weight = |name: &String| sets.iter().find(|set| set.name() == name).map_or(1.0, |set| own(set).1);
                names.iter().map(|name| (name.clone(), weight(name))).collect()
            }
        };
        if mix.is_empty() {
            return self.fail(&key, "name at least one training set, or leave it out for all");
        }
        for (set, weight) in &mix {
            self.train_set(&key, set)?;
            self.weight(&key, *weight)?;
        }
        let whole = sets.len() == 1 && mix.values().all(|weight| (weight - 1.0).abs() < f64::EPSILON);
        Ok(if whole { BTreeMap::new() } else { mix })
    }

    fn train_set(&self, key: &str, name: &str) -> Result<(), RecipeError> {
        let known = || self.recipe.data.train.all().iter().map(DataSet::name);
        if known().any(|set| set == name) {
            return Ok(());
        }
        let names: Vec<&str> = known().collect();
        let error = RecipeError::at_key(self.origin, key, format!("no training set is called `{name}`"));
        Err(error.hint(match recipe::nearest(name, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.join(", ")),
        }))
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
        self.is_answered(name, student)?;
        if student.prompt == StudentPrompt::Question && !target.decomposes() {
            return self.fail(&format!("students.{name}.prompt"), "this key is for decomposers alone");
        }
        let rank = student.rank.unwrap_or(16);
        let full = student.method == Method::Full;
        let rates = self.rates(name, student)?;
        let plan = StudentPlan {
            base: student.base.clone(),
            target: student.target,
            style: match student.prompt {
                StudentPrompt::Instruction => Style::default(),
                StudentPrompt::Question => Style::QuestionOnly,
            },
            shots: student.shots,
            method: student.method,
            rank,
            alpha: student.alpha.unwrap_or(2.0 * rank as f64),
            epochs: student.epochs.unwrap_or(3),
            learning_rate: *rates.first().unwrap_or(if full { &2e-4 } else { &1e-3 }),
            batch_rows: student.batch_rows.unwrap_or(16),
            warmup_ratio: student.warmup_ratio.unwrap_or(0.05),
            weight_decay: student.weight_decay.unwrap_or(0.0),
            max_grad_norm: student.max_grad_norm.unwrap_or(1.0),
            max_row_tokens: student.max_row_tokens.unwrap_or(1024),
            checkpoint_every: student.checkpoint_every.unwrap_or(25),
            eval_every: student.eval_every.unwrap_or(25),
            mix: self.mix(name, student)?,
            rows: None,
            seed: None,
            sweep: if rates.len() > 1 { rates } else { Vec::new() },
            torch: self.torch(name, student)?,
            tuning: tuning::of(student)
                .or_else(|(key, reason)| self.fail(&format!("students.{name}.{key}"), reason))?,
        };
        let positive = [
            ("rank", rank as f64),
            ("epochs", plan.epochs as f64),
            ("learning_rate", plan.learning_rate),
            ("batch_rows", plan.batch_rows as f64),
        ];
        match positive.iter().find(|(_, value)| *value <= 0.0) {
            Some((key, _)) => self.fail(&format!("students.{name}.{key}"), "must be above 0"),
            None => self.stops_early(name, &plan).map(|()| plan),
        }
    }

    /// What only a solver's answers can give is not to be had from a screening that asks none.
    fn is_answered(&self, name: &str, student: &recipe::Student) -> Result<(), RecipeError> {
        let target = student.target;
        if self.recipe.screen.as_ref().is_none_or(|screen| screen.rule != Rule::Format) {
            return Ok(());
        }
        if target.repeats_replies() {
            let message = format!(
                "{} learns what the screening's solver said, and the rule `format` asks none: write another rule in [screen], \
                 which may have [screen.format] beside it, or the target SE-A-direct",
                target.name()
            );
            return self.fail(&format!("students.{name}.target"), message);
        }
        if student.weights == RowWeights::PassRate {
            let message = "the rule `format` asks no solver, so that rows have no pass rate; leave the line out, or write another \
                           rule in [screen]";
            return self.fail(&format!("students.{name}.weights"), message);
        }
        Ok(())
    }

    /// Ascending, so that of two that are as good the smaller comes first.
    fn rates(&self, name: &str, student: &recipe::Student) -> Result<Vec<f64>, RecipeError> {
        let key = format!("students.{name}.learning_rate");
        let Some(written) = &student.learning_rate else { return Ok(Vec::new()) };
        let mut rates = written.all().to_vec();
        rates.sort_by(f64::total_cmp);
        if rates.is_empty() {
            return self.fail(&key, "name at least one, or leave it out for the usual");
        }
        if let Some(pair) = rates.windows(2).find(|pair| pair[0] == pair[1]) {
            return self.fail(&key, format!("{} stands there twice", pair[0]));
        }
        if rates.len() > 1 {
            self.watches_dev(&key, name, student)?;
        }
        Ok(rates)
    }

    fn stops_early(&self, name: &str, plan: &StudentPlan) -> Result<(), RecipeError> {
        if plan.tuning.early_stop.is_none() {
            return Ok(());
        }
        let key = format!("students.{name}.early_stop");
        if plan.eval_every == 0 {
            return self.fail(&key, "dev is looked at every `eval_every` steps, and here never; set it above 0");
        }
        self.watches_dev(&key, name, &self.recipe.students[name])
    }

    /// What is chosen is chosen by dev: it needs rows, and a target that has some there.
    fn watches_dev(&self, key: &str, name: &str, student: &recipe::Student) -> Result<(), RecipeError> {
        let target = student.target;
        if target.repeats_replies() {
            let message =
                format!("it chooses by dev, whose questions are not screened: {} has no rows there", target.name());
            return self.fail(key, message);
        }
        let data = &self.recipe.data;
        let mix = self.mix(name, student)?;
        let learnt = data.train.all().iter().filter(|set| mix.is_empty() || mix.contains_key(set.name()));
        if learnt.map(|set| data.dev_rows_of(set)).sum::<usize>() == 0 {
            return self.fail(key, "it chooses by dev, and there is none: write dev_rows = 100 under [data]");
        }
        Ok(())
    }

    pub(super) fn student_target(&self, name: &str) -> Option<Target> {
        Some(self.student_behind(name)?.target)
    }

    /// A model, or a student that was trained for this part.
    pub(super) fn part(&self, key: &str, name: &str, trained_for: impl Fn(Target) -> bool) -> Result<(), RecipeError> {
        let Some(student) = name.strip_prefix("student:") else { return self.model(key, name) };
        match self.student_target(name) {
            Some(target) if trained_for(target) => Ok(()),
            Some(target) => self
                .fail(key, format!("`{name}` has the target {}, which does not train it for this part", target.name())),
            None => {
                let error = RecipeError::at_key(self.origin, key, format!("no student is called `{student}`"));
                let known = self.recipe.students.iter().flat_map(|(name, student)| versions(name, student));
                let known: Vec<String> = known.map(|version| version.name).collect();
                Err(match recipe::nearest(student, known.iter().map(String::as_str)) {
                    Some(near) => error.hint(format!("did you mean `student:{near}`?")),
                    None => error.hint(format!("add [students.{student}]")),
                })
            }
        }
    }
}
