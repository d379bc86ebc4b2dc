//! The results of a run as plain data: what `divvy report` prints, for people and for programs alike.
//! Built by the binary from the store, drawn by divvy-report. Its JSON form is a stable surface.

pub mod costs;
mod datasets;
mod pool;
mod quality;
mod scoring;
mod slices;

use serde::{Deserialize, Serialize};

pub use self::{
    datasets::DatasetResults,
    pool::{KeptStep, Pool, Tried},
    quality::{DecomposerQuality, Heard, Measured, Pass, ShareIntervals},
    scoring::{Disagreement, ScoreDifference, ScoredArm, Scoring},
    slices::{ArmSlices, Slice},
};

use crate::{
    arm::{Strategy, Variant},
    recipe::EvalSplit,
    records::{Outcome, TrainPoint},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub name: String,
    /// Plan digest, 64 hex digits.
    pub plan: String,
    /// UTC, RFC 3339; comes from the store, never from a clock in here.
    pub created: String,
    pub divvy_version: String,
    /// Which rows were scored. Figures of dev are for choosing, and no result.
    #[serde(default)]
    pub split: EvalSplit,
    pub datasets: Vec<DatasetUse>,
    /// Model name in the recipe → source, as written.
    pub models: Vec<ModelUse>,
    /// Over all questions of all data sets that were scored. All seeds of a student are one arm.
    pub arms: Vec<ArmResult>,
    /// The seeds by themselves, for the record: nothing is compared with one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<ArmResult>,
    /// Paired comparisons on the same questions, in the recipe's order. Of several data sets each has its own.
    pub comparisons: Vec<Comparison>,
    /// Of one data set; of several each has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<ArmSlices>,
    /// Empty where one data set was scored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_dataset: Vec<DatasetResults>,
    /// The same answers under further scorers; `None` where the recipe names none.
    #[serde(default)]
    pub scoring: Option<Scoring>,
    /// `None` before anything was collected.
    pub collection: Option<CollectionSummary>,
    pub screening: Option<ScreeningSummary>,
    /// Those on record.
    pub training: Vec<TrainingSummary>,
    /// Students of the plan, whether or not their training is on record.
    #[serde(default)]
    pub students: Vec<StudentUse>,
    /// Decomposition quality, by decomposer.
    #[serde(default)]
    pub quality: Vec<DecomposerQuality>,
    /// Wall time of each stage that ran, in milliseconds, in commands of this plan.
    pub stages: Vec<StageTime>,
    /// `None` before anything was evaluated.
    #[serde(default)]
    pub costs: Option<costs::Costs>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetUse {
    pub dataset: String,
    pub split: String,
    pub rows: u64,
    /// Plans of this store that were scored on test rows of this data set, whichever rows; 0 for other splits.
    pub opened_by: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentUse {
    pub student: String,
    pub base: String,
    /// SD-R, SD-T, …
    pub target: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelUse {
    pub name: String,
    pub source: String,
    /// `exact` or `fast`; `None` where an endpoint decides.
    pub numerics: Option<String>,
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// The slug, for example `two-stage/sd-r/qwen-0.5b`.
    pub arm: String,
    pub strategy: Strategy,
    /// Demonstrations and cap, where it has any.
    #[serde(default, skip_serializing_if = "Variant::is_plain")]
    pub variant: Variant,
    pub decomposer: Option<String>,
    pub solver: String,
    /// Fixed denominator: every test question, whatever became of it; of several answers to each, every answer.
    pub n: u64,
    /// Answers to each question, over repeats and seeds.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub each: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    pub correct: u64,
    pub accuracy: f64,
    /// 95 % interval of the accuracy: Wilson's, or a bootstrap of whole passages where questions share them, of whole
    /// questions where each has several answers, and of seeds where a student has several.
    pub ci: (f64, f64),
    /// Passages, where questions share them: the units of every interval and test of this arm.
    #[serde(default)]
    pub passages: Option<u64>,
    /// Mean partial credit (DROP F1); equals accuracy where scorers have none.
    pub score: f64,
    /// 95 % bootstrap interval of `score`, where there is partial credit.
    #[serde(default)]
    pub score_ci: Option<(f64, f64)>,
    pub no_answer: u64,
    pub truncated: u64,
    /// Withheld by a provider's filter or by the model.
    #[serde(default)]
    pub refused: u64,
    /// Failed for infrastructure reasons.
    pub errors: u64,
    /// Not answered yet: of a run that is not through, or that a budget ended.
    #[serde(default)]
    pub pending: u64,
    /// Totals over the n questions; `None` where some call came without its tokens, so that the total is unknown.
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    pub decompose_tokens_in: Option<u64>,
    pub decompose_tokens_out: Option<u64>,
    pub solve_tokens_in: Option<u64>,
    pub solve_tokens_out: Option<u64>,
    /// Nano-dollars; `None` when a price is unknown.
    pub cost_nanos: Option<i64>,
    /// Share of decompositions that parsed into at least one subquestion or an explicit "none".
    pub well_formed: Option<f64>,
    /// Mean number of subquestions.
    pub mean_subquestions: Option<f64>,
    /// What it was given to solve, "no decomposition" included; `None` for single-stage arms.
    #[serde(default)]
    pub decompositions: Option<Measured>,
    /// Accuracy by number of reasoning steps, where the data set knows them.
    pub by_steps: Vec<StepSlice>,
    pub examples: Vec<Example>,
}

/// A figure is not judged when more than this share of its rows failed for reasons outside the models.
const TOLERATED_ERRORS: f64 = 0.01;

#[must_use]
pub fn failed_too_often(errors: u64, n: u64) -> bool {
    n > 0 && errors as f64 / n as f64 > TOLERATED_ERRORS
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(each: &u64) -> bool {
    *each == 1
}

fn no_effect() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, clippy::float_cmp, reason = "serde passes references; exactly 1 is said")]
fn is_no_effect(effect: &f64) -> bool {
    *effect == 1.0
}

impl ArmResult {
    /// How many there were to answer.
    #[must_use]
    pub fn questions(&self) -> u64 {
        self.n / self.each.max(1)
    }

    /// In and out.
    #[must_use]
    pub fn tokens(&self) -> Option<u64> {
        Some(self.tokens_in?.saturating_add(self.tokens_out?))
    }

    /// Some call came without its tokens: what the others took is not what the arm took.
    pub fn forget_tokens(&mut self) {
        (self.tokens_in, self.tokens_out) = (None, None);
        (self.decompose_tokens_in, self.decompose_tokens_out) = (None, None);
        (self.solve_tokens_in, self.solve_tokens_out) = (None, None);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSlice {
    pub steps: u32,
    pub n: u64,
    pub correct: u64,
    /// 95 % interval of the accuracy, as the arm's own; `None` in results of earlier versions.
    #[serde(default)]
    pub ci: Option<(f64, f64)>,
}

/// What a comparison helps to answer. Each family is adjusted by itself, over all data sets, unless the recipe declares one of its
/// own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Does decomposing by this decomposer pay, with this solver?
    Decomposer,
    /// Can a student answer in the solver's place?
    Solver,
    /// Which of the two parts should be distilled?
    Parts,
    /// Do several calls answer better than all subquestions in one?
    Strategy,
    /// Which of two students of one base is better in its part: of other rows, of more of them, screened or not?
    Students,
    /// What did training cost a student in a part that it was not taught?
    Untaught,
    /// Does a prompt with demonstrations or a cap answer better than the plain one?
    Prompt,
    /// What the recipe alone asks.
    Declared,
}

impl Family {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decomposer => "decomposer",
            Self::Solver => "solver",
            Self::Parts => "parts",
            Self::Strategy => "strategy",
            Self::Students => "students",
            Self::Untaught => "untaught",
            Self::Prompt => "prompt",
            Self::Declared => "declared",
        }
    }
}

/// Paired comparison of arm `a` with arm `b` on the same questions: exact McNemar, or a paired bootstrap of whole passages
/// where questions share them and of whole questions where each has several answers. It holds for the seeds that there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub a: String,
    pub b: String,
    pub family: Family,
    pub n: u64,
    /// Questions that only `a` got right, and only `b`; of several answers to each, that one got right more often.
    pub only_a: u64,
    pub only_b: u64,
    /// accuracy(a) − accuracy(b).
    pub difference: f64,
    /// 95 % interval of the paired difference.
    pub ci: (f64, f64),
    pub p_value: f64,
    /// Holm-adjusted over the tests of its family; where the recipe declares comparisons, over those.
    pub p_holm: f64,
    /// How many tests that family has by the plan, done or not, on every data set.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub tests: u64,
    /// The recipe declares it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
    /// The recipe declares comparisons, and this is none of them: it suggests, and shows nothing.
    #[serde(default)]
    pub exploratory: bool,
    /// Smallest true difference that these questions find with 80 % power, whatever its place in Holm's order; `None` where too
    /// few were decided differently to tell.
    #[serde(default)]
    pub detectable: Option<f64>,
    /// Mean square of a question's difference: of single answers the share of questions that only one of the two got right.
    #[serde(default)]
    pub spread: f64,
    /// How many times as many questions it takes as if none shared a passage; 1 where none does.
    #[serde(default = "no_effect", skip_serializing_if = "is_no_effect")]
    pub design_effect: f64,
    /// The same of partial credit, where there is any.
    #[serde(default)]
    pub score: Option<ScoreDifference>,
    /// The same by number of reasoning steps, where `a` or `b` alone decomposes and the data set knows them. Nothing is adjusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_steps: Vec<StepDifference>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepDifference {
    pub steps: u32,
    /// Questions.
    pub n: u64,
    /// accuracy(a) − accuracy(b).
    pub difference: f64,
    /// 95 % interval of the paired difference, as the whole comparison's.
    pub ci: (f64, f64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectionSummary {
    pub teacher: String,
    /// Questions × samples asked, of train and dev.
    pub candidates: u64,
    /// Replies that are decompositions.
    pub usable: u64,
    /// Reason → rows that are not usable, largest first.
    pub reasons: Vec<(String, u64)>,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScreeningSummary {
    /// `None`: decompositions were judged by their form alone.
    pub solver: Option<String>,
    pub candidates: u64,
    pub kept: u64,
    /// Reason → rows, kept and rejected alike, largest first.
    pub reasons: Vec<(String, u64)>,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSummary {
    pub student: String,
    pub base: String,
    /// SD-R, SD-T, …
    pub target: String,
    pub method: String,
    pub rows: u64,
    /// Rows left out because they were longer than `max_row_tokens`.
    pub too_long: u64,
    /// Replies of the screening's solver that taught nothing: cut off, or without a marked answer.
    pub unusable: u64,
    pub epochs: f64,
    /// Of a sweep, of all rates together.
    pub wall_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptStep>,
    /// Learning rates that were tried; empty where there was one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<Tried>,
    pub curve: Vec<TrainPoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    pub stage: String,
    pub wall_ms: i64,
    /// What explains a stage that took no time; `None` where it asked everything itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// Of the calls behind a stage's items, those that the store had before the plan began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub calls: u64,
    pub of: u64,
}

/// One browsable row of an arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    pub question_id: String,
    pub premise: Option<String>,
    pub question: String,
    pub gold: Vec<String>,
    /// Subquestions as the decomposer wrote them; empty for single-stage arms.
    pub subquestions: Vec<String>,
    /// One a subquestion, where the solver's replies have it; may be empty.
    pub sub_answers: Vec<Option<String>>,
    /// The solver's raw reply.
    pub reply: String,
    pub answer: Option<String>,
    pub correct: bool,
    pub outcome: Outcome,
}
