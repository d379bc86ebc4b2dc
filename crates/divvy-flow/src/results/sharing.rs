//! Which questions share a passage, and the intervals and tests that follow. Questions about one passage are not
//! independent: there, whole passages are drawn (cluster bootstrap); elsewhere accuracy has Wilson's interval and McNemar's
//! test, which are exact where a bootstrap is not. Partial credit is drawn in both.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use divvy_core::{
    digest::{Digest, derive_seed},
    question::QuestionId,
    stats::{
        self, Interval,
        bootstrap::{self, Difference},
        wilson,
    },
};

use super::{outline::Outlines, seeds};

/// Resamples for some of the questions: there are many such parts, and two digits of an interval are told.
const OF_A_PART: usize = 2000;

/// The questions' passages, and the seed of everything drawn.
pub(super) struct Sharing {
    /// The number of each question's passage, or of the question itself; `None` where none is shared.
    units: Option<Vec<usize>>,
    count: usize,
    pub(super) questions: usize,
    resamples: usize,
    seed: u64,
}

/// What an arm has right of some of the questions.
pub(super) struct Part {
    /// Answers.
    pub(super) n: u64,
    pub(super) correct: u64,
    pub(super) ci: Interval,
}

impl Sharing {
    pub(super) fn of(questions: &Outlines<'_>, seed: u64) -> Self {
        Self::of_each(questions.each.iter().map(|question| (&question.id, question.premise.as_ref())), seed)
    }

