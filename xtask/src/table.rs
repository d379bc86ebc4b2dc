//! The dependency table: which crate of the workspace may import which, who may know tokio, axum and `unsafe`. It is
//! written here once and checked against `cargo metadata`, not remembered. ARCHITECTURE.md explains it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::steps::{self, Done};

/// Crate → workspace crates that its shipped code may import.
const ALLOWED: &[(&str, &[&str])] = &[
    ("divvy-core", &[]),
    ("divvy-kernels", &[]),
    ("divvy-store", &["divvy-core"]),
    ("divvy-data", &["divvy-core"]),
    ("divvy-report", &["divvy-core"]),
    ("divvy-launch", &["divvy-core"]),
    ("divvy-student", &["divvy-core", "divvy-kernels"]),
    ("divvy-llm", &["divvy-core", "divvy-store"]),
    ("divvy-flow", &["divvy-core", "divvy-store", "divvy-llm"]),
    ("divvy-serve", &["divvy-core", "divvy-store", "divvy-llm", "divvy-flow"]),
    ("divvy-testkit", &["divvy-core"]),
    (
        "divvy",
        &[
            "divvy-core",
            "divvy-store",
            "divvy-data",
            "divvy-llm",
            "divvy-kernels",
            "divvy-student",
            "divvy-flow",
            "divvy-report",
            "divvy-launch",
            "divvy-serve",
        ],
    ),
    ("xtask", &[]),
];

/// Only a dev-dependency, of anybody.
const TEST_ONLY: &[&str] = &["divvy-testkit"];

/// Outside crate → the workspace crates whose shipped code may import it directly.
const RESTRICTED: &[(&str, &[&str])] = &[
    ("tokio", &["divvy-llm", "divvy-flow", "divvy-store", "divvy-serve", "divvy-launch", "divvy-testkit", "divvy"]),
    ("axum", &["divvy-serve", "divvy-testkit"]),
    ("opentelemetry", &["divvy-serve"]),
    ("opentelemetry_sdk", &["divvy-serve"]),
    ("opentelemetry-otlp", &["divvy-serve"]),
    ("opentelemetry-proto", &["divvy-testkit"]),
    ("sqlx", &["divvy-store"]),
    ("reqwest", &["divvy-launch", "divvy-llm"]),
    ("hf-hub", &["divvy-data"]),
];

/// The only crate whose sources may say `unsafe`.
const UNSAFE_ALLOWED: &[&str] = &["divvy-kernels"];

pub(crate) fn check() -> Result<Done> {
    let output = steps::command().args(["metadata", "--no-deps", "--format-version", "1", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let packages = packages(&serde_json::from_slice(&output.stdout)?)?;
    let problems: Vec<String> = packages
        .iter()
        .flat_map(|package| edge_problems(package).into_iter().chain(source_problems(package)))
        .collect();
    if problems.is_empty() {
        println!("{} crates keep to the table", packages.len());
        return Ok(Done::Passed);
    }
    bail!("\n  {}", problems.join("\n  "))
}

/// What the table needs to know of a package.
#[derive(Debug, Default)]
struct Package {
    name: String,
    root: String,
    shipped: BTreeSet<String>,
    dev: BTreeSet<String>,
    /// Whether it takes the workspace's lints, which forbid `unsafe`.
    lints: bool,
}

fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let list = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    list.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let name = value["name"].as_str().context("a package without a name")?.to_owned();
    let manifest = value["manifest_path"].as_str().context("a package without a manifest")?;
    let root = Path::new(manifest).parent().context("a manifest without a folder")?;
    let text = fs::read_to_string(manifest).with_context(|| manifest.to_owned())?;
    let lints = text.split("[lints]").nth(1).is_some_and(|rest| rest.trim_start().starts_with("workspace = true"));
    let mut package = Package { name, root: root.display().to_string(), lints, ..Package::default() };
    for dependency in value["dependencies"].as_array().into_iter().flatten() {
        let name = dependency["name"].as_str().unwrap_or_default().to_owned();
        let kind = dependency["kind"].as_str();
        if kind == Some("dev") { &mut package.dev } else { &mut package.shipped }.insert(name);
    }
    Ok(package)
}

fn edge_problems(package: &Package) -> Vec<String> {
    let table: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let Some(allowed) = table.get(package.name.as_str()) else {
        return vec![format!("{} is not in the table of xtask/src/table.rs; add its row", package.name)];
    };
    let mut problems = Vec::new();
    for name in &package.shipped {
        let name = name.as_str();
        if TEST_ONLY.contains(&name) {
            problems.push(format!("{} ships {name}, which is for tests: make it a dev-dependency", package.name));
        } else if table.contains_key(name) && !allowed.contains(&name) {
            problems.push(format!("{} imports {name}, an edge that the table does not have", package.name));
        }
        if let Some((_, users)) = RESTRICTED.iter().find(|(outside, _)| *outside == name)
            && !users.contains(&package.name.as_str())
        {
            problems.push(format!("{} imports {name}, which only {} may", package.name, users.join(", ")));
        }
    }
    problems
}

/// `unsafe` is forbidden by the workspace's lints wherever these apply; so it is enough that they do.
fn source_problems(package: &Package) -> Vec<String> {
    let free = UNSAFE_ALLOWED.contains(&package.name.as_str());
    if free || package.lints {
        return Vec::new();
    }
    vec![format!("{} does not take the workspace's lints: `[lints] workspace = true` ({})", package.name, package.root)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, shipped: &[&str], dev: &[&str]) -> Package {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Package { name: name.into(), shipped: set(shipped), dev: set(dev), lints: true, ..Package::default() }
    }

    fn check(name: &str, shipped: &[&str], dev: &[&str], expect: &[&str]) {
        let problems = edge_problems(&package(name, shipped, dev));
        assert_eq!(problems.len(), expect.len(), "{problems:?}");
        for (problem, word) in problems.iter().zip(expect) {
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn edges_of_the_table_pass_and_others_do_not() {
        check("divvy-flow", &["divvy-core", "divvy-llm", "tokio", "serde"], &["divvy-testkit"], &[]);
        check("divvy-core", &["divvy-store"], &[], &["an edge that the table does not have"]);
        check("divvy-student", &["divvy-kernels", "tokio"], &[], &["imports tokio"]);
        check("divvy-llm", &["divvy-testkit"], &[], &["make it a dev-dependency"]);
        check("divvy-flow", &["axum"], &[], &["imports axum"]);
        check("divvy-extra", &[], &[], &["not in the table"]);
    }

    #[test]
    fn the_table_has_no_cycle() {
        let table: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
        let mut done = BTreeSet::new();
        while done.len() < table.len() {
            let ready: Vec<_> = table
                .iter()
                .filter(|(name, needs)| !done.contains(*name) && needs.iter().all(|need| done.contains(need)))
                .map(|(name, _)| *name)
                .collect();
            assert!(!ready.is_empty(), "a cycle among what is left after {done:?}");
            done.extend(ready);
        }
    }

    #[test]
    fn a_crate_without_the_lints_is_found_unless_it_is_the_kernels() {
        let mut loose = package("divvy-core", &[], &[]);
        loose.lints = false;
        assert_eq!(source_problems(&loose).len(), 1);
        loose.name = "divvy-kernels".into();
        assert!(source_problems(&loose).is_empty());
    }
}
