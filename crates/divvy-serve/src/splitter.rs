//! A solver's reply to subquestions and question, told apart while it is written: the lines that lead to the answer, and
//! the answer. The line that begins with an answer's cue, and what follows it, is the answer. "Answer:" and "The answer is"
//! also stand before sub-answers, so that they count only when all subquestions have had their lines. What a model thinks before it
//! replies is no answer, whatever it says.

use divvy_core::{extract, thoughts::without_thoughts};

use crate::{
    answering::Said,
    thinking::{Thinking, Told},
};

/// Beginnings of an answer's line, in lower case, without markup.
const WEAK: [&str; 2] = ["the answer is", "answer:"];
const STRONG: [&str; 10] = [
    "the final answer",
    "final answer",
    "the correct answer",
    "so the answer",
    "so, the answer",
    "therefore, the answer",
    "therefore, the final answer",
    "thus, the answer",
    "hence, the answer",
    "\\boxed",
];
const MARKUP: [char; 9] = ['*', '_', '$', '>', '(', '[', ' ', '\t', '`'];
/// GSM8K's mark.
const HASHES: &str = "####";

#[derive(Default)]
pub(crate) struct Splitter {
    thinking: Thinking,
    /// The beginning of a line that may still become the answer's.
    held: String,
    place: Place,
    /// Subquestions that were put.
    expected: usize,
    /// The highest number at the start of a line, and all lines that are not blank.
    highest: usize,
    lines: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    LineStart,
    /// In a line that is not the answer's.
    Leading,
    Answer,
}

enum Verdict {
    Answer,
    Leading,
    Open,
}

impl Splitter {
    /// There are so many subquestions.
    pub(crate) fn expect(&mut self, steps: usize) {
        self.expected = steps;
    }

    pub(crate) fn push(&mut self, piece: &str) -> Vec<Said> {
        let told = self.thinking.push(piece);
        self.told(told)
    }

    fn told(&mut self, Told { thoughts, text }: Told) -> Vec<Said> {
        let mut said = if thoughts.is_empty() { Vec::new() } else { vec![Said::Reasoning(thoughts)] };
        said.extend(self.lines(&text));
        said
    }

    fn lines(&mut self, piece: &str) -> Vec<Said> {
        let mut said = Vec::new();
        for part in piece.split_inclusive('\n') {
            match self.place {
                Place::Answer => said.push(Said::Content(part.to_owned())),
                Place::Leading => said.push(Said::Reasoning(part.to_owned())),
                Place::LineStart => {
                    self.held.push_str(part);
                    said.extend(self.release(part.ends_with('\n')));
                }
            }
            if part.ends_with('\n') && self.place == Place::Leading {
                self.place = Place::LineStart;
            }
        }
        said
    }

    fn release(&mut self, whole_line: bool) -> Option<Said> {
        let due = self.highest >= self.expected || (self.highest == 0 && self.lines >= self.expected);
        let (place, wrap): (_, fn(String) -> Said) = match judge(&self.held, due) {
            Verdict::Answer => (Place::Answer, Said::Content),
            Verdict::Open if !whole_line => return None,
            Verdict::Leading | Verdict::Open => (Place::Leading, Said::Reasoning),
        };
        self.place = place;
        self.lines += usize::from(!self.held.trim().is_empty());
        self.highest = self.highest.max(number(&self.held).unwrap_or(0));
        Some(wrap(std::mem::take(&mut self.held)))
    }

    /// The end of a reply whose whole text is `text`. One without an answer's line is answered by what can be read as such.
    pub(crate) fn finish(&mut self, text: &str) -> Vec<Said> {
        let held = self.thinking.finish();
        let mut said = self.told(held);
        said.extend(if self.held.is_empty() { None } else { self.release(true) });
        if self.place != Place::Answer {
            said.push(Said::Content(unmarked(text)));
        }
        said
    }
}

/// What a reply answers that has no line for it: what it marks inside a line, else its last line.
fn unmarked(text: &str) -> String {
    let marked = extract::final_answer(text).filter(|answer| answer.cue.is_explicit());
    let last = || without_thoughts(text).lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    marked.map_or_else(|| last().to_owned(), |answer| answer.text)
}

