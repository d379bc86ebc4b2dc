//! How fast each model may be asked and what it is paid, as the recipe says, for forecasts.

use std::sync::PoisonError;

use divvy_core::{
    cost::{Prices, list},
    model::ModelSource,
    recipe,
};
use divvy_flow::forecast::{Pace, Paces};
use divvy_llm::Rates;

use super::{REMOTE_CONCURRENCY, Registry, Resolved, batch};

impl Registry {
    /// Of every model in use, and of every student that is trained.
    pub(crate) fn paces(&self) -> Paces {
        let mut paces: Paces = self.resolved.iter().map(|(name, model)| (name.clone(), pace(model))).collect();
        let students = self.students.lock().unwrap_or_else(PoisonError::into_inner);
        let bases = students.iter().filter_map(|(name, (base, _))| Some((name.clone(), self.resolved.get(base)?)));
        paces.extend(bases.map(|(name, base)| (name, pace(base))));
        paces
    }

    /// `name` is `student:NAME`.
    pub(crate) fn is_trained(&self, name: &str) -> bool {
        let students = self.students.lock().unwrap_or_else(PoisonError::into_inner);
        name.strip_prefix("student:").is_some_and(|name| students.contains_key(name))
    }

    /// Calls, tokens and nano-dollars that this command has spent.
    pub(crate) fn spent(&self) -> (u64, u64, i64) {
        self.budget.spent()
    }

    /// The same for all commands of the plan.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn spent_for_plan(&self) -> Result<(u64, u64, i64), divvy_llm::ChatError> {
        self.budget.spent_for_plan().await
    }
}

pub(super) fn pace(model: &Resolved) -> Pace {
    let recipe = &model.recipe;
    let prices = list::price(recipe).and_then(|price| Prices::parse(price).ok());
    let local = !matches!(model.source, ModelSource::Endpoint { .. });
    if local {
        return Pace { local, prices, at_once: batch(model), rates: Rates::default() };
    }
    let first = recipe.concurrency.unwrap_or(REMOTE_CONCURRENCY);
    let further = recipe.endpoints.iter().map(|place| place.concurrency.unwrap_or(REMOTE_CONCURRENCY));
    Pace { local, prices, at_once: first + further.sum::<usize>(), rates: rates(recipe) }
}

/// Of all endpoints together, where each has one.
fn rates(model: &recipe::Model) -> Rates {
    let sum = |first: Option<u64>, further: fn(&recipe::FurtherEndpoint) -> Option<u64>| {
        model.endpoints.iter().map(further).try_fold(first?, |sum, rate| Some(sum + rate?))
    };
    Rates {
        requests: sum(model.requests_per_minute, |place| place.requests_per_minute),
        tokens: sum(model.tokens_per_minute, |place| place.tokens_per_minute),
    }
}