    /// Of questions by their names, with their passages.
    pub(super) fn of_each<'q>(
        questions: impl Iterator<Item = (&'q QuestionId, Option<&'q Digest>)>,
        seed: u64,
    ) -> Self {
        /// A passage, or a question that has none.
        #[derive(PartialEq, Eq, Hash)]
        enum Unit<'a> {
            Passage(&'a Digest),
            Alone(&'a QuestionId),
        }
        let mut numbers: HashMap<Unit<'_>, usize> = HashMap::new();
        let units = questions.map(|(id, premise)| {
            let next = numbers.len();
            *numbers.entry(premise.map_or(Unit::Alone(id), Unit::Passage)).or_insert(next)
        });
        Self::by_units(units.collect(), bootstrap::RESAMPLES, derive_seed(seed, "bootstrap"))
    }

    fn by_units(units: Vec<usize>, resamples: usize, seed: u64) -> Self {
        let count = units.iter().collect::<HashSet<_>>().len();
        let questions = units.len();
        // Of one passage nothing is known but its questions: what is said holds for it alone.
        let shared = 1 < count && count < questions;
        let count = if shared { count } else { questions };
        Self { units: shared.then_some(units), count, questions, resamples, seed }
    }

    /// The same of some of the questions, by their places.
    pub(super) fn among(&self, places: &[usize]) -> Self {
        let resamples = if places.len() == self.questions { self.resamples } else { OF_A_PART };
        match &self.units {
            Some(units) => Self::by_units(places.iter().map(|&place| units[place]).collect(), resamples, self.seed),
            None => Self { units: None, count: places.len(), questions: places.len(), resamples, seed: self.seed },
        }
    }

    /// How many passages there are, where they are shared.
    pub(super) fn passages(&self) -> Option<u64> {
        self.units.as_ref().map(|_| self.count as u64)
    }

    pub(super) fn accuracy(&self, right: &[bool]) -> Interval {
        let correct = right.iter().filter(|right| **right).count();
        let alone = wilson::interval(correct as u64, right.len() as u64);
        // Where all are right, or none, every resample says the same: that is no certainty.
        let varies = 0 < correct && correct < right.len();
        if let Some(units) = self.few().filter(|_| varies) {
            return of_few(&as_scores(right), units).map_or(alone, |few| around(alone, within_unit(few)));
        }
        let drawn = self.units.as_ref().filter(|_| varies).and_then(|_| self.mean(&as_scores(right)));
        // Near nothing or all a percentile is too narrow.
        drawn.map_or(alone, |drawn| around(alone, drawn))
    }

    /// Of the answers to all questions, which follow each other seed by seed and repeat by repeat.
    pub(super) fn answers(&self, right: &[bool], seeds: usize) -> Interval {
        match right.len() == self.questions {
            true => self.accuracy(right),
            false => self.pooled(&seeds::per_seed(&as_scores(right), self.questions, seeds), right.len()),
        }
    }

    /// Of the answers to all questions those to some, by their places.
    pub(super) fn part(&self, places: &[usize], right: &[bool], seeds: usize) -> Part {
        let all = right.chunks(self.questions.max(1));
        let right: Vec<bool> = all.flat_map(|all| places.iter().map(|&place| all[place])).collect();
        let correct = right.iter().filter(|right| **right).count() as u64;
        Part { n: right.len() as u64, correct, ci: self.among(places).answers(&right, seeds) }
    }

    fn resamples(&self, values: usize) -> usize {
        bootstrap::resamples_for(values).min(self.resamples)
    }

    /// Of several answers to each question, seed by seed: whole questions or passages are drawn, and seeds. One that is right
    /// half the time is half right.
    fn pooled(&self, seeds: &[Vec<f64>], answers: usize) -> Interval {
        let first = seeds.iter().flatten().next().copied().unwrap_or(0.0);
        let varies = seeds.iter().flatten().any(|value| *value != first);
        // Where all are alike, every resample says the same: that is no certainty.
        let drawn = if varies { self.drawn(seeds) } else { None };
        let alone = Self::as_alone(&self.means(seeds), answers);
        // Near nothing or all a percentile is too narrow.
        drawn.map_or(alone, |drawn| around(drawn, alone))
    }

    /// As if no two questions shared a passage: Wilson's interval of as many answers as theirs are worth. Those to one question that
    /// always agree are worth one, those that agree no more than by chance each count. A few questions do not tell.
    fn as_alone(means: &[f64], answers: usize) -> Interval {
        let questions = means.len() as f64;
        let share = means.iter().sum::<f64>() / questions;
        let variance = means.iter().map(|mean| (mean - share).powi(2)).sum::<f64>() / questions;
        let is_told = means.len() >= stats::FEW_CLUSTERS && 0.0 < share && share < 1.0;
        let worth = || (questions * share * (1.0 - share) / variance).min(answers as f64);
        wilson::of_share(share, if is_told { worth() } else { questions })
    }

    /// Of each question over all seeds.
    fn means(&self, seeds: &[Vec<f64>]) -> Vec<f64> {
        let mean = |at: usize| seeds.iter().map(|seed| seed[at]).sum::<f64>() / seeds.len() as f64;
        (0..self.questions).map(mean).collect()
    }

    /// Of partial credit, or of shares that differ.
    pub(super) fn drawn(&self, seeds: &[Vec<f64>]) -> Option<Interval> {
        let resamples = self.resamples(self.count * seeds.len());
        let drawn = bootstrap::crossed(seeds, self.units.as_deref(), resamples, self.seed)?;
        let few = self.few_units().and_then(|units| of_few(&self.means(seeds), &units));
        Some(few.map_or(drawn, |few| around(drawn, within_unit(few))))
    }

    /// The passages, where there are too few of them to be drawn.
    fn few(&self) -> Option<&[usize]> {
        self.units.as_deref().filter(|_| self.count < stats::FEW_CLUSTERS)
    }

    /// The same of shares and partial credit: of questions, too, a few cannot be drawn.
    fn few_units(&self) -> Option<Cow<'_, [usize]>> {
        let alone = || (self.questions < stats::FEW_CLUSTERS).then(|| (0..self.questions).collect());
        match &self.units {
            Some(_) => self.few().map(Cow::Borrowed),
            None => alone().map(Cow::Owned),
        }
    }

    /// Of answers to some questions, by their places, among which a question may be several times.
    pub(super) fn accuracy_at(&self, places: &[usize], right: &[bool]) -> Interval {
        if places.is_sorted_by(|one, next| one < next) {
            return self.among(places).accuracy(right);
        }
        let shares = means_by_place(places, right);
        if shares.len() == places.len() {
            return self.among(places).accuracy(right);
        }
        let places: Vec<usize> = shares.keys().copied().collect();
        self.among(&places).pooled(&[shares.into_values().collect()], right.len())
    }

    /// The same, without drawing where questions share nothing: for the many shares that are told beside the accuracy.
    pub(super) fn share_at(&self, places: &[usize], counts: &[bool]) -> Interval {
        if self.units.is_some() || places.is_sorted_by(|one, next| one < next) {
            return self.accuracy_at(places, counts);
        }
        Self::as_alone(&means_by_place(places, counts).into_values().collect::<Vec<_>>(), counts.len())
    }

    /// `None` where partial credit is nothing but right and wrong.
    pub(super) fn score(&self, right: &[bool], scores: &[f64]) -> Option<Interval> {
        has_partial_credit(right, scores).then(|| self.mean(scores)).flatten()
    }

    fn mean(&self, values: &[f64]) -> Option<Interval> {
        let resamples = self.resamples(self.count);
        if let Some(units) = self.few_units() {
            let rows = bootstrap::mean(values, resamples, self.seed)?;
            return Some(of_few(values, &units).map_or(rows, |few| around(rows, within_unit(few))));
        }
        match &self.units {
            Some(units) => bootstrap::cluster_mean(values, units, resamples, self.seed),
            None => bootstrap::mean(values, resamples, self.seed),
        }
    }

    /// Of two arms; `None` where questions are independent, and McNemar's test is due.
    pub(super) fn accuracies(&self, right: &[bool], other: &[bool]) -> Option<Difference> {
        self.units.as_ref()?;
        self.difference(&as_scores(right), &as_scores(other))
    }

    pub(super) fn difference(&self, scores: &[f64], other: &[f64]) -> Option<Difference> {
        let few = self.few_units();
        let units = few.as_deref().or(self.units.as_deref());
        bootstrap::paired(scores, other, units, self.resamples(self.count), self.seed)
    }

    /// Of the difference of two arms.
    pub(super) fn design_effect(&self, scores: &[f64], other: &[f64]) -> f64 {
        let Some(units) = &self.units else { return 1.0 };
        let differences: Vec<f64> = scores.iter().zip(other).map(|(one, other)| one - other).collect();
        stats::ratio::design_effect(&differences, units)
    }
}

