//! The steps before the model in a `tokenizer.json`: only those whose sequence makes a text no more than some dozen times
//! longer. A file may name any number of them, and forty that each double a text would be the end of the process.

use serde_json::Value as Json;

/// Steps that may lengthen a text, each by a factor: some characters come apart into as many as 18.
const MOST_GROWING: usize = 2;

/// Checks normaliser and pre-tokenizer.
///
/// # Errors
/// The step that is not supported, and what is.
pub(super) fn check(file: &Json) -> Result<(), String> {
    let mut all = Vec::new();
    flat(&file["normalizer"], "normalizers", &mut all);
    check_all("normaliser", &all, normaliser)?;
    all.clear();
    flat(&file["pre_tokenizer"], "pretokenizers", &mut all);
    check_all("pre-tokenizer", &all, pre_tokenizer)
}

/// What a step does to the length of a text, counted in characters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Kept,
    /// May grow, but not when it is done a second time.
    MayGrow,
    /// Grows with every time.
    Grows,
    Unknown,
}

fn flat<'a>(step: &'a Json, list: &str, all: &mut Vec<&'a Json>) {
    match step[list].as_array() {
        Some(steps) if step["type"] == "Sequence" => steps.iter().for_each(|step| flat(step, list, all)),
        _ if step.is_null() => {}
        _ => all.push(step),
    }
}

fn check_all(what: &str, steps: &[&Json], length: impl Fn(&Json) -> Length) -> Result<(), String> {
    let (mut growing, mut once) = (0, Vec::new());
    for step in steps {
        let length = length(step);
        growing += usize::from(length == Length::MayGrow);
        let again = length == Length::Grows && once.contains(&&step["type"]);
        if length == Length::Unknown || again || growing > MOST_GROWING {
            let step: String = step.to_string().chars().take(100).collect();
            return Err(format!("its {what} has the step {step}, which {TOO_LONG}"));
        }
        once.push(&step["type"]);
    }
    Ok(())
}

const TOO_LONG: &str = "is unknown or may lengthen a text without bound; supported are Unicode's forms, splits, one step of \
    ByteLevel and of Metaspace, \"▁\" in front, and replacing by what is no longer";

fn normaliser(step: &Json) -> Length {
    match step["type"].as_str().unwrap_or_default() {
        "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" => Length::MayGrow,
        "Strip" | "StripAccents" | "Nmt" => Length::Kept,
        "ByteLevel" => Length::Grows,
        "Prepend" if step["prepend"] == "▁" => Length::Grows,
        "Replace" if shrinks(step) => Length::Kept,
        _ => Length::Unknown,
    }
}

/// Whether a replacement has no more characters than what it replaces. What a pattern finds may be of any length.
fn shrinks(step: &Json) -> bool {
    let letters = |text: &Json| text.as_str().map(|text| text.chars().count());
    match (letters(&step["pattern"]["String"]), letters(&step["content"])) {
        (Some(from), Some(to)) => to <= from,
        (None, to) => to == Some(0),
        _ => false,
    }
}

fn pre_tokenizer(step: &Json) -> Length {
    match step["type"].as_str().unwrap_or_default() {
        "Split" | "Digits" | "Punctuation" | "Whitespace" | "WhitespaceSplit" | "UnicodeScripts" => Length::Kept,
        // Each writes a letter for a byte, or puts one in front of every part.
        "ByteLevel" | "Metaspace" => Length::Grows,
        _ => Length::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(normaliser: Json, pre: Json) -> Result<(), String> {
        check(&json!({ "normalizer": normaliser, "pre_tokenizer": pre }))
    }

    fn replace(from: &str, to: &str) -> Json {
        json!({ "type": "Replace", "pattern": { "String": from }, "content": to })
    }

    fn sequence(steps: Vec<Json>) -> Json {
        json!({ "type": "Sequence", "normalizers": steps, "pretokenizers": steps })
    }

    #[test]
    fn steps_of_known_models_are_taken() {
        let level = json!({ "type": "ByteLevel", "add_prefix_space": false });
        let split = json!({ "type": "Split", "pattern": { "Regex": "\\p{L}+" }, "behavior": "Isolated" });
        let prepend = json!({ "type": "Prepend", "prepend": "▁" });
        for (normaliser, pre) in [
            (Json::Null, level.clone()),
            (json!({ "type": "NFC" }), sequence(vec![split, level.clone()])),
            (sequence(vec![prepend, replace(" ", "▁")]), Json::Null),
            (replace(" ", "▁"), json!({ "type": "Metaspace", "prepend_scheme": "first" })),
            (sequence(vec![]), sequence(vec![json!({ "type": "Digits" }), level])),
        ] {
            with(normaliser, pre).unwrap();
        }
    }

    #[test]
    fn steps_that_lengthen_a_text_again_and_again_are_refused() {
        let level = json!({ "type": "ByteLevel" });
        let meta = |letter: &str| json!({ "type": "Metaspace", "replacement": letter });
        for normaliser in [
            replace("e", "ee"),
            sequence(vec![replace("e", "ee"); 40]),
            sequence(vec![sequence(vec![replace(" ", "▁"), replace("▁", "   ")])]),
            sequence(vec![
                json!({ "type": "NFKD" }),
                replace("e", "ﷺ"),
                json!({ "type": "NFKD" }),
                json!({ "type": "NFD" }),
            ]),
            json!({ "type": "Replace", "pattern": { "Regex": "" }, "content": "x" }),
            json!({ "type": "Prepend", "prepend": "xxxx" }),
            sequence(vec![level.clone(); 2]),
            json!({ "pattern": { "String": "e" }, "content": "ee" }),
            json!({ "type": "Precompiled", "precompiled_charsmap": "" }),
        ] {
            let error = with(normaliser.clone(), Json::Null).expect_err(&normaliser.to_string());
            assert!(error.contains("its normaliser has the step"), "{error}");
        }
        for pre in [sequence(vec![level; 2]), sequence(vec![meta("▁"), json!({ "type": "Split" }), meta("_")])] {
            let error = with(Json::Null, pre).unwrap_err();
            assert!(error.contains("its pre-tokenizer has the step"), "{error}");
        }
    }
}
