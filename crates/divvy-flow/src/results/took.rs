//! What one question took in one arm, and one row in one stage, from the calls behind it and from tries that failed.

use std::collections::{HashMap, HashSet};

use divvy_core::{
    cost::{Prices, account::price_of_training, latency},
    digest::Digest,
    results::costs::{Outlay, StatedTerms, Tokens},
};
use divvy_llm::{in_batch, may_be_charged_with};
use divvy_store::{AttemptRecord, CallUsage, ItemRow};

use crate::{context::Context, error::FlowError};

/// Tries that reached the model, so that they may be charged, whatever they say of tokens.
const MAY_BE_CHARGED: [&str; 4] = ["timed-out", "cut-off", "unreadable", "empty-completion"];

/// On what terms calls are counted.
pub(super) struct Tariff<'a> {
    pub(super) terms: StatedTerms,
    /// Identity of a model → its price in the recipe as it stands.
    pub(super) by_id: HashMap<&'a str, Prices>,
    pub(super) by_name: &'a std::collections::BTreeMap<String, Prices>,
}

/// Sums of the calls behind one item.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Took {
    pub(super) calls: u64,
    pub(super) unknown_usage: u64,
    pub(super) tokens: Tokens,
    pub(super) failed_tries: u64,
    pub(super) failed_tokens: Tokens,
    pub(super) uncounted_tries: u64,
    pub(super) money_nanos: Option<i64>,
    pub(super) machine_us: Option<i64>,
    /// `None` where a part came in a batch, or never came.
    pub(super) path_ms: Option<i64>,
}

impl<'a> Tariff<'a> {
    pub(super) fn new(
        context: &'a Context,
        terms: StatedTerms,
        by_name: &'a std::collections::BTreeMap<String, Prices>,
    ) -> Self {
        let ids = context.plan.models.iter();
        let by_id = ids.filter_map(|(name, id)| Some((id.as_str(), *by_name.get(name)?))).collect();
        Self { terms, by_id, by_name }
    }

    /// By the machine's time, idle hours included, where that is on record; else what it cost when it was made; else by its
    /// tokens at the recipe's price, which may have been written since.
    fn price(&self, call: &CallUsage) -> Option<i64> {
        match (call.worked_us, call.price_nanos) {
            (Some(_), Some(nanos)) => self.terms.with_idle_hours(nanos),
            (Some(worked), None) => self.terms.price_of_time(worked, self.terms.machine_hour_nanos?),
            (None, Some(nanos)) => Some(nanos),
            (None, None) => self.by_tokens(call)?.cost(&call.usage),
        }
    }

    fn by_tokens(&self, call: &CallUsage) -> Option<&Prices> {
        self.by_id.get(&*call.model_id.hex()).filter(|prices| prices.machine_hour == 0)
    }

    /// Of a student with this base, trained for so long.
    pub(super) fn training(&self, base: &str, wall_ms: i64) -> Outlay {
        let own = self.by_name.get(base).map(|prices| prices.machine_hour).filter(|hour| *hour > 0);
        let worked = wall_ms.saturating_mul(1000);
        let hour = own.or(self.terms.machine_hour_nanos);
        let money_nanos = hour.and_then(|hour| price_of_training(worked, hour));
        Outlay { tokens: Tokens::default(), money_nanos, machine_us: Some(worked) }
    }
}

/// The calls behind items.
pub(super) struct Calls {
    by_key: HashMap<Digest, CallUsage>,
    failed: HashMap<Digest, Vec<AttemptRecord>>,
}

