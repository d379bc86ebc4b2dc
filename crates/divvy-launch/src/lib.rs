//! Hands work over to engines and schedulers of others, watches it, and takes back what came of it. To read it: `job` is
//! what is handed over to PyTorch, `program` the Python that receives it, `python` finds who runs that, `words` is the command,
//! `local` runs it on this machine, `slurm` on a cluster, `metrics` follows its log, `failure` says why there is no result; `workers` is many of divvy itself on one run.
//!
//! It schedules nothing, knows no model and no store. Everything blocks; who is async wraps a thread around it.

mod error;
mod failure;
pub mod job;
pub mod local;
mod metrics;
mod program;
pub mod python;
pub mod slurm;
pub mod words;
pub mod workers;

pub use error::LaunchError;
