//! Softmax and argmax over one row of logits.

use crate::Isa;
use crate::dispatch::per_isa;
use crate::math;

/// Replaces logits by probabilities. An empty row stays empty; -∞ becomes 0.
pub fn softmax_in_place(logits: &mut [f32]) {
    softmax(Isa::current(), logits);
}

per_isa! {
    fn softmax(logits: &mut [f32]) = softmax_body
}

#[inline(always)]
fn softmax_body(logits: &mut [f32]) {
    let max = math::max(logits);
    for value in logits.iter_mut() {
        *value = math::exp(*value - max);
    }
    let inverse = 1.0 / math::sum(logits.len(), |i| logits[i]);
    for value in logits.iter_mut() {
        *value *= inverse;
    }
}

/// Index of the largest value, the lowest one among equals. NaNs are passed over; 0 when nothing else is there.
pub fn argmax(values: &[f32]) -> usize {
    let max = largest(Isa::current(), values);
    values.iter().position(|value| *value == max).unwrap_or(0)
}

per_isa! {
    fn largest(values: &[f32]) -> f32 = math::max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, isas, random};

    #[test]
    fn softmax_agrees_with_the_formula() {
        for isa in isas() {
            for len in [1, 5, 16, 1000] {
                let logits: Vec<f32> = random(len, 1).iter().map(|value| 20.0 * value + 500.0).collect();
                let terms: Vec<f64> = logits.iter().map(|value| (f64::from(*value) - 500.0).exp()).collect();
                let total: f64 = terms.iter().sum();
                let mut actual = logits;
                softmax(isa, &mut actual);
                assert_close(&actual, &terms.iter().map(|term| term / total).collect::<Vec<_>>(), 3e-6, "softmax");
            }
        }
    }

    #[test]
    fn minus_infinity_has_no_probability() {
        let mut logits = [0.0, f32::NEG_INFINITY, 0.0];
        softmax_in_place(&mut logits);
        assert_eq!(logits, [0.5, 0.0, 0.5]);
        softmax_in_place(&mut []);
    }

    #[test]
    fn argmax_takes_the_first_of_equals_and_skips_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::NAN, -1.0, -1.0]), 1);
        assert_eq!(argmax(&[f32::NAN]), 0);
        assert_eq!(argmax(&[]), 0);
        let mut long = vec![0.0; 100];
        long[77] = 1.0;
        long[99] = 1.0;
        assert_eq!(argmax(&long), 77);
    }
}
