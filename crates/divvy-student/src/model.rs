//! A loaded model: shape, weights, tokenizer, chat template and what identifies them. Read-only once loaded; engines
//! and trainers share it behind an `Arc`.

use std::path::Path;
use std::sync::Arc;

use divvy_core::chat::Message;
use divvy_kernels::MappedFile;

use crate::config::{Arch, ModelConfig, Ropes};
use crate::error::{LoadError, TextError};
use crate::forward::Network;
use crate::gguf::GgufFile;
use crate::matrix::Numerics;
use crate::safetensors::{SafetensorsDir, read_config};
use crate::template::ChatTemplate;
use crate::tokenizer::TextTokenizer;
use crate::weights::{TensorSource, Weights};

/// Everything a local model is.
pub struct Model {
    pub config: ModelConfig,
    pub weights: Weights,
    pub tokenizer: Arc<TextTokenizer>,
    pub template: Arc<ChatTemplate>,
    /// Angles for every position of the context, computed as far as sequences come.
    pub ropes: Arc<Ropes>,
    /// BLAKE3 of the weight files (and, of a directory, its configuration and tokenizer), 64 hex digits: part of the
    /// model's identity.
    pub content_hash: String,
    /// Content hash of the base that these files were exported as a copy of: what was trained on it fits here, too.
    pub copy_of: Option<String>,
}

impl Model {
    /// Loads a GGUF file or a Hugging Face directory with exact weights: for training, and where nothing else is said.
    ///
    /// # Errors
    /// [`LoadError`], whose message names file and key.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::load_as(path, Numerics::Exact)
    }

    /// Loads a GGUF file or a Hugging Face directory. Weights are brought into their form in parallel.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn load_as(path: &Path, numerics: Numerics) -> Result<Self, LoadError> {
        if path.is_dir() { Self::load_directory(path, numerics) } else { Self::load_gguf(path, numerics) }
    }

    fn load_gguf(path: &Path, numerics: Numerics) -> Result<Self, LoadError> {
        let (file, config) = gguf(path)?;
        let Speech { tokenizer, template } = Speech::of_gguf(path, &file, &config)?;
        let hash = || blake3::hash(file.bytes()).to_hex().to_string();
        let model = Self::assemble(config, &file, numerics, tokenizer, template, hash)?;
        Ok(Self { copy_of: file.copy_of(), ..model })
    }

    fn load_directory(dir: &Path, numerics: Numerics) -> Result<Self, LoadError> {
        let config = read_config(dir)?;
        let files = SafetensorsDir::open(dir, &config)?;
        let Speech { tokenizer, template } = Speech::of_directory(dir, &config)?;
        let hash = || {
            let mut hasher = blake3::Hasher::new();
            for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
                hasher.update(&std::fs::read(dir.join(name)).unwrap_or_default());
            }
            files.files().for_each(|bytes| {
                hasher.update(bytes);
            });
            hasher.finalize().to_hex().to_string()
        };
        let model = Self::assemble(config, &files, numerics, tokenizer, template, hash)?;
        Ok(Self { copy_of: files.copy_of(), ..model })
    }

    /// Writes tokenizer and chat template into a directory, so that weights trained from this model stand there as a
    /// model of their own.
    ///
    /// # Errors
    /// What the system said about one of the files.
    pub fn save_text(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        self.tokenizer.save(folder, self.template.text())
    }

    /// Expands the weights and hashes the file at the same time.
    fn assemble(
        config: ModelConfig,
        source: &dyn TensorSource,
        numerics: Numerics,
        tokenizer: TextTokenizer,
        template: ChatTemplate,
        hash: impl FnOnce() -> String + Send,
    ) -> Result<Self, LoadError> {
        let (weights, content_hash) = rayon::join(|| Weights::load(&config, source, numerics), hash);
        let weights = weights?;
        let ropes = Arc::new(Ropes::new(&config, config.context_length));
        let (tokenizer, template) = (Arc::new(tokenizer), Arc::new(template));
        Ok(Self { weights, config, tokenizer, template, ropes, content_hash, copy_of: None })
    }

    /// The same with other numbers: what training makes of it, before that is written to files and has a hash.
    #[must_use]
    pub fn with_weights(&self, weights: Weights) -> Self {
        Self {
            config: self.config.clone(),
            weights,
            tokenizer: Arc::clone(&self.tokenizer),
            template: Arc::clone(&self.template),
            ropes: Arc::clone(&self.ropes),
            content_hash: String::new(),
            copy_of: None,
        }
    }

    #[must_use]
    pub fn network(&self) -> Network<'_> {
        Network { config: &self.config, weights: &self.weights, ropes: &self.ropes }
    }

    /// The chat template's text: part of the model's identity.
    #[must_use]
    pub fn template_text(&self) -> &str {
        self.template.text()
    }

    /// Ids of a conversation up to and with the opening of the assistant's turn.
    ///
    /// # Errors
    /// When the model's template refuses the messages.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, TextError> {
        self.template.encode(messages, &self.tokenizer)
    }

    /// Ids of a text outside any conversation, behind the first token where the model's file asks for one.
    ///
    /// # Errors
    /// When the tokenizer has no token for some byte.
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids: Vec<u32> = self.tokenizer.first_token().into_iter().collect();
        ids.extend(self.tokenizer.encode(text)?);
        Ok(ids)
    }

    /// Ids of a reply as the model should write it, its end token included.
    ///
    /// # Errors
    /// When the tokenizer has no token for some byte.
    pub fn encode_completion(&self, text: &str) -> Result<Vec<u32>, TextError> {
        // Within a whole conversation a reply's first word would not have another space.
        let goes_on = self.tokenizer.puts_space() && self.template.opens_with_space(&self.tokenizer);
        let mut ids = if goes_on { self.tokenizer.encode_behind(text) } else { self.tokenizer.encode(text) }?;
        ids.push(self.tokenizer.end_token());
        Ok(ids)
    }

    /// Text of ids, control tokens left out.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids)
    }
}

