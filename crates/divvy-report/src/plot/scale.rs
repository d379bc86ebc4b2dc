//! From data to pixels, and the round numbers on an axis.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub domain: (f64, f64),
    pub range: (f64, f64),
}

impl Scale {
    /// An empty or reversed domain is widened, so that placing never divides by zero.
    pub(crate) fn new((low, high): (f64, f64), range: (f64, f64)) -> Self {
        let low = if low.is_finite() { low } else { 0.0 };
        let high = if high.is_finite() && high > low { high } else { low + low.abs().max(1.0) };
        Self { domain: (low, high), range }
    }

    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = (value - self.domain.0) / (self.domain.1 - self.domain.0);
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    /// About `wanted` round values inside the domain.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<f64> {
        let (low, high) = self.domain;
        let step = round_step((high - low) / wanted.max(1) as f64);
        let first = (low / step).ceil();
        let ticks = (0..=4 * wanted).map(|index| (first + index as f64) * step);
        ticks.take_while(|tick| *tick <= high + step * 1e-9).collect()
    }
}

/// The 1, 2, 5 or 10 times a power of ten that is not below `rough`.
pub(crate) fn round_step(rough: f64) -> f64 {
    if !(rough.is_finite() && rough > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// Upper end of an axis from zero that has room above `value`, a whole number of round steps.
pub(crate) fn round_up(value: f64, steps: usize) -> f64 {
    let step = round_step(value / steps.max(1) as f64);
    if value > 0.0 { (value / step).ceil() * step } else { step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::new((0.0, 0.97), (0.0, 100.0));
        let ticks: Vec<String> = scale.ticks(5).iter().map(|tick| format!("{tick:.1}")).collect();
        assert_eq!(ticks, ["0.0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(round_step(37.0), 50.0);
        assert_eq!(round_up(1_130.0, 5), 1_500.0);
    }

    #[test]
    fn a_domain_without_extent_still_places() {
        let scale = Scale::new((3.0, 3.0), (0.0, 10.0));
        assert!(scale.place(3.0).is_finite());
        assert!(Scale::new((f64::NAN, f64::INFINITY), (0.0, 1.0)).place(0.5).is_finite());
    }
}
