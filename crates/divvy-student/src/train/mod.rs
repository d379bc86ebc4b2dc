//! Fine-tuning on the CPU with a hand-written backward pass: LoRA on a frozen base, or every weight. Reading order:
//! rows and packing, the forward pass that keeps what the backward pass needs, the backward pass, parameters and
//! optimiser, checkpoints, and the loop ([`train`]) that ties them together.
//!
//! What it guarantees: the loss is the exact weighted mean over completion tokens of an optimiser step, however the
//! step is cut into micro-batches; rows never see one another; the same inputs give the same bytes, interrupted and
//! resumed or not.

mod backward;
mod buffers;
pub(crate) mod checkpoint;
mod course;
mod crew;
mod forward;
pub mod full;
pub mod journal;
mod linear;
mod lora;
mod parameters;
pub(crate) mod random;
pub mod rows;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod stop;
#[cfg(test)]
mod tests;
mod trainer;

pub use course::{CourseStep, course};
pub use full::{FullLabel, FullWeights};
pub use journal::Journal;
pub use rows::TrainRow;
pub use run::{Learnt, Look, StepRecord, TrainEvent, Trained, TrainedWeights, admitted, train, train_by};
pub use schedule::Schedule;
pub use settings::{Activations, Base, Method, TrainConfig, TrainError};
pub use stop::{Best, EarlyStop, StopBy};
