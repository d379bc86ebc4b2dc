//! The learning rate at every step: a linear warm-up, then the chosen shape down to a floor.

use serde::{Deserialize, Serialize};

/// Shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    Cosine,
    Constant,
    Linear,
}

/// Steps of warm-up out of `steps`, rounded up, so that any positive ratio warms up for at least one step.
pub(crate) fn warmup_steps(ratio: f64, steps: u64) -> u64 {
    ((ratio * steps as f64).ceil() as u64).min(steps)
}

/// Factor on the peak learning rate at `step` (from 0) of `steps`. The first step already moves: `1/warmup`.
pub(crate) fn factor(schedule: Schedule, step: u64, steps: u64, warmup: u64, floor: f64) -> f64 {
    if step < warmup {
        return (step + 1) as f64 / warmup as f64;
    }
    let at = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
    let shape = match schedule {
        Schedule::Constant => return 1.0,
        Schedule::Linear => 1.0 - at,
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * at).cos()),
    };
    floor + (1.0 - floor) * shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: Schedule, floor: f64, expect: [f64; 6]) {
        let got: Vec<f64> = (0..6).map(|step| factor(schedule, step, 6, 2, floor)).collect();
        for (got, want) in got.iter().zip(expect) {
            assert!((got - want).abs() < 1e-3, "{schedule:?}: {got} for {want}");
        }
    }

    #[test]
    fn shapes() {
        check(Schedule::Constant, 0.0, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        check(Schedule::Linear, 0.0, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
        check(Schedule::Cosine, 0.0, [0.5, 1.0, 1.0, 0.8536, 0.5, 0.1464]);
        check(Schedule::Cosine, 0.5, [0.5, 1.0, 1.0, 0.9268, 0.75, 0.5732]);
    }

    #[test]
    fn warm_up_rounds_up_and_never_exceeds_the_run() {
        assert_eq!(warmup_steps(0.03, 10), 1);
        assert_eq!(warmup_steps(0.0, 10), 0);
        assert_eq!(warmup_steps(1.0, 10), 10);
        assert!(factor(Schedule::Cosine, 9, 10, 10, 0.0) <= 1.0);
    }
}
