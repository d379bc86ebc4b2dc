//! `cargo xtask prices LIST WHAT_IT_IS`: writes the list prices that divvy ships, from LiteLLM's list of model prices (MIT licence,
//! github.com/BerriAI/litellm, `model_prices_and_context_window.json`; every wheel of `litellm` has a copy).

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const TO: &str = "crates/divvy-core/src/cost/list.toml";
/// LiteLLM's word for a provider, and the host of its OpenAI-compatible endpoint.
const HOSTS: &[(&str, &str)] = &[
    ("anthropic", "api.anthropic.com"),
    ("cerebras", "api.cerebras.ai"),
    ("deepinfra", "api.deepinfra.com"),
    ("deepseek", "api.deepseek.com"),
    ("fireworks_ai", "api.fireworks.ai"),
    ("gemini", "generativelanguage.googleapis.com"),
    ("groq", "api.groq.com"),
    ("mistral", "api.mistral.ai"),
    ("openai", "api.openai.com"),
    ("together_ai", "api.together.xyz"),
    ("xai", "api.x.ai"),
];

/// LiteLLM's file, and what it is, as in `LiteLLM 1.2.3, 2026-11-26`.
pub(crate) fn write(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (Some(list), Some(taken), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        bail!("cargo xtask prices LIST WHAT_IT_IS, as in \"LiteLLM 1.2.3, 2026-11-26\"");
    };
    let text = std::fs::read_to_string(&list).with_context(|| list.clone())?;
    let models: BTreeMap<String, Value> = serde_json::from_str(&text)?;
    let mut written = format!(
        "# Dollars for a million tokens, by `cargo xtask prices`, which says where they are from. Not written by hand.\n\n\
         taken = {taken:?}\n"
    );
    for (provider, host) in HOSTS {
        write!(written, "\n[hosts.\"{host}\"]\n")?;
        for (name, line) in of(provider, &models) {
            writeln!(written, "{name:?} = {{ {line} }}")?;
        }
    }
    Ok(std::fs::write(TO, written)?)
}

/// Names as the endpoint has them, and their prices as TOML.
fn of(provider: &str, models: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let own = models.iter().filter(|(_, model)| model["litellm_provider"] == provider && model["mode"] == "chat");
    let named = |name: &str| name.strip_prefix(&format!("{provider}/")).unwrap_or(name).to_owned();
    own.filter_map(|(name, model)| Some((named(name), line(model)?))).collect()
}

fn line(model: &Value) -> Option<String> {
    let price = |key: &str| model[key].as_f64().filter(|price| *price > 0.0);
    let (input, output) = (price("input_cost_per_token")?, price("output_cost_per_token")?);
    let mut line = format!("input = {:?}", million(input));
    if let Some(cached) = price("cache_read_input_token_cost").filter(|cached| *cached < input) {
        write!(line, ", cached_input = {:?}", million(cached)).ok()?;
    }
    write!(line, ", output = {:?}", million(output)).ok()?;
    if let (Some(batch_input), Some(batch_output)) =
        (price("input_cost_per_token_batches"), price("output_cost_per_token_batches"))
    {
        // One share for both; where they differ, the smaller discount.
        let discount = 1.0 - (batch_input / input).max(batch_output / output);
        write!(line, ", batch_discount = {:?}", decimal(discount.max(0.0))).ok()?;
    }
    Some(line)
}

fn million(price: f64) -> String {
    decimal(price * 1e6)
}

fn decimal(number: f64) -> String {
    format!("{number:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
