//! Typed access to GGUF metadata, and the model's shape read from it.

use super::{Header, Value};
use crate::config::{Arch, ModelConfig};
use crate::error::LoadError;

impl Header {
    fn wrong_type(&self, key: &str, want: &str) -> LoadError {
        LoadError::corrupt(&self.file, key, format!("expected {want}"))
    }

    fn missing_key(&self, key: &str) -> LoadError {
        LoadError::missing(&self.file, format!("metadata key {key}"))
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Int(value)) => {
                usize::try_from(*value).map(Some).map_err(|_| self.wrong_type(key, "a number of at least 0"))
            }
            Some(_) => Err(self.wrong_type(key, "a whole number")),
        }
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, LoadError> {
        self.optional_size(key)?.ok_or_else(|| self.missing_key(key))
    }

    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong_type(key, "a text")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, LoadError> {
        self.optional_text(key)?.ok_or_else(|| self.missing_key(key))
    }

    pub(crate) fn texts(&self, key: &str) -> Result<&[String], LoadError> {
        match self.metadata.get(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            Some(_) => Err(self.wrong_type(key, "a list of texts")),
            None => Err(self.missing_key(key)),
        }
    }

    pub(crate) fn ints(&self, key: &str) -> Result<&[i64], LoadError> {
        match self.metadata.get(key) {
            Some(Value::Ints(values)) => Ok(values),
            Some(_) => Err(self.wrong_type(key, "a list of whole numbers")),
            None => Err(self.missing_key(key)),
        }
    }

    fn optional_float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value as f32)),
            Some(_) => Err(self.wrong_type(key, "a floating-point number")),
        }
    }

    pub(super) fn arch(&self) -> Result<Arch, LoadError> {
        let name = self.text("general.architecture")?;
        Arch::from_name(name)
            .ok_or_else(|| LoadError::UnsupportedArchitecture { file: self.file.clone(), arch: name.to_owned() })
    }

    pub(super) fn config(&self, arch: Arch) -> Result<ModelConfig, LoadError> {
        let key = |name: &str| format!("{arch}.{name}");
        self.refuse_rope_scaling(&key("rope.scaling.type"))?;
        let hidden = self.size(&key("embedding_length"))?;
        let query_heads = self.size(&key("attention.head_count"))?;
        let rotated = self.optional_size(&key("rope.dimension_count"))?;
        let head_dim = match self.optional_size(&key("attention.key_length"))? {
            Some(length) => length,
            None => rotated.unwrap_or(hidden / query_heads.max(1)),
        };
        if rotated.is_some_and(|rotated| rotated != head_dim) {
            let value = rotated.unwrap_or_default().to_string();
            return Err(LoadError::bad_config(&self.file, &key("rope.dimension_count"), &value, "the head dimension"));
        }
        let embed = self.tensors.get("token_embd.weight");
        let embed = embed.ok_or_else(|| LoadError::missing(&self.file, "tensor token_embd.weight"))?;
        let epsilon = key("attention.layer_norm_rms_epsilon");
        let config = ModelConfig {
            arch,
            layers: self.size(&key("block_count"))?,
            hidden,
            query_heads,
            kv_heads: self.optional_size(&key("attention.head_count_kv"))?.unwrap_or(query_heads),
            head_dim,
            ffn: self.size(&key("feed_forward_length"))?,
            vocab: embed.shape[0],
            rope_theta: self.optional_float(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            rms_eps: self.optional_float(&epsilon)?.ok_or_else(|| self.missing_key(&epsilon))?,
            qkv_bias: self.tensors.contains_key("blk.0.attn_q.bias"),
            tied: !self.tensors.contains_key("output.weight"),
            context_length: self.size(&key("context_length"))?,
        };
        config.check(&self.file)?;
        Ok(config)
    }

    /// Stretched RoPE changes every angle; running such a model unstretched would be silently wrong.
    fn refuse_rope_scaling(&self, key: &str) -> Result<(), LoadError> {
        let scaling = self.optional_text(key)?.filter(|&kind| kind != "none");
        let frequencies = self.tensors.contains_key("rope_freqs.weight").then_some("rope_freqs.weight");
        match scaling.or(frequencies) {
            None => Ok(()),
            Some(what) => Err(LoadError::Unsupported {
                file: self.file.clone(),
                key: key.to_owned(),
                what: format!("RoPE scaling ({what})"),
                supported: "plain RoPE".into(),
            }),
        }
    }
}
