//! What bench/engine asks of the engine, one line of JSON a call:
//!
//! - `engine_bench generate MODEL exact|int8 BATCH SHARED OWN NEW REPEATS`: BATCH prompts that begin with the same SHARED
//!   tokens and go on with OWN others, NEW tokens each; seconds until the first token of all, and until the last.
//! - `engine_bench again MODEL exact|int8 SHARED OWN REPEATS`: seconds until the first token of a prompt of SHARED + OWN
//!   tokens, with nothing cached and with the first SHARED tokens cached.
//! - `engine_bench train MODEL lora|full ROWS TOKENS STEPS`: tokens a second of each optimiser step of ROWS rows.
//!
//! Behind exact or int8 may stand how keys and values are kept: `int8+bf16`, `exact+int8`; else in f32.
//!
//! Tokens are pseudo-random, since no speed depends on which they are; a reply cannot end early.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use divvy_core::chat::Sampling;
use divvy_student::adapter::{LoraSettings, Scaling};
use divvy_student::cache::CacheFormat;
use divvy_student::engine::{Engine, EngineConfig, Job};
use divvy_student::matrix::Numerics;
use divvy_student::model::Model;
use divvy_student::train::{Base, Method, TrainConfig, TrainEvent, TrainRow, train};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let numbers = |from: usize| words[from..].iter().map(|word| word.parse()).collect::<Result<Vec<usize>, _>>();
    let told = match words[..] {
        ["generate", model, numerics, _, _, _, _, _] => generate(&Loaded::new(model, numerics)?, &numbers(3)?)?,
        ["again", model, numerics, _, _, _] => again(&Loaded::new(model, numerics)?, &numbers(3)?)?,
        ["train", model, method, _, _, _] => steps(&Loaded::new(model, "exact")?.model, method, &numbers(3)?)?,
        _ => {
            eprintln!("usage: see the first lines of crates/divvy-student/examples/engine_bench.rs");
            std::process::exit(2);
        }
    };
    println!("{told}");
    Ok(())
}

struct Loaded {
    model: Arc<Model>,
    cache: CacheFormat,
}

impl Loaded {
    fn new(model: &str, numerics: &str) -> Result<Loaded, Failure> {
        let (numerics, cache) = numerics.split_once('+').unwrap_or((numerics, "f32"));
        let numerics = match numerics {
            "exact" => Numerics::Exact,
            "int8" => Numerics::Int8,
            "stored" => Numerics::Blocks,
            other => return Err(format!("numerics are exact, int8 or stored, not {other}").into()),
        };
        let cache = match cache {
            "f32" => CacheFormat::F32,
            "bf16" => CacheFormat::Bf16,
            "int8" => CacheFormat::Int8,
            other => return Err(format!("a cache is f32, bf16 or int8, not {other}").into()),
        };
        Ok(Loaded { model: Arc::new(Model::load_as(Path::new(model), numerics)?), cache })
    }

    fn engine(&self, sequences: usize) -> Engine {
        let config = EngineConfig { max_sequences: sequences, cache: self.cache, ..EngineConfig::default() };
        Engine::new(Arc::clone(&self.model), config)
    }
}

/// A fixed stream of token ids that are no special ones.
fn token(model: &Model, seed: usize, at: usize) -> u32 {
    let mixed = (seed as u64 * 1_000_003 + at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    (1000 + mixed as usize % (model.config.vocab - 2000)) as u32
}

/// A job whose reply has exactly `new` tokens.
fn job(model: &Model, id: u64, shared: usize, own: usize, new: usize) -> Job {
    let beginning = (0..shared).map(|at| token(model, 0, at));
    let prompt = beginning.chain((0..own).map(|at| token(model, 1 + id as usize, at))).collect();
    let ends = (0..model.config.vocab as u32).filter(|&id| model.tokenizer.is_stop(id));
    let logit_bias: BTreeMap<u32, f64> = ends.map(|id| (id, -1e9)).collect();
    let sampling = Sampling { logit_bias, ..Sampling::greedy(new as u32) };
    Job { id, prompt, sampling, adapter: None, log_probabilities: false }
}

/// Seconds until all jobs are done.
fn run(engine: &mut Engine, jobs: impl IntoIterator<Item = Job>) -> Result<f64, Failure> {
    let began = Instant::now();
    for job in jobs {
        engine.submit(job)?;
    }
    while !engine.is_idle() {
        engine.step();
    }
    Ok(began.elapsed().as_secs_f64())
}

fn generate(loaded: &Loaded, numbers: &[usize]) -> Result<Value, Failure> {
    let &[batch, shared, own, new, repeats] = numbers else { return Err("five numbers".into()) };
    let jobs = |new: usize| (0..batch as u64).map(move |id| job(&loaded.model, id, shared, own, new));
    run(&mut loaded.engine(batch), jobs(1))?;
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        first.push(run(&mut loaded.engine(batch), jobs(1))?);
        all.push(run(&mut loaded.engine(batch), jobs(new))?);
    }
    Ok(json!({ "first": first, "all": all }))
}

fn again(loaded: &Loaded, numbers: &[usize]) -> Result<Value, Failure> {
    let &[shared, own, repeats] = numbers else { return Err("three numbers".into()) };
    let model = &loaded.model;
    run(&mut loaded.engine(1), [job(model, 0, shared, own, 1)])?;
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        let mut engine = loaded.engine(1);
        cold.push(run(&mut engine, [job(model, 0, shared, own, 1)])?);
        cached.push(run(&mut engine, [job(model, 1, shared, own, 1)])?);
    }
    Ok(json!({ "cold": cold, "cached": cached }))
}

fn steps(model: &Model, method: &str, numbers: &[usize]) -> Result<Value, Failure> {
    let &[rows, tokens, steps] = numbers else { return Err("three numbers".into()) };
    let method = match method {
        "lora" => Method::Lora(LoraSettings { rank: 16, alpha: 32.0, scaling: Scaling::Plain }),
        "full" => Method::Full,
        other => return Err(format!("a method is lora or full, not {other}").into()),
    };
    let prompt = tokens - (tokens / 4).max(1);
    let row = |seed: usize| {
        let ids = |range: std::ops::Range<usize>| range.map(|at| token(model, seed, at)).collect();
        TrainRow { prompt: ids(0..prompt), completion: ids(prompt..tokens), weight: 1.0 }
    };
    let all: Vec<TrainRow> = (0..rows * steps).map(row).collect();
    let base = Base { config: &model.config, weights: &model.weights, hash: &model.content_hash };
    let mut speeds = Vec::new();
    let mut observe = |event| {
        if let TrainEvent::Step(step) = event {
            speeds.push(step.tokens_per_second);
        }
        ControlFlow::Continue(())
    };
    let config = TrainConfig {
        batch_rows: rows,
        micro_tokens: tokens.max(1024),
        max_row_tokens: tokens,
        ..TrainConfig::usual(method)
    };
    train(base, &all, &[], &config, None, &mut observe)?;
    Ok(json!({ "tokens_per_second": speeds }))
}
