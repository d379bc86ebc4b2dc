//! The leak check: does a test question stand among the training questions, word for word or nearly so? A recipe whose
//! splits overlap is refused with the rows that do.
//!
//! The rule for near duplicates follows PaLM (Chowdhery et al. 2022, section 8): an example is contaminated when at
//! least 70 % of its 8-grams of words were seen in training. We ask it of *pairs*, so that both rows can be named, and
//! of the smaller of the two sets of 8-grams. Numbers are words like any other: a template filled with other numbers
//! loses the eight 8-grams around each of them, so the same story with one number changed is usually reported and a
//! story of the same kind is not. Below 34 words a single changed word can cost more than 30 % of the 8-grams, and the
//! share depends on where it stands; such short texts are compared by their content words in order instead, so that
//! "capital of France" is not "capital of Spain" wherever the name is.
//!
//! Languages written without spaces are compared whole only.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    question::{Question, QuestionId},
    questions::Questions,
};

/// When two questions count as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Words in an n-gram.
    pub words: usize,
    /// Least share of the smaller set of n-grams that is common, 0 to 1.
    pub overlap: f64,
    /// Texts with fewer words than this are compared by their content words.
    pub short: usize,
}

impl Default for Rule {
    fn default() -> Self {
        Self { words: 8, overlap: 0.7, short: 34 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeakKind {
    /// Equal content digests.
    Exact,
    /// The same passage, another question.
    SamePassage,
    NearDuplicate,
}

/// Two rows of different sets that should not both be there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leak {
    pub left_set: String,
    pub left: QuestionId,
    pub right_set: String,
    pub right: QuestionId,
    pub kind: LeakKind,
    /// Share of common n-grams, 1 for equal texts, passages or content words.
    pub overlap: f64,
}

/// What [`check`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The worst match of each row of a later set, in each earlier one.
    pub leaks: Vec<Leak>,
    /// Of each set, row by row, whether it matches anything in a later one. Many rows may match the one that they share a passage
    /// with, and a single one of them is in `leaks`.
    pub leaking: Vec<Vec<bool>>,
}

/// Identity of what a question says: normalised premise and question text. Case, spacing, quotation marks and commas
/// do not matter; digits and the signs of arithmetic do.
#[must_use]
pub fn content_digest(question: &Question) -> Digest {
    text_digest(question.premise.as_deref(), &question.text)
}

/// [`content_digest`] of what is no question of a data set.
#[must_use]
pub fn text_digest(premise: Option<&str>, text: &str) -> Digest {
    content(premise.map(tokens).as_deref(), &tokens(text))
}

fn content(premise: Option<&[String]>, text: &[String]) -> Digest {
    Digest::of("content/1", &(premise.map(|words| words.join(" ")), text.join(" ")))
}

/// Compares every set with every later one. For each question of the later set the worst match in the earlier set is
/// reported: exact before passage before near, then the larger overlap, then the earlier row. The first set is walked through
/// once and never held, so that it may be of any size.
#[must_use]
pub fn check(sets: &[(&str, &Questions)], rule: &Rule) -> Found {
    let mut leaking: Vec<Vec<bool>> = sets.iter().map(|(_, questions)| vec![false; questions.len()]).collect();
    let filled: Vec<usize> = (0..sets.len()).filter(|set| !sets[*set].1.is_empty()).collect();
    let later: Vec<Index> = filled.iter().skip(1).map(|set| Index::of(sets[*set].1, rule)).collect();
    let mut leaks = Vec::new();
    for (at, &set) in filled.iter().enumerate().take(later.len()) {
        let mut meetings: Vec<Meeting<'_>> = later[at..].iter().map(Meeting::new).collect();
        for (row, question) in sets[set].1.iter().enumerate() {
            let print = Print::of(&question, rule);
            for meeting in &mut meetings {
                leaking[set][row] |= meeting.meet(row, &print, rule);
            }
        }
        let met = meetings.into_iter().zip(&filled[at + 1..]);
        leaks.extend(met.flat_map(|(meeting, right)| meeting.leaks(sets[set], sets[*right])));
    }
    Found { leaks, leaking }
}

/// What the comparison needs of one question.
struct Print {
    content: Digest,
    passage: Option<u64>,
    /// Of a short text: its content words. Such a text has no n-grams.
    content_words: Option<u64>,
    grams: Vec<u64>,
}

impl Print {
    fn of(question: &Question, rule: &Rule) -> Self {
        let (premise, text) = (question.premise.as_deref().map(tokens), tokens(&question.text));
        let (content, passage) = (content(premise.as_deref(), &text), premise.as_ref().map(hash));
        let mut words = premise.unwrap_or_default();
        words.extend(text);
        let is_short = words.len() < rule.short.max(rule.words);
        let mut grams: Vec<u64> = match is_short {
            true => Vec::new(),
            // Each word is hashed once, not with each n-gram that it is in.
            false => words.iter().map(hash).collect::<Vec<u64>>().windows(rule.words).map(hash).collect(),
        };
        grams.sort_unstable();
        grams.dedup();
        Self { content, passage, content_words: is_short.then(|| content_words(&words)), grams }
    }
}

/// From each print of a set to the rows that have it.
#[derive(Default)]
struct Index {
    exact: HashMap<Digest, Vec<usize>>,
    passages: HashMap<u64, Vec<usize>>,
    content_words: HashMap<u64, Vec<usize>>,
    /// Each with a row that has it, in order: one list takes less than a table of many short ones.
    grams: Vec<(u64, u32)>,
    /// How many n-grams each row has.
    sizes: Vec<usize>,
}

impl Index {
    fn of(questions: &Questions, rule: &Rule) -> Self {
        let mut index = Self::default();
        for (row, question) in questions.iter().enumerate() {
            let print = Print::of(&question, rule);
            index.exact.entry(print.content).or_default().push(row);
            print.passage.into_iter().for_each(|key| index.passages.entry(key).or_default().push(row));
            print.content_words.into_iter().for_each(|key| index.content_words.entry(key).or_default().push(row));
            index.sizes.push(print.grams.len());
            index.grams.extend(print.grams.into_iter().map(|gram| (gram, row as u32)));
        }
        index.grams.sort_unstable();
        index
    }

