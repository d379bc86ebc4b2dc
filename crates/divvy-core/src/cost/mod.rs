//! What a call costs: whole nano-dollars, from prices written as decimal strings. Never a float. What questions and students
//! cost is in `account`, how long an answer takes in `latency`, what is charged where a recipe says nothing in `list`.

pub mod account;
pub mod latency;
pub mod list;

use std::time::Duration;

use thiserror::Error;

use crate::{chat::Usage, recipe};

/// One dollar in nano-dollars.
const DOLLAR: i64 = 1_000_000_000;
const MILLION: i128 = 1_000_000;
const NANOSECONDS_AN_HOUR: i128 = 3_600_000_000_000;

/// Prices of a model in nano-dollars: for a million tokens, or for an hour of the machine that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    pub input: i64,
    /// For the part of the input that a prefix cache served; the input price where a provider has no other.
    pub cached_input: i64,
    pub output: i64,
    /// Of a machine's hour, a call is charged what the machine worked for it.
    pub machine_hour: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PriceError {
    #[error("price `{text}`: {reason}; write dollars as a decimal string, for example \"0.15\"")]
    Amount { text: String, reason: &'static str },
    #[error(
        "a model is paid by the token or by the hour: price = {{ input = \"0.15\", output = \"0.60\" }}, dollars per million \
         tokens, or price = {{ machine_hour = \"0.10\" }}"
    )]
    Form,
    #[error("price `{text}`: as a discount it is a share between \"0\" and \"1\", for example \"0.5\"")]
    Discount { text: String },
}

impl Prices {
    /// A model that costs nothing, such as one in this process.
    pub const FREE: Self = Self { input: 0, cached_input: 0, output: 0, machine_hour: 0 };

    /// # Errors
    /// [`PriceError`] when one of the prices is no decimal string, or they do not go together.
    pub fn parse(price: &recipe::Price) -> Result<Self, PriceError> {
        match (&price.input, &price.output, &price.machine_hour) {
            (Some(input), Some(output), None) => {
                let input = parse_dollars(input)?;
                let cached_input = price.cached_input.as_deref().map_or(Ok(input), parse_dollars)?;
                Ok(Self { input, cached_input, output: parse_dollars(output)?, ..Self::FREE })
            }
            (None, None, Some(hour)) if price.cached_input.is_none() && price.batch_discount.is_none() => {
                Ok(Self { machine_hour: parse_dollars(hour)?, ..Self::FREE })
            }
            _ => Err(PriceError::Form),
        }
    }

    /// What a row of a batch costs: less by the price's `batch_discount`.
    ///
    /// # Errors
    /// [`PriceError`] when one of the prices is no decimal string, or the discount no share of one.
    pub fn parse_batch(price: &recipe::Price) -> Result<Self, PriceError> {
        let whole = Self::parse(price)?;
        let discount = price.batch_discount.as_deref().map_or(Ok(0), parse_share)?;
        let less = |price: i64| {
            let paid = i128::from(price) * i128::from(DOLLAR - discount);
            i64::try_from((paid + i128::from(DOLLAR) - 1) / i128::from(DOLLAR)).expect("it is at most the whole price")
        };
        Ok(Self {
            input: less(whole.input),
            cached_input: less(whole.cached_input),
            output: less(whole.output),
            ..whole
        })
    }

    /// Prices of a model in the mode that the recipe asks it in; `None` where neither the recipe nor [`list`] has one.
    ///
    /// # Errors
    /// See [`Prices::parse`] and [`Prices::parse_batch`].
    pub fn of(model: &recipe::Model) -> Result<Option<Self>, PriceError> {
        let parse = if model.mode == recipe::Mode::Batch { Self::parse_batch } else { Self::parse };
        list::price(model).map(parse).transpose()
    }

    /// What a call cost that a machine worked on for so long: [`Prices::cost`], and the machine's time.
    #[must_use]
    pub fn cost_of_call(&self, usage: &Usage, worked: Duration) -> Option<i64> {
        let worked = i128::try_from(worked.as_nanos()).ok()?.checked_mul(i128::from(self.machine_hour))?;
        let time = i64::try_from((worked + NANOSECONDS_AN_HOUR / 2) / NANOSECONDS_AN_HOUR).ok()?;
        self.cost(usage)?.checked_add(time)
    }

