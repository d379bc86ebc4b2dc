//! Statistics before adjectives: how sure a figure is, and whether two arms differ on the same questions.
//!
//! Accuracy has a Wilson interval; two arms are compared by exact McNemar with a score interval of the difference, all
//! comparisons of a family together by Holm; partial credit by seeded bootstrap, cost by Student and Fieller ([`ratio`]), over
//! clusters where questions share a passage or a family; what a run will still take by Hall's interval ([`forecast`]). Reference values in the tests
//! come from SciPy 1.17.

pub mod bootstrap;
pub mod forecast;
pub mod holm;
pub mod mcnemar;
pub mod normal;
pub mod paired;
pub mod power;
pub mod ratio;
pub mod rng;
pub mod student_t;
pub mod wilson;

/// Standard normal quantile of 0.975: all intervals are 95 %.
pub const Z95: f64 = 1.959_963_984_540_054;

/// An adjusted p-value below this counts as shown.
pub const LEVEL: f64 = 0.05;

/// Clusters below which none are drawn: Student's t over them ([`ratio`]), and no interval narrower than that of independent rows.
/// Of five there are a hundred resamples, and one in six hundred is five times the same.
pub const FEW_CLUSTERS: usize = 30;

/// Lower and upper end.
pub type Interval = (f64, f64);

#[cfg(test)]
pub(crate) fn close(found: f64, expect: f64, relative: f64) {
    assert!((found - expect).abs() <= relative * expect.abs().max(1e-300), "{found} is not {expect}");
}
