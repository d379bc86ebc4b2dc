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
    /// By all that makes one what it is, as it goes out with each request: a URL's password and query, too.
    chats: Mutex<HashMap<HttpConfig, HttpChat>>,
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
        let config = http(place, model, live).plain()?;
        let lane = config.lane()?;
        let chat = self.chat(config)?;
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
    fn chat(&self, config: HttpConfig) -> Result<HttpChat, ChatError> {
        let mut chats = self.chats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chat) = chats.get(&config) {
            return Ok(chat.clone());
        }
        let chat = HttpChat::new(config.clone())?;
        chats.insert(config, chat.clone());
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
    use divvy_core::{
        chat::{ChatRequest, Message, Sampling},
        model::ModelId,
        recipe::Recipe,
    };
    use divvy_testkit::teacher::Teacher;
    use futures::StreamExt;
    use tokio_util::sync::CancellationToken;

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

    fn models(recipe: &str) -> (BTreeMap<String, Resolved>, Places) {
        let recipe = Recipe::parse(recipe, "x.toml").unwrap();
        let names: Vec<String> = recipe.models.keys().cloned().collect();
        let models = resolve(&recipe, std::path::Path::new("."), &names, true).unwrap();
        let places = Places::of(&models);
        (models, places)
    }

    /// The recipe with these URLs of one model.
    fn with_urls(urls: &[String]) -> String {
        let model = |(at, url): (usize, &String)| format!("[models.m{at}]\nsource = \"{url}\"\nmodel = \"teacher\"\n");
        let models: String = urls.iter().enumerate().map(model).collect();
        format!("name = \"x\"\n[data.train]\ndataset = \"synth\"\nrows = 4\n[collect]\nteacher = \"m0\"\n{models}")
    }

    #[tokio::test]
    async fn a_request_goes_out_with_the_password_and_the_query_of_its_own_name() {
        let teacher = Teacher::scripted([]).await.unwrap();
        let at = |login: &str, query: &str| format!("http://{login}{}/v1{query}", teacher.address());
        let urls =
            [at("a:one@", ""), at("b:two@", ""), at("", "?key=A"), at("", "?key=B"), at("", ""), at("a:one@", "")];
        let (models, places) = models(&with_urls(&urls));
        let mut lanes = Vec::new();
        for model in models.values() {
            let ModelSource::Endpoint { url } = &model.source else { panic!("{model:?}") };
            let endpoint = places.endpoints(url, &model.recipe, false).unwrap().remove(0);
            let request = ChatRequest {
                model: ModelId::remote("x", "teacher"),
                messages: vec![Message::user("hello")],
                sampling: Sampling::greedy(9),
                sample: 0,
            };
            endpoint.backend.start(request, CancellationToken::new()).collect::<Vec<_>>().await;
            lanes.push(endpoint.lane.unwrap());
        }
        let asked = teacher.asked();
        let sent = |at: usize| (asked[at].authorization.as_deref(), &*asked[at].target);
        // `a:one` and `b:two` in base 64.
        let (one, two) = (Some("Basic YTpvbmU="), Some("Basic Yjp0d28="));
        let path = "/v1/chat/completions";
        assert_eq!([sent(0), sent(1), sent(4), sent(5)], [(one, path), (two, path), (None, path), (one, path)]);
        assert_eq!([2, 3].map(|at| sent(at).1), ["/v1/chat/completions?key=A", "/v1/chat/completions?key=B"]);
        let apart: std::collections::BTreeSet<&String> = lanes.iter().collect();
        assert_eq!((apart.len(), &lanes[0], places.chats.lock().unwrap().len()), (5, &lanes[5], 5));
        assert!(!lanes.iter().any(|lane| lane.contains("one@") || lane.contains("key=")), "{lanes:?}");
    }

    #[test]
    fn names_of_one_place_have_one_lane_and_its_smallest_limits() {
        let (models, places) = models(RECIPE);
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
