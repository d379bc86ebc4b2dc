//! LaTeX and typographic signs in plain form: `\frac{1}{2}` and `½` → `1/2`, `1{,}000` → `1,000`, `−` → `-`, and so the
//! shorter dash `–`, which many type for a minus; the long one is none.

const SIGNS: [(&str, &str); 8] = [
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\$", "$"),
    ("\\%", "%"),
    ("\\,", ""),
    ("\\!", ""),
    ("\\times", "*"),
    ("\\cdot", "*"),
];

const HALVES: [(char, &str); 15] = [
    ('½', "1/2"),
    ('⅓', "1/3"),
    ('⅔', "2/3"),
    ('¼', "1/4"),
    ('¾', "3/4"),
    ('⅕', "1/5"),
    ('⅖', "2/5"),
    ('⅗', "3/5"),
    ('⅘', "4/5"),
    ('⅙', "1/6"),
    ('⅚', "5/6"),
    ('⅛', "1/8"),
    ('⅜', "3/8"),
    ('⅝', "5/8"),
    ('⅞', "7/8"),
];

/// An en dash is a minus where a word may begin, and what lies between the ends of a range elsewhere: `9 a.m.–5 p.m.`
fn signs_of_dashes(text: &str) -> String {
    let mut before = ' ';
    let sign = |c: char| {
        let begins = before.is_whitespace() || "([{=:*\"'“‘$€£".contains(before);
        before = c;
        if c == '–' && begins { '-' } else { c }
    };
    text.chars().map(sign).collect()
}

pub(super) fn plain(text: &str) -> String {
    let mut text = text.replace("{,}", ",").replace(['−', '﹣', '－'], "-");
    if text.contains('–') {
        text = signs_of_dashes(&text);
    }
    for (latex, sign) in SIGNS {
        text = text.replace(latex, sign);
    }
    while let Some((start, end, fraction)) = latex_fraction(&text).or_else(|| one_sign(&text)) {
        // Behind a whole number it is that many and a part; a minus stays at its digits.
        let gap = if text[..start].ends_with('-') { "" } else { " " };
        text.replace_range(start..end, &format!("{gap}{fraction}"));
    }
    text
}

/// The first `\frac{a}{b}` or `\frac12` of a text: its byte range, and `a/b`.
fn latex_fraction(text: &str) -> Option<(usize, usize, String)> {
    text.match_indices("\\frac").find_map(|(start, mark)| {
        let (numerator, rest) = argument(&text[start + mark.len()..])?;
        let (denominator, rest) = argument(rest)?;
        Some((start, text.len() - rest.len(), format!("{numerator}/{denominator}")))
    })
}

/// What stands in braces, or one digit; and what follows.
fn argument(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(' ');
    match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}'),
        None => text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.split_at(1)),
    }
}

fn one_sign(text: &str) -> Option<(usize, usize, String)> {
    let fraction = |c: char| HALVES.iter().find(|(sign, _)| *sign == c).map(|(_, fraction)| (*fraction).to_owned());
    text.char_indices().find_map(|(at, c)| Some((at, at + c.len_utf8(), fraction(c)?)))
}