fn of_few(values: &[f64], units: &[usize]) -> Option<Interval> {
    stats::ratio::mean(values, units).map(|(_, interval)| interval)
}

fn around(one: Interval, other: Interval) -> Interval {
    (one.0.min(other.0), one.1.max(other.1))
}

fn within_unit((low, high): Interval) -> Interval {
    (low.max(0.0), high.min(1.0))
}

pub(super) fn has_partial_credit(right: &[bool], scores: &[f64]) -> bool {
    right.iter().zip(scores).any(|(right, score)| f64::from(u8::from(*right)) != *score)
}

pub(super) fn as_scores(right: &[bool]) -> Vec<f64> {
    right.iter().map(|right| f64::from(u8::from(*right))).collect()
}

/// Of each question how many of its answers count.
fn means_by_place(places: &[usize], counts: &[bool]) -> BTreeMap<usize, f64> {
    let mut shares: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (place, counts) in places.iter().zip(counts) {
        let (sum, of) = shares.entry(*place).or_default();
        *sum += f64::from(u8::from(*counts));
        *of += 1.0;
    }
    shares.into_iter().map(|(place, (sum, of))| (place, sum / of)).collect()
}

#[cfg(test)]
mod tests {
    use divvy_core::{
        question::{Question, ScorerKind, Split},
        questions::Questions,
        stats::wilson,
    };

    use super::*;

    fn of(questions: &Questions) -> Sharing {
        Sharing::of(&Outlines::of(questions), 1)
    }

    fn questions(premises: &[Option<&str>]) -> Questions {
        let question = |(row, premise): (usize, &Option<&str>)| Question {
            id: QuestionId::new("set", Split::Test, row),
            dataset: "set".to_owned(),
            split: Split::Test,
            premise: premise.map(str::to_owned),
            text: "Q?".to_owned(),
            golds: Vec::new(),
            scorer: ScorerKind::Drop,
            steps: None,
            recorded: None,
            cluster: Some("one family".to_owned()),
            worked: Vec::new(),
        };
        premises.iter().enumerate().map(question).collect()
    }

