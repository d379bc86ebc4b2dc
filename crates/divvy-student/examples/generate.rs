//! Generates from a model and prints speeds: `generate MODEL [BATCH] [TOKENS] [PROMPT]`.
//!
//! Every sequence of the batch gets the prompt with a number of its own in front, so that none can share a prefix with
//! another beyond the template's.

use std::sync::Arc;
use std::time::Instant;

use divvy_core::chat::{Message, Sampling};
use divvy_student::engine::{Engine, EngineConfig, EventKind, Job};
use divvy_student::matrix::Numerics;
use divvy_student::model::Model;

const PROMPT: &str =
    "A farmer has 17 sheep and buys 4 more each week. How many sheep after 6 weeks? Think step by step.";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (words, arguments): (Vec<String>, Vec<String>) = std::env::args().partition(|word| word == "int8");
    let numerics = if words.is_empty() { Numerics::Exact } else { Numerics::Int8 };
    let Some(path) = arguments.get(1) else {
        eprintln!("usage: generate MODEL [BATCH] [TOKENS] [PROMPT] [int8]");
        std::process::exit(2);
    };
    let batch: u64 = arguments.get(2).map_or(Ok(1), |text| text.parse())?;
    let tokens: u32 = arguments.get(3).map_or(Ok(128), |text| text.parse())?;
    let prompt = arguments.get(4).map_or(PROMPT, String::as_str);

    let begin = Instant::now();
    let model = Arc::new(Model::load_as(std::path::Path::new(path), numerics)?);
    println!("loaded in {:.2} s, {}", begin.elapsed().as_secs_f64(), model.content_hash);

    let mut engine = Engine::new(Arc::clone(&model), EngineConfig { max_sequences: 32, ..EngineConfig::default() });
    let mut prompt_tokens = 0;
    for id in 0..batch {
        let content = if batch == 1 { prompt.to_owned() } else { format!("{id}. {prompt}") };
        let prompt = model.encode_chat(&[Message::system("You are a careful assistant."), Message::user(content)])?;
        prompt_tokens += prompt.len();
        engine.submit(Job {
            id,
            prompt,
            sampling: Sampling::greedy(tokens),
            adapter: None,
            log_probabilities: false,
        })?;
    }
    let begin = Instant::now();
    let (mut first, mut before, mut written, mut cached) = (None, 0, 0, 0);
    while !engine.is_idle() {
        for event in engine.step() {
            first.get_or_insert_with(|| begin.elapsed());
            if let EventKind::Done { finish, usage, text, .. } = event.kind {
                written += usage.tokens_out.unwrap_or(0);
                cached += usage.tokens_cached.unwrap_or(0);
                before += 1;
                if event.id == 0 {
                    println!("---\n{text}\n--- {finish:?}, {usage:?}");
                }
            }
        }
    }
    let (first, all) = (first.unwrap_or_default().as_secs_f64(), begin.elapsed().as_secs_f64());
    println!("{before} replies: {prompt_tokens} prompt tokens ({cached} cached), first text after {first:.2} s");
    println!("{written} tokens in {all:.2} s: {:.1} tokens/s in all", written as f64 / all);
    Ok(())
}
