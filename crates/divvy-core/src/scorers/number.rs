//! Numbers as people and models write them, compared exactly: decimals of any length, fractions, signs, groups of thousands,
//! `1.2 million`, currency and percent signs, LaTeX. Never a float.

mod plain;

use std::fmt;

use plain::plain;

/// A decimal, or one decimal over another.
#[derive(Clone, Debug)]
pub struct Number {
    numerator: Decimal,
    denominator: Option<Decimal>,
    /// The power of ten of the word behind it, which is in `numerator` already: 6 in "1.2 million".
    scale: i64,
}

/// ± digits × 10^exponent, without leading or trailing zeros in `digits`; zero has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn new(negative: bool, whole: &str, fraction: &str, exponent: i64) -> Self {
        let all = format!("{whole}{fraction}");
        let kept = all.trim_start_matches('0').trim_end_matches('0');
        let zeros = all.len() - all.trim_end_matches('0').len();
        if kept.is_empty() {
            return Self { negative: false, digits: String::new(), exponent: 0 };
        }
        let exponent = exponent - fraction.len() as i64 + zeros as i64;
        Self { negative, digits: kept.to_owned(), exponent }
    }

    fn times_ten_to(&self, power: i64) -> Self {
        let exponent = if self.is_zero() { 0 } else { self.exponent + power };
        Self { exponent, ..self.clone() }
    }

    fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// As a fraction of integers, `None` beyond about 18 digits.
    fn ratio(&self) -> Option<(i128, i128)> {
        if self.is_zero() {
            return Some((0, 1));
        }
        if self.digits.len() > 18 || self.exponent.abs() > 18 {
            return None;
        }
        let digits: i128 = self.digits.parse().ok()?;
        let digits = if self.negative { -digits } else { digits };
        let power = 10_i128.checked_pow(u32::try_from(self.exponent.abs()).ok()?)?;
        if self.exponent < 0 { Some((digits, power)) } else { Some((digits.checked_mul(power)?, 1)) }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let sign = if self.negative { "-" } else { "" };
        let length = self.digits.len() as i64;
        // A model can write any exponent; what is shown stays short.
        if self.exponent > 60 || self.exponent < -60 - length {
            return write!(f, "{sign}{}e{}", self.digits, self.exponent);
        }
        let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
        let point = length + self.exponent;
        if self.exponent >= 0 {
            write!(f, "{sign}{}{}", self.digits, zeros(self.exponent))
        } else if point <= 0 {
            write!(f, "{sign}0.{}{}", zeros(-point), self.digits)
        } else {
            let (whole, fraction) = self.digits.split_at(usize::try_from(point).unwrap_or(0));
            write!(f, "{sign}{whole}.{fraction}")
        }
    }
}

impl Number {
    fn ratio(&self) -> Option<(i128, i128)> {
        let (a, b) = self.numerator.ratio()?;
        let Some(denominator) = &self.denominator else { return Some((a, b)) };
        let (c, d) = denominator.ratio()?;
        Some((a.checked_mul(d)?, b.checked_mul(c)?))
    }

    /// Without the word behind it, for who is asked how many millions there are: 1.2 of "1.2 million".
    #[must_use]
    pub fn without_scale(&self) -> Self {
        Self { numerator: self.numerator.times_ten_to(-self.scale), denominator: self.denominator.clone(), scale: 0 }
    }
}

/// Exact: 0.5 = 1/2 = .50, and 0.33 ≠ 1/3. Two decimals compare at any length; fractions up to about 18 digits.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        if let (None, None) = (&self.denominator, &other.denominator) {
            return self.numerator == other.numerator;
        }
        let cross = || {
            let ((a, b), (c, d)) = (self.ratio()?, other.ratio()?);
            Some(a.checked_mul(d)? == c.checked_mul(b)?)
        };
        cross().unwrap_or(false)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.numerator.fmt(f)?;
        match &self.denominator {
            Some(denominator) => write!(f, "/{denominator}"),
            None => Ok(()),
        }
    }
}

/// The number that an answer text states: the first one, or, where the text is an equation, the first behind its last `=`. In
/// `18 = 20 - 2` that is the side that is not worked out.
#[must_use]
pub fn stated(text: &str) -> Option<Number> {
    let text = Text::of(text);
    text.turned().or_else(|| text.result()).or_else(|| text.found.first()).map(|found| found.number.clone())
}

/// The number that prose comes to: its last one. What stands in brackets is said beside it, and of `18 = 20 - 2` the same side
/// counts as where it is [`stated`].
#[must_use]
pub fn last(text: &str) -> Option<Number> {
    let (all, without_asides) = (Text::of(text), Text::of(&without_asides(text)));
    let text = if without_asides.found.is_empty() { all } else { without_asides };
    let turned = text.turned().filter(|_| text.ends_in_operation());
    turned.or_else(|| text.found.last()).map(|found| found.number.clone())
}

