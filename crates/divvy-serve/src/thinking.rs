//! Thoughts at the beginning of a reply (`<think>…</think>`, divvy-core's `thoughts`), told apart from it while it is written. Where
//! a chat template writes the beginning itself, nothing tells them until they end: such a reply is judged line by line.

use divvy_core::thoughts::{BEGIN, END};

#[derive(Default)]
pub(crate) struct Thinking {
    place: Place,
    /// What may yet become a mark.
    held: String,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Beginning,
    Inside,
    Over,
}

/// Either may be empty.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Without its marks.
    pub(crate) thoughts: String,
    pub(crate) text: String,
}

impl Thinking {
    pub(crate) fn push(&mut self, piece: &str) -> Told {
        if self.place == Place::Over {
            return Told { text: piece.to_owned(), ..Told::default() };
        }
        self.held.push_str(piece);
        let mut told = Told::default();
        while self.step(&mut told) {}
        told
    }

    /// What was held back at the end of a reply.
    pub(crate) fn finish(&mut self) -> Told {
        let held = std::mem::take(&mut self.held);
        match self.place {
            Place::Inside => Told { thoughts: held, ..Told::default() },
            _ => Told { text: held, ..Told::default() },
        }
    }

    /// Whether there may be more to tell.
    fn step(&mut self, told: &mut Told) -> bool {
        match self.place {
            Place::Beginning => self.begin(),
            Place::Inside => self.think(&mut told.thoughts),
            Place::Over => {
                told.text.push_str(&std::mem::take(&mut self.held));
                false
            }
        }
    }

    fn begin(&mut self) -> bool {
        let bare = self.held.trim_start();
        if let Some(rest) = bare.strip_prefix(BEGIN) {
            (self.place, self.held) = (Place::Inside, rest.to_owned());
            return true;
        }
        if BEGIN.starts_with(bare) {
            return false;
        }
        self.place = Place::Over;
        true
    }

    fn think(&mut self, thoughts: &mut String) -> bool {
        if let Some((before, rest)) = self.held.split_once(END) {
            thoughts.push_str(before);
            // Others may follow.
            (self.place, self.held) = (Place::Beginning, rest.to_owned());
            return true;
        }
        let may_end = (1..END.len()).rev().find(|&len| self.held.ends_with(&END[..len])).unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - may_end);
        thoughts.push_str(&std::mem::replace(&mut self.held, kept));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, size: usize) -> Told {
        let (mut thinking, mut all) = (Thinking::default(), Told::default());
        let characters: Vec<char> = text.chars().collect();
        let mut add = |told: Told| {
            all.thoughts.push_str(&told.thoughts);
            all.text.push_str(&told.text);
        };
        characters.chunks(size).for_each(|piece| add(thinking.push(&piece.iter().collect::<String>())));
        add(thinking.finish());
        all
    }

    #[test]
    fn thoughts_are_told_apart_however_the_text_is_cut() {
        for (text, thoughts, said) in [
            ("<think>5? <no>\n</think>\nThe answer is: 18", "5? <no>\n", "\nThe answer is: 18"),
            ("\n <think>Thérèse</think> <think>b</think>42", "Thérèseb", "42"),
            ("<think>1. Hm.\n2. How", "1. Hm.\n2. How", ""),
            ("<think>a</thin", "a</thin", ""),
            ("<thin> air", "", "<thin> air"),
            ("It is <think>18</think>", "", "It is <think>18</think>"),
            ("  18", "", "  18"),
            ("", "", ""),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                let told = told(text, size);
                assert_eq!((&*told.thoughts, &*told.text), (thoughts, said), "{text} by {size}");
            }
        }
    }
}
