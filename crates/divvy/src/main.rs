//! The program: reads the command line, opens a session, runs a stage, shows what came of it. All logic lives in the
//! libraries; this crate wires them, draws progress, and hosts local models behind `Chat`.

mod batching;
mod cli;
mod clock;
mod commands;
mod home;
mod host;
mod kept;
mod models;
mod output;
mod progress;
mod questions;
mod session;
mod trainer;

use std::process::ExitCode;

use clap::Parser;
use divvy_data::questions::load::DataError;
use divvy_flow::error::FlowError;

use crate::{cli::Cli, output::say_error};

/// A collected row is some hundred small allocations in two threads: the system's allocator takes three times as long. Its
/// second version, without huge pages: what stands idle (ten thousand streams) takes half the memory so.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if cli.verbose { "divvy=debug,warn" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("DIVVY_LOG").unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // One thread waits for all endpoints: it serves more than any of them does, and what passes between threads costs more
    // than the work. Local models, training and the store have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs threads and a poller");
    let outcome = runtime.block_on(commands::dispatch(cli));
    // A local model may still be at work on its own thread: do not wait for it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 1 failed, 2 bad usage or recipe, 3 stopped at a budget, 4 two runs that cannot be judged, 130 interrupted.
fn exit_code(error: &anyhow::Error) -> u8 {
    let flow = error.downcast_ref::<FlowError>().map(FlowError::exit_code);
    let recipe = error.is::<divvy_core::recipe::RecipeError>().then_some(2);
    let usage = error.is::<output::Usage>().then_some(2);
    let unjudged = error.is::<output::Unjudged>().then_some(4);
    let data =
        error.downcast_ref::<DataError>().map(|error| if matches!(error, DataError::Fetch { .. }) { 1 } else { 2 });
    flow.or(recipe).or(usage).or(unjudged).or(data).unwrap_or(1)
}
