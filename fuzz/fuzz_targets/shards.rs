//! `model.safetensors.index.json`, which says in which files the weights lie; they are in `part-1.safetensors`.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use divvy_student::model::Model;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = divvy_fuzz::model_folder();
    fs::rename(folder.join("model.safetensors"), folder.join("part-1.safetensors")).expect("it is renamed");
    folder
});

libfuzzer_sys::fuzz_target!(|index: &[u8]| {
    fs::write(FOLDER.join("model.safetensors.index.json"), index).expect("it is written");
    if let Err(error) = Model::load(&FOLDER) {
        assert!(!error.to_string().is_empty());
    }
});