    /// Cost of the tokens in nano-dollars, rounded half up once. `None` when a token count that has a price is unknown (unknown is not
    /// zero), or beyond nine billion dollars. An unknown count of cached tokens is taken as none: the dearer reading.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<i64> {
        let cached = usage.tokens_cached.unwrap_or(0);
        let fresh = usage.tokens_in.map(|tokens| tokens.saturating_sub(cached));
        let cached = usage.tokens_in.map(|tokens| cached.min(tokens));
        let parts =
            [priced(fresh, self.input)?, priced(cached, self.cached_input)?, priced(usage.tokens_out, self.output)?];
        let total = parts.into_iter().try_fold(0_i128, i128::checked_add)?;
        i64::try_from((total + MILLION / 2) / MILLION).ok()
    }
}

/// Tokens times price. At a price of zero the count does not matter.
fn priced(tokens: Option<u64>, price: i64) -> Option<i128> {
    if price == 0 { Some(0) } else { i128::from(tokens?).checked_mul(i128::from(price)) }
}

/// Dollars as a decimal string, to nano-dollars: `"0.15"` → 150,000,000.
///
/// # Errors
/// [`PriceError`] for anything but digits with at most nine decimals.
pub fn parse_dollars(text: &str) -> Result<i64, PriceError> {
    let fail = |reason| PriceError::Amount { text: text.to_owned(), reason };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.is_empty() || text.ends_with('.') {
        return Err(fail("it is not a plain decimal number"));
    }
    if fraction.len() > 9 {
        return Err(fail("it has more than nine decimals"));
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| fail("it is not a plain decimal number"))?;
    let dollars: Option<i64> = whole.parse::<i64>().ok().and_then(|whole| whole.checked_mul(DOLLAR));
    dollars.and_then(|dollars| dollars.checked_add(nanos)).ok_or_else(|| fail("it is too large"))
}

/// A share between 0 and 1 as a decimal string, in billionths.
fn parse_share(text: &str) -> Result<i64, PriceError> {
    let share = parse_dollars(text).ok().filter(|share| *share <= DOLLAR);
    share.ok_or_else(|| PriceError::Discount { text: text.to_owned() })
}

