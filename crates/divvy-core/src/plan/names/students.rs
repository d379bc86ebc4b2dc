//! `[students]`: what each is trained from, on what, and how.

use std::collections::BTreeMap;

use super::{super::StudentPlan, Names};
use crate::{
    prompts::decompose::Style,
    recipe::{self, Method, RecipeError, StudentPrompt, Target},
};

impl Names<'_> {
    pub(in crate::plan) fn students(&self) -> Result<BTreeMap<String, StudentPlan>, RecipeError> {
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

    pub(super) fn student_target(&self, name: &str) -> Option<Target> {
        let student = self.recipe.students.get(name.strip_prefix("student:")?)?;
        Some(student.target)
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
