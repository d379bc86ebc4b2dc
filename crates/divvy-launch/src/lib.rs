//! Hands work over to engines and schedulers of others, watches it, and takes back what came of it. To read it: `job` is
//! what is handed over to PyTorch, `program` the Python that receives it, `python` finds who runs that, `words` is the command,
//! `local` runs it on this machine, `slurm` and `ray` on a cluster, `metrics` follows its log, `failure` says why there is no result; `workers` is many of divvy itself on one run,
//! `engines` the words with which others serve a student.
//!
//! It schedules nothing, knows no model and no store. Everything blocks; who is async wraps a thread around it.

pub mod engines;
mod error;
mod failure;
pub mod job;
pub mod local;
mod metrics;
mod program;
pub mod python;
pub mod ray;
pub mod slurm;
pub mod words;
pub mod workers;

pub use error::LaunchError;
