//! Writes a tokenizer the way Hugging Face directories hold it, so that a trained model stands on its own.

use std::io;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::TextTokenizer;
use crate::adapter::files::write_atomic;

impl TextTokenizer {
    /// Writes `tokenizer.json`, `tokenizer_config.json` (with the chat template) and `generation_config.json` (the ids
    /// that end a reply).
    ///
    /// # Errors
    /// What the system said about one of the files.
    pub(crate) fn save(&self, folder: &Path, template: &str) -> io::Result<()> {
        let files = [
            ("tokenizer.json", self.json()?),
            ("tokenizer_config.json", self.config(template)),
            ("generation_config.json", json!({ "eos_token_id": self.stops })),
        ];
        for (name, value) in files {
            write_atomic(&folder.join(name), |out| out.write_all(format!("{value:#}\n").as_bytes()))?;
        }
        Ok(())
    }

    fn json(&self) -> io::Result<Json> {
        let mut json = serde_json::to_value(&self.plain)?;
        let mut specials: Vec<_> = self.all_specials().collect();
        specials.sort_by_key(|special| special.id);
        let added = specials.iter().map(|special| {
            json!({
                "id": special.id, "content": special.text, "special": special.control,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        });
        json["added_tokens"] = added.collect();
        match &self.pieces {
            Some(pieces) => pieces.form.put_into(&mut json),
            None => {
                json["decoder"] = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
            }
        }
        // A reader gives an added token the next free id unless the vocabulary names one.
        for special in specials {
            json["model"]["vocab"][&special.text] = json!(special.id);
        }
        Ok(json)
    }

    fn config(&self, template: &str) -> Json {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.eos_text,
            "chat_template": template,
            "clean_up_tokenization_spaces": false,
        });
        if !self.bos_text.is_empty() {
            config["bos_token"] = json!(self.bos_text);
        }
        config
    }
}
