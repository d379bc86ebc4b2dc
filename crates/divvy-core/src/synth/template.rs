//! Sentences with holes: `{n.name} baked {trays:w} trays`. After the colon stands how a value is written:
//!
//! `w` in words (`three`), `$` as money (`$3.50`), `cap` with a capital, `month` (3 → `March`), `ord` (3 → `3rd`),
//! `times` (2 → `twice`), `frac` (4 → `a quarter`). A plain number from 10,000 on gets commas.

use super::{calendar, value::Value};

/// Fills every hole. `Ok(None)` when a hole's cell is empty: this row of the table cannot be asked about.
///
/// # Errors
/// An unknown variable, an unknown form, or a value that the form cannot write: a mistake in the family.
pub(super) fn fill(template: &str, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<Option<String>, String> {
    let mut text = String::with_capacity(template.len());
    for piece in pieces(template)? {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Hole { name, form } => {
                let value = lookup(name).ok_or_else(|| format!("no variable `{name}` for `{template}`"))?;
                let written = write(&value, form)
                    .ok_or_else(|| format!("`{{{name}:{form}}}` cannot write {value:?} in `{template}`"))?;
                if written.is_empty() {
                    return Ok(None);
                }
                text.push_str(&written);
            }
        }
    }
    Ok(Some(text))
}

/// Names of the variables in a template.
#[cfg(test)]
pub(super) fn holes(template: &str) -> Result<Vec<&str>, String> {
    let name = |piece| match piece {
        Piece::Hole { name, .. } => Some(name),
        Piece::Text(_) => None,
    };
    Ok(pieces(template)?.into_iter().filter_map(name).collect())
}

enum Piece<'a> {
    Text(&'a str),
    Hole { name: &'a str, form: &'a str },
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (hole, after) = after.split_once('}').ok_or_else(|| format!("a brace is open in `{template}`"))?;
        let (name, form) = hole.split_once(':').unwrap_or((hole, ""));
        found.push(Piece::Text(before));
        found.push(Piece::Hole { name, form });
        rest = after;
    }
    found.push(Piece::Text(rest));
    Ok(found)
}

fn write(value: &Value, form: &str) -> Option<String> {
    let integer = || value.number()?.integer();
    match form {
        "" => Some(match integer() {
            Some(number) => with_commas(number),
            None => value.plain(),
        }),
        "cap" => Some(capitalised(&value.plain())),
        "$" => Some(format!("${}", value.number()?.plain())),
        "w" => words(integer()?),
        "month" => calendar::month_name(integer()?).map(str::to_owned),
        "ord" => Some(ordinal(integer()?)),
        "times" => match integer()? {
            2 => Some("twice".to_owned()),
            number => Some(format!("{} times", words(number)?)),
        },
        "frac" => match integer()? {
            2 => Some("half".to_owned()),
            3 => Some("a third".to_owned()),
            4 => Some("a quarter".to_owned()),
            5 => Some("a fifth".to_owned()),
            6 => Some("a sixth".to_owned()),
            8 => Some("an eighth".to_owned()),
            10 => Some("a tenth".to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// Years stay as they are (`1987`); larger numbers read better with commas (`12,500`).
fn with_commas(number: i64) -> String {
    if number < 10_000 {
        return number.to_string();
    }
    let (millions, thousands, ones) = (number / 1_000_000, number / 1000 % 1000, number % 1000);
    if millions > 0 { format!("{millions},{thousands:03},{ones:03}") } else { format!("{thousands},{ones:03}") }
}

pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The numbers from 0 in words.
pub(crate) const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

fn words(number: i64) -> Option<String> {
    let number = usize::try_from(number).ok()?;
    if let Some(word) = SMALL.get(number) {
        return Some((*word).to_owned());
    }
    let tens = TENS.get(number / 10 - 2)?;
    Some(if number % 10 == 0 { (*tens).to_owned() } else { format!("{tens}-{}", SMALL[number % 10]) })
}

fn ordinal(number: i64) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::value::Ratio;

    fn check(template: &str, expect: Result<Option<&str>, ()>) {
        let lookup = |name: &str| match name {
            "n" => Some(Value::whole(3)),
            "big" => Some(Value::whole(12_050)),
            "price" => Ratio::new(7, 2).map(Value::Number),
            "who" => Some(Value::Text("ann|anna".into())),
            "empty" => Some(Value::Text(String::new())),
            _ => None,
        };
        let filled = fill(template, &lookup).map_err(|_| ());
        assert_eq!(filled, expect.map(|text| text.map(str::to_owned)), "{template}");
    }

    #[test]
    fn every_form_writes_its_way() {
        check("{who:cap} has {n:w} of {big} at {price:$}.", Ok(Some("Ann has three of 12,050 at $3.50.")));
        check("{n:month} {n:ord}, {n:times}, {n:frac}", Ok(Some("March 3rd, three times, a third")));
        check("no {empty} here", Ok(None));
        check("{nobody}", Err(()));
        check("{who:w}", Err(()));
        check("{who", Err(()));
        assert_eq!(words(42).as_deref(), Some("forty-two"));
        assert_eq!(words(100), None);
        assert_eq!(ordinal(112), "112th");
    }
}
