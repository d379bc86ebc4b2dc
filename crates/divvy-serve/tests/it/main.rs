//! The service on a real socket, before a scripted teacher that plays both decomposer and solver.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic; the lint spares only the tests themselves")]

mod house;

mod admission;
mod cancelling;
mod faults;
mod metrics;
mod replies;
mod shape;
mod streams;
mod traces;
