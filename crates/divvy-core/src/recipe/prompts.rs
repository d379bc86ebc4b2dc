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
//! ```

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
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenDemonstration {
    pub premise: Option<String>,
    pub question: String,
    /// What a good reply is: numbered subquestions for `decompose`, else a text that ends in the answer.
    pub reply: Option<String>,
    /// For `self-ask`: what is asked one after another, each with the answer that is heard.
    #[serde(default)]
    pub steps: Vec<WrittenStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenStep {
    pub subquestion: String,
    pub answer: String,
}
