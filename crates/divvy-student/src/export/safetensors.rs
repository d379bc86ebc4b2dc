//! A merged model as a Hugging Face directory:
//!
//! ```text
//! config.json, tokenizer.json, tokenizer_config.json, generation_config.json
//! model.safetensors    model.layers.0.self_attn.q_proj.weight [outputs, inputs], …
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::{Export, ExportError, Precision, Tensors};
use crate::adapter::files::{write_atomic, write_header};
use crate::safetensors::{config_json, tensor_name};
use crate::weights::Slot;

impl Export<'_> {
    /// Writes the directory, file by file, each atomically.
    ///
    /// # Errors
    /// [`ExportError::Io`] naming the file.
    pub fn safetensors(&self, folder: &Path) -> Result<(), ExportError> {
        fs::create_dir_all(folder).map_err(ExportError::io(folder))?;
        self.model.save_text(folder).map_err(ExportError::io(folder))?;
        let path = folder.join("model.safetensors");
        self.tensors().write_safetensors(&path, self.about.origin.clone()).map_err(ExportError::io(&path))?;
        let path = folder.join("config.json");
        let mut config = config_json(&self.model.config);
        config["torch_dtype"] = if self.precision == Precision::F32 { "float32" } else { "bfloat16" }.into();
        write_atomic(&path, |out| out.write_all(format!("{config:#}\n").as_bytes())).map_err(ExportError::io(&path))
    }
}

impl Tensors<'_> {
    /// Writes all weights, in the order of their names, atomically.
    pub(crate) fn write_safetensors(&self, path: &Path, mut metadata: BTreeMap<String, String>) -> io::Result<()> {
        let arch = self.config.arch;
        let mut slots: Vec<(String, Slot)> =
            Slot::all(self.config).into_iter().map(|slot| (tensor_name(arch, slot), slot)).collect();
        slots.sort_by(|a, b| a.0.cmp(&b.0));
        metadata.insert("format".to_owned(), "pt".to_owned()); // what `transformers` asks for
        let entry = |(name, slot): &(String, Slot)| {
            let (shape, dtype) = (slot.shape(self.config), self.dtype(*slot));
            let bytes = dtype.block_bytes() * shape.iter().product::<usize>();
            (name.clone(), dtype.name(), shape, bytes)
        };
        let plus = |slot: Slot| if arch.norms_from_one() && slot.is_norm() { -1.0 } else { 0.0 };
        write_atomic(path, |out| {
            write_header(out, &metadata, slots.iter().map(entry))?;
            slots.iter().try_for_each(|(_, slot)| self.write(*slot, plus(*slot), |row| row, out))
        })
    }
}