/// What a model reads and writes, without its weights.
pub struct Speech {
    pub tokenizer: TextTokenizer,
    pub template: ChatTemplate,
}

impl Speech {
    /// Of a GGUF file or a Hugging Face directory; the weights are not touched.
    ///
    /// # Errors
    /// [`LoadError`], whose message names file and key.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        if path.is_dir() {
            return Self::of_directory(path, &read_config(path)?);
        }
        let (file, config) = gguf(path)?;
        Self::of_gguf(path, &file, &config)
    }

    fn of_gguf(path: &Path, file: &GgufFile, config: &ModelConfig) -> Result<Self, LoadError> {
        let tokenizer = TextTokenizer::from_gguf(&file.header, config.vocab)?;
        let template = match file.header.optional_text("tokenizer.chat_template")? {
            Some(text) => text,
            None if config.arch == Arch::Gemma3 => GEMMA_TEMPLATE,
            None => return Err(LoadError::missing(&file.header.file, NO_TEMPLATE)),
        };
        Self::new(&path.display().to_string(), tokenizer, template)
    }

    fn of_directory(dir: &Path, config: &ModelConfig) -> Result<Self, LoadError> {
        let tokenizer = TextTokenizer::from_directory(dir, config.vocab)?;
        Self::new(&dir.display().to_string(), tokenizer, &directory_template(dir)?)
    }

    fn new(file: &str, mut tokenizer: TextTokenizer, template: &str) -> Result<Self, LoadError> {
        tokenizer.reserve(template);
        let template = ChatTemplate::new(template.to_owned()).and_then(|template| template.with_bos(&tokenizer));
        let template = template.map_err(|reason| LoadError::Template { file: file.to_owned(), reason })?;
        Ok(Self { tokenizer, template })
    }

    /// A conversation as the model reads it, and how many tokens that is.
    ///
    /// # Errors
    /// When the model's template refuses the messages.
    pub fn read(&self, messages: &[Message]) -> Result<(String, usize), TextError> {
        let ids = self.template.encode(messages, &self.tokenizer)?;
        Ok((self.template.render(messages, &self.tokenizer)?, ids.len()))
    }
}

const NO_TEMPLATE: &str =
    "metadata key tokenizer.chat_template (a base model's file has none: take the instruction-tuned one)";

/// Gemma's turns, for base models: their files have the tokens but no template. It has no system's turn.
const GEMMA_TEMPLATE: &str = "{{ bos_token }}\
    {% if messages[0].role == 'system' %}{% set lead = messages[0].content + '\n\n' %}{% set turns = messages[1:] %}\
    {% else %}{% set lead = '' %}{% set turns = messages %}{% endif %}\
    {% for message in turns %}\
    {{ '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\n' }}\
    {{ (lead if loop.first else '') + (message.content | trim) + '<end_of_turn>\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

fn gguf(path: &Path) -> Result<(GgufFile, ModelConfig), LoadError> {
    let name = path.display().to_string();
    let map = MappedFile::open(path).map_err(|error| LoadError::io(path, error))?;
    if !map.starts_with(b"GGUF") {
        return Err(LoadError::NotAModel { path: name });
    }
    let file = GgufFile::open(&name, map)?;
    let config = file.config()?;
    file.refuse_unread_tensors(&config)?;
    Ok((file, config))
}

/// `chat_template.jinja`, or the `chat_template` of `tokenizer_config.json`.
fn directory_template(dir: &Path) -> Result<String, LoadError> {
    if let Ok(text) = std::fs::read_to_string(dir.join("chat_template.jinja")) {
        return Ok(text);
    }
    let path = dir.join("tokenizer_config.json");
    let text = std::fs::read_to_string(&path).map_err(|error| LoadError::io(&path, error))?;
    let file = path.display().to_string();
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| LoadError::corrupt(&file, "JSON", error.to_string()))?;
    let template = json["chat_template"].as_str();
    template.map(str::to_owned).ok_or_else(|| LoadError::missing(&file, "chat_template (or chat_template.jinja)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_tokenizer;

    #[test]
    fn gemmas_turns_hold_what_a_system_would_say() {
        let template = ChatTemplate::new(GEMMA_TEMPLATE.into()).unwrap();
        let text = |messages: &[Message]| template.render(messages, &tiny_tokenizer()).unwrap();
        assert_eq!(text(&[Message::user(" one\n")]), "<start_of_turn>user\none<end_of_turn>\n<start_of_turn>model\n");
        let all =
            [Message::system("be brief"), Message::user("one"), Message::assistant("two"), Message::user("three")];
        let want = "<start_of_turn>user\nbe brief\n\none<end_of_turn>\n<start_of_turn>model\ntwo<end_of_turn>\n\
            <start_of_turn>user\nthree<end_of_turn>\n<start_of_turn>model\n";
        assert_eq!(text(&all), want);
    }
}
