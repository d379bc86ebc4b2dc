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

/// Identity of what a question says: normalised premise and question text. Case, spacing, quotation marks and commas
/// do not matter; digits and the signs of arithmetic do.
#[must_use]
pub fn content_digest(question: &Question) -> Digest {
    let premise = question.premise.as_deref().map(|premise| tokens(premise).join(" "));
    Digest::of("content/1", &(premise, tokens(&question.text).join(" ")))
}

/// Compares every set with every later one. For each question of the later set the worst match in the earlier set is
/// reported: exact before passage before near, then the larger overlap, then the earlier row.
#[must_use]
pub fn check(sets: &[(&str, &[Question])], rule: &Rule) -> Vec<Leak> {
    let sets: Vec<(&str, &[Question])> = sets.iter().filter(|(_, questions)| !questions.is_empty()).copied().collect();
    if sets.len() < 2 {
        return Vec::new();
    }
    let prints: Vec<Vec<Print>> =
        sets.iter().map(|(_, questions)| questions.iter().map(|q| Print::of(q, rule)).collect()).collect();
    let mut leaks = Vec::new();
    for (left, left_prints) in prints.iter().enumerate() {
        let index = Index::of(left_prints);
        for right in left + 1..sets.len() {
            let found = prints[right].iter().zip(sets[right].1).filter_map(|(print, question)| {
                let (row, kind, overlap) = index.worst(print, left_prints, rule)?;
                Some(Leak {
                    left_set: sets[left].0.to_owned(),
                    left: sets[left].1[row].id.clone(),
                    right_set: sets[right].0.to_owned(),
                    right: question.id.clone(),
                    kind,
                    overlap,
                })
            });
            leaks.extend(found);
        }
    }
    leaks
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
        let premise = question.premise.as_deref().map(tokens);
        let mut words = premise.clone().unwrap_or_default();
        words.extend(tokens(&question.text));
        let is_short = words.len() < rule.short.max(rule.words);
        let mut grams: Vec<u64> = match is_short {
            true => Vec::new(),
            false => words.windows(rule.words).map(|gram| hash(&gram)).collect(),
        };
        grams.sort_unstable();
        grams.dedup();
        Self {
            content: content_digest(question),
            passage: premise.map(|words| hash(&words)),
            content_words: is_short.then(|| content_words(&words)),
            grams,
        }
    }
}

/// From each print of a set to the rows that have it.
struct Index<'a> {
    exact: HashMap<&'a Digest, usize>,
    passages: HashMap<u64, usize>,
    content_words: HashMap<u64, usize>,
    grams: HashMap<u64, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn of(prints: &'a [Print]) -> Self {
        let mut index = Self {
            exact: HashMap::new(),
            passages: HashMap::new(),
            content_words: HashMap::new(),
            grams: HashMap::new(),
        };
        for (row, print) in prints.iter().enumerate() {
            index.exact.entry(&print.content).or_insert(row);
            print.passage.map(|key| *index.passages.entry(key).or_insert(row));
            print.content_words.map(|key| *index.content_words.entry(key).or_insert(row));
            for gram in &print.grams {
                index.grams.entry(*gram).or_default().push(row);
            }
        }
        index
    }

    fn worst(&self, print: &Print, rows: &[Print], rule: &Rule) -> Option<(usize, LeakKind, f64)> {
        if let Some(row) = self.exact.get(&print.content) {
            return Some((*row, LeakKind::Exact, 1.0));
        }
        if let Some(row) = print.passage.and_then(|key| self.passages.get(&key)) {
            return Some((*row, LeakKind::SamePassage, 1.0));
        }
        if let Some(key) = print.content_words {
            return self.content_words.get(&key).map(|row| (*row, LeakKind::NearDuplicate, 1.0));
        }
        let (row, overlap) = self.nearest(print, rows)?;
        (overlap >= rule.overlap).then_some((row, LeakKind::NearDuplicate, overlap))
    }

    /// The row with the largest share of common n-grams, the first of several.
    fn nearest(&self, print: &Print, rows: &[Print]) -> Option<(usize, f64)> {
        let mut common: HashMap<usize, usize> = HashMap::new();
        for row in print.grams.iter().filter_map(|gram| self.grams.get(gram)).flatten() {
            *common.entry(*row).or_default() += 1;
        }
        let share = |(row, count): (usize, usize)| {
            let smaller = rows[row].grams.len().min(print.grams.len());
            (row, count as f64 / smaller as f64)
        };
        common.into_iter().map(share).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
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
