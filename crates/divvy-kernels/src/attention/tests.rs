//! Attention against the textbook formula in f64, finite differences, and its own other forms.

use super::*;
use crate::testing::{assert_close, assert_gradient, random};

const SHAPES: [(Heads, &[usize]); 7] = [
    (Heads::new(1, 1, 4), &[0, 1]),
    (Heads::new(3, 1, 8), &[0, 5, 5, 12]),
    (Heads::new(4, 2, 20), &[0, 70, 71]),
    (Heads::new(2, 2, 64), &[0, 130, 258]),
    (Heads { window: Some(3), ..Heads::new(3, 1, 8) }, &[0, 5, 5, 12]),
    (Heads { window: Some(70), scale: Some(0.3), ..Heads::new(2, 1, 12) }, &[0, 200, 230]),
    (Heads { window: Some(1), ..Heads::new(1, 1, 4) }, &[0, 66]),
];

/// Output in f64 by the formula.
fn naive(qkv: &[f32], heads: &Heads, starts: &[usize]) -> Vec<f64> {
    let (joint, dim) = (heads.joint(), heads.dim);
    let mut out = vec![0.0; starts[starts.len() - 1] * heads.query * dim];
    let at = |token: usize, head: usize, d: usize| f64::from(qkv[token * joint + head * dim + d]);
    for pair in starts.windows(2) {
        for (token, head) in (pair[0]..pair[1]).flat_map(|t| (0..heads.query).map(move |h| (t, h))) {
            let kv = head / heads.group();
            let score = |other: usize| {
                let dot: f64 = (0..dim).map(|d| at(token, head, d) * at(other, heads.query + kv, d)).sum();
                (dot * heads.scale.map_or(1.0 / (dim as f64).sqrt(), f64::from)).exp()
            };
            let first = heads.window.map_or(pair[0], |window| (token + 1).saturating_sub(window).max(pair[0]));
            let scores: Vec<f64> = (first..=token).map(score).collect();
            let sum: f64 = scores.iter().sum();
            for d in 0..dim {
                let value = |other: usize| at(other, heads.query + heads.kv + kv, d);
                let weighted: f64 = scores.iter().enumerate().map(|(i, s)| s * value(first + i)).sum();
                out[(token * heads.query + head) * dim + d] = weighted / sum;
            }
        }
    }
    out
}

fn sample(heads: &Heads, tokens: usize) -> Vec<f32> {
    random(tokens * heads.joint(), 1).iter().map(|value| 2.0 * value).collect()
}

fn forward(qkv: &[f32], heads: &Heads, starts: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let tokens = starts[starts.len() - 1];
    let (mut out, mut lse) = (vec![f32::NAN; tokens * heads.query * heads.dim], vec![f32::NAN; tokens * heads.query]);
    attention(qkv, heads, starts, &mut out, &mut lse);
    (out, lse)
}

#[test]
fn forward_agrees_with_the_formula() {
    for (heads, starts) in SHAPES {
        let qkv = sample(&heads, starts[starts.len() - 1]);
        assert_close(&forward(&qkv, &heads, starts).0, &naive(&qkv, &heads, starts), 1e-5, &format!("{heads:?}"));
    }
}

#[test]
fn every_instruction_set_agrees_with_the_formula() {
    let all = Heads::new(1, 1, 24);
    let qkv = sample(&all, 100);
    let rows = |head: usize| block::Rows { values: &qkv, offset: head * 24, stride: 72 };
    for (isa, heads) in
        crate::testing::isas().into_iter().flat_map(|isa| [(isa, all), (isa, Heads { window: Some(20), ..all })])
    {
        let expected = naive(&qkv, &heads, &[0, 100]);
        let result = forward::attend(isa, &[rows(0)], [rows(1), rows(2)], &heads, 60..100, 60);
        for row in 0..40 {
            assert_close(&result.out.row(row)[..24], &expected[(60 + row) * 24..][..24], 1e-5, &format!("{isa:?}"));
        }
    }
}

#[test]
fn backward_agrees_with_finite_differences() {
    for (heads, starts) in SHAPES {
        let qkv = sample(&heads, starts[starts.len() - 1]);
        let (out, lse) = forward(&qkv, &heads, starts);
        let dout = random(out.len(), 2);
        let mut dqkv = vec![f32::NAN; qkv.len()];
        attention_backward(&qkv, &heads, starts, &out, &lse, &dout, &mut dqkv);
        assert!(dqkv.iter().all(|value| value.is_finite()));
        let loss = |x: &[f32]| naive(x, &heads, starts).iter().zip(&dout).map(|(a, b)| a * f64::from(*b)).sum();
        assert_gradient(&qkv, &dqkv, 1e-3, 2e-4, &format!("{heads:?}"), loss);
    }
}

#[test]
fn packed_sequences_have_the_bits_of_single_ones() {
    let (heads, starts) = SHAPES[2];
    let qkv = sample(&heads, 71);
    let (all, _) = forward(&qkv, &heads, starts);
    let (alone, _) = forward(&qkv[70 * heads.joint()..], &heads, &[0, 1]);
    assert_eq!(alone, all[70 * heads.query * heads.dim..]);
}

#[test]
fn decoding_from_a_cache_has_the_bits_of_the_full_pass() {
    for heads in [Heads::new(4, 2, 20), Heads::new(3, 1, 64), Heads { window: Some(40), ..Heads::new(2, 1, 24) }] {
        let (tokens, width) = (150, heads.query * heads.dim);
        let qkv = sample(&heads, tokens);
        let (all, _) = forward(&qkv, &heads, &[0, tokens]);
        let column = |from: usize, len: usize| {
            qkv.chunks(heads.joint()).flat_map(|row| row[from..from + len].to_vec()).collect::<Vec<f32>>()
        };
        let (keys, values) =
            (column(width, heads.kv * heads.dim), column(width + heads.kv * heads.dim, heads.kv * heads.dim));
        for (first, new) in [(0, 150), (149, 1), (63, 3), (10, 100)] {
            let mut out = vec![f32::NAN; new * width];
            let q = &qkv[first * heads.joint()..];
            attend_cached(q, heads.joint(), &heads, &keys, &values, first, &mut out);
            assert_eq!(out, all[first * width..(first + new) * width], "{first} {new}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (heads, starts) = SHAPES[2];
    let qkv = sample(&heads, 71);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (out, lse) = forward(&qkv, &heads, starts);
            let mut dqkv = vec![0.0; qkv.len()];
            attention_backward(&qkv, &heads, starts, &out, &lse, &out, &mut dqkv);
            (out, dqkv)
        })
    };
    assert_eq!(run(1), run(4));
}

#[test]
#[should_panic(expected = "must rise from 0 to 3")]
fn sequence_starts_must_cover_the_tokens() {
    let heads = Heads::new(1, 1, 2);
    attention(&[0.0; 18], &heads, &[0, 2], &mut [0.0; 6], &mut [0.0; 3]);
}

#[test]
#[should_panic(expected = "the cache ends before the queries")]
fn a_short_cache_panics() {
    let heads = Heads::new(1, 1, 2);
    attend_cached(&[0.0; 2], 2, &heads, &[0.0; 2], &[0.0; 2], 1, &mut [0.0; 2]);
}
