//! What the trainer promises about itself.

use std::ops::ControlFlow;
use std::path::Path;

use super::fixture::{Fixture, LORA, NAMES, settings};
use crate::adapter::Scaling;
use crate::matrix::{Matrix, Numerics};
use crate::model::Model;
use crate::testing;
use crate::train::lora;
use crate::train::random::Random;
use crate::train::rows::{MicroBatch, TrainRow};
use crate::train::trainer::Trainer;
use crate::train::{
    Activations, Base, Method, StepRecord, TrainConfig, TrainError, TrainEvent, Trained, TrainedWeights, train,
};

pub(super) fn rows(count: usize, seed: u64) -> Vec<TrainRow> {
    let mut random = Random::new(seed, 99);
    (0..count)
        .map(|_| {
            let mut tokens = |n: usize| (0..n).map(|_| 1 + random.below(100) as u32).collect::<Vec<u32>>();
            let prompt = tokens(3 + count % 5);
            let completion = tokens(4);
            TrainRow { prompt, completion, weight: 1.0 }
        })
        .collect()
}

fn go_on(_: TrainEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run(
    fixture: &Fixture,
    rows: &[TrainRow],
    config: &TrainConfig,
    folder: Option<&Path>,
) -> Result<Trained, TrainError> {
    train(fixture.base(), rows, &rows[..2], config, folder, &mut go_on)
}

pub(super) fn digest(trained: &Trained) -> String {
    match &trained.weights {
        TrainedWeights::Adapter(adapter) => adapter.digest(),
        TrainedWeights::Full(full) => full.digest(),
    }
}

/// The log without the clock.
pub(super) fn timeless(log: &[StepRecord]) -> Vec<StepRecord> {
    log.iter().map(|record| StepRecord { tokens_per_second: 0.0, ..*record }).collect()
}

fn gradients_of(fixture: &Fixture, method: Method, micros: &[MicroBatch]) -> (f64, Vec<Vec<f32>>) {
    let mut trainer = Trainer::new(fixture.base(), &settings(method));
    if method != Method::Full {
        trainer.parameters = lora::parameters(&fixture.config, &fixture.adapter(Scaling::Plain));
    }
    // One after the other, as they go when they are not abreast.
    let loss = micros.iter().map(|micro| trainer.accumulate(std::slice::from_ref(micro)).loss_sum).sum();
    trainer.gradient_norm();
    (loss, trainer.parameters.gradients)
}

#[test]
fn packed_equals_alone_equals_accumulated() {
    for (name, method) in NAMES.into_iter().flat_map(|name| [(name, Method::Lora(LORA)), (name, Method::Full)]) {
        let fixture = Fixture::load(name);
        let rows = &fixture.report.rows;
        let total: f64 = rows.iter().map(TrainRow::target_weight).sum();
        let cut =
            |parts: &[&[TrainRow]]| parts.iter().map(|part| MicroBatch::of(part.iter(), total)).collect::<Vec<_>>();
        let (loss, gradients) = gradients_of(&fixture, method, &cut(&[rows]));
        for parts in [rows.chunks(1).collect::<Vec<_>>(), rows.chunks(2).collect()] {
            let (other_loss, other) = gradients_of(&fixture, method, &cut(&parts));
            assert!((loss - other_loss).abs() < 1e-6 * loss, "{loss} {other_loss}");
            for (one, two) in gradients.iter().zip(&other) {
                let largest = one.iter().fold(0f32, |max, x| max.max(x.abs()));
                assert!(one.iter().zip(two).all(|(a, b)| (a - b).abs() <= 2e-5 * largest), "{name} {method:?}");
            }
        }
    }
}

#[test]
fn a_packed_neighbour_changes_no_loss() {
    let fixture = Fixture::load(NAMES[0]);
    let rows = &fixture.report.rows;
    let mut trainer = Trainer::new(fixture.base(), &settings(Method::Lora(LORA)));
    let alone: f64 = rows.iter().map(|row| trainer.measure(&MicroBatch::of([row].into_iter(), 1.0)).loss_sum).sum();
    let packed = trainer.measure(&MicroBatch::of(rows.iter(), 1.0)).loss_sum;
    assert!((alone - packed).abs() < 1e-5 * packed, "{alone} {packed}");
}

#[test]
fn beside_a_base_as_it_is_stored_the_same_student_comes_out() {
    for name in NAMES {
        let [exact, stored] = [Numerics::Exact, Numerics::Stored].map(|numerics| Fixture::load_as(name, numerics));
        assert!(matches!(stored.weights.layers[0].qkv, Matrix::Stored(_)) && !stored.weights.is_quantised());
        for activations in [Activations::Keep, Activations::Recompute] {
            let config = TrainConfig { epochs: 2, activations, ..settings(Method::Lora(LORA)) };
            let [one, other] = [&exact, &stored].map(|base| run(base, &rows(8, 3), &config, None).unwrap());
            assert_eq!(timeless(&one.log), timeless(&other.log), "{name}");
            assert_eq!(digest(&one), digest(&other), "{name}");
        }
    }
}

/// QLoRA: blocks of 8 bits stay as they are, and are unpacked into the numbers that the base has in bf16.
#[test]
fn beside_a_quantised_base_the_same_student_comes_out() {
    let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    std::fs::write(file.path(), testing::quantised_gguf()).unwrap();
    let [exact, stored] = [Numerics::Exact, Numerics::Stored].map(|form| Model::load_as(file.path(), form).unwrap());
    assert!(stored.weights.is_quantised() && !exact.weights.is_quantised());
    for activations in [Activations::Keep, Activations::Recompute] {
        let config = TrainConfig { epochs: 2, activations, ..settings(Method::Lora(LORA)) };
        let [one, other] = [&exact, &stored].map(|model| {
            let base = Base { config: &model.config, weights: &model.weights, hash: "tiny" };
            train(base, &rows(8, 3), &[], &config, None, &mut go_on).unwrap()
        });
        assert_eq!(timeless(&one.log), timeless(&other.log));
        assert_eq!(digest(&one), digest(&other));
        assert!(one.log.last().unwrap().loss < one.log[0].loss, "it learns: {:?}", timeless(&one.log));
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    for (name, method) in NAMES.into_iter().flat_map(|name| [(name, Method::Lora(LORA)), (name, Method::Full)]) {
        let fixture = Fixture::load(name);
        let mut trainer = Trainer::new(fixture.base(), &settings(method));
        if let Method::Lora(_) = method {
            trainer.parameters = lora::parameters(&fixture.config, &fixture.adapter(Scaling::Plain));
        }
        trainer.accumulate(&[MicroBatch::of(fixture.report.rows.iter(), 1.0)]);
        for (info, gradient) in trainer.parameters.infos.iter().zip(&trainer.parameters.gradients) {
            assert!(gradient.iter().any(|&g| g != 0.0), "{name} {method:?}: {} has no gradient", info.name);
        }
    }
}

#[test]
fn one_batch_overfits() {
    let fixture = Fixture::load(NAMES[0]);
    for method in [Method::Lora(LORA), Method::Full] {
        let config = TrainConfig { epochs: 150, learning_rate: 2e-2, max_grad_norm: 10.0, ..settings(method) };
        let trained = run(&fixture, &fixture.report.rows, &config, None).unwrap();
        let last = trained.log.last().unwrap();
        assert!(last.loss < 0.05, "{method:?}: {}", last.loss);
        assert_eq!(last.correct, last.target_tokens);
    }
}

#[test]
fn interrupted_anywhere_and_resumed_it_is_the_same_run() {
    let fixture = Fixture::load(NAMES[1]);
    let rows = rows(11, 5);
    for method in [Method::Lora(LORA), Method::Full] {
        let config =
            TrainConfig { epochs: 3, batch_rows: 3, micro_tokens: 32, eval_every_steps: 2, ..settings(method) };
        let whole = run(&fixture, &rows, &config, None).unwrap();
        for stop_after in [1, 2, 5, 9, 14] {
            let folder = tempfile::tempdir().unwrap();
            let config =
                TrainConfig { checkpoint_every_steps: 2, activations: Activations::Recompute, ..config.clone() };
            let mut events = 0;
            let mut stop = |_| {
                events += 1;
                if events > stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let error =
                train(fixture.base(), &rows, &rows[..2], &config, Some(folder.path()), &mut stop).err().unwrap();
            assert!(matches!(error, TrainError::Interrupted { checkpoint: Some(_), .. }), "{error}");
            let resumed = run(&fixture, &rows, &config, Some(folder.path())).unwrap();
            assert_eq!(digest(&resumed), digest(&whole), "{method:?} stopped after {stop_after} events");
            assert_eq!(timeless(&resumed.log), timeless(&whole.log));
            let again = run(&fixture, &rows, &config, Some(folder.path())).unwrap();
            assert_eq!(again.log, resumed.log, "a finished run returns at once");
        }
    }
}

#[test]
fn another_run_does_not_resume_this_one() {
    let fixture = Fixture::load(NAMES[0]);
    let (rows, folder) = (rows(5, 1), tempfile::tempdir().unwrap());
    let config = TrainConfig { epochs: 1, ..settings(Method::Lora(LORA)) };
    run(&fixture, &rows, &config, Some(folder.path())).unwrap();
    let other = TrainConfig { learning_rate: 3e-3, ..config.clone() };
    let error = run(&fixture, &rows, &other, Some(folder.path())).err().unwrap();
    assert!(matches!(error, TrainError::OtherRun { .. }), "{error}");
    let path = folder.path().join("checkpoint.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
    let error = run(&fixture, &rows, &config, Some(folder.path())).err().unwrap();
    assert!(matches!(error, TrainError::BadCheckpoint { .. }), "{error}");
}

#[test]
fn the_result_does_not_depend_on_threads() {
    let fixture = Fixture::load(NAMES[0]);
    let rows = rows(9, 3);
    let config = TrainConfig { epochs: 2, ..settings(Method::Lora(LORA)) };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| digest(&run(&fixture, &rows, &config, None).unwrap()))
    };
    let alone = on(1);
    assert!([2, 3, 5].into_iter().all(|threads| on(threads) == alone));
}

#[test]
fn long_rows_are_left_out_and_counted_never_cut() {
    let fixture = Fixture::load(NAMES[0]);
    let mut rows = rows(4, 2);
    rows[1].completion = vec![7; 100];
    let config = TrainConfig { epochs: 1, ..settings(Method::Lora(LORA)) };
    let trained = run(&fixture, &rows, &config, None).unwrap();
    assert_eq!((trained.skipped, trained.dev_skipped), (1, 1));
    let used: u64 = trained.log.iter().map(|record| record.target_tokens).sum();
    assert_eq!(used, 12);
    let error = run(&fixture, &[rows[1].clone(), rows[1].clone()], &config, None).err().unwrap();
    assert!(matches!(error, TrainError::NoRows { rows: 2, skipped: 2, limit: 32 }), "{error}");
}

#[test]
fn bad_rows_and_settings_are_named() {
    let fixture = Fixture::load(NAMES[0]);
    let good = settings(Method::Lora(LORA));
    let check = |rows: Vec<TrainRow>, config: &TrainConfig, want: &str| {
        let error = train(fixture.base(), &rows, &[], config, None, &mut go_on).err().unwrap().to_string();
        assert!(error.contains(want), "{error}");
    };
    let row = || rows(1, 1).remove(0);
    check(vec![row(), TrainRow { prompt: vec![], ..row() }], &good, "training row 1: prompt");
    check(vec![TrainRow { completion: vec![101], ..row() }], &good, "token id 101");
    check(vec![TrainRow { weight: f32::NAN, ..row() }], &good, "weight is NaN");
    check(vec![row()], &TrainConfig { micro_tokens: 0, ..good.clone() }, "micro_tokens is 0");
    check(vec![row()], &TrainConfig { learning_rate: 0.0, ..good.clone() }, "learning_rate");
    check(vec![], &good, "no training row is left");
}

#[test]
fn divergence_is_an_error_not_a_model() {
    let fixture = Fixture::load(NAMES[0]);
    let config = TrainConfig { learning_rate: 1e30, max_grad_norm: 1e30, ..settings(Method::Lora(LORA)) };
    let error = run(&fixture, &fixture.report.rows, &config, None).err().unwrap();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    // The only step's own loss is that of the base: what the step made of it shows on dev alone.
    let config = TrainConfig { epochs: 1, batch_rows: 100, learning_rate: 1e38, ..config };
    let error = run(&fixture, &fixture.report.rows, &config, None).err().unwrap();
    assert!(matches!(error, TrainError::Diverged { step: 1, loss, .. } if !loss.is_finite()), "{error}");
}

/// One AdamW step moves a value by its learning rate, whatever the size of its gradient.
#[test]
fn with_lora_plus_the_factors_b_learn_faster_and_the_others_as_before() {
    let fixture = Fixture::load(NAMES[0]);
    let moved = |b_rate| {
        let config = TrainConfig { b_rate, weight_decay: 0.0, ..settings(Method::Lora(LORA)) };
        let mut trainer = Trainer::new(fixture.base(), &config);
        // B is zero at first, so that only it has a gradient; A has one from the second step on.
        let rows = &fixture.report.rows;
        for step in 1..=2 {
            trainer.accumulate(&[MicroBatch::of(rows.iter(), 1.0)]);
            let norm = trainer.gradient_norm();
            trainer.step(&config, norm, 1e-3, step);
        }
        let largest = |which: usize| {
            let factors = trainer.parameters.m.iter().skip(which).step_by(2).flatten();
            factors.fold(0f32, |max, x| max.max(x.abs()))
        };
        assert!(largest(0) > 0.0 && largest(1) > 0.0);
        let b = trainer.parameters.values.iter().skip(1).step_by(2).flatten();
        b.fold(0f32, |max, x| max.max(x.abs()))
    };
    let (plain, faster) = (moved(1.0), moved(16.0));
    assert!((1e-3..=2.1e-3).contains(&plain) && (14.0..18.0).contains(&(faster / plain)), "{plain} {faster}");
}
