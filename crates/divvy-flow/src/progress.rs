//! What a stage tells whoever watches. The binary draws bars; tests count.

use divvy_core::records::{Stage, TrainPoint};
use divvy_llm::Standing;

/// One finished item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Tokens of calls made now; cached calls count nothing.
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// What they cost; `None` where a price is unknown.
    pub cost_nanos: Option<i64>,
    pub failed: bool,
}

pub trait Progress: Send + Sync {
    /// A stage begins: `done` of `total` items were finished by an earlier run.
    fn start(&self, stage: Stage, label: &str, total: u64, done: u64);
    fn tick(&self, tick: Tick);
    /// A training step of `total` was taken.
    fn train_step(&self, point: &TrainPoint, total: u64);
    /// How the batches stand that are out.
    fn batches(&self, _standing: Standing) {}
    fn finish(&self);
    /// A sentence worth reading, now.
    fn note(&self, text: &str);
}