    /// So many passages, of each so many questions, one after the other.
    fn passages_of(passages: usize, each: usize) -> Questions {
        let premises: Vec<String> = (0..passages * each).map(|row| (row / each).to_string()).collect();
        questions(&premises.iter().map(|premise| Some(premise.as_str())).collect::<Vec<_>>())
    }

    #[test]
    fn only_a_shared_passage_makes_a_cluster() {
        let alone = questions(&[None, None, Some("A"), Some("B")]);
        let alone = of(&alone);
        assert_eq!(alone.passages(), None);
        let right = [true, true, false, true];
        assert_eq!(alone.accuracy(&right), wilson::interval(3, 4));
        assert_eq!(alone.accuracies(&right, &right), None);
        let shared = questions(&[None, Some("A"), Some("A"), Some("B")]);
        let shared = of(&shared);
        assert_eq!(shared.passages(), Some(3));
        assert_eq!((shared.among(&[0, 1, 3]).passages(), shared.among(&[0, 1, 2]).passages()), (None, Some(2)));
        assert_eq!(shared.among(&[1, 2]).passages(), None, "one passage stands for itself");
    }

    /// So many passages of ten questions, of each of which one arm gets five right and the other none.
    fn few(passages: usize) -> (Interval, Difference) {
        let questions = passages_of(passages, 10);
        let (sharing, n) = (of(&questions), 10 * passages);
        let right: Vec<bool> = (0..n).map(|row| row % 2 == 0).collect();
        (sharing.accuracy(&right), sharing.accuracies(&right, &vec![false; n]).unwrap())
    }

    #[test]
    fn a_few_passages_that_agree_show_little() {
        for (passages, least) in [(2, 0.5), (5, 0.0625)] {
            let (accuracy, found) = few(passages);
            let wilson = wilson::interval(5 * passages as u64, 10 * passages as u64);
            assert_eq!(accuracy, wilson, "{passages}: as if rows were independent, at least");
            assert!(found.p_value == least && found.ci.1 - found.ci.0 > 0.1, "{passages}: {found:?}");
        }
        assert!(few(40).1.p_value < 0.001);
        let one = questions(&[Some("A"); 30]);
        let sharing = of(&one);
        let right: Vec<bool> = (0..30).map(|row| row < 25).collect();
        assert_eq!((sharing.accuracy(&right), sharing.accuracies(&right, &right)), (wilson::interval(25, 30), None));
    }

    #[test]
    fn a_few_passages_that_differ_have_a_wide_interval() {
        let questions = passages_of(3, 20);
        let sharing = of(&questions);
        // 1, 1 and 2 of 20 more right.
        let right: Vec<bool> = (0..60).map(|row| [0, 20, 40, 41].contains(&row)).collect();
        let found = sharing.accuracies(&right, &[false; 60]).unwrap();
        assert!(found.ci.0 < 0.0 && found.ci.1 > 0.13 && found.p_value == 0.25, "{found:?}");
    }

    #[test]
    fn answers_to_one_question_are_one_piece_of_evidence() {
        let questions = questions(&[None; 40]);
        let sharing = of(&questions);
        let share: Vec<f64> = (0..40).map(|row| f64::from(u8::from(row % 2 == 0))).collect();
        let width = |(low, high): Interval| high - low;
        let (once, thrice) =
            (width(sharing.pooled(std::slice::from_ref(&share), 40)), width(sharing.pooled(&vec![share; 3], 120)));
        assert!(
            (once - thrice).abs() < 0.05,
            "{once} {thrice}: the same answers three times are not three times as many"
        );
        assert_eq!(sharing.pooled(&vec![vec![0.0; 40]; 3], 120), wilson::interval(0, 40));
        assert_eq!(sharing.pooled(&vec![vec![1.0; 40]; 3], 120), wilson::interval(40, 40));
        assert_eq!(of(&Questions::default()).pooled(&[Vec::new()], 0), wilson::interval(0, 0));
        let places: Vec<usize> = (0..10).chain(0..10).collect();
        let right: Vec<bool> = (0..20).map(|at| at % 10 < 5).collect();
        let (low, high) = sharing.accuracy_at(&places, &right);
        assert!(low < 0.3 && high > 0.7, "ten questions, not twenty: {low} {high}");
        assert_eq!(sharing.accuracy_at(&places[..10], &right[..10]), wilson::interval(5, 10));
    }

