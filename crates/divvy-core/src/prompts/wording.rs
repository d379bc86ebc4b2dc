//! The wording of every prompt: the built-in one, or a recipe's own. Training and inference render through the same value,
//! the plan's, so that no student can be asked with another prompt than it learnt.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    cot, decompose,
    demonstration::Demonstration,
    direct, self_ask, stepwise,
    template::{Place, fill},
    two_stage,
};
use crate::chat::Message;

/// Which prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptName {
    /// Asks for a whole decomposition.
    Decompose,
    /// The same as JSON by a schema.
    DecomposeJson,
    /// The question alone, for students that were trained so.
    DecomposeQuestion,
    /// Asks for the next subquestion.
    SelfAsk,
    Direct,
    Cot,
    /// All subquestions and the question in one call.
    TwoStage,
    /// One subquestion.
    Subquestion,
    /// The question, when its subquestions are answered.
    Conclusion,
}

/// A prompt as divvy ships it.
pub struct BuiltIn {
    pub system: &'static str,
    pub template: &'static str,
    pub places: &'static [Place],
    /// Raised when the same reply would be read differently.
    pub parser_version: u32,
}

impl PromptName {
    pub const ALL: [Self; 9] = [
        Self::Decompose,
        Self::DecomposeJson,
        Self::DecomposeQuestion,
        Self::SelfAsk,
        Self::Direct,
        Self::Cot,
        Self::TwoStage,
        Self::Subquestion,
        Self::Conclusion,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decompose => "decompose",
            Self::DecomposeJson => "decompose-json",
            Self::DecomposeQuestion => "decompose-question",
            Self::SelfAsk => "self-ask",
            Self::Direct => "direct",
            Self::Cot => "cot",
            Self::TwoStage => "two-stage",
            Self::Subquestion => "subquestion",
            Self::Conclusion => "conclusion",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|prompt| prompt.name() == name)
    }

    #[must_use]
    pub fn built_in(self) -> &'static BuiltIn {
        match self {
            Self::Decompose => &decompose::FREE,
            Self::DecomposeJson => &decompose::JSON,
            Self::DecomposeQuestion => &decompose::QUESTION_ONLY,
            Self::SelfAsk => &self_ask::BUILT_IN,
            Self::Direct => &direct::BUILT_IN,
            Self::Cot => &cot::BUILT_IN,
            Self::TwoStage => &two_stage::BUILT_IN,
            Self::Subquestion => &stepwise::SUBQUESTION,
            Self::Conclusion => &stepwise::CONCLUSION,
        }
    }
}

impl fmt::Display for PromptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a recipe says of one prompt; what it leaves out is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wording {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Written ones, for arms with shots; without any they come from the training questions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demonstrations: Vec<Demonstration>,
    /// Other words for it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: BTreeMap<String, Rewording>,
}

/// What it leaves out is as in the prompt that it is a variant of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewording {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// Every prompt of a plan. The default is the built-in wording throughout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prompts(BTreeMap<PromptName, Wording>);

impl Prompts {
    #[must_use]
    pub fn new(wordings: BTreeMap<PromptName, Wording>) -> Self {
        Self(wordings)
    }

    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.0.is_empty()
    }

    /// The recipe has a wording of its own for it.
    #[must_use]
    pub fn overrides(&self, name: PromptName) -> bool {
        self.0.get(&name).is_some_and(|wording| wording.system.is_some() || wording.template.is_some())
    }

    #[must_use]
    pub fn system(&self, name: PromptName) -> &str {
        self.0.get(&name).and_then(|wording| wording.system.as_deref()).unwrap_or(name.built_in().system)
    }

    #[must_use]
    pub fn template(&self, name: PromptName) -> &str {
        self.0.get(&name).and_then(|wording| wording.template.as_deref()).unwrap_or(name.built_in().template)
    }

    /// Those that the recipe writes.
    #[must_use]
    pub fn demonstrations(&self, name: PromptName) -> &[Demonstration] {
        self.0.get(&name).map_or(&[], |wording| &wording.demonstrations)
    }

    /// The variants of a prompt, by name.
    pub fn variants(&self, name: PromptName) -> impl Iterator<Item = &str> {
        self.0.get(&name).into_iter().flat_map(|wording| wording.variants.keys()).map(String::as_str)
    }

    #[must_use]
    pub fn has_variant(&self, name: PromptName, variant: &str) -> bool {
        self.variants(name).any(|known| known == variant)
    }

    /// The same prompts, those of these names in the words of their variant where they have one that is called so.
    #[must_use]
    pub fn varied(&self, variant: &str, names: &[PromptName]) -> Self {
        let mut varied = self.clone();
        for (_, wording) in varied.0.iter_mut().filter(|(name, _)| names.contains(name)) {
            let Some(Rewording { system, template }) = wording.variants.get(variant).cloned() else { continue };
            wording.system = system.or(wording.system.take());
            wording.template = template.or(wording.template.take());
        }
        varied
    }

    /// System message and user message.
    pub(super) fn write(&self, name: PromptName, places: &[(&str, &str)]) -> Vec<Message> {
        vec![Message::system(self.system(name)), Message::user(fill(self.template(name), places))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::template;

    #[test]
    fn the_built_in_templates_are_valid() {
        for name in PromptName::ALL {
            let BuiltIn { system, template, places, .. } = name.built_in();
            assert_eq!(template::check(template, places), Ok(()), "{name}");
            assert!(places.iter().all(|place| !place.meaning().is_empty()), "{name}: every placeholder is explained");
            assert!(!system.is_empty(), "{name}: chat templates insert a system message of their own");
            assert_eq!(PromptName::named(name.name()), Some(name));
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
        }
    }
}
