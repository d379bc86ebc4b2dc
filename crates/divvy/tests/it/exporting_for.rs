//! `divvy export --for`: what is written for engines of others, the commands that are printed, and what is refused.
//! `DIVVY_TEST_EXPORTS` names a virtual environment with xllamacpp, in which llama.cpp loads it.

use std::{fs, path::Path, process::Command};

use divvy_testkit::checkpoint;

use crate::{
    bench::{Bench, Ended},
    school,
    student::RECIPE,
};

/// Trained on a base with its configuration changed.
fn trained(recipe: &str, change: impl Fn(&Path)) -> Bench {
    let bench = Bench::new(school::lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    change(&bench.file("tiny"));
    bench.recipe(&recipe.replace("epochs = 6", "epochs = 1"));
    bench.done(&["train", "recipe.toml"]);
    bench
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn export(bench: &Bench, engine: &str, out: &str) -> Ended {
    bench.run(&["export", "recipe.toml", "--student", "sd-r", "--for", engine, "--out", out])
}

/// What is printed, with the bench's folder as HERE.
fn printed(bench: &Bench, engine: &str, out: &str) -> String {
    let ended = export(bench, engine, out);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let table = format!("[models.sd-r-{}]", engine.replace('.', "-"));
    for part in [table.as_str(), "source = \"http://localhost:", "model = \"sd-r\""] {
        assert!(ended.stderr.contains(part), "{part} in {ended:?}");
    }
    assert!(bench.file(out).join("README.md").is_file());
    let here = fs::canonicalize(bench.file(".")).unwrap();
    ended.stdout.replace(here.to_str().unwrap(), "HERE")
}

#[test]
fn an_adapter_goes_out_with_its_base_and_the_command() {
    let bench = trained(RECIPE, |_| {});
    assert_eq!(
        printed(&bench, "vllm", "v"),
        "vllm serve HERE/v/base --enable-lora --max-lora-rank 8 --lora-modules sd-r=HERE/v/adapter\n\
         # Or into a server of this base that runs, with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment:\n\
         # curl http://localhost:8000/v1/load_lora_adapter -H 'Content-Type: application/json' \
         -d '{\"lora_name\":\"sd-r\",\"lora_path\":\"HERE/v/adapter\"}'\n"
    );
    for file in ["base/model.safetensors", "base/config.json", "adapter/adapter_config.json"] {
        assert!(bench.file("v").join(file).is_file(), "{file}");
    }
    assert_eq!(
        printed(&bench, "llama.cpp", "it's l"),
        "llama-server -m 'HERE/it'\\''s l/tiny-bf16.gguf' --lora 'HERE/it'\\''s l/sd-r-lora.gguf' --alias sd-r --jinja\n"
    );
    assert_eq!(printed(&bench, "ollama", "o"), "ollama create sd-r -f HERE/o/Modelfile\n");
    assert_eq!(
        fs::read_to_string(bench.file("o/Modelfile")).unwrap(),
        "FROM ./tiny-bf16.gguf\n\
         ADAPTER ./sd-r-lora.gguf\n\
         TEMPLATE \"\"\"{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n\
         <|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n\
         {{ else }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n{{ end }}{{ .Response }}\"\"\"\n\
         PARAMETER stop \"<|endoftext|>\"\nPARAMETER stop \"<|im_end|>\"\n\
         PARAMETER num_ctx 4096\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\n"
    );
    assert!(bench.file("o/tiny-bf16.gguf").is_file() && bench.file("o/sd-r-lora.gguf").is_file());
    export(&bench, "llama.cpp", "a,b").complains(2, &["--for llama.cpp", "comma"]);
    assert!(!bench.file("a,b").exists() && !bench.file("a,b.partial").exists());
    bench
        .run(&["export", "recipe.toml", "--student", "sd-r", "--for", "vllm", "--format", "gguf", "--out", "x"])
        .complains(2, &["--for", "--format"]);
    llama_cpp_loads(&bench.file("it's l"));
}

#[test]
fn a_fully_trained_student_goes_out_whole() {
    let bench = trained(&RECIPE.replace("rank = 4\n", "method = \"full\"\n"), |_| {});
    assert_eq!(printed(&bench, "vllm", "v"), "vllm serve HERE/v/model --served-model-name sd-r\n");
    assert!(bench.file("v/model/model.safetensors").is_file());
    assert_eq!(printed(&bench, "llama.cpp", "l"), "llama-server -m HERE/l/sd-r-bf16.gguf --alias sd-r --jinja\n");
    printed(&bench, "ollama", "o");
    let modelfile = fs::read_to_string(bench.file("o/Modelfile")).unwrap();
    assert!(modelfile.starts_with("FROM ./sd-r-bf16.gguf\nTEMPLATE "), "{modelfile}");
}

#[test]
fn what_an_engine_has_no_form_for_is_refused_before_anything_is_written() {
    let bench = trained(RECIPE, |tiny| {
        let config = tiny.join("config.json");
        edit(&config, "LlamaForCausalLM", "MistralForCausalLM");
        edit(&config, "\"model_type\":\"llama\"", "\"model_type\":\"mistral\",\"sliding_window\":64");
    });
    for engine in ["llama.cpp", "ollama"] {
        export(&bench, engine, "out").complains(1, &["sliding windows", "safetensors"]);
        assert!(!bench.file("out").exists() && !bench.file("out.partial").exists(), "{engine}");
    }
    printed(&bench, "vllm", "v");

    let lowered = trained(RECIPE, |tiny| {
        edit(&tiny.join("tokenizer_config.json"), "{{ message.content }}", "{{ message.content | lower }}");
    });
    export(&lowered, "ollama", "out").complains(2, &["--for ollama", "as they are", "--for llama.cpp"]);
    assert!(!lowered.file("out").exists() && !lowered.file("out.partial").exists());
}

/// Base and adapter together, as `llama-server` takes them; a reply of the right length is enough.
const LOADS: &str = r#"
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(sys.argv[2], 1.0)]
params.n_ctx, params.n_parallel, params.warmup, params.cpuparams.n_threads = 256, 1, False, 1
answer = xllamacpp.Server(params).handle_chat_completions(
    dict(messages=[dict(role="user", content="How many?")], max_tokens=3, temperature=0.0))
assert 1 <= answer["usage"]["completion_tokens"] <= 3, answer
"#;

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn llama_cpp_loads(folder: &Path) {
    let Some(environment) = std::env::var_os("DIVVY_TEST_EXPORTS") else {
        eprintln!("SKIPPED: DIVVY_TEST_EXPORTS is not set");
        return;
    };
    let python = Path::new(&environment).join("bin/python");
    let files = ["tiny-bf16.gguf", "sd-r-lora.gguf"].map(|file| folder.join(file));
    let output = Command::new(python).args(["-c", LOADS]).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
