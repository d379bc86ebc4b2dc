//! GGUF files (llama.cpp's format, versions 2 and 3): header, metadata, tensor table; tensors stay in the mapped file.
//! Everything read is checked against the file's real length before it is used, so that a damaged or hostile file
//! yields an error that names the key, never a panic and never an allocation larger than a few times the file.
//! Specification: `docs/gguf.md` in the ggml repository.

mod config;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, HashMap, HashSet};

use divvy_kernels::MappedFile;

use crate::config::{Arch, ModelConfig, Projection};
use crate::error::LoadError;
use crate::quant::{TensorType, TensorView};
use crate::weights::{Slot, TensorSource};
pub(crate) use config::implied_score_scale;
use reader::Reader;
pub(crate) use writer::{Entry, write};

/// The tensor that is read as configuration.
const DIVISORS: &str = "rope_freqs.weight";

/// More entries than any model has; larger counts are damage.
const MOST_ENTRIES: u64 = 1 << 16;

/// One metadata value. All integers fit an `i64` (an unsigned one that does not is refused).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
    /// A list of whole numbers below 32 bits, as it stands in the file: nothing here asks for one, and widened it would take
    /// eight times its bytes. `kind` is the type of its elements.
    Narrow {
        kind: u32,
        bytes: Vec<u8>,
    },
}

/// Bytes of a number of a type below 32 bits.
fn narrow(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 => Some(1),
        2 | 3 => Some(2),
        _ => None,
    }
}

/// Where a tensor lies; checked to be inside the file.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    pub dtype: TensorType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    pub start: usize,
    pub bytes: usize,
}

/// Header of a file: everything but the tensors' bytes.
#[derive(Debug)]
pub struct Header {
    pub file: String,
    pub metadata: BTreeMap<String, Value>,
    pub tensors: HashMap<String, TensorInfo>,
    /// The one tensor that is configuration: what Llama 3.x divides RoPE's frequencies by.
    pub(crate) divisors: Option<Vec<f32>>,
}

/// An opened file.
pub struct GgufFile {
    pub header: Header,
    pub arch: Arch,
    map: MappedFile,
}

impl GgufFile {
    /// Takes a mapped file; `file` is its name in messages.
    ///
    /// # Errors
    /// Damage of any kind, or an architecture the engine does not run.
    pub fn open(file: &str, map: MappedFile) -> Result<Self, LoadError> {
        let header = Header::parse(file, &map)?;
        let arch = header.arch()?;
        Ok(Self { header, arch, map })
    }

    /// # Errors
    /// A missing key, or a value out of range.
    pub fn config(&self) -> Result<ModelConfig, LoadError> {
        self.header.config(self.arch)
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

impl TensorSource for GgufFile {
    fn tensor(&self, slot: Slot) -> Result<TensorView<'_>, LoadError> {
        let name = tensor_name(slot);
        let info = self.header.tensors.get(&name);
        let info = info.ok_or_else(|| LoadError::missing(&self.header.file, format!("tensor {name}")))?;
        Ok(TensorView {
            file: &self.header.file,
            name,
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: &self.map[info.start..info.start + info.bytes],
            interleaved_heads: self.interleaved_heads(slot)?,
            plus: 0.0,
        })
    }
}

impl GgufFile {
    /// Refuses a tensor that no part of such a model reads: without it the model would run, and be another.
    ///
    /// # Errors
    /// [`LoadError::UnreadTensor`] naming the first.
    pub(crate) fn refuse_unread_tensors(&self, config: &ModelConfig) -> Result<(), LoadError> {
        let read: HashSet<String> = Slot::all(config).into_iter().map(tensor_name).collect();
        let known = |name: &str| name == DIVISORS || read.contains(name);
        match self.header.tensors.keys().filter(|name| !known(name)).min() {
            None => Ok(()),
            Some(tensor) => {
                Err(LoadError::UnreadTensor { file: self.header.file.clone(), tensor: tensor.clone(), arch: self.arch })
            }
        }
    }

