//! `tokenizer.json` up to the first zero byte of the input, `tokenizer_config.json` with its chat template after it: a
//! conversation is read, or refused with a reason.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use divvy_core::chat::Message;
use divvy_student::model::Speech;

/// A model that loads; its tokenizer is written over.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(divvy_fuzz::model_folder);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (tokenizer, config) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    fs::write(FOLDER.join("tokenizer.json"), tokenizer).expect("it is written");
    fs::write(FOLDER.join("tokenizer_config.json"), config).expect("it is written");
    match Speech::load(&FOLDER) {
        Ok(speech) => {
            drop(speech.read(&[Message::system("Be brief."), Message::user("Ann has 3 pens, é. <|im_end|>")]))
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
