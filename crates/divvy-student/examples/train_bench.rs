//! Measures LoRA training: `train_bench MODEL [STEPS] [MICRO_TOKENS] [recompute]`, or `train_bench random:smollm2-135m …` for
//! random weights of that shape. Rows are random tokens, 190 of prompt and 64 of completion, eight to a step.
//!
//! Prints tokens per second of each step, what the frozen base's matrix products alone would allow, and tokens per
//! second of processor time, which a busy machine does not blur.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use divvy_kernels::{Packed, Write, matmul};
use divvy_student::adapter::{Fused, LoraSettings, Scaling};
use divvy_student::config::{Arch, ModelConfig};
use divvy_student::matrix::Matrix;
use divvy_student::model::Model;
use divvy_student::train::{Activations, Base, Method, TrainConfig, TrainEvent, TrainRow, train};
use divvy_student::weights::{Layer, Weights};

const PROMPT: usize = 190;
const COMPLETION: usize = 64;
const ROWS: usize = 8;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(path) = arguments.get(1) else {
        eprintln!("usage: train_bench MODEL|random:smollm2-135m [STEPS] [MICRO_TOKENS] [recompute]");
        std::process::exit(2);
    };
    let steps: usize = arguments.get(2).map_or(Ok(4), |text| text.parse())?;
    let micro_tokens: usize = arguments.get(3).map_or(Ok(1024), |text| text.parse())?;
    let recomputes = arguments.get(4).is_some_and(|word| word == "recompute");
    let activations = if recomputes { Activations::Recompute } else { Activations::Keep };
    let (config, weights) = load(path)?;
    let allowed = products_alone(&config, &weights, micro_tokens);
    println!("matrix products of the frozen base alone: {allowed:.0} tokens/s");
    let rows: Vec<TrainRow> = (0..steps * ROWS).map(|row| random_row(&config, row)).collect();
    let base = Base { config: &config, weights: &weights, hash: "bench" };
    let mut observe = |event| {
        if let TrainEvent::Step(step) = event {
            println!(
                "step {} loss {:.4} norm {:.3}: {:.0} tokens/s",
                step.step, step.loss, step.grad_norm, step.tokens_per_second
            );
        }
        ControlFlow::Continue(())
    };
    let began = processor_seconds();
    let trained = train(base, &rows, &[], &settings(micro_tokens, activations), None, &mut observe)?;
    let mut speeds: Vec<f64> = trained.log.iter().map(|step| step.tokens_per_second).collect();
    speeds.sort_by(f64::total_cmp);
    println!("median {:.0}, best {:.0} tokens/s", speeds[speeds.len() / 2], speeds[speeds.len() - 1]);
    if let (Some(began), Some(ended)) = (began, processor_seconds()) {
        let tokens: u64 = trained.log.iter().map(|step| step.tokens).sum();
        println!("{:.0} tokens per second of processor time", tokens as f64 / (ended - began));
    }
    Ok(())
}

/// User and system time of this process so far, where the system has a `/proc` (at its usual 100 ticks a second).
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

fn settings(micro_tokens: usize, activations: Activations) -> TrainConfig {
    let lora = Method::Lora(LoraSettings { rank: 16, alpha: 32.0, scaling: Scaling::Plain });
    let max_row_tokens = PROMPT + COMPLETION;
    TrainConfig { batch_rows: ROWS, micro_tokens, max_row_tokens, activations, ..TrainConfig::usual(lora) }
}

/// A fixed stream of small numbers.
fn scramble(n: usize) -> usize {
    (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 20
}

fn random_row(config: &ModelConfig, row: usize) -> TrainRow {
    let token = |at: usize| (scramble(row * 1009 + at) % config.vocab) as u32;
    let prompt = (0..PROMPT).map(token).collect();
    TrainRow { prompt, completion: (PROMPT..PROMPT + COMPLETION).map(token).collect(), weight: 1.0 }
}

fn load(path: &str) -> Result<(ModelConfig, Weights), Box<dyn std::error::Error>> {
    if path == "random:smollm2-135m" {
        let config = smollm2();
        let weights = random_weights(&config);
        return Ok((config, weights));
    }
    let model = Model::load(Path::new(path))?;
    Ok((model.config, model.weights))
}

fn smollm2() -> ModelConfig {
    ModelConfig {
        arch: Arch::Llama,
        layers: 30,
        hidden: 576,
        query_heads: 9,
        kv_heads: 3,
        head_dim: 64,
        ffn: 1536,
        vocab: 49_152,
        rope_theta: 100_000.0,
        rms_eps: 1e-5,
        qkv_bias: false,
        tied: true,
        context_length: 8192,
        variant: Default::default(),
    }
}

fn random_weights(config: &ModelConfig) -> Weights {
    let matrix = |[n, k]: [usize; 2]| {
        Packed::from_rows(n, k, |row, out| {
            for (column, value) in out.iter_mut().enumerate() {
                *value = ((scramble(row * k + column) % 2001) as f32 - 1000.0) * 4e-5;
            }
        })
    };
    let layer = |fused: Fused| Matrix::Exact(Arc::new(matrix(fused.shape(config))));
    let norm = || vec![1.0; config.hidden];
    let layers = (0..config.layers).map(|_| Layer {
        attn_norm: norm(),
        qkv: layer(Fused::Qkv),
        qkv_bias: None,
        query_norm: None,
        key_norm: None,
        attn_post_norm: None,
        ffn_post_norm: None,
        out: layer(Fused::Out),
        ffn_norm: norm(),
        gate_up: layer(Fused::GateUp),
        down: layer(Fused::Down),
    });
    let layers = layers.collect();
    let embed = Arc::new(matrix([config.vocab, config.hidden]));
    Weights { head: Matrix::Exact(Arc::clone(&embed)), embed: Matrix::Exact(embed), layers, final_norm: norm() }
}

/// Tokens per second if a step were nothing but `x·Wᵀ` and `dy·W` of every base matrix, and of the head for targets.
fn products_alone(config: &ModelConfig, weights: &Weights, tokens: usize) -> f64 {
    let targets = tokens * COMPLETION / (PROMPT + COMPLETION);
    let layer = &weights.layers[0];
    let both_ways = |w: &Packed, m: usize| {
        let (turned, mut x, mut y) = (w.transposed(), vec![1.0; m * w.k()], vec![1.0; m * w.n()]);
        let best = (0..3).map(|_| {
            let began = Instant::now();
            matmul(&x, w, &mut y, m, Write::Set);
            matmul(&y, &turned, &mut x, m, Write::Set);
            x.fill(1.0);
            began.elapsed().as_secs_f64()
        });
        best.fold(f64::INFINITY, f64::min)
    };
    let of_layer: f64 =
        [&layer.qkv, &layer.out, &layer.gate_up, &layer.down].map(|w| both_ways(w.exact(), tokens)).iter().sum();
    tokens as f64 / (config.layers as f64 * of_layer + both_ways(weights.head.exact(), targets))
}
