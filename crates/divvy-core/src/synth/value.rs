//! What a variable of a question can hold: an exact number, a text, or several spans. Money and shares are exact
//! fractions, so that a generated answer is never off by a rounding.

use std::cmp::Ordering;

/// An exact fraction in lowest terms with a positive denominator. Every operation is checked: `None` on overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ratio {
    num: i64,
    den: i64,
}

impl Ratio {
    pub(super) fn whole(num: i64) -> Self {
        Self { num, den: 1 }
    }

    pub(super) fn new(num: i64, den: i64) -> Option<Self> {
        if den == 0 {
            return None;
        }
        let shared = gcd(num.unsigned_abs(), den.unsigned_abs()).max(1);
        let shared = i64::try_from(shared).ok()? * den.signum();
        Some(Self { num: num / shared, den: den / shared })
    }

    /// Reads `12` or `0.25`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        let digits: i64 = format!("{whole}{places}").parse().ok()?;
        Self::new(digits, 10_i64.checked_pow(u32::try_from(places.len()).ok()?)?)
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        let left = self.num.checked_mul(other.den)?;
        let right = other.num.checked_mul(self.den)?;
        Self::new(left.checked_add(right)?, self.den.checked_mul(other.den)?)
    }

    pub(super) fn sub(self, other: Self) -> Option<Self> {
        self.add(Self { num: -other.num, den: other.den })
    }

    pub(super) fn mul(self, other: Self) -> Option<Self> {
        Self::new(self.num.checked_mul(other.num)?, self.den.checked_mul(other.den)?)
    }

    pub(super) fn div(self, other: Self) -> Option<Self> {
        self.mul(Self::new(other.den, other.num)?)
    }

    pub(super) fn rem(self, other: Self) -> Option<Self> {
        let whole = self.div(other)?.floor();
        self.sub(other.mul(Self::whole(whole))?)
    }

    pub(super) fn floor(self) -> i64 {
        self.num.div_euclid(self.den)
    }

    /// The value where it is an integer.
    pub(super) fn integer(self) -> Option<i64> {
        (self.den == 1).then_some(self.num)
    }

    /// True when `digits` decimal places write the value exactly.
    pub(super) fn fits(self, digits: u32) -> bool {
        10_i64.pow(digits) % self.den == 0
    }

    /// Plain decimal text: `12`, or two places where there is a fraction: `12.50`. Needs [`Ratio::fits`] with 2.
    pub(super) fn plain(self) -> String {
        match self.integer() {
            Some(number) => number.to_string(),
            None => {
                let cents = self.num * (100 / self.den);
                format!("{}.{:02}", cents / 100, cents % 100)
            }
        }
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = i128::from(self.num) * i128::from(other.den);
        left.cmp(&(i128::from(other.num) * i128::from(self.den)))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Number(Ratio),
    /// Acceptable names of one thing, separated by `|`, the preferred one first.
    Text(String),
    /// Several things that together are the answer.
    Spans(Vec<String>),
}

impl Value {
    pub(super) fn whole(number: i64) -> Self {
        Self::Number(Ratio::whole(number))
    }

    pub(super) fn number(&self) -> Option<Ratio> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// What stands in a sentence: the number, the preferred name, or the spans with commas.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Number(number) => number.plain(),
            Self::Text(names) => preferred(names).to_owned(),
            Self::Spans(spans) => spans.iter().map(|span| preferred(span)).collect::<Vec<_>>().join(", "),
        }
    }
}

pub(super) fn preferred(names: &str) -> &str {
    names.split('|').next().unwrap_or(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_exact() {
        let r = |n, d| Ratio::new(n, d).unwrap();
        assert_eq!(r(1, 3).add(r(1, 6)), Some(r(1, 2)));
        assert_eq!(r(7, 2).sub(r(9, 2)), Some(Ratio::whole(-1)));
        assert_eq!(r(6, -4), r(-3, 2));
        assert_eq!(r(7, 2).rem(Ratio::whole(2)), Some(r(3, 2)));
        assert!(r(5, 4).fits(2) && !r(1, 3).fits(2) && !r(1, 8).fits(2));
        assert_eq!((r(7, 2).plain(), r(4, 2).plain(), r(41, 20).plain()), ("3.50".into(), "2".into(), "2.05".into()));
        assert_eq!(Ratio::whole(1).div(Ratio::whole(0)), None);
        assert!(r(2, 3) > r(3, 5));
    }
}
