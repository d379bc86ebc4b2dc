//! Whether what is left fits under a cap, and where the run would stop if not.

use divvy_core::{records::Stage, stats::forecast::Forecast};

/// A cap of the budget, in the unit of what is summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cap {
    pub name: &'static str,
    pub most: f64,
    /// Of it, what is spent already.
    pub spent: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Even the upper end of the interval is below it.
    Fits,
    /// It lies within the interval, or there is none.
    MayStop,
    /// Before the stage is done, at this share of what it has left.
    Stops { stage: Stage, share: f64 },
    /// A figure is unknown.
    Unknown,
}

/// The stages in running order, with what each has left.
#[must_use]
pub fn against(cap: Cap, stages: &[(Stage, Option<Forecast>)]) -> Verdict {
    let (mut all, mut stop, most) = (Forecast::default(), None, cap.most - cap.spent);
    for (stage, left) in stages {
        let Some(left) = left else { return Verdict::Unknown };
        if all.sum + left.sum > most && stop.is_none() {
            stop = Some(Verdict::Stops { stage: *stage, share: (most - all.sum).max(0.0) / left.sum });
        }
        all = all.and(left);
    }
    match (stop, all.interval()) {
        (None, Some((_, high))) if high <= most => Verdict::Fits,
        (Some(stop), Some((low, _))) if low > most => stop,
        _ => Verdict::MayStop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f64], left: u64) -> Option<Forecast> {
        let rows = values.iter().enumerate().map(|(row, value)| (row.to_string(), *value)).collect();
        Forecast::of(&rows, left)
    }

    #[test]
    fn a_cap_above_within_and_below_the_interval() {
        let stages = [(Stage::Collect, rows(&[1.0; 20], 100)), (Stage::Screen, rows(&[1.0, 2.0, 3.0, 2.0], 100))];
        let with = |most, spent| against(Cap { name: "calls", most, spent }, &stages);
        let at = |most| with(most, 0.0);
        assert_eq!(at(500.0), Verdict::Fits);
        assert_eq!(at(310.0), Verdict::MayStop);
        assert_eq!(at(290.0), Verdict::MayStop);
        assert_eq!(at(50.0), Verdict::Stops { stage: Stage::Collect, share: 0.5 });
        assert_eq!(at(120.0), Verdict::Stops { stage: Stage::Screen, share: 0.1 });
        assert_eq!(with(120.0, 70.0), at(50.0));
        assert_eq!(with(120.0, 130.0), Verdict::Stops { stage: Stage::Collect, share: 0.0 });
        let unknown = against(Cap { name: "calls", most: 1.0, spent: 0.0 }, &[(Stage::Collect, None)]);
        assert_eq!(unknown, Verdict::Unknown);
    }
}
