//! Files that call themselves GGUF: a model, or an error; never a panic, nor memory out of proportion.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use divvy_student::model::Model;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for the file").keep();
    folder.join("model.gguf")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fs::write(&*FILE, bytes).expect("it is written");
    if let Err(error) = Model::load(&FILE) {
        assert!(!error.to_string().is_empty());
    }
});
