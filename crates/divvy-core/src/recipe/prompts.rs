//! `[prompts.NAME]`: a recipe's own wording of a prompt, and demonstrations for it.
//!
//! ```toml
//! [prompts.cot]
//! template = """{question}
//!
//! Think it through. Then answer on a last line: "The answer is: X", where {answer_form}."""
//!
//! [[prompts.cot.demonstrations]]
//! question = "Ann has 3 pens and buys 4. How many has she?"
//! reply = "3 + 4 = 7\nThe answer is: 7"
//!
//! [prompts.cot.variants.terse]      # asked by "cot+prompt=terse" among the strategies
//! template = "{question}\n\nThink in as few words as you can. Last line: \"The answer is: X\", where {answer_form}."
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// The system message.
    pub system: Option<String>,
    /// The user message, with placeholders; `divvy prompts --show NAME` tells which there are.
    pub template: Option<String>,
    /// Shown by strategies with `+shots=N`, the first N; without any, they come from the training questions.
    #[serde(default)]
    pub demonstrations: Vec<WrittenDemonstration>,
    /// Further wordings, each for arms with `+prompt=NAME`.
    #[serde(default)]
    pub variants: BTreeMap<String, PromptVariant>,
}

/// What it leaves out is as in the prompt that it is a variant of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptVariant {
    pub system: Option<String>,
    pub template: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenDemonstration {
    pub premise: Option<String>,
    pub question: String,
    /// What a good reply is: numbered subquestions for `decompose`, else a text that ends in the answer.
    pub reply: Option<String>,
    /// For `self-ask`: what is asked one after another, each with the answer that is heard. For `two-stage`: the subquestions,
    /// each with its line of the reply, which `reply` ends.
    #[serde(default)]
    pub steps: Vec<WrittenStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenStep {
    pub subquestion: String,
    pub answer: String,
}