/// "She makes $18 (9 eggs at $2)." → "She makes $18 ." What touches a word or a sign is no aside: `f(2)`, `\(18\)`.
fn without_asides(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(" (") {
        let Some((_, after)) = behind.split_once(')') else { break };
        kept.push_str(before);
        kept.push(' ');
        rest = after;
    }
    kept + rest
}

/// A text in plain form with its numbers.
struct Text {
    chars: Vec<char>,
    found: Vec<Found>,
    /// The last `=`.
    equals: Option<usize>,
}

/// A number and where it stands.
struct Found {
    number: Number,
    start: usize,
    end: usize,
}

impl Text {
    fn of(text: &str) -> Self {
        let chars: Vec<char> = plain(text).chars().collect();
        Self { found: numbers(&chars), equals: chars.iter().rposition(|c| matches!(c, '=' | '≈')), chars }
    }

    /// Numbers before the last `=`, and behind it; `None` where there is none.
    fn sides(&self) -> Option<(&[Found], &[Found])> {
        let equals = self.equals?;
        Some(self.found.split_at(self.found.partition_point(|found| found.start < equals)))
    }

    fn result(&self) -> Option<&Found> {
        self.sides()?.1.first()
    }

    /// What `18 = 20 - 2` begins with: a number alone, and right before the sign, where an operation is behind it.
    fn turned(&self) -> Option<&Found> {
        let (left, right) = self.sides()?;
        let last = left.last()?;
        let is_alone = left.len() < 2 || !self.are_joined(&left[left.len() - 2], last);
        let is_before_sign = self.chars[last.end..self.equals?].iter().all(|c| "$€£% ".contains(*c));
        let is_operation = right.len() > 1 && self.are_joined(&right[0], &right[1]);
        (is_alone && is_before_sign && is_operation).then_some(last)
    }

    /// Whether all behind the last `=` is one operation.
    fn ends_in_operation(&self) -> bool {
        self.sides().is_some_and(|(_, right)| right.windows(2).all(|two| self.are_joined(&two[0], &two[1])))
    }

    fn are_joined(&self, one: &Found, next: &Found) -> bool {
        let between = &self.chars[one.end..next.start];
        between.iter().any(|c| "+-*×·/÷".contains(*c)) && between.iter().all(|c| "+-*×·/÷$€£%() ".contains(*c))
    }
}

/// All numbers of a text in order. Digits inside a word (`B12`) are none, those behind a currency's code (`USD18`) are.
fn numbers(chars: &[char]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let starts = chars[at].is_ascii_digit() || (chars[at] == '.' && is_digit(chars, at + 1));
        let inside_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        if !starts || inside_word && !is_behind_currency(chars, at) {
            at += 1;
            continue;
        }
        let (number, end) = read(chars, at, is_negative(chars, at));
        found.push(Found { number, start: at, end });
        at = end;
    }
    found
}

fn is_behind_currency(chars: &[char], at: usize) -> bool {
    const CODES: [&str; 8] = ["USD", "EUR", "GBP", "CHF", "JPY", "INR", "CAD", "AUD"];
    let letters = chars[..at].iter().rev().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    let word: String = chars[at - letters..at].iter().collect();
    CODES.contains(&&*word)
}

fn is_digit(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(char::is_ascii_digit)
}

/// A minus that touches the digits or their currency sign, and is no hyphen, range, subtraction or dash: `5-7`, `10 -3`, `x -3`,
/// `--3`. Behind a word and a blank it is one.
fn is_negative(chars: &[char], at: usize) -> bool {
    let behind = |from: usize, signs: &str| chars[..from].iter().rposition(|c| !signs.contains(*c));
    let Some(minus) = behind(at, CURRENCIES).filter(|minus| chars[*minus] == '-') else { return false };
    let Some(before) = behind(minus, "$€£ ") else { return true };
    match chars[before] {
        '-' => before + 1 < minus,
        ')' | '%' => false,
        letter if letter.is_alphabetic() => before + 1 < minus && is_word(&chars[..=before]),
        other => !other.is_alphanumeric(),
    }
}

const CURRENCIES: &str = "$€£";

/// Whether they end in a word, which no `x`, `\pi` or `5km` is.
fn is_word(chars: &[char]) -> bool {
    let word = || chars.iter().rev().take_while(|c| c.is_alphanumeric() || "\\_'’".contains(**c));
    word().count() > 1 && word().all(|c| c.is_alphabetic() || "'’".contains(*c))
}

/// Number at `at` with its fraction part and the word for thousands behind it, and the index behind it.
fn read(chars: &[char], at: usize, negative: bool) -> (Number, usize) {
    let (number, end) = fraction(chars, at, negative);
    let Some((scale, end)) = scale(chars, end) else { return (number, end) };
    (Number { numerator: number.numerator.times_ten_to(scale), scale, ..number }, end)
}

