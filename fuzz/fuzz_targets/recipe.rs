//! What people write into a recipe: a plan, or a message that names the place.
#![no_main]

use divvy_core::{plan::Plan, recipe::Recipe};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let plan = Recipe::parse(text, "recipe.toml").and_then(|recipe| Plan::resolve(&recipe, "recipe.toml"));
    match plan {
        Ok(plan) => drop(plan.digest()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
