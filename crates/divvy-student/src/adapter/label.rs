//! What is known of an adapter besides its numbers, and whether a model is the one it was trained on: its base by the content
//! of the files, its words by the chat template and by the tokens that a known text becomes.

use std::path::Path;

use divvy_core::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::peft::MANIFEST;
use super::{Adapter, AdapterError};
use crate::error::TextError;
use crate::model::Model;

/// A text that whoever loads an adapter must read as its trainer did. It stays as it is: its tokens are in people's adapters.
const CANARY: &str = "Ann has 3 boxes of 12 pens.\n1. How many pens does Ann have in all?";

/// What the trainer knows about an adapter besides its numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdapterLabel {
    /// Content hash of the base model; compared when the adapter is loaded.
    pub base: String,
    /// Name of the base for other tools (`base_model_name_or_path`).
    pub base_name: String,
    /// PromptId: digest of prompt template and parser version that the training rows were rendered with. For the record: a
    /// student is found by a key that has it in it, so that one with other prompts is another student.
    pub prompt: String,
    /// Digest of the chat template; compared by [`Model::adapter`].
    pub template: String,
    /// Token ids of a known text; [`Model::adapter`] asks whether this model reads it so.
    pub canary: Vec<u32>,
    /// The training configuration, for the record.
    pub train: Value,
}

impl AdapterLabel {
    /// What an adapter on this model says of its base and its words.
    ///
    /// # Errors
    /// When the model's tokenizer cannot read a plain sentence.
    pub fn of(model: &Model) -> Result<Self, TextError> {
        let (base, canary) = (model.content_hash.clone(), model.encode_completion(CANARY)?);
        Ok(Self { base, template: template(model), canary, ..Self::default() })
    }

    /// What a label leaves empty is not asked.
    fn check_words(&self, file: &Path, model: &Model) -> Result<(), AdapterError> {
        let other = |what| Err(AdapterError::OtherWords { file: file.display().to_string(), what });
        if !self.template.is_empty() && self.template != template(model) {
            return other("chat template");
        }
        if !self.canary.is_empty() && model.encode_completion(CANARY).ok().as_ref() != Some(&self.canary) {
            return other("tokenizer");
        }
        Ok(())
    }
}

fn template(model: &Model) -> String {
    Digest::of("template/1", &model.template_text()).hex().to_owned()
}

impl Model {
    /// Reads an adapter that was trained on this model, or on the one that this is a copy of, with the same words.
    ///
    /// # Errors
    /// As for [`Adapter::load`], and [`AdapterError::OtherWords`].
    pub fn adapter(&self, folder: &Path) -> Result<Adapter, AdapterError> {
        let bases: Vec<&str> = [&self.content_hash].into_iter().chain(&self.copy_of).map(String::as_str).collect();
        let (adapter, manifest) = Adapter::load(folder, &self.config, &bases)?;
        if let Some(manifest) = manifest {
            manifest.label.check_words(&folder.join(MANIFEST), self)?;
        }
        Ok(adapter)
    }
}
