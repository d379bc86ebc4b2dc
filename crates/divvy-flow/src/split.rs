//! Train, dev and test: dev is carved from train by the seed, and nothing is shared between the three.

use std::sync::Arc;

use divvy_core::{
    digest::{Digest, derive_seed},
    leak::{self, Found, Leak, LeakKind},
    question::{Question, QuestionId, Split},
    questions::Questions,
    recipe::OnLeak,
};

use crate::error::FlowError;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Splits {
    pub train: Questions,
    pub dev: Questions,
    pub test: Questions,
}

impl Splits {
    /// The questions of every split.
    pub fn all(&self) -> impl Iterator<Item = Arc<Question>> + '_ {
        self.for_students().chain(self.test.iter())
    }

    /// Each of [`Splits::all`] as its JSON.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.train.texts().chain(self.dev.texts()).chain(self.test.texts())
    }

    /// Those that a student learns from and is watched on, which a teacher decomposes.
    pub fn for_students(&self) -> impl Iterator<Item = Arc<Question>> + Clone + '_ {
        self.train.iter().chain(self.dev.iter())
    }

    /// One of [`Splits::for_students`], by where it stands there.
    ///
    /// # Panics
    /// Beyond the last one, or when it cannot be read back.
    #[must_use]
    pub fn at_for_students(&self, position: usize) -> Arc<Question> {
        let of_dev = position.checked_sub(self.train.len());
        of_dev.map_or_else(|| self.train.at(position), |position| self.dev.at(position))
    }

    /// Where a question stands in [`Splits::for_students`].
    #[must_use]
    pub fn position_for_students(&self, id: &QuestionId) -> Option<usize> {
        self.train.position(id).or_else(|| Some(self.train.len() + self.dev.position(id)?))
    }

    /// One of [`Splits::for_students`].
    #[must_use]
    pub fn for_student(&self, id: &QuestionId) -> Option<Arc<Question>> {
        // For one of dev that was just read, train is not searched.
        self.dev.last(id).or_else(|| self.train.get(id)).or_else(|| self.dev.get(id))
    }

    /// Carves `dev_rows` questions from `train`, chosen by the seed whatever their order.
    ///
    /// # Errors
    /// [`FlowError::Input`] when train is not larger than `dev_rows`; [`FlowError::Aside`] when there is no room.
    pub fn carve(train: Questions, test: Questions, dev_rows: usize, seed: u64) -> Result<Self, FlowError> {
        if dev_rows >= train.len() {
            let rows = train.len();
            return Err(FlowError::Input(format!(
                "data.dev_rows is {dev_rows}, but train has only {rows} rows to carve from"
            )));
        }
        let mut order = train.order_by(|id| derive_seed(seed, &id.0));
        let mut dev = train.none_yet()?;
        for position in order.by_ref().take(dev_rows) {
            dev.push(&Question { split: Split::Dev, ..Question::clone(&train.at(position)) })?;
        }
        let rest = train.choose(order);
        drop(train);
        Ok(Self { train: rest.laid_out()?, dev, test })
    }

    /// Several data sets as one, each carved by itself. Training and dev rows of all sets are in one order, the seed's.
    ///
    /// # Errors
    /// [`FlowError::Aside`] when there is no room.
    pub fn joined(sets: Vec<Self>, seed: u64) -> Result<Self, FlowError> {
        let mut sets = sets.into_iter();
        let mut all = sets.next().unwrap_or_default();
        let mut several = false;
        for set in sets {
            several = several || !set.train.is_empty();
            for (questions, more) in [(&mut all.train, set.train), (&mut all.dev, set.dev), (&mut all.test, set.test)] {
                if questions.is_empty() { *questions = more } else { questions.append(&more)? }
            }
        }
        if several {
            for questions in [&mut all.train, &mut all.dev] {
                let order = questions.order_by(|id| derive_seed(seed, &id.0));
                *questions = questions.choose(order).laid_out()?;
            }
        }
        Ok(all)
    }

    /// Looks for shared or nearly shared questions and does what the recipe says. Returns sentences worth telling.
    ///
    /// # Errors
    /// [`FlowError::Input`] naming the rows, when leaks are refused.
    pub fn check_leaks(&mut self, policy: OnLeak) -> Result<Vec<String>, FlowError> {
        let sets = [("train", &self.train), ("dev", &self.dev), ("test", &self.test)];
        let Found { leaks, leaking } = leak::check(&sets, &leak::Rule::default());
        if leaks.is_empty() {
            return Ok(Vec::new());
        }
        match policy {
            OnLeak::Refuse => Err(FlowError::Input(refusal(&leaks))),
            OnLeak::Warn => Ok(vec![format!("{} rows leak between splits: {}", leaks.len(), listing(&leaks))]),
            OnLeak::Drop => Ok(vec![self.drop_leaks(&leaks, &leaking)]),
        }
    }

    /// Leaves out every training row that leaks into dev or test and every dev row that leaks into test, never a test row. Where
    /// many share one passage, `leaks` names a single one of them.
    fn drop_leaks(&mut self, leaks: &[Leak], leaking: &[Vec<bool>]) -> String {
        let before = self.train.len() + self.dev.len();
        for (questions, leaking) in [&mut self.train, &mut self.dev].into_iter().zip(leaking) {
            if leaking.contains(&true) {
                *questions = questions.choose((0..leaking.len()).filter(|row| !leaking[*row]));
            }
        }
        let left_out = before - self.train.len() - self.dev.len();
        format!(
            "{left_out} rows of train and dev left out because they leak; the worst for each row of dev and test: {}",
            listing(leaks)
        )
    }

    /// Digest of what each split holds, for the plan.
    #[must_use]
    pub fn content(&self) -> Vec<(&'static str, Digest)> {
        [("train", &self.train), ("dev", &self.dev), ("test", &self.test)]
            .map(|(name, questions)| (name, questions.digest("questions/1")))
            .into()
    }
}

