//! When training ends before its last epoch: which step was the best so far by what dev said, and for how long nothing was
//! better. All of it is read off the log, so that a resumed run decides as the whole one.

use serde::{Deserialize, Serialize};

use super::run::StepRecord;

/// Ends the run when so many looks at dev in a row bring nothing better; the weights of the best step are the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyStop {
    pub by: StopBy,
    pub patience: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopBy {
    /// Less of it is better.
    DevLoss,
    /// More is: what [`super::run::Look`] says of what has been learnt.
    Quality,
}

/// The step whose weights are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    pub step: u64,
    pub value: f64,
}

impl StopBy {
    /// What dev said after a step; `None` where it was not asked.
    fn value(self, record: &StepRecord) -> Option<f64> {
        match self {
            Self::DevLoss => record.dev_loss,
            Self::Quality => record.dev_quality,
        }
    }

    fn is_better(self, value: f64, than: f64) -> bool {
        match self {
            Self::DevLoss => value < than,
            Self::Quality => value > than,
        }
    }
}

impl EarlyStop {
    /// The first of those that are as good.
    pub(crate) fn best(self, log: &[StepRecord]) -> Option<Best> {
        let looks = log.iter().filter_map(|record| Some(Best { step: record.step, value: self.by.value(record)? }));
        looks.reduce(|best, look| if self.by.is_better(look.value, best.value) { look } else { best })
    }

    /// Nothing better has come for too long.
    pub(crate) fn is_due(self, log: &[StepRecord]) -> bool {
        let Some(best) = self.best(log) else { return false };
        let since = log.iter().filter(|record| record.step > best.step && self.by.value(record).is_some());
        since.count() >= self.patience as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at every second step.
    fn log(values: &[f64]) -> Vec<StepRecord> {
        let record = |step: u64| StepRecord {
            step,
            epoch: 0,
            loss: 1.0,
            learning_rate: 1e-3,
            grad_norm: 1.0,
            tokens: 1,
            target_tokens: 1,
            correct: 0,
            tokens_per_second: 1.0,
            dev_loss: step.is_multiple_of(2).then(|| values[step as usize / 2 - 1]),
            dev_quality: step.is_multiple_of(2).then(|| values[step as usize / 2 - 1]),
        };
        (1..=2 * values.len() as u64).map(record).collect()
    }

    #[test]
    fn patience_counts_looks_that_bring_nothing_better() {
        let loss = EarlyStop { by: StopBy::DevLoss, patience: 2 };
        assert_eq!((loss.best(&[]), loss.is_due(&[])), (None, false));
        let log = log(&[3.0, 2.0, 2.0, 2.5, 1.0]);
        assert_eq!(loss.best(&log), Some(Best { step: 10, value: 1.0 }));
        assert_eq!(loss.best(&log[..8]), Some(Best { step: 4, value: 2.0 }), "the first of two");
        assert!(!loss.is_due(&log[..7]) && loss.is_due(&log[..8]));
        let quality = EarlyStop { by: StopBy::Quality, patience: 3 };
        assert_eq!(quality.best(&log), Some(Best { step: 2, value: 3.0 }));
        assert!(!quality.is_due(&log[..7]) && quality.is_due(&log[..8]));
    }
}
