//! Holm's step-down adjustment (Holm 1979): p-values of one family, so that the chance of even one false finding stays
//! at the level.

/// Adjusted p-values in the given order.
#[must_use]
pub fn adjust(p_values: &[f64]) -> Vec<f64> {
    adjust_among(p_values, p_values.len())
}

/// The same of a family of `tests`, of which some have no result yet: those count as if they came last.
#[must_use]
pub fn adjust_among(p_values: &[f64], tests: usize) -> Vec<f64> {
    let tests = tests.max(p_values.len());
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max(p_values[index] * (tests - rank) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(adjust(&[0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]);
        assert_eq!(adjust(&[0.5, 0.9]), [1.0, 1.0]);
        assert_eq!(adjust(&[0.2]), [0.2]);
        assert!(adjust(&[]).is_empty());
        assert_eq!(adjust_among(&[0.01, 0.04], 4), [0.04, 0.12]);
        assert_eq!(adjust_among(&[0.01, 0.04], 0), adjust(&[0.01, 0.04]));
    }
}
