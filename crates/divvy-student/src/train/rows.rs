//! Training rows and how they are packed: rows laid end to end in a micro-batch, each attending to itself alone, with
//! positions that restart. No padding, no truncation: a row that is too long is left out and counted.

use serde::{Deserialize, Serialize};

use super::random::Random;

/// One training example in token ids, tokenised by the functions that inference uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainRow {
    pub prompt: Vec<u32>,
    /// Ends with the end-of-turn token; the loss is taken here only.
    pub completion: Vec<u32>,
    /// Weight of each of this row's target tokens in the loss; 1 unless rows are to count differently.
    pub weight: f32,
}

impl TrainRow {
    /// Prompt and completion together: what `max_row_tokens` limits.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }

    /// Tokens the model reads. The last one is only ever a target.
    pub(crate) fn inputs(&self) -> usize {
        self.tokens() - 1
    }

    /// What this row adds to the divisor of the loss.
    pub(crate) fn target_weight(&self) -> f64 {
        f64::from(self.weight) * self.completion.len() as f64
    }
}

/// Rows laid end to end, as the forward pass reads them. `t` input tokens, `c` target tokens.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct MicroBatch {
    /// `[t]`
    pub(crate) tokens: Vec<u32>,
    /// `[t]`, restarting at 0 with each row.
    pub(crate) positions: Vec<u32>,
    /// First token of each row, and `t` at the end.
    pub(crate) starts: Vec<usize>,
    /// `[c]` positions in `tokens` whose successor is a completion token.
    pub(crate) target_at: Vec<usize>,
    /// `[c]` the successors.
    pub(crate) targets: Vec<u32>,
    /// `[c]` row weight over the total target weight of the optimiser step, so that losses and gradients of all
    /// micro-batches of a step just add up to the exact weighted mean.
    pub(crate) weights: Vec<f32>,
}

impl MicroBatch {
    /// Lays out `rows`; `total_weight` is the divisor of the whole optimiser step.
    pub(crate) fn of<'a>(rows: impl Iterator<Item = &'a TrainRow>, total_weight: f64) -> Self {
        let mut micro = Self { starts: vec![0], ..Self::default() };
        for row in rows {
            micro.push(row, (f64::from(row.weight) / total_weight) as f32);
        }
        micro
    }

    fn push(&mut self, row: &TrainRow, weight: f32) {
        let start = self.tokens.len();
        self.tokens.extend(row.prompt.iter().chain(&row.completion).take(row.inputs()));
        self.positions.extend(0..row.inputs() as u32);
        self.starts.push(self.tokens.len());
        for (k, &target) in row.completion.iter().enumerate() {
            self.target_at.push(start + row.prompt.len() - 1 + k);
            self.targets.push(target);
            self.weights.push(weight);
        }
    }
}

/// The order of rows in one epoch: a shuffle of its own for every (seed, epoch).
pub(crate) fn epoch_order(rows: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    Random::new(seed, 0x0E0C_0000 + epoch).shuffle(&mut order);
    order
}

/// `limit`, or what the longest of these rows needs.
pub(crate) fn room_for(rows: &[TrainRow], chosen: &[usize], limit: usize) -> usize {
    chosen.iter().map(|&row| rows[row].inputs()).fold(limit, usize::max)
}

/// Spreads the rows of an optimiser step over as few micro-batches of at most `limit` input tokens as fit, evenly:
/// the longest row goes to the emptiest one. Every row must itself fit. If there are several, they are an even number where
/// rows allow it, as two are worked on at a time.
pub(crate) fn split_into_micro_batches(rows: &[TrainRow], chosen: &[usize], limit: usize) -> Vec<Vec<usize>> {
    let mut longest_first = chosen.to_vec();
    longest_first.sort_by_key(|&row| std::cmp::Reverse(rows[row].inputs()));
    let total: usize = chosen.iter().map(|&row| rows[row].inputs()).sum();
    let count = total.div_ceil(limit).max(1);
    let even = if count > 1 { count.next_multiple_of(2).min(chosen.len()) } else { count };
    (even..=chosen.len())
        .find_map(|count| spread(rows, &longest_first, count, limit))
        .expect("each row fits alone, so one micro-batch a row always fits")
}

