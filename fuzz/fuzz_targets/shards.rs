//! `model.safetensors.index.json`, which says in which files the weights lie; they are in `part-1.safetensors`.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use divvy_student::model::Model;
use divvy_testkit::checkpoint;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for the model").keep();
    checkpoint::write_tiny(&folder).expect("it is written");
    fs::rename(folder.join("model.safetensors"), folder.join("part-1.safetensors")).expect("it is renamed");
    folder
});

libfuzzer_sys::fuzz_target!(|index: &[u8]| {
    fs::write(FOLDER.join("model.safetensors.index.json"), index).expect("it is written");
    if let Err(error) = Model::load(&FOLDER) {
        assert!(!error.to_string().is_empty());
    }
});