    #[test]
    fn few_right_answers_of_several_are_as_unsure_as_of_one() {
        let questions = questions(&[None; 100]);
        let sharing = of(&questions);
        let both = |row: usize| row % 100 == 7;
        let (low, high) = sharing.answers(&(0..200).map(both).collect::<Vec<_>>(), 1);
        let once = wilson::interval(1, 100);
        let holds = |(least, most): Interval| low < least + 1e-9 && high > most - 1e-9;
        assert!(holds(once), "one question, right both times: {low} {high} {once:?}");
        let missed: Vec<bool> = (0..200).map(|row| !both(row)).collect();
        let (low, high) = sharing.answers(&missed, 2);
        assert!(low < 1.0 - once.1 + 1e-9 && high > 1.0 - once.0 - 1e-9, "all but one, of two seeds: {low} {high}");
    }

    #[test]
    fn answers_that_do_not_hang_together_each_count() {
        let questions = questions(&[None; 400]);
        let sharing = of(&questions);
        // Of four answers to each question those are right that the bits of its number say: as by chance.
        let right: Vec<bool> = (0..1600).map(|at| ((at % 400) >> (at / 400)) & 1 == 1).collect();
        let (low, high) = sharing.answers(&right, 1);
        let all = wilson::interval(800, 1600);
        assert!(low <= all.0 && high >= all.1 && high - low < 1.1 * (all.1 - all.0), "{low} {high} {all:?}");
    }

    #[test]
    fn some_questions_have_the_interval_that_they_would_have_alone() {
        let questions = passages_of(40, 5);
        let (sharing, right): (_, Vec<bool>) = (of(&questions), (0..200).map(|row| row / 5 % 2 == 0).collect());
        let half: Vec<usize> = (0..100).collect();
        let part = sharing.part(&half, &right, 1);
        let wilson = wilson::interval(50, 100);
        assert_eq!((part.n, part.correct), (100, 50));
        assert!(part.ci.1 - part.ci.0 > 1.5 * (wilson.1 - wilson.0), "of twenty passages: {:?} {wilson:?}", part.ci);
        // One of each passage: nothing is shared among them.
        let first: Vec<usize> = (0..40).map(|passage| 5 * passage).collect();
        assert_eq!(sharing.part(&first, &right, 1).ci, wilson::interval(20, 40));
        let thrice = sharing.part(&first, &right.repeat(3), 3);
        assert_eq!((thrice.n, thrice.correct), (120, 60));
        let width = |(low, high): Interval| high - low;
        assert!((width(thrice.ci) / width(wilson::interval(20, 40)) - 1.0).abs() < 0.15, "{:?}", thrice.ci);
    }

    #[test]
    fn repeated_answers_of_a_passage_are_one_piece_of_evidence() {
        let questions = passages_of(10, 20);
        let sharing = of(&questions);
        let right: Vec<bool> = (0..200).map(|row| row / 20 % 2 == 0).collect();
        let (low, high) = sharing.accuracy(&right);
        let (narrow_low, narrow_high) = wilson::interval(100, 200);
        assert!(high - low > 3.0 * (narrow_high - narrow_low), "{low} {high}");
        let none = vec![false; 200];
        assert_eq!(sharing.accuracy(&none), wilson::interval(0, 200), "no resample of nothing right varies");
        let found = sharing.accuracies(&right, &none).unwrap();
        assert!(found.difference == 0.5 && found.p_value == 0.0625, "five of ten differ, all one way: {found:?}");
        assert_eq!(sharing.score(&right, &as_scores(&right)), None);
        assert!(sharing.score(&right, &vec![0.5; 200]).is_some());
    }
}