fn fraction(chars: &[char], at: usize, negative: bool) -> (Number, usize) {
    let (numerator, end) = decimal(chars, at, negative);
    if let Some((denominator, end)) = over(chars, end) {
        return (Number { numerator, denominator: Some(denominator), scale: 0 }, end);
    }
    if let Some((number, end)) = mixed(chars, &numerator, end) {
        return (number, end);
    }
    (Number { numerator, denominator: None, scale: 0 }, end)
}

/// The power of ten of ` million` and its like.
fn scale(chars: &[char], at: usize) -> Option<(i64, usize)> {
    const WORDS: [(&str, i64); 4] = [("thousand", 3), ("million", 6), ("billion", 9), ("trillion", 12)];
    let start = skip_spaces(chars, at);
    let word: String = chars[start..].iter().take_while(|c| c.is_alphanumeric()).collect();
    let (_, power) = WORDS.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name))?;
    Some((power, start + word.len()))
}

/// `/ 4` behind a number, of a non-zero decimal.
fn over(chars: &[char], at: usize) -> Option<(Decimal, usize)> {
    let at = skip_spaces(chars, at);
    let start = skip_spaces(chars, at + 1);
    if chars.get(at) != Some(&'/') || !is_digit(chars, start) {
        return None;
    }
    let (denominator, end) = decimal(chars, start, false);
    (!denominator.is_zero()).then_some((denominator, end))
}

/// ` 1/2` behind a whole number: `3 1/2` is 7/2.
fn mixed(chars: &[char], whole: &Decimal, at: usize) -> Option<(Number, usize)> {
    let start = at + 1;
    if chars.get(at) != Some(&' ') || !is_digit(chars, start) {
        return None;
    }
    let (part, end) = decimal(chars, start, false);
    let (denominator, end) = over(chars, end)?;
    let ((whole, 1), (part, 1), (below, 1)) = (whole.ratio()?, part.ratio()?, denominator.ratio()?) else {
        return None;
    };
    let above = whole.abs().checked_mul(below)?.checked_add(part)?;
    let numerator = Decimal::new(whole < 0, &above.to_string(), "", 0);
    Some((Number { numerator, denominator: Some(denominator), scale: 0 }, end))
}

fn skip_spaces(chars: &[char], at: usize) -> usize {
    at + chars.iter().skip(at).take_while(|c| **c == ' ').count()
}

/// Digits with thousands commas, decimals and an exponent (`1.5e3`).
fn decimal(chars: &[char], at: usize, negative: bool) -> (Decimal, usize) {
    let (whole, mut at) = whole_digits(chars, at);
    let mut fraction = String::new();
    if chars.get(at) == Some(&'.') && is_digit(chars, at + 1) {
        fraction = digits(chars, at + 1);
        at += 1 + fraction.len();
    }
    let (exponent, at) = exponent(chars, at);
    (Decimal::new(negative, &whole, &fraction, exponent), at)
}

fn digits(chars: &[char], at: usize) -> String {
    chars.iter().skip(at).take_while(|c| c.is_ascii_digit()).collect()
}

/// `1,234,567` joins only groups of exactly three behind one to three digits: in `3, 4` and `10,20` the comma separates. So do
/// blanks, plain, fixed or thin, `1 234 567`, but not before what is measured by itself, `12 100-gram bars`.
fn whole_digits(chars: &[char], at: usize) -> (String, usize) {
    let mut whole = digits(chars, at);
    let mut at = at + whole.len();
    let separator =
        chars.get(at).filter(|c| (1..=3).contains(&whole.len()) && ",\u{a0}\u{2009}\u{202f} ".contains(**c));
    while separator.is_some() && chars.get(at) == separator {
        let group = digits(chars, at + 1);
        let is_first = whole.len() < 4;
        if group.len() != 3 || is_first && separator == Some(&' ') && is_measure(chars, at + 1) {
            break;
        }
        whole.push_str(&group);
        at += 4;
    }
    (whole, at)
}

/// Whether the three digits at `at` are one word with what follows, as in `100-gram`. None of these begins with a zero.
fn is_measure(chars: &[char], at: usize) -> bool {
    let is_letter = |at: usize| chars.get(at).is_some_and(|c| c.is_alphabetic());
    chars[at] != '0' && chars.get(at + 3) == Some(&'-') && is_letter(at + 4)
}

/// `e6`, `E+06`, of at most three digits and with no letter behind.
fn exponent(chars: &[char], at: usize) -> (i64, usize) {
    if !matches!(chars.get(at), Some('e' | 'E')) {
        return (0, at);
    }
    let signed = matches!(chars.get(at + 1), Some('+' | '-'));
    let start = at + 1 + usize::from(signed);
    let digits = digits(chars, start);
    let end = start + digits.len();
    let value = digits.parse::<i64>().ok().filter(|_| digits.len() <= 3);
    match value {
        Some(value) if !chars.get(end).is_some_and(|c| c.is_alphanumeric()) => {
            (if chars[at + 1] == '-' { -value } else { value }, end)
        }
        _ => (0, at),
    }
}

#[cfg(test)]
mod tests;
