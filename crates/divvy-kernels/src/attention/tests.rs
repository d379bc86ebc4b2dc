//! Attention against the textbook formula in f64, finite differences, and its own other forms.

use super::operand::Numerics;
use super::*;
use crate::Isa;
use crate::testing::{assert_close, assert_gradient, random};
use proptest::prelude::*;
use std::sync::Arc;

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

fn forward_in(numerics: Numerics, qkv: &[f32], heads: &Heads, starts: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let tokens = starts[starts.len() - 1];
    let (mut out, mut lse) = (vec![f32::NAN; tokens * heads.query * heads.dim], vec![f32::NAN; tokens * heads.query]);
    forward::attention_in(numerics, qkv, heads, starts, &mut out, &mut lse);
    (out, lse)
}

/// Every instruction set in f32, and rounded where it rounds, with what rounding may change of values around one.
fn arithmetics() -> Vec<(Numerics, f64)> {
    let isas = crate::testing::isas();
    let exact = isas.iter().map(|isa| (Numerics::generation(*isa), 1e-5));
    exact.chain(isas.iter().filter(|isa| isa.rounds()).map(|isa| (Numerics::training(*isa), 2e-2))).collect()
}

#[test]
fn forward_agrees_with_the_formula() {
    for (heads, starts) in SHAPES {
        let qkv = sample(&heads, starts[starts.len() - 1]);
        let expected = naive(&qkv, &heads, starts);
        for (numerics, tolerance) in arithmetics() {
            let (out, _) = forward_in(numerics, &qkv, &heads, starts);
            assert_close(&out, &expected, tolerance, &format!("{numerics:?} {heads:?}"));
        }
    }
}

#[test]
fn a_part_of_the_queries_agrees_with_the_formula() {
    let all = Heads::new(1, 1, 24);
    let qkv = sample(&all, 100);
    let rows = |head: usize| block::Rows { values: &qkv, offset: head * 24, stride: 72 };
    for ((numerics, tolerance), heads) in
        arithmetics().into_iter().flat_map(|each| [(each, all), (each, Heads { window: Some(20), ..all })])
    {
        let expected = naive(&qkv, &heads, &[0, 100]);
        let keys = block::InRows { keys: rows(1), values: rows(2), dim: 24 };
        let result = forward::attend(numerics, &[rows(0)], &keys, &heads, 60..100, 60);
        for row in 0..40 {
            let expected = &expected[(60 + row) * 24..][..24];
            assert_close(&result.out.row(row)[..24], expected, tolerance, &format!("{numerics:?}"));
        }
    }
}

