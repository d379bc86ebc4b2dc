//! Arms that answer each question several times: students with several seeds as one arm, repeats, and what was tried in a sweep.

use serde::{Deserialize, Serialize};

use crate::recipe::StopOn;

/// Of an arm that stands for all seeds of its students: the arms that it is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Their slugs, in the recipe's order.
    pub of: Vec<String>,
    /// The least and the most accurate seed.
    pub lowest: f64,
    pub highest: f64,
}

impl Pool {
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        (self.lowest, self.highest)
    }
}

/// One learning rate of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    pub learning_rate: f64,
    /// Of the student that it made; `None`: the loss ran away.
    pub dev_loss: Option<f64>,
    pub kept: bool,
}

/// The step whose student was kept, where training might end early.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptStep {
    pub step: u64,
    /// Steps that were taken.
    pub of: u64,
    pub on: StopOn,
    /// What dev said then: a loss, or a share of decompositions.
    pub value: f64,
}
