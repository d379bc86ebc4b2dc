//! `[students]`: what each is trained from, on what, and how.

use std::collections::BTreeMap;

use super::{
    super::{StudentPlan, tuning},
    Names,
};
use crate::{
    prompts::decompose::Style,
    recipe::{self, DataSet, Method, Mix, OneOrMany, RecipeError, StudentPrompt, Target},
};

/// The name of one size of a student, also of `student:NAME`.
fn sized(name: &str, rows: usize) -> String {
    format!("{name}@{rows}")
}

impl Names<'_> {
    /// Each student, and each size of one that has several.
    pub(in crate::plan) fn students(&self) -> Result<BTreeMap<String, StudentPlan>, RecipeError> {
        let mut plans = BTreeMap::new();
        for (name, student) in &self.recipe.students {
            let plan = self.student(name, student)?;
            for (name, rows) in self.sizes(name, student)? {
                if plans.insert(name.clone(), StudentPlan { rows, ..plan.clone() }).is_some() {
                    return self.fail("students", format!("two students are called `{name}`"));
                }
            }
        }
        Ok(plans)
    }

    fn sizes(&self, name: &str, student: &recipe::Student) -> Result<Vec<(String, Option<usize>)>, RecipeError> {
        let Some(rows) = &student.rows else { return Ok(vec![(name.to_owned(), None)]) };
        if rows.all().is_empty() || rows.all().contains(&0) {
            return self.fail(
                &format!("students.{name}.rows"),
                "there is nothing to learn from no rows; leave it out for all",
            );
        }
        let named = |rows: &usize| (sized(name, *rows), Some(*rows));
        Ok(match rows {
            OneOrMany::One(rows) => vec![(name.to_owned(), Some(*rows))],
            OneOrMany::Many(sizes) => sizes.iter().map(named).collect(),
        })
    }

    /// Names as a part of the evaluation has them; a student of several sizes stands for all of them.
    pub(super) fn sized(&self, names: &[String]) -> Vec<String> {
        let all = |name: &String| {
            let student = name.strip_prefix("student:").and_then(|student| self.recipe.students.get(student));
            match student.and_then(|student| student.rows.as_ref()) {
                Some(OneOrMany::Many(sizes)) => sizes.iter().map(|rows| sized(name, *rows)).collect(),
                _ => vec![name.clone()],
            }
        };
        names.iter().flat_map(all).collect()
    }

    /// The student of the recipe behind `sd-t` or `sd-t@400`.
    fn behind(&self, student: &str) -> Option<&recipe::Student> {
        if let Some(student) = self.recipe.students.get(student) {
            return Some(student);
        }
        let (name, rows) = student.rsplit_once('@')?;
        let student = self.recipe.students.get(name)?;
        let sizes = student.rows.as_ref().map_or(&[][..], OneOrMany::all);
        sizes.iter().any(|size| size.to_string() == rows).then_some(student)
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
            shots: student.shots,
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
            mix: self.mix(name, student)?,
            rows: None,
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
            None => Ok(plan),
        }
    }

    pub(super) fn student_target(&self, name: &str) -> Option<Target> {
        Some(self.behind(name.strip_prefix("student:")?)?.target)
    }

    /// A model, or a student that was trained for this part.
    pub(super) fn part(&self, key: &str, name: &str, trained_for: impl Fn(Target) -> bool) -> Result<(), RecipeError> {
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
