//! Templates: text with named places, `{question}`. A brace that is meant as such is doubled, `{{`. What is filled in is
//! never read as a template itself.

use std::fmt;

/// A piece of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Place(&'t str),
    /// A brace that opens or closes nothing.
    Stray(&'t str),
}

struct Pieces<'t> {
    rest: &'t str,
}

impl<'t> Pieces<'t> {
    fn cut(&mut self, at: usize) -> &'t str {
        let (piece, rest) = self.rest.split_at(at);
        self.rest = rest;
        piece
    }
}

impl<'t> Iterator for Pieces<'t> {
    type Item = Piece<'t>;

    fn next(&mut self) -> Option<Piece<'t>> {
        if self.rest.is_empty() {
            return None;
        }
        // One after the other: a single character is looked for many bytes at a time.
        let opening = self.rest.find('{').unwrap_or(self.rest.len());
        let brace = self.rest[..opening].find('}').unwrap_or(opening);
        if brace > 0 {
            return Some(Piece::Text(self.cut(brace)));
        }
        if self.rest.starts_with("{{") || self.rest.starts_with("}}") {
            return Some(Piece::Text(&self.cut(2)[..1]));
        }
        let end = self.rest.find('}').filter(|end| is_name(&self.rest[1.min(*end)..*end]));
        Some(match end {
            Some(end) => Piece::Place(&self.cut(end + 1)[1..end]),
            None => Piece::Stray(self.cut(1)),
        })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The template with its places filled, in one pass. A place that nobody fills is left empty; [`check`] refuses it before.
pub(super) fn fill(template: &str, places: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + places.iter().map(|(_, value)| value.len()).sum::<usize>());
    for piece in (Pieces { rest: template }) {
        match piece {
            Piece::Text(piece) | Piece::Stray(piece) => text.push_str(piece),
            Piece::Place(name) => {
                text.push_str(places.iter().find(|(place, _)| *place == name).map_or("", |(_, value)| value));
            }
        }
    }
    text
}

/// A place that a prompt's template may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub name: &'static str,
    /// Without it the prompt would leave out what is asked.
    pub required: bool,
}

impl Place {
    pub(super) const fn needed(name: &'static str) -> Self {
        Self { name, required: true }
    }

    pub(super) const fn optional(name: &'static str) -> Self {
        Self { name, required: false }
    }

    /// What is filled in there.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        match self.name {
            "question" => "the passage between tags where there is one, then the question on one line",
            "answer_form" => "what X in \"The answer is: X\" is, by the question's scorer; it begins with \"X is\"",
            "limit" => "\" Write at most 3.\" where an arm has a cap, else nothing",
            "known" => "the subquestions asked so far, each with its answer; before the first one nothing",
            "subquestions" => "the subquestions, one a line, numbered",
            "references" => "a sentence on what #1 stands for, where a subquestion uses it",
            "subquestion" => "the one subquestion that is asked",
            _ => "",
        }
    }
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    Unknown { place: String, known: &'static [Place] },
    Missing { place: &'static str, known: &'static [Place] },
    Brace(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { place, known } => write!(f, "there is no placeholder `{{{place}}}`; {}", listing(known)),
            Self::Missing { place, known } => write!(f, "the placeholder `{{{place}}}` is missing; {}", listing(known)),
            Self::Brace(brace) => {
                write!(f, "`{brace}` opens or closes no placeholder; write `{brace}{brace}` for the brace itself")
            }
        }
    }
}

fn listing(known: &[Place]) -> String {
    let one = |place: &Place| format!("{{{}}}{}", place.name, if place.required { "" } else { " (may be left out)" });
    format!("there are {}", known.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// Whether a template has the places that its prompt needs, and no others.
///
/// # Errors
/// [`TemplateError`], the first one found.
pub fn check(template: &str, known: &'static [Place]) -> Result<(), TemplateError> {
    for piece in (Pieces { rest: template }) {
        match piece {
            Piece::Stray(brace) => return Err(TemplateError::Brace(brace.to_owned())),
            Piece::Place(name) if known.iter().all(|place| place.name != name) => {
                return Err(TemplateError::Unknown { place: name.to_owned(), known });
            }
            Piece::Place(_) | Piece::Text(_) => {}
        }
    }
    match known.iter().find(|place| place.required && !has(template, place.name)) {
        Some(place) => Err(TemplateError::Missing { place: place.name, known }),
        None => Ok(()),
    }
}

/// Whether a template has this place.
#[must_use]
pub fn has(template: &str, place: &str) -> bool {
    Pieces { rest: template }.any(|piece| piece == Piece::Place(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Place] = &[Place::needed("question"), Place::optional("limit")];

    #[test]
    fn places_are_filled_once_and_braces_kept() {
        let filled = fill("{{\"a\": {question}}}{limit} {", &[("question", "{limit}"), ("limit", " é")]);
        assert_eq!(filled, "{\"a\": {limit}} é {");
        assert_eq!(fill("", &[]), "");
    }

    #[test]
    fn mistakes_name_the_place_and_the_valid_ones() {
        let says = |template: &str| check(template, KNOWN).unwrap_err().to_string();
        assert_eq!(check("{question}{limit} {{x}}", KNOWN), Ok(()));
        assert!(
            says("{quetsion}").contains("no placeholder `{quetsion}`; there are {question}, {limit} (may be left out)")
        );
        assert!(says("{limit}").contains("`{question}` is missing"));
        assert!(says("{question} {\"a\": 1}").contains("write `{{` for the brace"));
        assert!(says("{question} }").contains("write `}}` for the brace"));
        assert!(says("{question} {}").contains("write `{{`"));
    }

    proptest::proptest! {
        #[test]
        fn no_template_panics(template in "([{}é a-z]|\\{question\\}){0,20}") {
            let filled = fill(&template, &[("question", "Q")]);
            if check(&template, KNOWN).is_ok() {
                proptest::prop_assert!(filled.contains('Q'), "{filled}");
            }
        }
    }
}