fn refusal(leaks: &[Leak]) -> String {
    format!(
        "the splits share {} rows: {}\nhint: remove them, or write leaks = \"drop\" under [data] to leave the training rows out",
        leaks.len(),
        listing(leaks)
    )
}

fn sentence(leak: &Leak) -> String {
    let kind = match leak.kind {
        LeakKind::Exact => "the same question".to_owned(),
        LeakKind::SamePassage => "the same passage".to_owned(),
        LeakKind::NearDuplicate => format!("{:.0} % of the wording shared", 100.0 * leak.overlap),
    };
    format!("{} ({}) and {} ({}): {kind}", leak.left, leak.left_set, leak.right, leak.right_set)
}

fn listing(leaks: &[Leak]) -> String {
    const SHOWN: usize = 10;
    let mut lines: Vec<String> = leaks.iter().take(SHOWN).map(|leak| format!("\n  {}", sentence(leak))).collect();
    if leaks.len() > SHOWN {
        lines.push(format!("\n  … and {} more", leaks.len() - SHOWN));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use divvy_core::synth;

    use super::*;

    #[test]
    fn what_is_carved_is_what_the_seed_sorts_first() {
        let (train, test) = (synth::generate(Split::Train, 60, 7), synth::generate(Split::Test, 9, 7));
        let mut sorted = train.clone();
        sorted.sort_by_cached_key(|question| derive_seed(3, &question.id.0));
        let rest = sorted.split_off(12);
        sorted.iter_mut().for_each(|question| question.split = Split::Dev);
        let splits = Splits::carve(train.into_iter().collect(), test.iter().cloned().collect(), 12, 3).unwrap();
        let lists = [("train", &rest), ("dev", &sorted), ("test", &test)];
        assert_eq!(splits.content(), lists.map(|(name, list)| (name, Digest::of_list("questions/1", list))));
        let asked: Vec<Question> = rest.iter().chain(&sorted).cloned().collect();
        assert!(splits.for_students().zip(&asked).all(|(one, other)| *one == *other));
        assert!(asked.iter().enumerate().all(|(at, question)| {
            splits.position_for_students(&question.id) == Some(at)
                && splits.for_student(&question.id).is_some_and(|found| *found == *question)
                && *splits.at_for_students(at) == *question
        }));
        assert_eq!((splits.for_students().count(), splits.for_student(&test[0].id)), (60, None));
    }

    #[test]
    fn a_leak_costs_the_training_row_and_never_the_test_row() {
        let mut train = synth::generate(Split::Train, 20, 7);
        let test = synth::generate(Split::Test, 5, 7);
        train[4].text.clone_from(&test[2].text);
        train[4].premise.clone_from(&test[2].premise);
        let leaking = train[4].id.clone();
        let mut splits = Splits::carve(train.into_iter().collect(), test.into_iter().collect(), 3, 1).unwrap();
        let notes = splits.check_leaks(OnLeak::Drop).unwrap();
        assert!(notes[0].starts_with("1 rows of train and dev left out") && notes[0].contains(&leaking.0), "{notes:?}");
        assert_eq!((splits.train.len() + splits.dev.len(), splits.test.len()), (19, 5));
        assert_eq!(splits.for_student(&leaking), None);
    }

    fn twin(row: &mut Question, other: &Question) {
        row.text.clone_from(&other.text);
        row.premise.clone_from(&other.premise);
    }

    fn on_its_passage(row: &mut Question, other: &Question) {
        assert!(other.premise.is_some(), "{other:?}");
        row.premise.clone_from(&other.premise);
    }

    fn lists() -> [Vec<Question>; 3] {
        [(Split::Train, 20), (Split::Dev, 4), (Split::Test, 5)].map(|(split, rows)| synth::generate(split, rows, 1))
    }

    fn splits(lists: [Vec<Question>; 3]) -> Splits {
        let [train, dev, test] = lists.map(|list| list.into_iter().collect());
        Splits { train, dev, test }
    }

    /// The second question of each split has a passage.
    #[test]
    fn every_training_row_that_leaks_goes_however_many_leak_into_one() {
        for into in [1, 2] {
            for alike in [twin as fn(&mut Question, &Question), on_its_passage] {
                let mut lists = lists();
                let other = lists[into][1].clone();
                [2, 5, 11, 19].into_iter().for_each(|row| alike(&mut lists[0][row], &other));
                let mut splits = splits(lists);
                let notes = splits.check_leaks(OnLeak::Drop).unwrap();
                let told = notes[0].starts_with("4 rows of train and dev left out") && notes[0].contains(&other.id.0);
                assert!(told, "{notes:?}");
                assert_eq!((splits.train.len(), splits.dev.len(), splits.test.len()), (16, 4, 5));
                assert!(splits.train.iter().all(|question| question.premise != other.premise));
                assert_eq!(splits.check_leaks(OnLeak::Refuse).unwrap(), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn dev_rows_go_that_leak_into_test_and_no_others() {
        let mut lists = lists();
        let (dev, test) = (lists[1][3].clone(), lists[2][1].clone());
        twin(&mut lists[0][7], &dev);
        [0, 2].into_iter().for_each(|row| on_its_passage(&mut lists[1][row], &test));
        let kept = [lists[1][1].id.clone(), dev.id];
        let mut splits = splits(lists);
        let notes = splits.check_leaks(OnLeak::Drop).unwrap();
        assert!(notes[0].starts_with("3 rows of train and dev left out"), "{notes:?}");
        assert_eq!((splits.train.len(), splits.test.len()), (19, 5));
        assert_eq!(splits.dev.iter().map(|question| question.id.clone()).collect::<Vec<_>>(), kept);
    }
}
