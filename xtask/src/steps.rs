//! The steps of `cargo xtask ci`, cheapest first. A step is a name, a line about it, and a function that runs it.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::table;

pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn() -> Result<Done>,
}

pub(crate) enum Done {
    Passed,
    /// But some tests had nothing to read, and only said so where nobody looks.
    PassedWithout(String),
    /// With the reason.
    Skipped(&'static str),
}

pub(crate) const TABLE: Step =
    Step { name: "table", about: "crates import only what ARCHITECTURE.md allows", run: table::check };
pub(crate) const TEST: Step = Step { name: "test", about: "every test of the workspace", run: test };

pub(crate) const CI: &[Step] = &[
    Step { name: "fmt", about: "rustfmt has nothing to change", run: fmt },
    TABLE,
    Step { name: "clippy", about: "no lint, in code and tests", run: clippy },
    Step { name: "fuzz", about: "what feeds noise to readers compiles, and readers take its seeds", run: fuzz },
    TEST,
    Step { name: "isa", about: "the engine's tests under each lesser instruction set", run: isa },
    Step { name: "docs", about: "documentation builds without a warning", run: docs },
    Step { name: "deny", about: "licences, advisories and banned crates", run: deny },
];

fn fmt() -> Result<Done> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"], &[])
}

fn clippy() -> Result<Done> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])
}

/// A workspace of its own, in our target folder, so that what others' crates came to is there already. LibFuzzer, in C++, would
/// only be linked, which a lint does not do: it is told that there is one, and not compiled. The tests go without it.
fn fuzz() -> Result<Done> {
    let place = ["--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target", "--locked"];
    let arguments = [&["clippy"], &place[..], &["--", "-D", "warnings"]].concat();
    cargo(&arguments, &[("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a")])?;
    cargo(&[&["test", "--lib", "--no-default-features"], &place[..]].concat(), &[])
}

fn test() -> Result<Done> {
    if installed("nextest") {
        cargo(&["nextest", "run", "--workspace", "--locked", "--profile", "ci"], &[])?;
    } else {
        println!("cargo-nextest is not installed: cargo test instead");
        cargo(&["test", "--workspace", "--locked", "--no-fail-fast"], &[])?;
    }
    let missing = missing();
    if missing.is_empty() { Ok(Done::Passed) } else { Ok(Done::PassedWithout(missing.join("; "))) }
}

/// The kernels and the engine as slower processors run them. What the best instruction set does, [`test()`] has seen.
fn isa() -> Result<Done> {
    for isa in lesser() {
        println!("DIVVY_ISA={isa}");
        let forced = [("DIVVY_ISA", isa)];
        if installed("nextest") {
            let engine = "package(divvy-kernels) + package(divvy-student)";
            cargo(&["nextest", "run", "--workspace", "--locked", "--profile", "ci", "-E", engine], &forced)?;
        } else {
            cargo(&["test", "-p", "divvy-kernels", "-p", "divvy-student", "--locked", "--no-fail-fast"], &forced)?;
        }
    }
    Ok(Done::Passed)
}

/// As `DIVVY_ISA` names them; the best that the machine has is not among them.
fn lesser() -> Vec<&'static str> {
    let mut all = vec!["portable"];
    #[cfg(target_arch = "x86_64")]
    {
        let has = [
            ("avx2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")),
            ("avx512", is_x86_feature_detected!("avx512bf16")),
            ("amx", std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("amx_bf16"))),
        ];
        all.extend(has.into_iter().filter(|(_, has)| *has).map(|(isa, _)| isa));
    }
    all.pop();
    all
}

/// Variables that name what some tests need besides, and what is not tested without.
const OUTSIDE: [(&str, &str); 8] = [
    ("DIVVY_TEST_MODELS", "real models: DIVVY_TEST_MODELS does not name their folder"),
    (
        "DIVVY_TEST_PARITY",
        "a real model's gradients: DIVVY_TEST_PARITY names no folder that make_fixtures.py --of has made",
    ),
    ("DIVVY_TEST_EXPORTS", "other programs on what is exported: DIVVY_TEST_EXPORTS names no folder for them"),
    (
        "DIVVY_TEST_PYTHON",
        "peft on our adapters: DIVVY_TEST_PYTHON names no Python that has torch, transformers and peft",
    ),
    ("DIVVY_TEST_TORCH", "training with PyTorch: DIVVY_TEST_TORCH names no Python that has it"),
    ("DIVVY_TEST_TORCH_MODEL", "PyTorch and divvy on a real model: DIVVY_TEST_TORCH_MODEL names none"),
    ("DIVVY_TEST_RAY", "a cluster of Ray: DIVVY_TEST_RAY names no virtual environment"),
    ("DIVVY_TEST_CLIENTS", "browsers, Inspect and other clients: DIVVY_TEST_CLIENTS names no folder"),
];

/// What some tests read from outside the repository, and are skipped without.
fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !Path::new("../shared/data").is_dir() {
        missing.push("real data sets: ../shared/data is not there");
    }
    // Debian's packages put the server's programs beside its version.
    let has = |program: &str| {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    if !has("pg_ctl") && !Path::new("/usr/lib/postgresql").is_dir() {
        missing.push("several machines: there is no PostgreSQL here (Debian: postgresql)");
    }
    let programs =
        [("cc", "jumps of the clock: there is no C compiler"), ("unshare", "a full disk: there is no unshare")];
    missing.extend(programs.iter().filter(|(program, _)| !has(program)).map(|(_, what)| *what));
    let outside = OUTSIDE.iter().filter(|(variable, _)| env::var_os(variable).is_none());
    missing.extend(outside.map(|(_, what)| *what));
    missing
}

fn docs() -> Result<Done> {
    let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"];
    cargo(&arguments, &[("RUSTDOCFLAGS", "-D warnings")])
}

fn deny() -> Result<Done> {
    if !installed("deny") {
        return Ok(Done::Skipped("cargo-deny is not installed"));
    }
    // Advisories need a database of their own from the network; licences and bans only the crates.
    cargo(&["deny", "--locked", "check", "licenses", "bans"], &[])
}

pub(crate) fn cargo(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Done> {
    let line = format!("cargo {}", arguments.join(" "));
    println!("$ {line}");
    let status = command().args(arguments).envs(variables.iter().copied()).status().with_context(|| line.clone())?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(Done::Passed)
}

/// Whether `cargo NAME` exists.
pub(crate) fn installed(name: &str) -> bool {
    command().args([name, "--version"]).output().is_ok_and(|output| output.status.success())
}

/// The cargo that runs us, without the variables that it set for our own build.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    command
}
