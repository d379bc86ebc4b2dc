//! What was paid, for people and for programs: by model, by stage, by item, and for attempts that came to nothing.

use std::collections::BTreeMap;

use divvy_core::{
    cost::{show_dollars, show_price},
    recipe::Budget,
    records::Stage,
};
use divvy_flow::paid::Paid;
use divvy_store::{Amount, AttemptSum, AttemptTotal, CallTotal, Spending};
use serde_json::{Value, json};

use crate::progress::thousands;

/// Of a stage; nothing where nobody was asked.
pub(super) fn lines(paid: &Paid) -> String {
    let trials = match paid.trials {
        0 => String::new(),
        1 => ", 1 of them a trial of a JSON schema".to_owned(),
        trials => format!(", {} of them trials of a JSON schema", thousands(trials)),
    };
    let calls = (paid.calls > 0).then(|| format!("{:>10} calls{trials}: {}\n", thousands(paid.calls), took(paid)));
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
    format!("{tokens_in} tokens in, {tokens_out} out{unknown}, {}{}", show_price(paid.cost_nanos), found(paid))
}

/// What another plan has paid for is no part of what this one has spent.
fn found(paid: &Paid) -> String {
    match paid.found {
        0 => String::new(),
        found if found == paid.calls => "; all in the store before this plan began, and free for it".to_owned(),
        found => format!(
            "; {} of them ({}) in the store before this plan began, and free for it",
            thousands(found),
            show_price(paid.found_nanos)
        ),
    }
}

/// What an endpoint did not report is not known to have been charged.
fn reported(sum: &AttemptSum) -> String {
    let price = match (sum.price_nanos, sum.unpriced) {
        (None, 0) => String::new(),
        (nanos, 0) | (nanos @ None, _) => format!(", {}", show_price(nanos)),
        (nanos, unpriced) => format!(", {} and {} of unknown price", show_price(nanos), thousands(unpriced)),
    };
    format!("{} tokens in, {} out reported{price}", thousands(sum.tokens_in), thousands(sum.tokens_out))
}

pub(super) fn value_of_stage(paid: &Paid) -> Value {
    let mut value = value(paid);
    value["schema_trials"] = json!(paid.trials);
    value
}

