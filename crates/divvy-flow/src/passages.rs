//! Items on one passage are asked one behind the other. Whoever keeps what it has read of a prompt then reads a passage once for all
//! its questions: our own engine (vLLM's automatic prefix caching, arXiv 2309.06180), and providers that charge less for what they have cached.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    vec,
};

use divvy_core::question::Question;

/// Items that are put in order together: what is read ahead before the first is asked stays short, with millions to come.
const WINDOW: usize = 1 << 16;
/// A data set has passages or it has none: so many questions, spread over what is put in order, tell whether any has, so that those without
/// are not all read twice.
const LOOKED_AT: usize = 64;

/// What a question's passage is told by.
pub(crate) fn passage(question: &Question) -> Option<u64> {
    question.premise.as_ref().map(|premise| {
        let mut hasher = DefaultHasher::new();
        (&question.dataset, premise).hash(&mut hasher);
        hasher.finish()
    })
}

/// The same items, each behind the first one of its passage, and else as they came.
#[derive(Clone)]
pub(crate) struct SideBySide<I, P> {
    items: I,
    passage: P,
    window: vec::IntoIter<usize>,
}

/// # Panics
/// What `passage` does.
pub(crate) fn side_by_side<I, P>(items: I, passage: P) -> SideBySide<I, P>
where
    I: Iterator<Item = usize>,
    P: Fn(usize) -> Option<u64>,
{
    SideBySide { items, passage, window: Vec::new().into_iter() }
}

impl<I: Iterator<Item = usize>, P: Fn(usize) -> Option<u64>> Iterator for SideBySide<I, P> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.window.len() == 0 {
            self.window = ordered(self.items.by_ref().take(WINDOW).collect(), &self.passage).into_iter();
        }
        self.window.next()
    }
}

fn ordered(items: Vec<usize>, passage: impl Fn(usize) -> Option<u64>) -> Vec<usize> {
    let apart = items.len().div_ceil(LOOKED_AT).max(1);
    if !items.iter().step_by(apart).any(|item| passage(*item).is_some()) {
        return items;
    }
    let mut first_of = HashMap::new();
    let mut places: Vec<(usize, usize)> = items
        .into_iter()
        .enumerate()
        .map(|(at, item)| (passage(item).map_or(at, |passage| *first_of.entry(passage).or_insert(at)), item))
        .collect();
    // Stable: those of one passage stay in their own order.
    places.sort_by_key(|(first, _)| *first);
    places.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn in_order(passages: &[Option<u64>]) -> Vec<usize> {
        side_by_side(0..passages.len(), |item| passages[item]).collect()
    }

    #[test]
    fn each_stands_behind_the_first_of_its_passage() {
        assert_eq!(in_order(&[Some(1), None, Some(2), Some(1), None, Some(2), Some(1)]), [0, 3, 6, 1, 2, 5, 4]);
        assert_eq!(in_order(&[None, None, None]), [0, 1, 2]);
        assert!(in_order(&[]).is_empty());
    }

    #[test]
    fn items_without_passages_are_looked_at_no_further_than_to_know() {
        let looks = Cell::new(0);
        let none = |_| {
            looks.set(looks.get() + 1);
            None
        };
        assert!(side_by_side(0..10_000, none).eq(0..10_000));
        assert!(looks.get() <= LOOKED_AT, "{}", looks.get());
    }

    /// Data sets that are scored stand one behind the other.
    #[test]
    fn passages_behind_many_questions_without_one_are_seen() {
        let passages = |item: usize| (item >= 1000).then_some((item % 2) as u64);
        let all: Vec<usize> = side_by_side(0..1100, passages).collect();
        assert!(all[..1000].iter().copied().eq(0..1000) && all[1000..1050].iter().all(|item| item % 2 == 0), "{all:?}");
    }

    #[test]
    fn what_is_read_ahead_is_bounded_and_nothing_is_lost() {
        let passages = |item: usize| Some((item % 2) as u64);
        let all: Vec<usize> = side_by_side(0..3 * WINDOW / 2, passages).collect();
        assert!(all[..WINDOW / 2].iter().all(|item| item % 2 == 0) && all[..WINDOW].iter().all(|item| *item < WINDOW));
        let mut sorted = all;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..3 * WINDOW / 2));
    }
}
