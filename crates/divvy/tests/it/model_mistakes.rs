//! Files that are no models, or not the ones that were meant: one message that names the file, a non-zero exit.

use divvy_testkit::checkpoint;

use crate::{
    bench::Bench,
    school::{self, RECIPE},
};

/// The school's recipe with a local solver for the screening.
fn with_local(source: &str, lines: &str) -> String {
    let model = format!("[models.local]\nsource = \"path:HERE/{source}\"\n{lines}\n[collect]");
    RECIPE.replace("[collect]", &model).replace("[screen]\nsolver = \"big\"", "[screen]\nsolver = \"local\"")
}

#[track_caller]
fn refused(bench: &Bench, recipe: &str, words: &[&str]) {
    bench.recipe(recipe).run(&["run", "recipe.toml"]).complains(1, words);
}

#[test]
fn a_model_path_that_is_not_there() {
    refused(
        &Bench::new(school::lesson()),
        &with_local("none.gguf", ""),
        &["models.local", "none.gguf", "no such file"],
    );
}

#[test]
fn a_model_path_is_seen_from_the_recipe() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&with_local("none.gguf", "").replace("path:HERE/", "path:"));
    std::fs::create_dir(bench.file("recipes")).unwrap();
    std::fs::rename(bench.file("recipe.toml"), bench.file("recipes/recipe.toml")).unwrap();
    bench.run(&["run", "recipes/recipe.toml"]).complains(1, &["models.local", "recipes/none.gguf", "no such file"]);
}

#[test]
fn a_wrong_hash_is_refused_before_anything_is_asked() {
    let bench = Bench::new(school::lesson());
    bench.workspace.write("weights.gguf", "GGUF but not really");
    let pin = format!("sha256 = \"{}\"", "0".repeat(64));
    refused(&bench, &with_local("weights.gguf", &pin), &["models.local", "weights.gguf", "has sha256", "expected 000"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

#[test]
fn a_truncated_gguf() {
    let bench = Bench::new(school::lesson());
    // Magic, version 3, seven tensors, nine keys, and then the file ends.
    let mut bytes = b"GGUF".to_vec();
    bytes.extend([3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    std::fs::write(bench.file("cut.gguf"), bytes).unwrap();
    refused(&bench, &with_local("cut.gguf", ""), &["local", "cut.gguf", "fetch it again"]);
}

#[test]
fn a_file_that_is_no_model() {
    let bench = Bench::new(school::lesson());
    bench.workspace.write("notes.txt", "buy milk");
    refused(&bench, &with_local("notes.txt", ""), &["notes.txt", "not a model", ".gguf"]);
}

#[test]
fn corrupt_safetensors() {
    let bench = Bench::new(school::lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let path = bench.file("tiny/model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refused(&bench, &with_local("tiny", ""), &["model.safetensors", "fetch it again"]);
}

#[test]
fn an_architecture_that_the_engine_does_not_know() {
    let bench = Bench::new(school::lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let config = std::fs::read_to_string(bench.file("tiny/config.json")).unwrap();
    bench.workspace.write("tiny/config.json", &config.replace("\"model_type\":\"llama\"", "\"model_type\":\"mamba\""));
    refused(&bench, &with_local("tiny", ""), &["config.json", "mamba", "not supported", "llama"]);
}

#[test]
fn a_checkpoint_without_a_tokenizer() {
    let bench = Bench::new(school::lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    std::fs::remove_file(bench.file("tiny/tokenizer.json")).unwrap();
    refused(&bench, &with_local("tiny", ""), &["tokenizer.json"]);
}

#[test]
fn a_student_that_was_not_trained_cannot_be_exported() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["collect", "recipe.toml"]);
    let ended = bench.run(&["export", "recipe.toml", "--student", "sd-r", "--out", "out"]);
    ended.complains(2, &["--student", "sd-r"]);
}
