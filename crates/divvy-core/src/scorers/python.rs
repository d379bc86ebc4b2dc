//! Python's text rules, where they differ from Rust's: the reference scorers are Python, and their figures are compared.
//! Checked against CPython 3.11 (Unicode 14).

/// Code points of the digit zero in every script; the nine digits follow each (general category Nd, Unicode 14).
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
    0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0,
    0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60,
    0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// `str.isspace`: Unicode white space and the four ASCII separators.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `" ".join(text.split())`.
pub(super) fn collapse_spaces(text: &str) -> String {
    text.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `re.sub(r"\b(a|an|the)\b", " ", text)`. A word character is a letter, a number or `_`. Rust also counts the few
/// combining vowel signs that are "alphabetic" though not letters; behind a Latin article they do not occur.
pub(super) fn without_articles(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            push_word(&mut out, &mut word);
            out.push(c);
        }
    }
    push_word(&mut out, &mut word);
    out
}

fn push_word(out: &mut String, word: &mut String) {
    out.push_str(if matches!(word.as_str(), "a" | "an" | "the") { " " } else { word });
    word.clear();
}

/// `float(text)`, `None` where Python raises `ValueError`: surrounding white space, digits of any script and single
/// underscores between digits are accepted.
pub(super) fn float(text: &str) -> Option<f64> {
    if is_digits(text) {
        return text.parse().ok();
    }
    let ascii = to_ascii(text)?;
    let trimmed = ascii.trim_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    without_underscores(trimmed)?.parse().ok()
}

/// Whether `float(text)` is one. Most tokens are words, which a look at their letters settles.
pub(super) fn is_float(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.iter().all(u8::is_ascii_lowercase) {
        return matches!(text, "nan" | "inf" | "infinity");
    }
    is_digits(text) || float(text).is_some()
}

/// Digits, with one point at most: a float in every language.
fn is_digits(text: &str) -> bool {
    let (mut digits, mut points) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'.' => points += 1,
            _ => return false,
        }
    }
    digits > 0 && points < 2
}

/// Digits of any script as ASCII, and, in text that is not all ASCII, any white space as a blank.
fn to_ascii(text: &str) -> Option<String> {
    if text.is_ascii() {
        return Some(text.to_owned());
    }
    text.chars()
        .map(|c| match c {
            c if !c.is_ascii() && is_space(c) => Some(' '),
            c if c.is_ascii() => Some(c),
            c => decimal_digit(c),
        })
        .collect()
}

fn decimal_digit(c: char) -> Option<char> {
    let code = u32::from(c);
    let zero = ZEROS[..ZEROS.partition_point(|&zero| zero <= code)].last()?;
    char::from_digit(code - zero, 10)
}

/// Drops underscores that stand between two digits; `None` where one stands elsewhere.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let misplaced = |at: usize| !digit(at.checked_sub(1)) || !digit(Some(at + 1));
    if text.match_indices('_').any(|(at, _)| misplaced(at)) {
        return None;
    }
    Some(text.replace('_', ""))
}

/// `str(value)`: shortest digits that round-trip, exponent form below 1e-4 and from 1e16.
pub(super) fn float_to_str(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes an integer exponent");
    if (-4..16).contains(&exponent) || value == 0.0 {
        return format!("{value:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `round(x, 2)` of a NumPy float: times 100, half to even, over 100. Neither Rust's nor Python's own rounding.
pub(super) fn round_two(value: f64) -> f64 {
    (value * 100.0).round_ties_even() / 100.0
}

/// `numpy.mean` of float64: pairwise sum over blocks of up to 128 with eight accumulators.
pub(super) fn mean(values: &[f64]) -> f64 {
    pairwise_sum(values) / values.len() as f64
}

fn pairwise_sum(values: &[f64]) -> f64 {
    if values.len() < 8 {
        return values.iter().fold(0.0, |sum, value| sum + value);
    }
    if values.len() > 128 {
        let half = values.len() / 2;
        let half = half - half % 8;
        return pairwise_sum(&values[..half]) + pairwise_sum(&values[half..]);
    }
    let mut lanes = [0.0; 8];
    let whole = values.len() - values.len() % 8;
    for block in values[..whole].chunks_exact(8) {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
    values[whole..].iter().fold(sum, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CPython 3.11 answers; `ValueError` is `None`.
    #[test]
    fn float_as_python() {
        for (text, expect) in [
            ("1_000", Some("1000.0")),
            ("1e1_0", Some("10000000000.0")),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1._5", None),
            ("٣", Some("3.0")),
            ("１２", Some("12.0")),
            ("１.５", Some("1.5")),
            ("١e٢", Some("100.0")),
            ("12\n", Some("12.0")),
            ("\u{a0}12", Some("12.0")),
            ("\x1c12", None),
            ("1e16", Some("1e+16")),
            ("100000000000000000000", Some("1e+20")),
            ("9999999999999998", Some("9999999999999998.0")),
            ("0.0001", Some("0.0001")),
            ("0.00001", Some("1e-05")),
            ("1.5e-7", Some("1.5e-07")),
            ("1e400", Some("inf")),
            ("Infinity", Some("inf")),
            ("-inf", Some("-inf")),
            ("+nan", Some("nan")),
            ("-0", Some("-0.0")),
            ("1.", Some("1.0")),
            (".", None),
            ("1e", None),
            ("", None),
            ("0x10", None),
            ("½", None),
        ] {
            assert_eq!(float(text).map(float_to_str).as_deref(), expect, "{text:?}");
        }
    }

    #[test]
    fn rounding_is_numpys() {
        let rounded = [0.125, 0.625, 0.005, 0.165].map(round_two);
        assert_eq!(rounded, [0.12, 0.62, 0.0, 0.16]);
    }

    #[test]
    fn articles_are_whole_words() {
        assert_eq!(without_articles("the a_b an-the anthem"), "  a_b  -  anthem");
    }
}
