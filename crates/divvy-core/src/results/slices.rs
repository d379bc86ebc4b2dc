//! An arm's right answers by what is asked for, and by passage where questions share one. Steps are in
//! [`super::ArmResult`].

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmSlices {
    pub arm: String,
    /// `number`, `date`, `span`, `spans`, `yes-no`, `choice`.
    pub by_answer: Vec<Slice>,
    /// By the teacher's number of subquestions, of a data set that says of no question how many steps it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_subquestions: Vec<Slice>,
    /// Questions that stand on one passage, for each passage that several share; most questions first.
    pub by_passage: Vec<Slice>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    pub of: String,
    pub n: u64,
    pub correct: u64,
    /// 95 % interval of the accuracy, as the arm's own.
    pub ci: (f64, f64),
}
