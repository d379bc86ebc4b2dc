//! What was paid, for people and for programs: by model, by stage, by item, and for attempts that came to nothing.

use divvy_core::cost::show_dollars;
use divvy_flow::paid::Paid;
use divvy_store::{AttemptSum, AttemptTotal, CallTotal};
use serde_json::{Value, json};

use crate::progress::thousands;

/// Of a stage; nothing where nobody was asked.
pub(super) fn lines(paid: &Paid) -> String {
    let calls = (paid.calls > 0).then(|| format!("{:>10} calls: {}\n", thousands(paid.calls), took(paid)));
    let failed = &paid.failed;
    let failed = (failed.attempts > 0)
        .then(|| format!("{:>10} attempts that came to nothing: {}\n", thousands(failed.attempts), reported(failed)));
    calls.into_iter().chain(failed).collect()
}

/// Of one item.
pub(super) fn of_item(paid: &Paid) -> String {
    let failed = &paid.failed;
    let calls = match paid.calls {
        0 => "no calls".to_owned(),
        1 => format!("1 call: {}", took(paid)),
        calls => format!("{} calls: {}", thousands(calls), took(paid)),
    };
    match failed.attempts {
        0 => calls,
        1 => format!("{calls}; 1 attempt came to nothing: {}", reported(failed)),
        attempts => format!("{calls}; {} attempts came to nothing: {}", thousands(attempts), reported(failed)),
    }
}

fn took(paid: &Paid) -> String {
    let (tokens_in, tokens_out) = (thousands(paid.tokens_in), thousands(paid.tokens_out));
    let unknown = match paid.unknown_usage {
        0 => String::new(),
        calls => format!(" ({} calls did not say)", thousands(calls)),
    };
    format!("{tokens_in} tokens in, {tokens_out} out{unknown}, {}", price(paid.cost_nanos))
}

fn price(nanos: Option<i64>) -> String {
    nanos.map_or_else(|| "price unknown".to_owned(), show_dollars)
}

/// What an endpoint did not report is not known to have been charged.
fn reported(sum: &AttemptSum) -> String {
    let price = match (sum.price_nanos, sum.unpriced) {
        (None, 0) => String::new(),
        (nanos, 0) | (nanos @ None, _) => format!(", {}", price(nanos)),
        (nanos, unpriced) => format!(", {} and {} of unknown price", price(nanos), thousands(unpriced)),
    };
    format!("{} tokens in, {} out reported{price}", thousands(sum.tokens_in), thousands(sum.tokens_out))
}

pub(super) fn value(paid: &Paid) -> Value {
    json!({
        "calls": paid.calls, "tokens_in": paid.tokens_in, "tokens_out": paid.tokens_out,
        "unknown_usage": paid.unknown_usage, "cost_nanos": paid.cost_nanos,
        "failed_attempts": sum_value(&paid.failed),
    })
}

/// The price is null unless it is that of all attempts that reported tokens.
fn sum_value(sum: &AttemptSum) -> Value {
    json!({
        "attempts": sum.attempts, "tokens_in": sum.tokens_in, "tokens_out": sum.tokens_out,
        "cost_nanos": sum.price_nanos.filter(|_| sum.unpriced == 0), "unpriced": sum.unpriced,
    })
}

pub(super) fn call_value(total: &CallTotal) -> Value {
    json!({
        "model": total.model_name, "calls": total.calls, "tokens_in": total.tokens_in, "tokens_out": total.tokens_out,
        "unknown_usage": total.unknown_usage, "cost_nanos": total.price_nanos,
    })
}

pub(super) fn call_line(total: &CallTotal) -> String {
    let (calls, tokens_in, tokens_out) =
        (thousands(total.calls), thousands(total.tokens_in), thousands(total.tokens_out));
    format!(
        "{calls:>10} {:<20} {tokens_in} tokens in, {tokens_out} out, {}\n",
        total.model_name,
        price(total.price_nanos)
    )
}

pub(super) fn attempt_value(total: &AttemptTotal) -> Value {
    let mut value = sum_value(&total.sum);
    value["outcome"] = json!(total.outcome);
    value
}

pub(super) fn attempt_line(total: &AttemptTotal) -> String {
    format!("{:>10} {:<20} {}\n", thousands(total.sum.attempts), total.outcome, reported(&total.sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reported_has_no_price_and_what_has_none_is_not_free() {
        let priced = |price_nanos, unpriced| {
            let sum = AttemptSum { attempts: 3, tokens_in: 1200, tokens_out: 4, price_nanos, unpriced };
            (reported(&sum), sum_value(&sum)["cost_nanos"].clone())
        };
        let tokens = "1,200 tokens in, 4 out reported";
        assert_eq!(priced(None, 0), (tokens.to_owned(), Value::Null));
        assert_eq!(priced(Some(2_000_000), 0), (format!("{tokens}, $0.0020"), json!(2_000_000)));
        assert_eq!(priced(None, 3), (format!("{tokens}, price unknown"), Value::Null));
        assert_eq!(priced(Some(2_000_000), 1), (format!("{tokens}, $0.0020 and 1 of unknown price"), Value::Null));
    }
}
