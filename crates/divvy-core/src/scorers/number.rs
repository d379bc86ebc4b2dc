//! Numbers as people and models write them, compared exactly: decimals of any length, fractions, signs, thousands
//! commas, currency and percent signs, LaTeX. Never a float.

use std::fmt;

/// A decimal, or one decimal over another.
#[derive(Clone, Debug)]
pub struct Number {
    numerator: Decimal,
    denominator: Option<Decimal>,
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

/// The number that an answer text states: the first one, or, where the text is an equation, the first behind its last `=`.
#[must_use]
pub fn stated(text: &str) -> Option<Number> {
    let text = plain(text);
    let result = text.rfind(['=', '≈']).and_then(|at| numbers(&text[at..]).into_iter().next());
    result.or_else(|| numbers(&text).into_iter().next())
}

/// The last number of a text.
#[must_use]
pub fn last(text: &str) -> Option<Number> {
    numbers(&plain(text)).pop()
}

/// LaTeX and typographic signs in plain form: `\frac{1}{2}` → `1/2`, `1{,}000` → `1,000`, `−` → `-`.
fn plain(text: &str) -> String {
    let mut text = text.replace("{,}", ",").replace(['−', '﹣', '－'], "-");
    for (latex, sign) in
        [("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\$", "$"), ("\\%", "%"), ("\\,", ""), ("\\!", "")]
    {
        text = text.replace(latex, sign);
    }
    while let Some((start, end, fraction)) = latex_fraction(&text) {
        text.replace_range(start..end, &fraction);
    }
    text
}

/// The first `\frac{a}{b}` of a text: its byte range, and `a/b`.
fn latex_fraction(text: &str) -> Option<(usize, usize, String)> {
    for (start, mark) in text.match_indices("\\frac{") {
        let rest = &text[start + mark.len()..];
        let Some((numerator, rest)) = rest.split_once("}{") else { continue };
        let Some((denominator, rest)) = rest.split_once('}') else { continue };
        return Some((start, text.len() - rest.len(), format!(" {numerator}/{denominator}")));
    }
    None
}

/// All numbers of a text in order. Digits inside a word (`B12`) are none.
fn numbers(text: &str) -> Vec<Number> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let starts = chars[at].is_ascii_digit() || (chars[at] == '.' && is_digit(&chars, at + 1));
        let inside_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        if !starts || inside_word {
            at += 1;
            continue;
        }
        let (number, end) = read(&chars, at, is_negative(&chars, at));
        found.push(number);
        at = end;
    }
    found
}

fn is_digit(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(char::is_ascii_digit)
}

/// A minus before the digits or before their currency sign, that is no hyphen, range or subtraction.
fn is_negative(chars: &[char], at: usize) -> bool {
    let mut before = chars[..at].iter().rev().skip_while(|c| "$€£".contains(**c));
    if before.next() != Some(&'-') {
        return false;
    }
    let before = before.find(|c| !"$€£ ".contains(**c));
    before.is_none_or(|c| !c.is_alphanumeric() && *c != ')' && *c != '%')
}

/// Number at `at` with its fraction part, and the index behind it.
fn read(chars: &[char], at: usize, negative: bool) -> (Number, usize) {
    let (numerator, end) = decimal(chars, at, negative);
    if let Some((denominator, end)) = over(chars, end) {
        return (Number { numerator, denominator: Some(denominator) }, end);
    }
    if let Some((number, end)) = mixed(chars, &numerator, end) {
        return (number, end);
    }
    (Number { numerator, denominator: None }, end)
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
    Some((Number { numerator, denominator: Some(denominator) }, end))
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

/// `1,234,567` joins only groups of exactly three behind one to three digits: in `3, 4` and `10,20` the comma separates.
fn whole_digits(chars: &[char], at: usize) -> (String, usize) {
    let mut whole = digits(chars, at);
    let mut at = at + whole.len();
    let grouped = (1..=3).contains(&whole.len());
    while grouped && chars.get(at) == Some(&',') {
        let group = digits(chars, at + 1);
        if group.len() != 3 {
            break;
        }
        whole.push_str(&group);
        at += 4;
    }
    (whole, at)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(stated(text).map(|n| n.to_string()).as_deref(), Some(expect), "{text:?}");
    }

    #[test]
    fn as_people_write_them() {
        for (text, expect) in [
            ("18", "18"),
            ("$29.00.", "29"),
            (".50", "0.5"),
            ("18 eggs...", "18"),
            ("so 18, which is 2 more than 16", "18"),
            ("1,234,567.80 dollars", "1234567.8"),
            ("10,20", "10"),
            ("1000,000", "1000"),
            ("25%", "25"),
            ("-5", "-5"),
            ("−5", "-5"),
            ("-$5", "-5"),
            ("$-5", "-5"),
            ("5-7", "5"),
            ("10 - 3", "10"),
            ("007", "7"),
            ("-0.0", "0"),
            ("1e3", "1000"),
            ("2e", "2"),
            ("B12 has 3", "3"),
            ("2 + 16 = 18", "18"),
            ("x = $18 a day", "18"),
            ("3/4", "3/4"),
            ("3 1/2 cups", "7/2"),
            ("\\frac{3}{4}", "3/4"),
            ("1{,}000", "1000"),
            ("\\$18", "18"),
            ("1/0", "1"),
            ("100000000000000000000000000000000000000001", "100000000000000000000000000000000000000001"),
            ("0.000001", "0.000001"),
        ] {
            check(text, expect);
        }
        assert_eq!(stated("none at all").map(|n| n.to_string()), None);
        assert_eq!(last("first 3, then 10 - 4").map(|n| n.to_string()).as_deref(), Some("4"));
    }

    #[test]
    fn equality_is_exact() {
        let equal = |a, b| stated(a) == stated(b);
        assert!(equal("0.5", "1/2") && equal(".50", "0.5000") && equal("2/4", "1/2") && equal("3 1/2", "3.5"));
        assert!(equal("-1/2", "-0.5") && equal("1e2", "100") && equal("-3 1/2", "-3.5"));
        assert!(!equal("0.33", "1/3") && !equal("-5", "5") && !equal("3.75", "3"));
        assert!(!equal("10000000000000000000000000000001", "10000000000000000000000000000002"));
        assert!(!equal("1/30000000000000000000000", "0.5"));
    }

    proptest! {
        #[test]
        fn integers_round_trip(value in any::<i64>()) {
            prop_assert_eq!(stated(&value.to_string()).unwrap().to_string(), value.to_string());
        }

        #[test]
        fn no_text_panics(text in "(\\\\frac\\{|\\}\\{|[-0-9.,/eE$% ={}é]){0,40}") {
            if let Some(number) = stated(&text) {
                let _ = (number.to_string(), number == number.clone(), last(&text));
            }
        }
    }
}