impl Calls {
    /// Of these items, read from the store together.
    pub(super) async fn read<'r>(
        context: &Context,
        rows: impl Iterator<Item = &'r ItemRow>,
    ) -> Result<Self, FlowError> {
        let mut seen = HashSet::new();
        let keys: Vec<Digest> = rows.flat_map(|row| &row.calls).filter(|key| seen.insert(*key)).cloned().collect();
        let mut calls = Self::none_yet(context).await?;
        calls.extend(context.store.call_usages(&keys).await?);
        Ok(calls)
    }

    /// Tries that failed are few, and known beforehand.
    pub(super) async fn none_yet(context: &Context) -> Result<Self, FlowError> {
        let mut failed: HashMap<Digest, Vec<AttemptRecord>> = HashMap::new();
        for attempt in context.store.failed_attempts(None, None, u32::MAX).await? {
            failed.entry(attempt.key.clone()).or_default().push(attempt);
        }
        Ok(Self { by_key: HashMap::new(), failed })
    }

    pub(super) fn extend(&mut self, calls: Vec<CallUsage>) {
        self.by_key.extend(calls.into_iter().map(|call| (call.key.clone(), call)));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &CallUsage> {
        self.by_key.values()
    }

    /// What the calls behind one item took.
    pub(super) fn of(&self, keys: &[Digest], tariff: &Tariff<'_>) -> Took {
        let mut took = Took {
            calls: 0,
            unknown_usage: 0,
            tokens: Tokens::default(),
            failed_tries: 0,
            failed_tokens: Tokens::default(),
            uncounted_tries: 0,
            money_nanos: Some(0),
            machine_us: Some(0),
            path_ms: None,
        };
        // Every strategy asks a question's calls one after another: each is a step of its own.
        let steps: Option<Vec<Vec<i64>>> =
            keys.iter().map(|key| self.add(key, tariff, &mut took).map(|ms| vec![ms])).collect();
        took.path_ms = steps.filter(|steps| !steps.is_empty()).map(|steps| latency::critical_path(&steps));
        took
    }

    /// How long somebody waited for it.
    fn add(&self, key: &Digest, tariff: &Tariff<'_>, took: &mut Took) -> Option<i64> {
        let call = self.by_key.get(key);
        let tries = self.failed.get(key).map_or(&[][..], Vec::as_slice);
        for attempt in tries {
            took.failed(attempt, call.and_then(|call| tariff.by_tokens(call)));
        }
        let call = call?;
        took.calls += 1;
        took.tokens.add(&call.usage);
        took.unknown_usage += u64::from(call.usage.tokens_in.is_none() || call.usage.tokens_out.is_none());
        took.money_nanos = sum(took.money_nanos, tariff.price(call));
        took.machine_us = sum(took.machine_us, call.worked_us);
        let waited: i64 = tries.iter().map(|attempt| attempt.latency_ms).sum();
        (!in_batch(call.endpoint.as_deref())).then(|| call.latency_ms + waited)
    }
}

fn may_be_charged(attempt: &AttemptRecord) -> bool {
    MAY_BE_CHARGED.contains(&attempt.outcome.as_str()) || attempt.http_status.is_some_and(may_be_charged_with)
}

impl Took {
    fn failed(&mut self, attempt: &AttemptRecord, prices: Option<&Prices>) {
        self.failed_tries += 1;
        let usage = &attempt.usage;
        let counted = usage.tokens_in.is_some() || usage.tokens_out.is_some();
        if !counted {
            self.uncounted_tries += u64::from(may_be_charged(attempt));
            return;
        }
        self.failed_tokens.add(usage);
        let free = usage.tokens_in.unwrap_or(0) == 0 && usage.tokens_out.unwrap_or(0) == 0;
        if !free {
            // As it was when it failed; earlier versions did not keep it.
            let price = attempt.price_nanos.or_else(|| prices?.cost(usage));
            self.money_nanos = sum(self.money_nanos, price);
        }
    }

    pub(super) fn outlay(&self) -> Outlay {
        let tokens = self.tokens.and(self.failed_tokens);
        Outlay { tokens, money_nanos: self.money_nanos, machine_us: self.machine_us }
    }
}

fn sum(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a?.checked_add(b?)
}
