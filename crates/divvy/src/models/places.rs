//! Where the models of a recipe are served, and under which limits. A limit is the endpoint's, whatever a model is called
//! here: names that mean one place ask it over the same connections, in one line, and the smallest limits that any of them declares hold.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use divvy_core::{
    model::ModelSource,
    recipe::{FurtherEndpoint, Model},
};
use divvy_llm::{ApiKey, ChatError, Endpoint, HttpChat, HttpConfig, Rates, Transfer};

use super::{LIVE_CONCURRENCY, MOST_REMOTE, Resolved};

#[derive(Default)]
pub(super) struct Places {
    /// By lane ([`HttpConfig::lane`]).
    limits: BTreeMap<String, Limits>,
    /// By lane, and whether replies are streamed.
    chats: Mutex<HashMap<(String, bool), HttpChat>>,
}

/// What a recipe says of a place; `None` where it says nothing.
#[derive(Clone, Copy, Default)]
struct Limits {
    concurrency: Option<usize>,
    rates: Rates,
}

impl Places {
    pub(super) fn of(models: &BTreeMap<String, Resolved>) -> Self {
        let mut limits = BTreeMap::<String, Limits>::new();
        for model in models.values() {
            let ModelSource::Endpoint { url } = &model.source else { continue };
            for place in all(url, &model.recipe) {
                // A URL that is none is told of when it is asked.
                let Ok(lane) = http(&place, &model.recipe, false).lane() else { continue };
                let known = limits.entry(lane).or_default();
                *known = known.and(&place);
            }
        }
        Self { limits, ..Self::default() }
    }

    /// Where a remote model is served.
    pub(super) fn endpoints(&self, url: &str, model: &Model, live: bool) -> Result<Vec<Endpoint>, ChatError> {
        all(url, model).iter().map(|place| self.endpoint(place, model, live)).collect()
    }

    fn endpoint(&self, place: &FurtherEndpoint, model: &Model, live: bool) -> Result<Endpoint, ChatError> {
        let config = http(place, model, live);
        let lane = config.lane()?;
        let chat = self.chat(&lane, config)?;
        let limits = self.limits.get(&lane).copied().unwrap_or_default().and(place);
        Ok(Endpoint {
            // Without what nobody should read in a store.
            name: Some(chat.endpoint().to_owned()),
            lane: Some(lane),
            weight: place.weight.unwrap_or(1),
            max_concurrency: limits.concurrency.unwrap_or(if live { LIVE_CONCURRENCY } else { MOST_REMOTE }),
            // People who wait have a line of their own, at the service's door.
            adaptive: !live,
            rates: limits.rates,
            ..Endpoint::new(Arc::new(chat))
        })
    }

    /// What an endpoint tells of its limits, it tells to all who ask there.
    fn chat(&self, lane: &str, config: HttpConfig) -> Result<HttpChat, ChatError> {
        let key = (lane.to_owned(), config.transfer == Transfer::Streamed);
        let mut chats = self.chats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chat) = chats.get(&key) {
            return Ok(chat.clone());
        }
        let chat = HttpChat::new(config)?;
        chats.insert(key, chat.clone());
        Ok(chat)
    }
}

impl Limits {
    /// The stricter of both.
    fn and(self, place: &FurtherEndpoint) -> Self {
        let Self { concurrency, rates } = self;
        Self {
            concurrency: least(concurrency, place.concurrency),
            rates: Rates {
                requests: least(rates.requests, place.requests_per_minute),
                tokens: least(rates.tokens, place.tokens_per_minute),
            },
        }
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

/// The places of a model: its `source`, and those under `endpoints`.
fn all(url: &str, model: &Model) -> Vec<FurtherEndpoint> {
    let first = FurtherEndpoint {
        url: url.to_owned(),
        model: None,
        api_key_env: model.api_key_env.clone(),
        weight: model.weight,
        concurrency: model.concurrency,
        requests_per_minute: model.requests_per_minute,
        tokens_per_minute: model.tokens_per_minute,
    };
    std::iter::once(first).chain(model.endpoints.iter().cloned()).collect()
}

fn http(place: &FurtherEndpoint, model: &Model, live: bool) -> HttpConfig {
    HttpConfig {
        url: place.url.clone(),
        model: place.model.clone().or_else(|| model.model.clone()).unwrap_or_default(),
        api_key: place.api_key_env.clone().map_or(ApiKey::None, ApiKey::Env),
        transfer: if live || model.stall_seconds.is_some() { Transfer::Streamed } else { Transfer::Whole },
    }
}

#[cfg(test)]
mod tests {
    use divvy_core::recipe::Recipe;

    use super::*;
    use crate::models::resolve;

    const RECIPE: &str = r#"
        name = "x"
        [data.train]
        dataset = "synth"
        rows = 4
        [collect]
        teacher = "teacher"

        [models.teacher]
        source = "http://127.0.0.1:9/v1"
        model = "m"
        concurrency = 8
        requests_per_minute = 60

        [models.judge]
        source = "http://127.0.0.1:9/v1/"
        model = "m"
        concurrency = 4
        tokens_per_minute = 1000
        [[models.judge.endpoints]]
        url = "http://127.0.0.1:10/v1"

        [models.other]
        source = "http://127.0.0.1:9/v1"
        model = "n"

        [models.wise]
        source = "http://127.0.0.1:10/v1"
        model = "m"
        requests_per_minute = 7
    "#;

    #[test]
    fn names_of_one_place_have_one_lane_and_its_smallest_limits() {
        let recipe = Recipe::parse(RECIPE, "x.toml").unwrap();
        let names: Vec<String> = recipe.models.keys().cloned().collect();
        let models = resolve(&recipe, std::path::Path::new("."), &names, true).unwrap();
        let places = Places::of(&models);
        let of = |name: &str| {
            let ModelSource::Endpoint { url } = &models[name].source else { panic!("{name}") };
            places.endpoints(url, &models[name].recipe, false).unwrap()
        };
        let limits = |place: &Endpoint| (place.max_concurrency, place.rates.requests, place.rates.tokens);
        let (teacher, judge, other, wise) = (&of("teacher")[0], of("judge"), &of("other")[0], &of("wise")[0]);
        assert_eq!((limits(teacher), limits(&judge[0])), ((4, Some(60), Some(1000)), (4, Some(60), Some(1000))));
        assert!(teacher.lane == judge[0].lane && teacher.lane != other.lane && judge[1].lane == wise.lane);
        assert_eq!(limits(other), (MOST_REMOTE, None, None));
        assert_eq!(limits(&judge[1]), (MOST_REMOTE, Some(7), None));
    }
}