    fn interleaved_heads(&self, slot: Slot) -> Result<Option<usize>, LoadError> {
        let Slot::Matrix(_, projection) = slot else { return Ok(None) };
        Ok(if interleaved(self.arch, projection) { Some(self.config()?.heads(projection)) } else { None })
    }
}

/// llama.cpp's converter interleaves the rotated rows of this family only.
pub(crate) fn interleaved(arch: Arch, projection: Projection) -> bool {
    matches!(arch, Arch::Llama | Arch::Mistral) && matches!(projection, Projection::Query | Projection::Key)
}

pub(crate) fn tensor_name(slot: Slot) -> String {
    let part = |projection| match projection {
        Projection::Query => "attn_q",
        Projection::Key => "attn_k",
        Projection::Value => "attn_v",
        Projection::Output => "attn_output",
        Projection::Gate => "ffn_gate",
        Projection::Up => "ffn_up",
        Projection::Down => "ffn_down",
    };
    match slot {
        Slot::Embed => "token_embd.weight".into(),
        Slot::FinalNorm => "output_norm.weight".into(),
        Slot::Head => "output.weight".into(),
        Slot::AttnNorm(layer) => format!("blk.{layer}.attn_norm.weight"),
        Slot::FfnNorm(layer) => format!("blk.{layer}.ffn_norm.weight"),
        Slot::QueryNorm(layer) => format!("blk.{layer}.attn_q_norm.weight"),
        Slot::KeyNorm(layer) => format!("blk.{layer}.attn_k_norm.weight"),
        Slot::AttnPostNorm(layer) => format!("blk.{layer}.post_attention_norm.weight"),
        Slot::FfnPostNorm(layer) => format!("blk.{layer}.post_ffw_norm.weight"),
        Slot::Matrix(layer, projection) => format!("blk.{layer}.{}.weight", part(projection)),
        Slot::Bias(layer, projection) => format!("blk.{layer}.{}.bias", part(projection)),
    }
}

impl Header {
    /// Reads and checks a header.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`] naming the key or tensor; [`LoadError::Unsupported`] for a tensor type we do not read.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut reader = Reader::new(file, bytes);
        if reader.take(4, "magic")? != b"GGUF" {
            return Err(LoadError::corrupt(file, "magic", "the file does not begin with \"GGUF\""));
        }
        let version = reader.u32("version")?;
        if !(2..=3).contains(&version) {
            let what = format!("GGUF version {version}");
            let supported = "2, 3 (little-endian)".into();
            return Err(LoadError::Unsupported { file: file.into(), key: "version".into(), what, supported });
        }
        let tensors = reader.count("tensor count", MOST_ENTRIES)?;
        let entries = reader.count("metadata count", MOST_ENTRIES)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let (key, value) = reader.entry()?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(LoadError::corrupt(file, key, "the key occurs twice"));
            }
        }
        let mut header = Self { file: file.into(), metadata, tensors: HashMap::new(), divisors: None };
        let alignment = header.alignment()?;
        for _ in 0..tensors {
            let (name, info) = reader.tensor(alignment)?;
            if header.tensors.insert(name.clone(), info).is_some() {
                return Err(LoadError::corrupt(file, name, "the tensor occurs twice"));
            }
        }
        header.place(reader.position(), alignment, bytes.len())?;
        header.divisors = header.divisors(bytes);
        Ok(header)
    }

    fn divisors(&self, bytes: &[u8]) -> Option<Vec<f32>> {
        let info = self.tensors.get(DIVISORS).filter(|info| info.dtype == TensorType::F32)?;
        let bytes = bytes.get(info.start..info.start + info.bytes)?.as_chunks().0;
        Some(bytes.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn alignment(&self) -> Result<usize, LoadError> {
        let key = "general.alignment";
        let value = self.optional_size(key)?.unwrap_or(32);
        if value.is_power_of_two() && (1..=1 << 20).contains(&value) {
            Ok(value)
        } else {
            Err(LoadError::corrupt(&self.file, key, format!("{value} is not a power of two up to a mebibyte")))
        }
    }

    /// Turns offsets into positions in the file and refuses tensors that overlap or reach behind its end.
    fn place(&mut self, header_end: usize, alignment: usize, file_len: usize) -> Result<(), LoadError> {
        let data = header_end.next_multiple_of(alignment);
        let mut order: Vec<(&String, &mut TensorInfo)> = self.tensors.iter_mut().collect();
        order.sort_by_key(|(_, info)| info.start);
        let mut free = data;
        for (name, info) in order {
            let end = data.checked_add(info.start).and_then(|start| start.checked_add(info.bytes));
            let end = end.filter(|&end| end <= file_len).ok_or_else(|| {
                let reason = format!("its data would end behind the file's {file_len} bytes");
                LoadError::corrupt(&self.file, format!("tensor {name}"), reason)
            })?;
            info.start += data;
            if info.start < free {
                return Err(LoadError::corrupt(&self.file, format!("tensor {name}"), "overlaps another tensor"));
            }
            free = end;
        }
        Ok(())
    }
}
