//! A static share of the questions: `2/5` is the second of five. Which share a question is in depends on its id alone, so
//! that every machine agrees, whatever its recipe's seed or rows.

use std::{fmt, str::FromStr};

use divvy_core::{digest::Digest, question::QuestionId};

/// From `1/1` to `1000/1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    number: u64,
    of: u64,
}

const MOST: u64 = 1000;

impl Shard {
    #[must_use]
    pub fn holds(self, question: &QuestionId) -> bool {
        Digest::of("shard/1", question).seed() % self.of == self.number - 1
    }

    /// Its part of so many rows; the parts of all shards make up the whole.
    #[must_use]
    pub fn part(self, rows: usize) -> usize {
        let (of, number) = (self.of as usize, self.number as usize);
        rows / of + usize::from(number <= rows % of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("it is written NUMBER/OF, as 2/5 for the second of five shards; OF is at most {MOST}");
        let (number, of) = text.split_once('/').ok_or_else(wrong)?;
        let shard = Self { number: number.parse().map_err(|_| wrong())?, of: of.parse().map_err(|_| wrong())? };
        if shard.number == 0 || shard.number > shard.of || shard.of > MOST {
            return Err(wrong());
        }
        Ok(shard)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_in_one_shard_and_shards_are_of_a_size() {
        let questions: Vec<QuestionId> = (0..3000).map(|row| QuestionId(format!("rows/train/{row}"))).collect();
        let shards: Vec<Shard> = (1..=3).map(|number| format!("{number}/3").parse().unwrap()).collect();
        for question in &questions {
            assert_eq!(shards.iter().filter(|shard| shard.holds(question)).count(), 1);
        }
        for shard in shards {
            let held = questions.iter().filter(|question| shard.holds(question)).count();
            assert!((900..1100).contains(&held), "{shard}: {held}");
        }
    }

    #[test]
    fn parts_make_up_the_whole() {
        let parts = |rows| [1, 2, 3].map(|number| Shard { number, of: 3 }.part(rows));
        assert_eq!((parts(11), parts(2), parts(9)), ([4, 4, 3], [1, 1, 0], [3, 3, 3]));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "1", "0/3", "4/3", "1/0", "a/b", "-1/3", "1/3/5", "1/1001", "1.5/2"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert_eq!("3/3".parse::<Shard>().unwrap().to_string(), "3/3");
    }
}