#[test]
fn backward_agrees_with_finite_differences() {
    for (heads, starts) in SHAPES {
        let qkv = sample(&heads, starts[starts.len() - 1]);
        for (numerics, tolerance) in arithmetics() {
            let (out, lse) = forward_in(numerics, &qkv, &heads, starts);
            let dout = random(out.len(), 2);
            let mut dqkv = vec![f32::NAN; qkv.len()];
            backward::attention_backward_in(numerics, &qkv, &heads, starts, &out, &lse, &dout, &mut dqkv);
            assert!(dqkv.iter().all(|value| value.is_finite()));
            let loss = |x: &[f32]| naive(x, &heads, starts).iter().zip(&dout).map(|(a, b)| a * f64::from(*b)).sum();
            // Differences themselves are good to 2e-4.
            let tolerance = (2.0 * tolerance).max(2e-4);
            assert_gradient(&qkv, &dqkv, 1e-3, tolerance, &format!("{numerics:?} {heads:?}"), loss);
        }
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

/// Keys and values of all tokens on pages.
fn pages(qkv: &[f32], heads: &Heads, format: CacheFormat) -> Vec<Arc<Page>> {
    let (query, width) = (heads.query * heads.dim, heads.kv * heads.dim);
    let rows: Vec<&[f32]> = qkv.chunks(heads.joint()).collect();
    let page = |rows: &[&[f32]]| {
        let mut page = Page::new(format, heads.kv, heads.dim);
        for (position, row) in rows.iter().enumerate() {
            page.put(position, &row[query..query + width], &row[query + width..]);
        }
        Arc::new(page)
    };
    rows.chunks(Page::POSITIONS).map(page).collect()
}

/// Attention of the `new` queries from `first` on.
fn cached(qkv: &[f32], heads: &Heads, pages: &[Arc<Page>], first: usize, new: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; new * heads.query * heads.dim];
    let q = &qkv[first * heads.joint()..];
    attend_cached(
        &mut [CachedQuery { q, q_stride: heads.joint(), pages, first_position: first, out: &mut out }],
        heads,
    );
    out
}

const CACHED: [Heads; 3] =
    [Heads::new(4, 2, 20), Heads::new(3, 1, 64), Heads { window: Some(40), ..Heads::new(2, 1, 24) }];

#[test]
fn decoding_from_a_cache_has_the_bits_of_the_full_pass() {
    for heads in CACHED {
        let width = heads.query * heads.dim;
        let qkv = sample(&heads, 150);
        let (all, _) = forward_in(Numerics::generation(Isa::current()), &qkv, &heads, &[0, 150]);
        let pages = pages(&qkv, &heads, CacheFormat::F32);
        for (first, new) in [(0, 150), (149, 1), (63, 3), (10, 100)] {
            let out = cached(&qkv, &heads, &pages, first, new);
            assert_eq!(out, all[first * width..(first + new) * width], "{first} {new}");
        }
    }
}

#[test]
fn smaller_pages_stay_close_and_independent_of_the_cut() {
    for (heads, (format, tolerance)) in CACHED
        .into_iter()
        .flat_map(|heads| [(CacheFormat::Bf16, 0.02), (CacheFormat::Int8, 0.04)].map(|form| (heads, form)))
    {
        let width = heads.query * heads.dim;
        let qkv = sample(&heads, 150);
        let pages = pages(&qkv, &heads, format);
        let all = cached(&qkv, &heads, &pages, 0, 150);
        assert_close(&all, &naive(&qkv, &heads, &[0, 150]), tolerance, &format!("{format:?} {heads:?}"));
        for (first, new) in [(149, 1), (63, 3), (10, 100)] {
            assert_eq!(cached(&qkv, &heads, &pages, first, new), all[first * width..(first + new) * width]);
        }
    }
}

#[test]
fn smaller_pages_take_less_memory() {
    let bytes = |format| Page::new(format, 3, 64).bytes();
    assert_eq!(bytes(CacheFormat::F32), 2 * 3 * 64 * 64 * 4);
    assert_eq!(2 * bytes(CacheFormat::Bf16), bytes(CacheFormat::F32));
    assert_eq!(bytes(CacheFormat::Int8), 2 * 3 * 64 * (64 + 4));
}

/// What another sequence wrote behind a shared beginning is neither seen nor multiplied.
#[test]
fn the_beginning_of_a_page_forgets_what_stood_behind_it() {
    for format in [CacheFormat::F32, CacheFormat::Bf16, CacheFormat::Int8] {
        let heads = Heads::new(2, 1, 24);
        let qkv = sample(&heads, 10);
        let clean = pages(&qkv, &heads, format);
        let mut dirty = (*clean[0]).clone();
        dirty.put(10, &[f32::NAN; 24], &[f32::INFINITY; 24]);
        let begun = [Arc::new(dirty.first(10))];
        assert_eq!(cached(&qkv, &heads, &begun, 9, 1), cached(&qkv, &heads, &clean, 9, 1), "{format:?}");
    }
}

#[test]
fn every_instruction_set_reads_smaller_pages_the_same() {
    for format in [CacheFormat::Bf16, CacheFormat::Int8] {
        let heads = Heads::new(2, 2, 24);
        let qkv = sample(&heads, 70);
        let pages = pages(&qkv, &heads, format);
        for head in 0..2 {
            let cache = page::Paged { pages: &pages, head };
            let read = |isa| {
                let (numerics, mut room) = (Numerics::generation(isa), operand::KeptRight::default());
                let values = |right: operand::Right<'_>| match right {
                    operand::Right::Plain(view) => view.values.to_vec(),
                    operand::Right::Rounded(_) => panic!("pages are read in f32"),
                };
                let keys = values(block::Blocks::keys(&cache, numerics, 64, 6, &mut room));
                (keys, values(block::Blocks::values(&cache, numerics, 64, 6, &mut room)))
            };
            for isa in crate::testing::isas() {
                assert_eq!(read(isa), read(Isa::Portable), "{isa:?} {format:?}");
            }
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
    cached(&sample(&heads, 70), &heads, &[Arc::new(Page::new(CacheFormat::F32, 1, 2))], 60, 5);
}

#[test]
#[should_panic(expected = "pages of 1 heads of 2")]
fn pages_of_another_shape_panic() {
    let heads = Heads::new(1, 1, 2);
    cached(&sample(&heads, 1), &heads, &[Arc::new(Page::new(CacheFormat::F32, 2, 1))], 0, 1);
}

/// Query heads, key heads, head size, and perhaps a window.
fn any_heads() -> impl Strategy<Value = Heads> {
    let window = prop_oneof![Just(None), (1usize..90).prop_map(Some), Just(Some(usize::MAX))];
    (1usize..4, 1usize..3, prop_oneof![Just(4usize), Just(24), Just(40)], window)
        .prop_map(|(group, kv, dim, window)| Heads { window, ..Heads::new(group * kv, kv, dim) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// `seen` and `seeing` are the same relation, and it is causal and within the window.
    #[test]
    fn a_query_sees_a_key_when_the_key_is_seen(
        heads in any_heads(), query in 0usize..300, key in 0usize..300, from in 0usize..300, count in 1usize..65,
    ) {
        let sees = key <= query && heads.window.is_none_or(|window| query - key < window);
        if (from..from + count).contains(&key) {
            prop_assert_eq!(heads.seen(query, from, count).contains(&(key - from)), sees);
        }
        if (from..from + count).contains(&query) {
            prop_assert_eq!(heads.seeing(key, from, count).contains(&(query - from)), sees);
        }
    }

    /// What a token does not see does not change a bit of its output, and nothing of what it sees gets a gradient from it:
    /// other sequences, later tokens, tokens before the window.
    #[test]
    fn masks_let_nothing_through(
        heads in any_heads(),
        lengths in prop::collection::vec(1usize..100, 1..4),
        chosen in 0usize..1000,
        rounds in any::<bool>(),
    ) {
        let numerics = if rounds { Numerics::training(Isa::current()) } else { Numerics::generation(Isa::current()) };
        let starts: Vec<usize> = [0].into_iter().chain(lengths.iter().scan(0, |sum, len| { *sum += len; Some(*sum) })).collect();
        let tokens = starts[starts.len() - 1];
        let token = chosen % tokens;
        let begin = *starts.iter().rfind(|start| **start <= token).unwrap();
        let seen = heads.window.map_or(begin, |window| (token + 1).saturating_sub(window).max(begin))..token + 1;
        let (joint, width) = (heads.joint(), heads.query * heads.dim);
        let qkv = sample(&heads, tokens);
        let mut other: Vec<f32> = random(qkv.len(), 9);
        other[seen.start * joint..seen.end * joint].copy_from_slice(&qkv[seen.start * joint..seen.end * joint]);
        let (out, lse) = forward_in(numerics, &qkv, &heads, &starts);
        let (changed, _) = forward_in(numerics, &other, &heads, &starts);
        prop_assert_eq!(&out[token * width..][..width], &changed[token * width..][..width]);

        let (mut dout, mut dqkv) = (vec![0.0; out.len()], vec![f32::NAN; qkv.len()]);
        dout[token * width..][..width].copy_from_slice(&random(width, 10));
        backward::attention_backward_in(numerics, &qkv, &heads, &starts, &out, &lse, &dout, &mut dqkv);
        for (at, gradient) in dqkv.chunks(joint).enumerate() {
            prop_assert!(seen.contains(&at) || gradient.iter().all(|value| *value == 0.0), "token {} gets one from {}", at, token);
        }
    }
}
