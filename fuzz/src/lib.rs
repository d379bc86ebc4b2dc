//! The bodies of the targets, for the fuzzer and, in the tests, for the seeds alone: a function each, of the name of its
//! file in `fuzz_targets/`.

use std::{fs, path::PathBuf, sync::LazyLock};

use divvy_core::{
    chat::{Finish, Message},
    plan::Plan,
    prompts::decompose::{Style, completion, parse, read},
    recipe::Recipe,
};
use divvy_student::model::{Model, Speech};
use divvy_testkit::checkpoint;

/// A folder with a model that loads, whose files a target writes over. It stays for the life of the process and longer.
///
/// # Panics
/// When it cannot be written.
#[must_use]
fn model_folder() -> PathBuf {
    let folder = tempfile::tempdir().expect("a folder for the model").keep();
    checkpoint::write_tiny(&folder).expect("it is written");
    folder
}

/// Adapter directories, PEFT's and our own: `adapter_config.json`, `divvy.json` (absent where empty) and the tensors, with a zero byte
/// between each two. The container of the tensors is that of training's checkpoints, too.
///
/// # Panics
/// When it finds what it looks for.
pub fn adapter(input: &[u8]) {
    static BASE: LazyLock<(PathBuf, Model)> = LazyLock::new(|| {
        let folder = model_folder();
        let model = Model::load(&folder).expect("it is a model");
        (folder, model)
    });
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
}

/// Rows of the files that a Batch API gives back: a reply, or why there is none.
pub fn batch(line: &[u8]) {
    divvy_llm::fuzzing::batch_row(line);
}

/// A checkpoint of training: parameters, moments and the log that says how far it came.
///
/// # Panics
/// When it finds what it looks for.
pub fn checkpoint(bytes: &[u8]) {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| tempfile::tempdir().expect("a folder for the file").keep());
    fs::write(FOLDER.join("checkpoint.safetensors"), bytes).expect("it is written");
    divvy_student::fuzzing::checkpoint(&FOLDER);
}

/// What decomposers write, by a schema and freely: never a panic, and never more subquestions than the cap, also when what was
/// read is written in our own way and read again. (That may give others: a text that begins with a label of its own loses it then.)
///
/// # Panics
/// When it finds what it looks for.
pub fn decomposition(input: &[u8]) {
    const CAP: usize = 8;
    let Ok(text) = str::from_utf8(input) else { return };
    for finish in [Finish::Stop, Finish::Length] {
        for style in [Style::Free, Style::Structured] {
            let Some(read) = read(text, &finish, style, CAP).decomposition else { continue };
            assert!(read.steps().len() <= CAP && read.steps().iter().all(|step| !step.text.trim().is_empty()));
            let again = parse(&completion(&read), &Finish::Stop, CAP).decomposition;
            assert!(again.is_none_or(|again| again.steps().len() <= CAP));
        }
    }
}

/// Files that call themselves GGUF: a model, or an error; never a panic, nor memory out of proportion.
///
/// # Panics
/// When it finds what it looks for.
pub fn gguf(bytes: &[u8]) {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a folder for the file").keep();
        folder.join("model.gguf")
    });
    fs::write(&*FILE, bytes).expect("it is written");
    if let Err(error) = Model::load(&FILE) {
        assert!(!error.to_string().is_empty());
    }
}

/// What endpoints say of their limits: headers, one a line, as `name: value`.
pub fn limits(input: &[u8]) {
    if let Ok(lines) = str::from_utf8(input) {
        divvy_llm::fuzzing::limits(lines);
    }
}

/// What people write into a recipe: a plan, or a message that names the place.
///
/// # Panics
/// When it finds what it looks for.
pub fn recipe(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let plan = Recipe::parse(text, "recipe.toml").and_then(|recipe| Plan::resolve(&recipe, "recipe.toml"));
    match plan {
        Ok(plan) => drop(plan.digest()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What endpoints send: a chat completion, whole or as events, however the bytes are cut. The first byte is the size of
/// the pieces.
pub fn reply(input: &[u8]) {
    if let Some((size, body)) = input.split_first() {
        divvy_llm::fuzzing::reply(body, usize::from(*size).max(1));
    }
}

/// What clients send to `divvy serve`: any bytes are a request or a refusal with a status of the caller's.
pub fn request(body: &[u8]) {
    divvy_serve::fuzzing::requests(body);
}

/// Model directories in Hugging Face's form: `config.json` up to the first zero byte of the input, the weights after it.
///
/// # Panics
/// When it finds what it looks for.
pub fn safetensors(input: &[u8]) {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(model_folder);
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (config, weights) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    fs::write(FOLDER.join("config.json"), config).expect("it is written");
    fs::write(FOLDER.join("model.safetensors"), weights).expect("it is written");
    if let Err(error) = Model::load(&FOLDER) {
        assert!(!error.to_string().is_empty());
    }
}

/// `model.safetensors.index.json`, which says in which files the weights lie; they are in `part-1.safetensors`.
///
/// # Panics
/// When it finds what it looks for.
pub fn shards(index: &[u8]) {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = model_folder();
        fs::rename(folder.join("model.safetensors"), folder.join("part-1.safetensors")).expect("it is renamed");
        folder
    });
    fs::write(FOLDER.join("model.safetensors.index.json"), index).expect("it is written");
    if let Err(error) = Model::load(&FOLDER) {
        assert!(!error.to_string().is_empty());
    }
}

/// `tokenizer.json` up to the first zero byte of the input, `tokenizer_config.json` with its chat template after it: a
/// conversation is read, or refused with a reason.
///
/// # Panics
/// When it finds what it looks for.
pub fn tokenizer(input: &[u8]) {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(model_folder);
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
}

/// A name and what is done with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 12] = [
    ("adapter", adapter),
    ("batch", batch),
    ("checkpoint", checkpoint),
    ("decomposition", decomposition),
    ("gguf", gguf),
    ("limits", limits),
    ("recipe", recipe),
    ("reply", reply),
    ("request", request),
    ("safetensors", safetensors),
    ("shards", shards),
    ("tokenizer", tokenizer),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Variants of each seed: enough to go another way than the seed itself, in seconds.
    const VARIANTS: u64 = 64;

    /// A seed with a piece cut off, some bytes changed, or a piece twice.
    fn variant(seed: &[u8], number: u64) -> Vec<u8> {
        let mut state = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % most.max(1) as u64) as usize
        };
        let mut bytes = seed.to_vec();
        let (from, count) = (below(seed.len()), 1 + below(8));
        match number % 3 {
            0 => bytes.truncate(from),
            1 => (0..count).for_each(|_| {
                let at = below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = below(256) as u8;
                }
            }),
            _ => bytes.extend_from_within(from..),
        }
        bytes
    }

    #[test]
    fn every_target_takes_its_seeds_and_what_comes_of_them() {
        for (name, target) in TARGETS {
            let folder = format!("{}/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
            let seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|seed| seed.unwrap().path()).collect();
            assert!(!seeds.is_empty(), "{folder}");
            for path in seeds {
                let seed = fs::read(&path).unwrap();
                target(&seed);
                (0..VARIANTS).for_each(|number| target(&variant(&seed, number)));
            }
        }
    }

    #[test]
    fn every_file_is_a_target() {
        let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz_targets")).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, TARGETS.map(|(name, _)| format!("{name}.rs")));
    }
}
