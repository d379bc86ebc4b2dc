//! What sets an arm apart from others of its strategy: demonstrations in its prompt, a cap on its subquestions, other words.
//! Written alike in a recipe's `strategies` and at the end of an arm's name: `cot+shots=4`, `two-stage+max=3`,
//! `cot+prompt=terse`.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use super::Strategy;

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Variant {
    /// Demonstrations before the question: for `direct` and `cot` in their own prompt, else in the decomposer's (paper,
    /// Table 9).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<NonZeroU32>,
    /// Most subquestions (paper, Table 10). A decomposer that follows instructions is told so; what any writes beyond it
    /// is left out. `None`: the plan's own cap, of which nobody is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_subquestions: Option<NonZeroU32>,
    /// Asks in the words of `[prompts.NAME.variants.PROMPT]`, for each of its prompts that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

impl Variant {
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    #[must_use]
    pub fn shots(&self) -> usize {
        self.shots.map_or(0, as_count)
    }
}

/// How many that is, for what is counted in memory.
fn as_count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shots.map_or(Ok(()), |shots| write!(f, "+shots={shots}"))?;
        self.max_subquestions.map_or(Ok(()), |most| write!(f, "+max={most}"))?;
        self.prompt.as_ref().map_or(Ok(()), |prompt| write!(f, "+prompt={prompt}"))
    }
}

/// An entry of `strategies`: a strategy, and what sets it apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    pub strategy: Strategy,
    pub variant: Variant,
}

impl From<Strategy> for Way {
    fn from(strategy: Strategy) -> Self {
        Self { strategy, variant: Variant::default() }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.strategy, self.variant)
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('+');
        let name = parts.next().unwrap_or_default();
        let mut way = Self::from(Strategy::named(name).ok_or_else(|| unknown("strategy", name, &Strategy::names()))?);
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let number =
                || value.parse().map_err(|_| format!("`{text}`: write a number above 0, as in {name}+{key}=3"));
            let twice = match key {
                "shots" => way.variant.shots.replace(number()?).is_some(),
                "max" if way.strategy.needs_decomposer() => way.variant.max_subquestions.replace(number()?).is_some(),
                "max" => return Err(format!("`{text}`: `{name}` has no subquestions to cap")),
                "prompt" if is_name(value) => way.variant.prompt.replace(value.to_owned()).is_some(),
                "prompt" => return Err(format!("`{text}`: name a variant of a prompt, as in {name}+prompt=terse")),
                _ => return Err(unknown("option", key, &["shots", "max", "prompt"])),
            };
            if twice {
                return Err(format!("`{text}`: `{key}` stands there twice"));
            }
        }
        Ok(way)
    }
}

/// Whether a variant of a prompt can be called so: an arm's name is cut at `/` and `+`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.bytes().all(fits)
}

/// In the words that a recipe's reader makes a suggestion from.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    format!("unknown {what} `{name}`, expected one of `{}`", known.join("`, `"))
}

impl<'de> Deserialize<'de> for Way {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_written_as_it_is_read() {
        for text in
            ["direct", "cot+shots=4", "two-stage+max=3", "cot+prompt=terse", "self-ask+shots=2+max=4+prompt=a_b-1"]
        {
            assert_eq!(text.parse::<Way>().unwrap().to_string(), text);
        }
        assert_eq!("two-stage+max=3+shots=1".parse::<Way>().unwrap().to_string(), "two-stage+shots=1+max=3");
    }

    #[test]
    fn what_is_no_way_says_the_way_out() {
        for (text, says) in [
            ("ctt", "unknown strategy `ctt`, expected one of `direct`, `cot`"),
            ("cot+shot=4", "unknown option `shot`, expected one of `shots`, `max`, `prompt`"),
            ("cot+prompt=", "name a variant of a prompt, as in cot+prompt=terse"),
            ("cot+prompt=a/b", "name a variant of a prompt"),
            ("cot+prompt=a+prompt=b", "`prompt` stands there twice"),
            ("cot+shots", "write a number above 0, as in cot+shots=3"),
            ("cot+shots=0", "write a number above 0"),
            ("cot+max=3", "`cot` has no subquestions to cap"),
            ("two-stage+max=3+max=2", "`max` stands there twice"),
            ("", "unknown strategy ``"),
        ] {
            let error = text.parse::<Way>().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
