//! Adapter directories, PEFT's and our own: `adapter_config.json`, `divvy.json` (absent where empty) and the tensors, with a zero byte
//! between each two. The container of the tensors is that of training's checkpoints, too.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use divvy_student::model::Model;

static BASE: LazyLock<(PathBuf, Model)> = LazyLock::new(|| {
    let folder = divvy_fuzz::model_folder();
    let model = Model::load(&folder).expect("it is a model");
    (folder, model)
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (folder, model) = &*BASE;
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (config, manifest, tensors) = (part(), part(), part());
    fs::write(folder.join("adapter_config.json"), config).expect("it is written");
    fs::write(folder.join("adapter_model.safetensors"), tensors).expect("it is written");
    let path = folder.join("divvy.json");
    if manifest.is_empty() {
        // There may be none yet.
        let _ = fs::remove_file(&path);
    } else {
        fs::write(&path, manifest).expect("it is written");
    }
    match model.adapter(folder) {
        Ok(adapter) => adapter.check(&model.config).expect("what was loaded fits"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