pub(super) fn value(paid: &Paid) -> Value {
    json!({
        "calls": paid.calls, "tokens_in": paid.tokens_in, "tokens_out": paid.tokens_out,
        "unknown_usage": paid.unknown_usage, "cost_nanos": paid.cost_nanos,
        "found": { "calls": paid.found, "cost_nanos": paid.found_nanos },
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
        show_price(total.price_nanos)
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

/// What all commands of the plan have spent, against its caps, what of that is known by estimate alone or is behind no item, and
/// what may have been charged without an answer.
pub(super) fn spending_lines(spending: &Spending, caps: &Budget, paid: &BTreeMap<Stage, Paid>) -> String {
    if *spending == Spending::default() {
        let found: u64 = paid.values().map(|paid| paid.found).sum();
        return if found > 0 { "spent for this plan: nothing\n".to_owned() } else { String::new() };
    }
    let of = |cap: Option<String>| cap.map_or_else(String::new, |cap| format!(" of {cap}"));
    let (calls, tokens) = (of(caps.calls.map(thousands)), of(caps.tokens.map(thousands)));
    let money = caps.dollars.as_ref().map(|cap| format!("${cap}"));
    let spent = amount(&spending.spent, [calls, tokens, of(money)], caps.dollars.is_some());
    let lost = match spending.lost.calls {
        0 => String::new(),
        _ => format!(
            "     lost: {}; in flight when a command was killed, and perhaps charged\n",
            amount(&spending.lost, Default::default(), caps.dollars.is_some())
        ),
    };
    let beside = match beside(spending, paid) {
        0 => String::new(),
        calls => format!(
            "   of that: {} calls behind no item above, for attempts that came to nothing (where they reported no tokens, by \
             estimate) and items that are not finished (whose replies are kept)\n",
            thousands(calls)
        ),
    };
    format!("spent for this plan: {spent}\n{}{beside}{lost}", estimated(paid))
}

/// A reply whose endpoint did not count its tokens has those in the sum that were reserved for it.
fn estimated(paid: &BTreeMap<Stage, Paid>) -> String {
    // Of what another plan has paid for, some may be among them.
    let own = |paid: &Paid| paid.unknown_usage.min(paid.calls - paid.found);
    match paid.values().map(own).sum::<u64>() {
        0 => String::new(),
        calls => format!("   of that: {} calls by estimate, since their endpoint did not say\n", thousands(calls)),
    }
}

/// Calls that were paid and are behind none of the stages' items. Where another plan asked at the same time, its calls may be
/// behind items of this one, and nothing is told.
fn beside(spending: &Spending, paid: &BTreeMap<Stage, Paid>) -> u64 {
    let behind: u64 = paid.values().map(|paid| paid.calls - paid.found).sum();
    spending.spent.calls.unsigned_abs().saturating_sub(behind)
}

/// Money is told where there is some, or a cap on it: nothing may as well be an unknown price.
fn amount(amount: &Amount, [calls, tokens, money]: [String; 3], capped: bool) -> String {
    let count = |count: i64| thousands(count.unsigned_abs());
    let money = if capped || amount.nanos > 0 { format!(", {}{money}", show_dollars(amount.nanos)) } else { money };
    format!("{}{calls} calls, {}{tokens} tokens{money}", count(amount.calls), count(amount.tokens))
}

pub(super) fn spending_value(spending: &Spending, paid: &BTreeMap<Stage, Paid>) -> Value {
    let value = |amount: &Amount| json!({ "calls": amount.calls, "tokens": amount.tokens, "cost_nanos": amount.nanos });
    let beside = beside(spending, paid);
    json!({ "spent": value(&spending.spent), "lost": value(&spending.lost), "behind_no_item": { "calls": beside } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_stands_beside_its_cap_and_what_was_lost_below() {
        let amount = |calls, nanos| Amount { calls, tokens: 100 * calls, nanos };
        let lines = |lost, caps: Budget| {
            let paid = BTreeMap::from([(Stage::Collect, Paid { calls: 12, ..Paid::default() })]);
            spending_lines(&Spending { spent: amount(12, 3_000_000), lost: amount(lost, 0) }, &caps, &paid)
        };
        assert_eq!(lines(0, Budget::default()), "spent for this plan: 12 calls, 1,200 tokens, $0.0030\n");
        assert_eq!(
            lines(2, Budget { calls: Some(50), dollars: Some("5.00".to_owned()), ..Budget::default() }),
            "spent for this plan: 12 of 50 calls, 1,200 tokens, $0.0030 of $5.00\n     lost: 2 calls, 200 tokens, $0.0000; in \
             flight when a command was killed, and perhaps charged\n"
        );
        assert_eq!(spending_lines(&Spending::default(), &Budget::default(), &BTreeMap::new()), "");
    }

    #[test]
    fn what_is_behind_no_item_and_what_another_plan_has_paid_are_told_apart() {
        let paid = |calls, found| BTreeMap::from([(Stage::Screen, Paid { calls, found, ..Paid::default() })]);
        let told = |spent, paid: &BTreeMap<Stage, Paid>| {
            let spent = Amount { calls: spent, ..Amount::default() };
            spending_lines(&Spending { spent, ..Spending::default() }, &Budget::default(), paid)
        };
        assert_eq!(told(0, &paid(9, 9)), "spent for this plan: nothing\n");
        assert_eq!(told(4, &paid(9, 5)), "spent for this plan: 4 calls, 0 tokens\n");
        assert!(told(6, &paid(9, 5)).contains("of that: 2 calls behind no item above"), "{}", told(6, &paid(9, 5)));
        assert_eq!(told(2, &paid(9, 5)), "spent for this plan: 2 calls, 0 tokens\n", "another plan asked beside it");
        assert!(lines(&paid(9, 9)[&Stage::Screen]).contains("all in the store before"));
        assert!(lines(&paid(9, 5)[&Stage::Screen]).contains("; 5 of them ($0.0000) in the store before"));
    }

    #[test]
    fn what_is_spent_by_estimate_says_so() {
        let told = |unknown_usage, found| {
            let paid = BTreeMap::from([(Stage::Collect, Paid { calls: 9, unknown_usage, found, ..Paid::default() })]);
            let spent = Amount { calls: 9 - found as i64, ..Amount::default() };
            spending_lines(&Spending { spent, ..Spending::default() }, &Budget::default(), &paid)
        };
        let estimate = |calls| format!("   of that: {calls} calls by estimate, since their endpoint did not say\n");
        assert_eq!(told(3, 0), format!("spent for this plan: 9 calls, 0 tokens\n{}", estimate(3)));
        assert!(told(9, 4).ends_with(&estimate(5)) && !told(0, 4).contains("estimate"), "{}", told(9, 4));
    }

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
