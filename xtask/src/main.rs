//! `cargo xtask ci`: everything that must pass, step by step, each named and timed. `cargo xtask test` is the test
//! step alone, `cargo xtask table` the dependency table alone; `fuzz`, `sbom` and `prices` are for now and then. The steps are
//! in [`steps`], the table in [`table`], what needs a tool of its own in [`tools`], the list of prices in [`prices`].
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a build tool talks on the terminal")]

mod prices;
mod steps;
mod table;
mod tools;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};
use steps::Step;

const HELP: &str = "\
usage: cargo xtask COMMAND
  ci     format, dependency table, lints, fuzz targets, tests, docs, licences: what must pass before a commit
  test   the tests alone
  table  the dependency table alone
  fuzz   noise for what reads text of others', a minute each: cargo xtask fuzz [SECONDS] [TARGET]
  sbom   what the program is made of: a CycloneDX file under target/sbom
  prices the list prices that divvy ships: cargo xtask prices LITELLM_LIST WHAT_IT_IS";

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let outcome = match argument.as_deref() {
        Some("ci") => run(steps::CI),
        Some("test") => run(&[steps::TEST]),
        Some("table") => run(&[steps::TABLE]),
        Some("fuzz") => tools::fuzz(std::env::args().skip(2)),
        Some("sbom") => tools::sbom(),
        Some("prices") => prices::write(std::env::args().skip(2)),
        Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every step, also after one failed, so that one run shows all there is to mend.
fn run(steps: &[Step]) -> Result<()> {
    let mut failed = Vec::new();
    let mut lines = Vec::new();
    for step in steps {
        println!("── {}: {}", step.name, step.about);
        let start = Instant::now();
        let outcome = (step.run)();
        let seconds = start.elapsed().as_secs_f64();
        let verdict = match outcome {
            Ok(steps::Done::Passed) => "passed".to_owned(),
            Ok(steps::Done::PassedWithout(what)) => format!("passed, SKIPPED tests over {what}"),
            Ok(steps::Done::Skipped(why)) => format!("skipped ({why})"),
            Err(error) => {
                failed.push(step.name);
                eprintln!("{}: {error:#}", step.name);
                "FAILED".to_owned()
            }
        };
        lines.push(format!("{:<8} {seconds:>7.1} s  {verdict}", step.name));
    }
    println!("\n{}", lines.join("\n"));
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}
