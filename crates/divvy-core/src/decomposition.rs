//! A decomposition: the ordered subquestions of a question, or the explicit statement that it needs none.

use serde::{Deserialize, Serialize};

/// One subquestion. Its text may refer to earlier answers as `#1`, `#2`, …; `refs` lists those indices (1-based).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subquestion {
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<usize>,
}

/// What a decomposer answers. "No decomposition" is a value of its own, never an empty list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decomposition {
    None,
    Steps(Vec<Subquestion>),
}

impl Decomposition {
    /// Builds steps from plain texts and finds their `#k` references to *earlier* subquestions.
    #[must_use]
    pub fn from_texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Self {
        let steps: Vec<Subquestion> = texts
            .into_iter()
            .enumerate()
            .map(|(index, text)| {
                let text = text.into();
                let refs = references(&text, index);
                Subquestion { text, refs }
            })
            .collect();
        if steps.is_empty() { Self::None } else { Self::Steps(steps) }
    }

    /// The first so many steps.
    #[must_use]
    pub fn capped(self, most: usize) -> Self {
        match self {
            Self::Steps(mut steps) => {
                steps.truncate(most);
                Self::Steps(steps)
            }
            Self::None => Self::None,
        }
    }

    #[must_use]
    pub fn steps(&self) -> &[Subquestion] {
        match self {
            Self::None => &[],
            Self::Steps(steps) => steps,
        }
    }
}

/// The k of every `#k` in `text`, whether there is such a subquestion or not.
pub(crate) fn mentions(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.split('#').skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
}

/// The `#k` references in `text` with 1 ≤ k ≤ `earlier`, ascending and without repeats.
fn references(text: &str, earlier: usize) -> Vec<usize> {
    let mut refs: Vec<usize> = mentions(text).filter(|&k| 1 <= k && k <= earlier).collect();
    refs.sort_unstable();
    refs.dedup();
    refs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_point_backwards_only() {
        let d = Decomposition::from_texts(["How many?", "What is #1 plus #3?", "Is #2 more than #1, #1 or #0?"]);
        let refs: Vec<_> = d.steps().iter().map(|s| s.refs.clone()).collect();
        assert_eq!(refs, [vec![], vec![1], vec![1, 2]]);
    }

    #[test]
    fn no_texts_is_no_decomposition() {
        assert_eq!(Decomposition::from_texts(Vec::<String>::new()), Decomposition::None);
    }
}
