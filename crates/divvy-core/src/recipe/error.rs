//! A mistake in a recipe, said so that it can be mended: file, line, key, nearest valid key.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    pub origin: String,
    /// 1-based line and column, where known.
    pub position: Option<(usize, usize)>,
    pub message: String,
    pub hint: Option<String>,
}

impl RecipeError {
    /// A mistake that has a key but no place in the text.
    #[must_use]
    pub fn at_key(origin: &str, key: &str, message: impl fmt::Display) -> Self {
        Self { origin: origin.to_owned(), position: None, message: format!("`{key}`: {message}"), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn from_toml(error: &toml::de::Error, text: &str, origin: &str) -> Self {
        let message = error.message().to_owned();
        let position = error.span().map(|span| line_column(text, span.start));
        Self { origin: origin.to_owned(), position, hint: suggestion(&message), message }
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for RecipeError {}

fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// serde says "unknown field `x`, expected one of `a`, `b`": the names in back quotes are the word and its candidates.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    nearest(unknown, names).map(|name| format!("did you mean `{name}`?"))
}

/// The candidate most like `word`, if any is like it at all.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(word, name), name))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
