//! Tokens that BPE never produces, found in a text by their spelling; where several fit, the longest wins.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// A token that BPE never produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    pub text: String,
    pub id: u32,
    /// Control tokens vanish from decoded text; user-defined ones (`<tool_call>`) are kept.
    pub control: bool,
}

/// A set of them. Some models have thousands: a text is searched by hash, one length after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Specials {
    list: Vec<SpecialToken>,
    ids: BTreeMap<String, u32>,
    /// In bytes, by first letter, the longest first.
    lengths: HashMap<char, Vec<usize>>,
}

/// Texts between special tokens, none of them empty, and the tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Special(u32),
}

impl Specials {
    pub(crate) fn new(mut list: Vec<SpecialToken>) -> Self {
        list.retain(|special| !special.text.is_empty());
        let (mut ids, mut lengths) = (BTreeMap::new(), HashMap::<char, Vec<usize>>::new());
        for special in &list {
            ids.entry(special.text.clone()).or_insert(special.id);
            lengths.entry(special.text.chars().next().expect("not empty")).or_default().push(special.text.len());
        }
        for lengths in lengths.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        Self { list, ids, lengths }
    }

    pub(crate) fn list(&self) -> &[SpecialToken] {
        &self.list
    }

    /// Length and id of the token that `text` begins with.
    pub(crate) fn at(&self, text: &str) -> Option<(usize, u32)> {
        let lengths = self.lengths.get(&text.chars().next()?)?;
        lengths.iter().find_map(|&len| Some((len, *self.ids.get(text.get(..len)?)?)))
    }

    /// Whether `text` is the beginning of a token, or one.
    pub(crate) fn begin_with(&self, text: &str) -> bool {
        self.ids
            .range::<str, _>((Bound::Included(text), Bound::Unbounded))
            .next()
            .is_some_and(|(special, _)| special.starts_with(text))
    }

    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
        while let Some(letter) = text[at..].chars().next() {
            let Some((len, id)) = self.at(&text[at..]) else {
                at += letter.len_utf8();
                continue;
            };
            parts.extend((from < at).then(|| Part::Text(&text[from..at])));
            parts.push(Part::Special(id));
            at += len;
            from = at;
        }
        parts.extend((from < at).then(|| Part::Text(&text[from..])));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials(texts: &[&str]) -> Specials {
        let token = |(&text, id): (&&str, u32)| SpecialToken { text: text.to_owned(), id, control: true };
        Specials::new(texts.iter().zip(0..).map(token).collect())
    }

    #[test]
    fn the_longest_token_wins_and_texts_between_are_kept() {
        let specials = specials(&["<a>", "<a><b>", "ä", ""]);
        let parts = specials.split("x<a><a><b>y<äz<");
        let want =
            [Part::Text("x"), Part::Special(0), Part::Special(1), Part::Text("y<"), Part::Special(2), Part::Text("z<")];
        assert_eq!(parts, want);
        assert!(specials.split("").is_empty());
        assert_eq!(specials.list().len(), 3, "a token without spelling cannot be found");
    }

    #[test]
    fn a_beginning_is_one_of_some_token() {
        let specials = specials(&["<a>", "<bc>"]);
        assert!(["<", "<b", "<bc>"].iter().all(|text| specials.begin_with(text)));
        assert!(["<bb", "<bc>d", "a"].iter().all(|text| !specials.begin_with(text)));
    }
}
