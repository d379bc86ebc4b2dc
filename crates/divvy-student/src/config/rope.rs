//! How RoPE is stretched to contexts longer than those of pre-training, and the tables that follow.

use std::f64::consts::TAU;

use divvy_kernels::RopeTable;
use serde::{Deserialize, Serialize};

use super::ModelConfig;

/// A stretched RoPE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeScaling {
    #[default]
    None,
    /// Positions divided by a factor (Chen et al. 2023, arXiv:2306.15595).
    Linear { factor: f32 },
    /// Llama 3.1: long wavelengths divided by the factor, short ones left, those between blended.
    Llama3 { factor: f32, low: f32, high: f32, original: usize },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071); `attention` is its temperature, already resolved.
    Yarn { factor: f32, original: usize, beta_fast: f32, beta_slow: f32, attention: f32, whole: bool },
}

impl RopeScaling {
    /// The temperature that YaRN gives a factor (its equation 22).
    #[must_use]
    pub fn yarn_attention(factor: f32) -> f32 {
        if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
    }

    /// What is wrong with its numbers: (key, value, what they may be).
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let at_least_one = |factor: f32| !(factor.is_finite() && factor >= 1.0);
        match *self {
            Self::None => None,
            Self::Linear { factor } | Self::Llama3 { factor, .. } | Self::Yarn { factor, .. }
                if at_least_one(factor) =>
            {
                Some(("rope scaling factor", factor.to_string(), "a finite number of at least 1"))
            }
            Self::Llama3 { original, .. } | Self::Yarn { original, .. } if original == 0 || original > 1 << 24 => {
                Some(("original context length", original.to_string(), "between 1 and 16777216"))
            }
            Self::Llama3 { low, high, .. } if !(low > 0.0 && high > low && high.is_finite()) => {
                Some(("rope frequency factors", format!("{low} and {high}"), "two positive numbers, the low one first"))
            }
            Self::Yarn { beta_fast, beta_slow, attention, .. }
                if !(beta_slow > 0.0
                    && beta_fast > beta_slow
                    && beta_fast.is_finite()
                    && (0.1..10.0).contains(&attention)) =>
            {
                let value = format!("beta {beta_fast} and {beta_slow}, attention {attention}");
                Some(("yarn settings", value, "beta_fast above beta_slow above 0, attention between 0.1 and 10"))
            }
            _ => None,
        }
    }

    /// Angles per position step, `dim / 2` of them, in a head of `dim`.
    #[must_use]
    pub fn frequencies(&self, theta: f32, dim: usize) -> Vec<f64> {
        let theta = f64::from(theta);
        let plain = (0..dim / 2).map(|i| (i, theta.powf(-2.0 * i as f64 / dim as f64)));
        match *self {
            Self::None => plain.map(|(_, frequency)| frequency).collect(),
            Self::Linear { factor } => plain.map(|(_, frequency)| frequency / f64::from(factor)).collect(),
            Self::Llama3 { factor, low, high, original } => {
                let [factor, low, high] = [factor, low, high].map(f64::from);
                let stretch = |frequency: f64| {
                    let turns = original as f64 * frequency / TAU;
                    let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    keep * frequency + (1.0 - keep) * frequency / factor
                };
                plain.map(|(_, frequency)| stretch(frequency)).collect()
            }
            Self::Yarn { factor, original, beta_fast, beta_slow, whole, .. } => {
                let ramp = yarn_ramp(theta, dim, original, [beta_fast, beta_slow], whole);
                let stretch = |(i, frequency): (usize, f64)| {
                    let stretched = ramp(i);
                    (1.0 - stretched) * frequency + stretched * frequency / f64::from(factor)
                };
                plain.map(stretch).collect()
            }
        }
    }
}

/// How far frequency `i` is stretched: 0 below the one that turns `beta[0]` times in the original context, 1 above the
/// one that turns `beta[1]` times, a straight line between.
fn yarn_ramp(theta: f64, dim: usize, original: usize, beta: [f32; 2], whole: bool) -> impl Fn(usize) -> f64 {
    let at = |turns: f32| dim as f64 * (original as f64 / (f64::from(turns) * TAU)).ln() / (2.0 * theta.ln());
    let (low, high) = (at(beta[0]), at(beta[1]));
    let (low, high) = if whole { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
    let width = if high - low == 0.0 { 0.001 } else { high - low };
    move |i| ((i as f64 - low) / width).clamp(0.0, 1.0)
}

/// The rotations of a model: one for all layers, or another for those with a window.
#[derive(Clone)]
pub struct Ropes {
    full: RopeTable,
    window: Option<RopeTable>,
}

impl Ropes {
    /// Tables for that many positions, each filled when it is reached.
    #[must_use]
    pub fn new(config: &ModelConfig, positions: usize) -> Self {
        let scaling = &config.variant.rope;
        let full =
            RopeTable::from_inverse_frequencies(&scaling.frequencies(config.rope_theta, config.head_dim), positions);
        let full = match *scaling {
            RopeScaling::Yarn { attention, .. } => full.scaled(attention),
            _ => full,
        };
        let theta = config.variant.sliding.and_then(|sliding| sliding.theta);
        Self { full, window: theta.map(|theta| RopeTable::new(config.head_dim, theta, positions)) }
    }

    /// The table of layer `index`.
    #[must_use]
    pub fn of(&self, config: &ModelConfig, index: usize) -> &RopeTable {
        let windowed = config.variant.sliding.is_some_and(|sliding| sliding.holds(index));
        self.window.as_ref().filter(|_| windowed).unwrap_or(&self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_wavelengths_stay_and_long_ones_are_stretched() {
        let llama = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192 };
        let yarn = RopeScaling::Yarn {
            factor: 8.0,
            original: 8192,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention: RopeScaling::yarn_attention(8.0),
            whole: true,
        };
        let plain = RopeScaling::None.frequencies(5e5, 128);
        for scaling in [llama, yarn] {
            let stretched = scaling.frequencies(5e5, 128);
            assert_eq!(stretched[0], plain[0]);
            assert!((stretched[63] * 8.0 / plain[63] - 1.0).abs() < 1e-12);
            let ratios: Vec<f64> = stretched.iter().zip(&plain).map(|(s, p)| s / p).collect();
            assert!(ratios.windows(2).all(|pair| pair[1] <= pair[0] + 1e-12), "{ratios:?}");
            assert!(ratios.iter().any(|ratio| (0.2..0.9).contains(ratio)), "some are blended");
        }
        let linear = RopeScaling::Linear { factor: 4.0 }.frequencies(1e4, 8);
        assert_eq!(linear[0], 0.25);
    }

    #[test]
    fn absurd_numbers_are_named() {
        let yarn = |factor, original| RopeScaling::Yarn {
            factor,
            original,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention: 1.0,
            whole: true,
        };
        assert_eq!(yarn(0.0, 10).fault().unwrap().0, "rope scaling factor");
        assert_eq!(yarn(f32::NAN, 10).fault().unwrap().0, "rope scaling factor");
        assert_eq!(yarn(4.0, 0).fault().unwrap().0, "original context length");
        let swapped = RopeScaling::Llama3 { factor: 8.0, low: 4.0, high: 1.0, original: 10 };
        assert_eq!(swapped.fault().unwrap().0, "rope frequency factors");
        assert_eq!(yarn(4.0, 4096).fault(), None);
    }
}
