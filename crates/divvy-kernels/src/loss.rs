//! Cross-entropy fused with the output layer. Rows go through in chunks, logits become gradients in place, so the
//! memory is one chunk × vocabulary instead of all rows × vocabulary.

use crate::dispatch::per_isa;
use crate::{Isa, Packed, Write, math, matmul};
use rayon::prelude::*;
use std::ops::Range;

/// Logits held at once: 64 MB.
const CHUNK: usize = 1 << 24;

/// What a pass over target rows gives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// Σ weight · (-ln p(target)), in nats.
    pub loss_sum: f64,
    /// Rows of non-zero weight whose most likely token is the target.
    pub correct: usize,
}

/// Loss of `hidden[m, h] · headᵀ` against `targets`, each row times its weight. With `dhidden` (the transposed head and
/// a `[m, h]` buffer) also the gradient of `loss_sum`, which overwrites the buffer.
///
/// # Panics
/// When shapes differ or a target is not below `head.n()`.
pub fn linear_cross_entropy(
    hidden: &[f32],
    head: &Packed,
    targets: &[u32],
    weights: &[f32],
    dhidden: Option<(&Packed, &mut [f32])>,
) -> CrossEntropy {
    let (width, vocabulary) = (head.k(), head.n());
    assert_eq!(hidden.len(), targets.len() * width, "linear_cross_entropy: hidden is [{}, {width}]", targets.len());
    let logits = |rows: Range<usize>, logits: &mut [f32]| {
        matmul(&hidden[rows.start * width..rows.end * width], head, logits, rows.len(), Write::Set);
    };
    let Some((turned, dhidden)) = dhidden else {
        return chunked_cross_entropy(vocabulary, targets, weights, logits, None);
    };
    assert_eq!((turned.n(), turned.k()), (width, vocabulary), "linear_cross_entropy: the head is not transposed");
    assert_eq!(dhidden.len(), hidden.len(), "linear_cross_entropy: dhidden has the shape of hidden");
    let mut back = |rows: Range<usize>, dlogits: &[f32]| {
        let part = &mut dhidden[rows.start * width..rows.end * width];
        matmul(dlogits, turned, part, rows.len(), Write::Set);
    };
    chunked_cross_entropy(vocabulary, targets, weights, logits, Some(&mut back))
}

/// Takes the gradient `[rows, vocabulary]` of one chunk of logits.
pub type TakeGradient<'a> = &'a mut dyn FnMut(Range<usize>, &[f32]);

/// The same for any output layer: `logits(rows, buffer)` fills `[rows, vocabulary]`, `back(rows, dlogits)` receives the
/// gradient of each chunk, in order, to pass it on to the hidden state and to accumulate the head's own gradient.
///
/// # Panics
/// When `weights` and `targets` differ in length or a target is not below `vocabulary`.
pub fn chunked_cross_entropy(
    vocabulary: usize,
    targets: &[u32],
    weights: &[f32],
    mut logits: impl FnMut(Range<usize>, &mut [f32]),
    mut back: Option<TakeGradient>,
) -> CrossEntropy {
    assert_eq!(weights.len(), targets.len(), "cross entropy: one weight per row");
    if let Some(bad) = targets.iter().find(|target| **target as usize >= vocabulary) {
        panic!("cross entropy: target {bad} in a vocabulary of {vocabulary}");
    }
    let chunk = (CHUNK / vocabulary.max(1)).clamp(1, 256).min(targets.len().max(1));
    let mut buffer = vec![0f32; chunk * vocabulary];
    let mut total = CrossEntropy::default();
    for start in (0..targets.len()).step_by(chunk) {
        let rows = start..(start + chunk).min(targets.len());
        let buffer = &mut buffer[..rows.len() * vocabulary];
        logits(rows.clone(), buffer);
        let part = rows_of_chunk(buffer, vocabulary, &targets[rows.clone()], &weights[rows.clone()], back.is_some());
        total.loss_sum += part.loss_sum;
        total.correct += part.correct;
        if let Some(back) = &mut back {
            back(rows, buffer);
        }
    }
    total
}

fn rows_of_chunk(
    logits: &mut [f32],
    vocabulary: usize,
    targets: &[u32],
    weights: &[f32],
    gradient: bool,
) -> CrossEntropy {
    let isa = Isa::current();
    let rows = logits.par_chunks_mut(vocabulary).zip(targets.par_iter().zip(weights));
    let results: Vec<(f64, bool)> =
        rows.map(|(logits, (target, weight))| one_row(isa, logits, *target as usize, *weight, gradient)).collect();
    CrossEntropy {
        loss_sum: results.iter().map(|result| result.0).sum(),
        correct: results.iter().filter(|result| result.1).count(),
    }
}

per_isa! {
    fn one_row(logits: &mut [f32], target: usize, weight: f32, gradient: bool) -> (f64, bool) = one_row_body
}

