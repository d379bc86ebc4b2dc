//! A model of some thousand parameters in Hugging Face's layout: every file that a real checkpoint has, weights from a
//! fixed recipe. A byte is a token, so that any text can be encoded. It knows nothing; it is there to be loaded, run
//! and trained in no time.

use std::{fs, path::Path};

use serde_json::{Value, json};

const HIDDEN: usize = 32;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 8;
const FFN: usize = 64;
const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const VOCAB: usize = 256 + SPECIALS.len();

/// Longest prompt and reply together, in bytes.
pub const CONTEXT: usize = 4096;

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Writes the checkpoint into `folder`, which is made.
///
/// # Errors
/// When a file cannot be written.
pub fn write_tiny(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let json = |name: &str, value: &Value| fs::write(folder.join(name), value.to_string());
    json("config.json", &config())?;
    json("tokenizer.json", &tokenizer())?;
    json("tokenizer_config.json", &json!({ "eos_token": "<|im_end|>", "chat_template": TEMPLATE }))?;
    fs::write(folder.join("model.safetensors"), safetensors(&tensors()))
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": true,
    })
}

/// Byte-level BPE without merges: the alphabet of GPT-2, one letter a byte, then the special tokens.
fn tokenizer() -> Value {
    let letters = byte_letters();
    let vocabulary: serde_json::Map<String, Value> =
        letters.iter().enumerate().map(|(id, letter)| (letter.to_string(), json!(id))).collect();
    let special = |(at, text): (usize, &&str)| {
        json!({ "id": 256 + at, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": SPECIALS.iter().enumerate().map(special).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": bytes,
        "post_processor": null,
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": [],
        },
    })
}

/// The printable letter that stands for each byte: itself where it is printable, else the next one from U+0100 on.
fn byte_letters() -> Vec<char> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut spare = 0x100;
    let letters = (0..256u32).map(|byte| {
        let code = if printable(byte) { byte } else { spare };
        spare += u32::from(!printable(byte));
        char::from_u32(code).expect("below the surrogates")
    });
    letters.collect()
}

/// Name, shape and values of every weight.
fn tensors() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut random = Random(0x5eed);
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN])];
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        all.push((name("self_attn.q_proj"), vec![HEADS * HEAD_DIM, HIDDEN]));
        all.push((name("self_attn.k_proj"), vec![KV_HEADS * HEAD_DIM, HIDDEN]));
        all.push((name("self_attn.v_proj"), vec![KV_HEADS * HEAD_DIM, HIDDEN]));
        all.push((name("self_attn.o_proj"), vec![HIDDEN, HEADS * HEAD_DIM]));
        all.push((name("mlp.gate_proj"), vec![FFN, HIDDEN]));
        all.push((name("mlp.up_proj"), vec![FFN, HIDDEN]));
        all.push((name("mlp.down_proj"), vec![HIDDEN, FFN]));
        all.push((name("input_layernorm"), vec![HIDDEN]));
        all.push((name("post_attention_layernorm"), vec![HIDDEN]));
    }
    all.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    let filled = all.into_iter().map(|(name, shape)| {
        let count = shape.iter().product();
        // Norms scale by one; everything else is small and random.
        let values = if shape.len() == 1 { vec![1.0; count] } else { (0..count).map(|_| random.draw()).collect() };
        (name, shape, values)
    });
    filled.collect()
}

/// <https://github.com/huggingface/safetensors#format>: length of the header, the header, the values.
fn safetensors(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// A linear congruential generator (Knuth, MMIX): the same weights on every machine.
struct Random(u64);

impl Random {
    /// Uniform in -0.1..0.1.
    fn draw(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = (self.0 >> 40) as f32 / (1u64 << 24) as f32;
        (unit - 0.5) / 5.0
    }
}
