//! `divvy init`: a commented recipe, valid as it stands.

use std::path::Path;

use anyhow::Context as _;

use crate::output::{Usage, say};

const RECIPE: &str = include_str!("../../templates/divvy.toml");

pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Err(Usage(format!(
            "`{}` is already there; choose another name, it is not overwritten",
            path.display()
        ))
        .into());
    }
    std::fs::write(path, RECIPE).with_context(|| format!("cannot write `{}`", path.display()))?;
    say(&format!("wrote {}; `divvy run {} --dry-run` shows what it would do", path.display(), path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use divvy_core::{plan::Plan, recipe::Recipe};

    /// A reader copies what the README shows.
    #[test]
    fn the_recipe_of_the_readme_is_valid() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
        let (_, after) = readme.split_once("```toml\n").unwrap();
        let recipe = Recipe::parse(after.split_once("```").unwrap().0, "README.md").unwrap();
        Plan::resolve(&recipe, "README.md").unwrap();
    }

    #[test]
    fn the_template_is_a_valid_recipe() {
        let recipe = Recipe::parse(super::RECIPE, "divvy.toml").unwrap();
        Plan::resolve(&recipe, "divvy.toml").unwrap();
    }
}