fn spread(rows: &[TrainRow], longest_first: &[usize], count: usize, limit: usize) -> Option<Vec<Vec<usize>>> {
    let mut bins = vec![(0usize, Vec::new()); count];
    for &row in longest_first {
        let (used, bin) = bins.iter_mut().min_by_key(|(used, _)| *used)?;
        *used += rows[row].inputs();
        if *used > limit {
            return None;
        }
        bin.push(row);
    }
    Some(bins.into_iter().map(|(_, bin)| bin).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: u32, completion: u32, weight: f32) -> TrainRow {
        TrainRow { prompt: (1..=prompt).collect(), completion: (100..100 + completion).collect(), weight }
    }

    #[test]
    fn targets_are_the_completion_and_nothing_else() {
        let rows = [row(3, 2, 1.0), row(1, 3, 2.0)];
        let micro = MicroBatch::of(rows.iter(), 8.0);
        assert_eq!(micro.tokens, [1, 2, 3, 100, 1, 100, 101]);
        assert_eq!(micro.positions, [0, 1, 2, 3, 0, 1, 2]);
        assert_eq!(micro.starts, [0, 4, 7]);
        assert_eq!(micro.target_at, [2, 3, 4, 5, 6]);
        assert_eq!(micro.targets, [100, 101, 100, 101, 102]);
        assert_eq!(micro.weights, [0.125, 0.125, 0.25, 0.25, 0.25]);
        assert_eq!(rows.iter().map(TrainRow::target_weight).sum::<f64>(), 8.0);
    }

    /// Rows of tokens that tell which row and place they are.
    fn told_apart(lengths: &[(usize, usize)]) -> Vec<TrainRow> {
        let row = |(index, &(prompt, completion)): (usize, &(usize, usize))| {
            let token = |at: usize| (index * 100 + at) as u32;
            let (prompt_end, end) = (prompt, prompt + completion);
            TrainRow {
                prompt: (0..prompt_end).map(token).collect(),
                completion: (prompt_end..end).map(token).collect(),
                weight: 1.0 + index as f32,
            }
        };
        lengths.iter().enumerate().map(row).collect()
    }

    proptest::proptest! {
        /// Every row once, none cut, none too long, and an even number of micro-batches where rows allow it.
        #[test]
        fn packing_loses_no_row_and_exceeds_no_limit(
            lengths in proptest::collection::vec((1usize..30, 1usize..30), 1..40),
            seed in 0u64..1000,
            limit in 60usize..300,
        ) {
            let rows = told_apart(&lengths);
            let chosen = epoch_order(rows.len(), seed, 0);
            let bins = split_into_micro_batches(&rows, &chosen, limit);
            let size = |bin: &Vec<usize>| bin.iter().map(|&r| rows[r].inputs()).sum::<usize>();
            proptest::prop_assert!(bins.iter().all(|bin| (1..=limit).contains(&size(bin))));
            let mut all: Vec<usize> = bins.concat();
            all.sort_unstable();
            proptest::prop_assert_eq!(all, (0..rows.len()).collect::<Vec<_>>());
        }

        /// A target follows its position in its own row and is part of the completion; positions and starts are the row's own; the
        /// weights of all targets add up to the share of these rows in the step.
        #[test]
        fn targets_are_completions_and_no_row_reaches_into_another(
            lengths in proptest::collection::vec((1usize..30, 1usize..30), 1..12),
            others in 0.0f64..50.0,
        ) {
            let rows = told_apart(&lengths);
            let own: f64 = rows.iter().map(TrainRow::target_weight).sum();
            let micro = MicroBatch::of(rows.iter(), own + others);
            proptest::prop_assert_eq!(micro.starts.len(), rows.len() + 1);
            let mut targets = 0;
            for (index, (row, bounds)) in rows.iter().zip(micro.starts.windows(2)).enumerate() {
                let inside = bounds[0]..bounds[1];
                proptest::prop_assert_eq!(inside.len(), row.inputs());
                for (place, at) in inside.clone().enumerate() {
                    let told = (micro.tokens[at] as usize, micro.positions[at] as usize);
                    proptest::prop_assert_eq!(told, (index * 100 + place, place));
                }
                for (at, target) in micro.target_at.iter().zip(&micro.targets).filter(|(at, _)| inside.contains(at)) {
                    let place = *target as usize % 100;
                    proptest::prop_assert_eq!(*target, micro.tokens[*at] + 1);
                    proptest::prop_assert!(place >= row.prompt.len() && place < row.tokens());
                    targets += 1;
                }
            }
            proptest::prop_assert_eq!(targets, rows.iter().map(|row| row.completion.len()).sum::<usize>());
            let share: f64 = micro.weights.iter().map(|weight| f64::from(*weight)).sum();
            proptest::prop_assert!((share - own / (own + others)).abs() < 1e-4);
        }
    }

    #[test]
    fn several_micro_batches_are_an_even_number_where_rows_allow_it() {
        let rows = told_apart(&[(10, 10); 7]);
        let count = |rows: &[TrainRow], limit| {
            split_into_micro_batches(rows, &(0..rows.len()).collect::<Vec<_>>(), limit).len()
        };
        assert_eq!([count(&rows, 1000), count(&rows, 60), count(&rows[..3], 30)], [1, 4, 3]);
    }

    #[test]
    fn epochs_differ_and_repeat() {
        assert_eq!(epoch_order(50, 1, 0), epoch_order(50, 1, 0));
        assert_ne!(epoch_order(50, 1, 0), epoch_order(50, 1, 1));
        assert_ne!(epoch_order(50, 1, 0), epoch_order(50, 2, 0));
    }
}
