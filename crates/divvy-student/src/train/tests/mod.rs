//! The trainer against PyTorch and peft on tiny checkpoints (`tests/fixtures`), and against itself: packed and alone,
//! accumulated and whole, resumed and uninterrupted.

mod fixture;
mod generation;
mod guarantees;
mod parity;
mod stopping;