    fn with(&self, gram: u64) -> impl Iterator<Item = usize> {
        let from = self.grams.partition_point(|(known, _)| *known < gram);
        self.grams[from..].iter().take_while(move |(known, _)| *known == gram).map(|(_, row)| *row as usize)
    }

    /// Rows that share n-grams with a print, and the share of the smaller set that is common.
    fn near(&self, print: &Print) -> impl Iterator<Item = (usize, f64)> {
        let mut common: HashMap<usize, usize> = HashMap::new();
        for row in print.grams.iter().flat_map(|gram| self.with(*gram)) {
            *common.entry(row).or_default() += 1;
        }
        common.into_iter().map(|(row, count)| (row, count as f64 / self.sizes[row].min(print.grams.len()) as f64))
    }
}

/// The worst match of a row so far.
#[derive(Clone, Copy)]
struct Worst {
    /// The row of the earlier set.
    left: usize,
    kind: LeakKind,
    overlap: f64,
}

/// A later set, being compared with the rows of an earlier one.
struct Meeting<'a> {
    index: &'a Index,
    worst: Vec<Option<Worst>>,
}

impl<'a> Meeting<'a> {
    fn new(index: &'a Index) -> Self {
        Self { index, worst: vec![None; index.sizes.len()] }
    }

    /// Whether it matches any row at all.
    fn meet(&mut self, left: usize, print: &Print, rule: &Rule) -> bool {
        let Self { index, worst } = self;
        let whole = [
            (LeakKind::Exact, index.exact.get(&print.content)),
            (LeakKind::SamePassage, print.passage.and_then(|key| index.passages.get(&key))),
            (LeakKind::NearDuplicate, print.content_words.and_then(|key| index.content_words.get(&key))),
        ];
        let whole =
            whole.into_iter().flat_map(|(kind, rows)| rows.into_iter().flatten().map(move |row| (*row, kind, 1.0)));
        let near = index.near(print).filter(|(_, overlap)| *overlap >= rule.overlap);
        let mut matches = false;
        for (row, kind, overlap) in whole.chain(near.map(|(row, overlap)| (row, LeakKind::NearDuplicate, overlap))) {
            matches = true;
            // Rows come in their order: of equals the first one stays.
            let worse =
                worst[row].is_none_or(|known| kind < known.kind || (kind == known.kind && overlap > known.overlap));
            if worse {
                worst[row] = Some(Worst { left, kind, overlap });
            }
        }
        matches
    }

    fn leaks(self, (left_set, left): (&str, &Questions), (right_set, right): (&str, &Questions)) -> Vec<Leak> {
        let worst = self.worst.into_iter().enumerate();
        let leaks = worst.filter_map(|(row, worst)| {
            let Worst { left: earlier, kind, overlap } = worst?;
            Some(Leak {
                left_set: left_set.to_owned(),
                left: left.at(earlier).id.clone(),
                right_set: right_set.to_owned(),
                right: right.at(row).id.clone(),
                kind,
                overlap,
            })
        });
        leaks.collect()
    }
}

/// Lower-case words and numbers, and the signs of arithmetic as words of their own. `1,200` is `1200`.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.to_lowercase().chars().collect();
    let at = |index: Option<usize>, test: fn(char) -> bool| index.and_then(|i| chars.get(i)).is_some_and(|c| test(*c));
    let is_digit: fn(char) -> bool = |c| c.is_ascii_digit();
    let mut found: Vec<String> = Vec::new();
    let mut word = String::new();
    for (index, c) in chars.iter().enumerate() {
        let (before, after) = (index.checked_sub(1), Some(index + 1));
        let between = |test| at(before, test) && at(after, test);
        let inside =
            (matches!(c, '.' | ',') && between(is_digit)) || (matches!(c, '\'' | '’') && between(char::is_alphabetic));
        match c {
            c if c.is_alphanumeric() => word.push(*c),
            '.' if inside => word.push('.'),
            _ if inside => {}
            _ => {
                found.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                let hyphen = matches!(c, '-' | '−') && between(char::is_alphabetic);
                let sign = matches!(c, '+' | '-' | '−' | '*' | '×' | '/' | '÷' | '=' | '<' | '>' | '^' | '%' | '$');
                found.extend((sign && !hyphen).then(|| c.to_string()));
            }
        }
    }
    found.extend((!word.is_empty()).then_some(word));
    found
}

/// Words that carry no content of a question on their own. Symbols of elements (`at`, `as`, `be`, `in`) are not here.
const FUNCTION_WORDS: [&str; 33] = [
    "a", "an", "the", "of", "on", "to", "for", "by", "with", "from", "and", "is", "are", "was", "were", "did", "do",
    "does", "has", "have", "had", "what", "which", "who", "whose", "where", "when", "how", "that", "this", "its",
    "there", "please",
];

/// The content words in their order.
fn content_words(words: &[String]) -> u64 {
    let carries = |word: &&String| !FUNCTION_WORDS.contains(&word.as_str());
    let kept: Vec<&String> = words.iter().filter(carries).collect();
    if kept.is_empty() { hash(words) } else { hash(&kept) }
}

/// 64 bits of SipHash with fixed keys: among a million n-grams a chance meeting has odds of one in ten million.
fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
