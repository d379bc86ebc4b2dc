//! Model directories in Hugging Face's form: `config.json` up to the first zero byte of the input, the weights after it.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use divvy_student::model::Model;

/// A model that loads; its shape and weights are written over.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(divvy_fuzz::model_folder);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (config, weights) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    fs::write(FOLDER.join("config.json"), config).expect("it is written");
    fs::write(FOLDER.join("model.safetensors"), weights).expect("it is written");
    if let Err(error) = Model::load(&FOLDER) {
        assert!(!error.to_string().is_empty());
    }
});
