//! Runs: plans, their questions, how long a stage took, what was opened, students.

use divvy_core::{
    digest::Digest,
    question::{Question, QuestionId, Split},
    records::{Stage, TrainPoint},
};

use super::{Store, either};
use crate::{
    error::StoreError,
    recipes::KeptRecipe,
    rows::{ArtefactRow, RunId, RunRow, RunStatus, Spending, TestOpening},
};

impl Store {
    /// Keeps a plan's questions under their ids, each as JSON, so that a store can be read without its data files. A plan's
    /// digest covers their text, so that what is there already is the same.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_questions(
        &self,
        plan: &Digest,
        questions: impl IntoIterator<Item = String>,
    ) -> Result<(), StoreError> {
        either!(self, put_questions(plan, questions))
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn question(&self, plan: &Digest, id: &QuestionId) -> Result<Option<Question>, StoreError> {
        either!(self, question(plan, id))
    }

    /// Keeps a resolved plan; the same again changes nothing. Everything else refers to a plan that is kept.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_plan(&self, plan: &Digest, json: &str) -> Result<(), StoreError> {
        either!(self, put_plan(plan, json))
    }

    /// The plan's JSON.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn plan(&self, plan: &Digest) -> Result<Option<String>, StoreError> {
        either!(self, plan(plan))
    }

    /// `plan` must have been put before.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn begin_run(&self, plan: &Digest, name: &str, version: &str, now_ms: i64) -> Result<RunId, StoreError> {
        either!(self, begin_run(plan, name, version, now_ms))
    }

    /// What was spent for a plan, by all commands. On a server, what a worker had out is lost once it is not heard of for a lease.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn spending(&self, plan: &Digest) -> Result<Spending, StoreError> {
        either!(self, spending(plan))
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn end_run(&self, run: RunId, status: RunStatus, now_ms: i64) -> Result<(), StoreError> {
        either!(self, end_run(run, status, now_ms))
    }

    /// Every run, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(&self) -> Result<Vec<RunRow>, StoreError> {
        either!(self, runs())
    }

    /// The newest run of the recipe called `name`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn latest_run(&self, name: &str) -> Result<Option<RunRow>, StoreError> {
        either!(self, latest_run(name))
    }

    /// Adds the time that a stage of this plan ran; an interrupted and resumed stage adds several.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn add_stage_time(&self, plan: &Digest, stage: Stage, wall_ms: i64) -> Result<(), StoreError> {
        either!(self, add_stage_time(plan, stage, wall_ms))
    }

    /// Milliseconds of each stage that ran, summed, in the order they first ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stage_times(&self, plan: &Digest) -> Result<Vec<(Stage, i64)>, StoreError> {
        either!(self, stage_times(plan))
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn record_test_opening(
        &self,
        plan: &Digest,
        dataset: &str,
        rows: u64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        either!(self, record_test_opening(plan, dataset, rows, now_ms))
    }

    /// Every look at a test set, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn test_openings(&self) -> Result<Vec<TestOpening>, StoreError> {
        either!(self, test_openings())
    }

    /// The newest artefact of a key counts.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_artefact(
        &self,
        key: &Digest,
        kind: &str,
        path: &str,
        meta_json: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        either!(self, put_artefact(key, kind, path, meta_json, now_ms))
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn artefact(&self, key: &Digest) -> Result<Option<ArtefactRow>, StoreError> {
        either!(self, artefact(key))
    }

    /// Adds points of a training log. A step that was trained again after a resume replaces its point.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_metrics(&self, key: &Digest, points: &[TrainPoint]) -> Result<(), StoreError> {
        either!(self, put_metrics(key, points))
    }

    /// A training log by step.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn metrics(&self, key: &Digest) -> Result<Vec<TrainPoint>, StoreError> {
        either!(self, metrics(key))
    }

    /// Tells of each question of a plan, in no order and one after another, so that there may be any number of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_question(&self, plan: &Digest, each: impl FnMut(Question)) -> Result<(), StoreError> {
        either!(self, each_question(plan, each))
    }

    /// How many questions of a plan are in a split.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn question_count(&self, plan: &Digest, split: Split) -> Result<u64, StoreError> {
        either!(self, question_count(plan, split))
    }

    /// Whether a process writes to the store now: what tells a run that is at work from one that was killed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_being_written(&self) -> Result<bool, StoreError> {
        either!(self, is_being_written())
    }

    /// Keeps the recipe of a run that has begun. The caller answers for it that no secret stands in the text.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn keep_recipe(&self, run: RunId, recipe: &KeptRecipe) -> Result<(), StoreError> {
        either!(self, keep_recipe(run, recipe))
    }

    /// The recipe of a run, where it was kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kept_recipe(&self, run: RunId) -> Result<Option<KeptRecipe>, StoreError> {
        either!(self, kept_recipe(run))
    }
}
