//! What answering and distilling cost, as plain data. Two measures, never mixed: money, in nano-dollars, and the time of the
//! machine, in microseconds. Either is `None` where a part of it is unknown: unknown is not zero.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    pub terms: StatedTerms,
    /// In the order of the arms.
    pub arms: Vec<ArmCost>,
    /// What was paid once for each student.
    pub students: Vec<StudentCost>,
    /// Each arm with a student against arms without, which it would replace.
    pub distilling: Vec<Distilling>,
}

/// `[costs]` of the recipe, with what holds where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatedTerms {
    /// Of an hour of the machine, for what has no price of its own.
    pub machine_hour_nanos: Option<i64>,
    /// Share of the hours paid for in which the machine works.
    pub utilisation: f64,
    /// Questions over which what was paid once is spread.
    pub questions: u64,
}

impl Default for StatedTerms {
    fn default() -> Self {
        Self { machine_hour_nanos: None, utilisation: 1.0, questions: 10_000 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Whole input, the cached part of it included.
    pub input: u64,
    pub cached: u64,
    pub output: u64,
}

/// Everything that an arm's questions took, as if it had been alone: a call that arms share is counted for each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmCost {
    pub arm: String,
    /// Questions that were asked, whatever became of them.
    pub n: u64,
    pub calls: u64,
    /// Calls whose tokens nobody counted.
    pub unknown_usage: u64,
    pub tokens: Tokens,
    /// Tries that brought no reply, and what they took all the same.
    pub failed_tries: u64,
    pub failed_tokens: Tokens,
    /// Failed tries that may have been charged and said nothing of tokens. They are in no figure.
    pub uncounted_tries: u64,
    pub money: Option<Spending>,
    pub machine: Option<Spending>,
    /// Its decompositions are the data set's own: nobody pays for them, and a new question has none.
    pub recorded: bool,
    /// Paid once for its students, `None` for an arm without; unknown in both measures where a training is not on record.
    pub one_off: Option<Outlay>,
    pub latency: Option<Latency>,
}

/// An amount of money or of the machine's time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    pub total: i64,
    /// `None` below two questions.
    pub question: Option<Mean>,
    /// `None` without a right answer.
    pub correct: Option<PerCorrect>,
}

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mean {
    pub mean: i64,
    pub ci: (i64, i64),
}

/// What a right answer cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerCorrect {
    pub mean: i64,
    pub low: i64,
    /// `None`: so few were right that there is no upper end.
    pub high: Option<i64>,
}

/// Of a question, the calls that waited for each other, as they took when they were really asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    pub n: u64,
    pub p50_ms: i64,
    pub p95_ms: i64,
}

/// What a stage took, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlay {
    pub tokens: Tokens,
    pub money_nanos: Option<i64>,
    pub machine_us: Option<i64>,
}

impl Outlay {
    /// Nothing was needed.
    pub const NONE: Self =
        Self { tokens: Tokens { input: 0, cached: 0, output: 0 }, money_nanos: Some(0), machine_us: Some(0) };
}

/// As if it were the only student: what students share is counted for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentCost {
    pub student: String,
    pub collection: Outlay,
    pub screening: Outlay,
    pub training: Outlay,
    pub total: Outlay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    Money,
    Machine,
}

/// Does an arm with a student pay back what the student cost, against an arm that it would replace?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distilling {
    pub arm: String,
    pub replaces: String,
    /// `None` where neither money nor the machine's time is known of both: then nothing below is.
    pub measure: Option<Measure>,
    /// `None` where it is not known, as without a record of the training; then `break_even` is not either, and the saving is.
    pub one_off: Option<i64>,
    /// Of a question, `replaces` less `arm`, on the same questions.
    pub saving: Option<Mean>,
    pub break_even: Option<BreakEven>,
}

/// Questions after which what was paid once is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakEven {
    /// `None`: never, by the mean saving.
    pub questions: Option<u64>,
    /// At the upper end of the saving's interval; `None`: never even then.
    pub earliest: Option<u64>,
    /// At its lower end; `None`: perhaps never.
    pub latest: Option<u64>,
}