/// Every digit, for programs: `0.000052`.
#[must_use]
pub fn exact_dollars(nanos: i64) -> String {
    let (sign, size) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let text = format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Nano-dollars for people: `$0.0123`, four decimals below a dollar and two above, rounded half up.
#[must_use]
pub fn show_dollars(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let decimals: u32 = if nanos < DOLLAR.unsigned_abs() { 4 } else { 2 };
    let unit = DOLLAR.unsigned_abs() / 10_u64.pow(decimals);
    let rounded = (nanos + unit / 2) / unit;
    let scale = 10_u64.pow(decimals);
    format!("{sign}${}.{:0width$}", rounded / scale, rounded % scale, width = decimals as usize)
}

/// [`show_dollars`], or that nobody knows.
#[must_use]
pub fn show_price(nanos: Option<i64>) -> String {
    nanos.map_or_else(|| "price unknown".to_owned(), show_dollars)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usage(tokens_in: Option<u64>, tokens_cached: Option<u64>, tokens_out: Option<u64>) -> Usage {
        Usage { tokens_in, tokens_cached, tokens_out }
    }

    #[test]
    fn prices_parse_exactly() {
        for (text, nanos) in
            [("0.15", 150_000_000), ("15", 15_000_000_000), ("0", 0), ("0.000000001", 1), ("2.50", 2_500_000_000)]
        {
            assert_eq!(parse_dollars(text), Ok(nanos));
        }
        for bad in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.15$", "1,5", " 1", "0.0000000001", "99999999999", "١"] {
            assert!(parse_dollars(bad).unwrap_err().to_string().contains("0.15"), "{bad}");
        }
    }

    #[test]
    fn a_call_costs_what_its_parts_cost() {
        let prices = Prices { input: 150_000_000, cached_input: 75_000_000, output: 600_000_000, ..Prices::FREE };
        assert_eq!(prices.cost(&usage(Some(1_000_000), None, Some(0))), Some(150_000_000));
        assert_eq!(prices.cost(&usage(Some(1000), Some(400), Some(10))), Some(90_000 + 30_000 + 6_000));
        assert_eq!(prices.cost(&usage(Some(10), Some(99), Some(0))), Some(750));
    }

    #[test]
    fn unknown_is_not_zero() {
        let prices = Prices { input: 1, cached_input: 1, output: 1, ..Prices::FREE };
        assert_eq!(prices.cost(&usage(None, None, Some(1))), None);
        assert_eq!(prices.cost(&usage(Some(1), None, None)), None);
        assert_eq!(Prices::FREE.cost(&Usage::default()), Some(0));
        let dear = Prices { input: i64::MAX, output: i64::MAX, ..Prices::FREE };
        assert_eq!(dear.cost(&usage(Some(u64::MAX), None, Some(u64::MAX))), None);
    }

    #[test]
    fn a_recipe_without_cached_price_pays_the_input_price() {
        let price = by_token("1", "2");
        let prices = Prices::parse(&price).unwrap();
        assert_eq!(prices, Prices { input: DOLLAR, cached_input: DOLLAR, output: 2 * DOLLAR, ..Prices::FREE });
    }

    fn by_token(input: &str, output: &str) -> recipe::Price {
        recipe::Price { input: Some(input.into()), output: Some(output.into()), ..recipe::Price::default() }
    }

    #[test]
    fn a_machine_is_paid_by_the_hour() {
        let price = recipe::Price { machine_hour: Some("0.10".into()), ..recipe::Price::default() };
        let prices = Prices::parse(&price).unwrap();
        let cost = |worked| prices.cost_of_call(&Usage::default(), worked);
        assert_eq!(cost(Duration::from_hours(2)), Some(2 * DOLLAR / 10));
        assert_eq!(cost(Duration::from_millis(36)), Some(1000), "tokens are not counted, known or not");
        assert_eq!(cost(Duration::ZERO), Some(0));
        assert_eq!(cost(Duration::MAX), None);
        let tokens = Prices::parse(&by_token("1", "2")).unwrap();
        assert_eq!(tokens.cost_of_call(&usage(Some(1), None, Some(0)), Duration::from_hours(9)), Some(1000));
    }

    #[test]
    fn a_price_is_by_the_token_or_by_the_hour() {
        let hour = || Some("1".to_owned());
        let both = recipe::Price { machine_hour: hour(), ..by_token("1", "2") };
        let half = recipe::Price { input: hour(), ..recipe::Price::default() };
        let cached = recipe::Price { cached_input: hour(), machine_hour: hour(), ..recipe::Price::default() };
        for price in [both, half, cached, recipe::Price::default()] {
            let error = Prices::parse(&price).unwrap_err().to_string();
            assert!(error.contains("machine_hour = \"0.10\""), "{price:?}: {error}");
        }
    }

    #[test]
    fn a_batch_saves_its_discount_and_never_a_part_of_a_nano() {
        let price = |discount: &str| recipe::Price {
            cached_input: Some("1".into()),
            batch_discount: Some(discount.into()),
            ..by_token("0.000000003", "2")
        };
        let half = Prices { input: 2, cached_input: DOLLAR / 2, output: DOLLAR, ..Prices::FREE };
        assert_eq!(Prices::parse_batch(&price("0.5")), Ok(half));
        assert_eq!(Prices::parse_batch(&price("1")), Ok(Prices::FREE));
        assert_eq!(Prices::parse_batch(&price("0")), Prices::parse(&price("0")));
        for bad in ["1.1", "50%", "-0.5", ""] {
            assert!(Prices::parse_batch(&price(bad)).unwrap_err().to_string().contains("share between"), "{bad}");
        }
    }

    #[test]
    fn shown_to_people() {
        for (nanos, text) in
            [(0, "$0.0000"), (12_345_678, "$0.0123"), (1_995_000_000, "$2.00"), (-1_500_000_000, "-$1.50")]
        {
            assert_eq!(show_dollars(nanos), text);
        }
    }

    proptest! {
        #[test]
        fn no_price_panics(text in any::<String>()) {
            let _ = parse_dollars(&text);
        }

        #[test]
        fn more_tokens_never_cost_less(a in 0_u64..1_000_000_000, b in 0_u64..1_000_000_000, price in 0_i64..100_000_000_000) {
            let prices = Prices { input: price, cached_input: price, output: price, ..Prices::FREE };
            let cost = |tokens| prices.cost(&usage(Some(tokens), None, Some(0)));
            prop_assert!(cost(a.max(b)) >= cost(a.min(b)));
        }
    }
}