/// "1", of which it is not known yet whether it becomes "1." or a word.
fn open_number(bare: &str) -> bool {
    bare.len() < 4 && bare.chars().all(|c| c.is_ascii_digit())
}

/// The number that a line begins with.
fn number(line: &str) -> Option<usize> {
    let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
    let end = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(line.len());
    if line[end..].starts_with(['.', ')', ':', '*']) { line[..end].parse().ok() } else { None }
}

fn judge(line: &str, due: bool) -> Verdict {
    let trimmed = line.trim_start();
    if trimmed.starts_with(HASHES) {
        return Verdict::Answer;
    }
    let bare = trimmed.trim_start_matches('#').trim_start_matches(MARKUP).to_lowercase();
    let cues = || STRONG.iter().chain(WEAK.iter().filter(|_| due));
    if cues().any(|cue| bare.starts_with(cue)) {
        Verdict::Answer
    } else if HASHES.starts_with(trimmed) || cues().any(|cue| cue.starts_with(&*bare)) || open_number(&bare) {
        Verdict::Open
    } else {
        Verdict::Leading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reasoning and content of a reply that comes in pieces of `size` characters.
    fn split(text: &str, size: usize) -> (String, String) {
        let (mut splitter, mut reasoning, mut content) = (Splitter::default(), String::new(), String::new());
        splitter.expect(2);
        let characters: Vec<char> = text.chars().collect();
        let mut said: Vec<Said> =
            characters.chunks(size).flat_map(|piece| splitter.push(&piece.iter().collect::<String>())).collect();
        said.extend(splitter.finish(text));
        for said in said {
            match said {
                Said::Reasoning(text) => reasoning.push_str(&text),
                Said::Content(text) => content.push_str(&text),
                _ => unreachable!("a splitter says nothing else"),
            }
        }
        (reasoning, content)
    }

    #[test]
    fn the_answer_begins_at_its_line_however_the_text_is_cut() {
        let cases = [
            ("1. 3 * 2 = 6\n2. 3 + 6 = 9\nThe answer is: 9", "1. 3 * 2 = 6\n2. 3 + 6 = 9\n", "The answer is: 9"),
            ("1. Thérèse\n2) x\n\n**The answer is: 9**\n", "1. Thérèse\n2) x\n\n", "**The answer is: 9**\n"),
            ("1. 6\n#### 9", "1. 6\n", "#### 9"),
            (
                "1. How many?\nAnswer: 6\n2. And then?\nThe answer is: 9",
                "1. How many?\nAnswer: 6\n2. And then?\n",
                "The answer is: 9",
            ),
            ("6\n9\nThe answer is: 9", "6\n9\n", "The answer is: 9"),
            (
                "1. The answer is 6.\nTherefore, the final answer is $9$.",
                "1. The answer is 6.\n",
                "Therefore, the final answer is $9$.",
            ),
            ("### Final answer\n9", "", "### Final answer\n9"),
            (
                "<think>1\n2\nThe answer is: 5\n</think>1. 6\n2. 9\nThe answer is: 9",
                "1\n2\nThe answer is: 5\n1. 6\n2. 9\n",
                "The answer is: 9",
            ),
        ];
        for (text, reasoning, content) in cases {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(split(text, size), (reasoning.to_owned(), content.to_owned()), "{text} by {size}");
            }
        }
    }

    #[test]
    fn a_reply_without_an_answers_line_still_has_content() {
        assert_eq!(
            split("1. 6\n2. So Ann has 9", 4),
            ("1. 6\n2. So Ann has 9".to_owned(), "2. So Ann has 9".to_owned())
        );
        assert_eq!(split("1. 6\n2. 9, so the answer is 9.", 4).1, "9");
        assert_eq!(split("The answer is: 9", 3), ("The answer is: 9".to_owned(), "9".to_owned()));
        assert_eq!(split("The", 1), ("The".to_owned(), "The".to_owned()));
        assert_eq!(split("", 1), (String::new(), String::new()), "nothing was said");
        assert_eq!(split("<think>6\n9", 2), ("6\n9".to_owned(), String::new()), "it came to no reply");
    }
}
