//! Answers that stand in subquestions. A decomposition is written before anything is answered: the bridge of a two-hop
//! question ("Who rules Samplia?") or an intermediate result ("What is 3 plus 6?") cannot be in it, only a reference.

use std::collections::HashSet;

use crate::{decomposition::Subquestion, question::Question, synth::SMALL_NUMBERS};

/// The answers that no decomposition of a question may have in it: a gold one or one of the recorded steps, which stands neither
/// in the question nor in its premise. The same for all its decompositions.
#[derive(Clone, Debug)]
pub struct Secrets(Vec<Vec<String>>);

impl Secrets {
    #[must_use]
    pub fn of(question: &Question) -> Self {
        let stated = Stated::of(question);
        Self(answers(question).map(words).filter(|answer| stated.hides(answer)).collect())
    }

    /// Whether a subquestion names one that is not among the answers `heard` before that subquestion was asked. Names count as
    /// whole words whatever their case, numbers by their value. `None` where no answer is known that could be given away, or
    /// there is no subquestion.
    ///
    /// It is a rule and no proof: a decomposer may know from the question what a number comes to that it does not state.
    #[must_use]
    pub fn leak(&self, steps: &[Subquestion], heard: &[Option<String>]) -> Option<bool> {
        if self.0.is_empty() || steps.is_empty() {
            return None;
        }
        Some(steps.iter().enumerate().any(|(at, step)| {
            let asked = words(&step.text);
            let known = heard.iter().take(at).flatten().map(|answer| words(answer)).collect::<Vec<_>>();
            let new = |answer: &&Vec<String>| !known.iter().any(|known| contains(known, answer));
            self.0.iter().filter(new).any(|answer| contains(&asked, answer))
        }))
    }
}

/// [`Secrets::leak`] of one decomposition.
#[must_use]
pub fn leaks(question: &Question, steps: &[Subquestion], heard: &[Option<String>]) -> Option<bool> {
    Secrets::of(question).leak(steps, heard)
}

fn answers(question: &Question) -> impl Iterator<Item = &str> {
    let golds = question.golds.iter().flat_map(|gold| gold.0.iter().map(String::as_str));
    golds.chain(question.worked.iter().filter_map(|step| step.answer.as_deref()))
}

/// What a question says itself.
struct Stated {
    words: Vec<String>,
    implied: HashSet<&'static str>,
}

impl Stated {
    fn of(question: &Question) -> Self {
        let mut words = words(question.premise.as_deref().unwrap_or_default());
        // No phrase reaches from the premise into the question.
        words.push(String::new());
        words.extend(self::words(&question.text));
        let implied = IMPLIED.iter().filter(|(word, _)| words.iter().any(|said| is_form_of(said, word)));
        let implied = implied.flat_map(|(_, numbers)| numbers.iter().copied()).collect();
        Self { words, implied }
    }

    /// An answer that would be news in a subquestion. Yes and no are none, nor are the number 1 and the letter of an option.
    fn hides(&self, answer: &[String]) -> bool {
        let says_little = match answer {
            [] => true,
            [word] if word.len() == 1 && word.starts_with(char::is_alphabetic) => true,
            [word] => {
                matches!(word.as_str(), "yes" | "no" | "true" | "false" | "0" | "1")
                    || self.implied.contains(word.as_str())
            }
            _ => false,
        };
        !says_little && !contains(&self.words, answer)
    }
}

/// The word itself or its plural.
fn is_form_of(said: &str, word: &str) -> bool {
    said.strip_prefix(word).is_some_and(|rest| matches!(rest, "" | "s"))
}

/// Numbers that these words bring into a question which does not state them.
const IMPLIED: [(&str, &[&str]); 24] = [
    ("twice", &["2"]),
    ("double", &["2"]),
    ("doubled", &["2"]),
    ("half", &["2", "0.5", "50"]),
    ("pair", &["2"]),
    ("couple", &["2"]),
    ("both", &["2"]),
    ("each", &["2"]),
    ("other", &["2"]),
    ("third", &["3"]),
    ("thrice", &["3"]),
    ("triple", &["3"]),
    ("quarter", &["4", "25"]),
    ("dozen", &["12"]),
    ("foot", &["12"]),
    ("feet", &["12"]),
    ("week", &["7"]),
    ("day", &["24", "7"]),
    ("hour", &["60", "24"]),
    ("minute", &["60"]),
    ("month", &["12", "30"]),
    ("year", &["12", "365", "52"]),
    ("cent", &["100"]),
    ("percent", &["100"]),
];

/// Lower-case words and numbers; a number by its value, also where it is a word. References are no numbers.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for token in text.split_whitespace().flat_map(|token| token.split(['-', '–', '/', '(', ')', '=', '+', '*', '×']))
    {
        if token.starts_with('#') {
            words.push("#".to_owned());
        } else if let Some(number) = number(token) {
            words.push(number);
            words.extend(token.ends_with('%').then(|| "percent".to_owned()));
        } else {
            let parts = token.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
            words.extend(parts.map(|part| spelt(part.to_lowercase())));
        }
    }
    words
}

/// `$1,200.50` is 1200.5.
fn number(token: &str) -> Option<String> {
    if !token.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let inner = token.trim_matches(|c: char| !c.is_ascii_digit());
    // What stands around it is no part of a word, as in `B2`.
    let around = || token.chars().filter(|c| c.is_alphabetic());
    if around().next().is_some() {
        return None;
    }
    let value: f64 = inner.replace(',', "").parse().ok()?;
    Some(value.to_string())
}

/// A small number by its value; "one" is mostly no number.
fn spelt(word: String) -> String {
    let number = SMALL_NUMBERS.iter().position(|number| *number == word).filter(|number| *number > 1);
    number.map_or(word, |number| number.to_string())
}

fn contains(words: &[String], phrase: &[String]) -> bool {
    !phrase.is_empty() && words.windows(phrase.len()).any(|window| window == phrase)
}