/// Weighted loss and whether the target is the most likely token; with `gradient`, `weight · (p - onehot)` in place.
#[inline(always)]
fn one_row_body(logits: &mut [f32], target: usize, weight: f32, gradient: bool) -> (f64, bool) {
    if weight == 0.0 {
        if gradient {
            logits.fill(0.0);
        }
        return (0.0, false);
    }
    let max = math::max(logits);
    let wanted = logits[target];
    let hit = wanted == max && !logits[..target].contains(&max);
    let sum = if gradient {
        for value in logits.iter_mut() {
            *value = math::exp(*value - max);
        }
        math::sum(logits.len(), |i| logits[i])
    } else {
        math::sum(logits.len(), |i| math::exp(logits[i] - max))
    };
    if gradient {
        let factor = weight / sum;
        for value in logits.iter_mut() {
            *value *= factor;
        }
        logits[target] -= weight;
    }
    let loss = f64::from(sum).ln() + f64::from(max) - f64::from(wanted);
    (f64::from(weight) * loss, hit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, isas, product, random, widen};

    fn naive(logits: &[f64], vocabulary: usize, targets: &[u32], weights: &[f32]) -> f64 {
        logits
            .chunks(vocabulary)
            .zip(targets.iter().zip(weights))
            .map(|(row, (target, weight))| {
                let sum: f64 = row.iter().map(|value| value.exp()).sum();
                f64::from(*weight) * (sum.ln() - row[*target as usize])
            })
            .sum()
    }

    struct Case {
        hidden: Vec<f32>,
        head: Vec<f32>,
        targets: Vec<u32>,
        weights: Vec<f32>,
        shape: [usize; 3],
    }

    fn case(m: usize, h: usize, v: usize) -> Case {
        let targets = (0..m).map(|i| (i * 37 % v) as u32).collect();
        let mut weights: Vec<f32> = random(m, 3).iter().map(|w| w.abs()).collect();
        weights[m / 2] = 0.0;
        Case { hidden: random(m * h, 1), head: random(v * h, 2), targets, weights, shape: [m, h, v] }
    }

    #[test]
    fn loss_and_gradient_agree_with_the_formula() {
        for isa in isas() {
            let Case { hidden, head, targets, weights, shape: [m, h, v] } = case(9, 20, 131);
            let packed = Packed::from_rows_for(isa, v, h, |row, out| out.copy_from_slice(&head[row * h..][..h]));
            let mut dhidden = vec![f32::NAN; m * h];
            let turned = packed.transposed();
            let result = linear_cross_entropy(&hidden, &packed, &targets, &weights, Some((&turned, &mut dhidden)));
            let head = widen(&head);
            let loss = |hidden: &[f32]| naive(&product(hidden, &head, m, v, h), v, &targets, &weights);
            let tolerance = if isa.rounds() { 3e-2 } else { 1e-4 };
            assert!((result.loss_sum - loss(&hidden)).abs() < tolerance);
            assert_gradient(&hidden, &dhidden, 1e-3, tolerance, &format!("{isa:?} dhidden"), loss);
            let plain = linear_cross_entropy(&hidden, &packed, &targets, &weights, None);
            assert!((plain.loss_sum - result.loss_sum).abs() < 1e-5 && plain.correct == result.correct);
        }
    }

    #[test]
    fn chunks_do_not_change_the_result_and_arrive_in_order() {
        let (m, v) = (600, 50);
        let logits = random(m * v, 1);
        let targets: Vec<u32> = (0..m).map(|i| (i % v) as u32).collect();
        let mut seen = 0;
        let mut back = |rows: Range<usize>, dlogits: &[f32]| {
            assert_eq!((rows.start, dlogits.len()), (seen, rows.len() * v));
            seen = rows.end;
        };
        let fill = |rows: Range<usize>, out: &mut [f32]| out.copy_from_slice(&logits[rows.start * v..rows.end * v]);
        let result = chunked_cross_entropy(v, &targets, &vec![1.0; m], fill, Some(&mut back));
        assert_eq!(seen, m);
        let wide: Vec<f64> = logits.iter().map(|value| f64::from(*value)).collect();
        assert!((result.loss_sum - naive(&wide, v, &targets, &vec![1.0; m])).abs() < 1e-3);
    }

    #[test]
    fn correct_counts_the_first_of_equals_with_weight() {
        let fill = |_: Range<usize>, out: &mut [f32]| out.copy_from_slice(&[1.0, 1.0, 1.0, 1.0, 0.0, 5.0]);
        let result = chunked_cross_entropy(2, &[0, 1, 1], &[1.0, 1.0, 1.0], fill, None);
        assert_eq!(result.correct, 2);
        let result = chunked_cross_entropy(2, &[0, 1, 1], &[1.0, 1.0, 0.0], fill, None);
        assert_eq!(result.correct, 1);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let fill = |_: Range<usize>, out: &mut [f32]| out.copy_from_slice(&[1e30, -1e30]);
        let result = chunked_cross_entropy(2, &[0], &[1.0], fill, None);
        assert_eq!(result.loss_sum, 0.0);
        let mut gradient = vec![];
        let mut back = |_: Range<usize>, d: &[f32]| gradient = d.to_vec();
        assert_close(
            &[chunked_cross_entropy(2, &[0], &[2.0], fill, Some(&mut back)).loss_sum as f32],
            &[0.0],
            0.0,
            "loss",
        );
        assert_eq!(gradient, [0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "target 2 in a vocabulary of 2")]
    fn a_target_outside_the_vocabulary_panics() {
        chunked_cross_entropy(2, &[2], &[1.0], |_, _| (), None);
    }
}
