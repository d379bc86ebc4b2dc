//! Train, dev and test: dev is carved from train by the seed, and nothing is shared between the three.

use divvy_core::{
    digest::{Digest, derive_seed},
    leak::{self, Leak, LeakKind},
    question::{Question, Split},
    recipe::OnLeak,
};

use crate::error::FlowError;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Splits {
    pub train: Vec<Question>,
    pub dev: Vec<Question>,
    pub test: Vec<Question>,
}

impl Splits {
    /// The questions of every split.
    pub fn all(&self) -> impl Iterator<Item = &Question> {
        self.train.iter().chain(&self.dev).chain(&self.test)
    }

    /// Carves `dev_rows` questions from `train`, chosen by the seed whatever their order.
    ///
    /// # Errors
    /// [`FlowError::Input`] when train is not larger than `dev_rows`.
    pub fn carve(mut train: Vec<Question>, test: Vec<Question>, dev_rows: usize, seed: u64) -> Result<Self, FlowError> {
        if dev_rows >= train.len() {
            let rows = train.len();
            return Err(FlowError::Input(format!(
                "data.dev_rows is {dev_rows}, but train has only {rows} rows to carve from"
            )));
        }
        train.sort_by_cached_key(|question| derive_seed(seed, &question.id.0));
        let mut dev: Vec<Question> = train.drain(..dev_rows).collect();
        for question in &mut dev {
            question.split = Split::Dev;
        }
        Ok(Self { train, dev, test })
    }

    /// Several data sets as one, each carved by itself. Training and dev rows of all sets are in one order, the seed's.
    #[must_use]
    pub fn joined(sets: Vec<Self>, seed: u64) -> Self {
        let mut all = Self::default();
        for set in sets {
            all.train.extend(set.train);
            all.dev.extend(set.dev);
            all.test.extend(set.test);
        }
        for questions in [&mut all.train, &mut all.dev] {
            questions.sort_by_cached_key(|question| derive_seed(seed, &question.id.0));
        }
        all
    }

    /// Looks for shared or nearly shared questions and does what the recipe says. Returns sentences worth telling.
    ///
    /// # Errors
    /// [`FlowError::Input`] naming the rows, when leaks are refused.
    pub fn check_leaks(&mut self, policy: OnLeak) -> Result<Vec<String>, FlowError> {
        let leaks =
            leak::check(&[("train", &self.train), ("dev", &self.dev), ("test", &self.test)], &leak::Rule::default());
        if leaks.is_empty() {
            return Ok(Vec::new());
        }
        match policy {
            OnLeak::Refuse => Err(FlowError::Input(refusal(&leaks))),
            OnLeak::Warn => Ok(vec![format!("{} rows leak between splits: {}", leaks.len(), listing(&leaks))]),
            OnLeak::Drop => Ok(vec![self.drop_leaks(&leaks)]),
        }
    }

    /// Leaves out the training and dev rows that leak, never a test row.
    fn drop_leaks(&mut self, leaks: &[Leak]) -> String {
        let leaking =
            |question: &Question| leaks.iter().any(|leak| leak.left == question.id || leak.right == question.id);
        let before = self.train.len() + self.dev.len();
        self.train.retain(|question| !leaking(question));
        if leaks.iter().any(|leak| self.test.iter().any(|test| test.id == leak.left || test.id == leak.right)) {
            self.dev.retain(|question| !leaking(question));
        }
        let left_out = before - self.train.len() - self.dev.len();
        format!("{left_out} training rows left out because they leak: {}", listing(leaks))
    }

    /// Digest of what each split holds, for the plan.
    #[must_use]
    pub fn content(&self) -> Vec<(&'static str, Digest)> {
        [("train", &self.train), ("dev", &self.dev), ("test", &self.test)]
            .map(|(name, questions)| (name, Digest::of_list("questions/1", questions)))
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
