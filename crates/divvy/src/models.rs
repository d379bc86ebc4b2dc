//! Models by name for the stages: what each name in the recipe is (its identity, known before anything is loaded) and a
//! client for it, made when first asked.

mod pace;
mod places;
mod resolve;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use divvy_core::{
    cost::{Prices, list},
    digest::Digest,
    model::{ModelId, ModelSource},
    recipe,
};
use divvy_flow::{
    context::{Models, Ready},
    error::FlowError,
    progress::Progress,
    train::Artefact,
};
use divvy_llm::{Budget, Caps, Chat, Client, ClientConfig, Clock, Endpoint, Flights, Lanes, Live, RetryPolicy};
use divvy_serve::menu::Voice;
use divvy_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::{
    batching::{self, Batching},
    host::{Hosts, LocalChat},
};
use places::Places;
pub(crate) use resolve::{Resolved, path, resolve};

/// Sequences in a local batch, unless the recipe says otherwise.
const LOCAL_BATCH: usize = 32;
/// Requests in flight at an endpoint as long as nothing is known of it: forecasts count with these …
const REMOTE_CONCURRENCY: usize = 16;
/// … and how many they may become while it takes them, unless the recipe says otherwise.
const MOST_REMOTE: usize = 128;
/// For `divvy serve`, where the service itself says how many requests are answered at once.
const LIVE_CONCURRENCY: usize = 4096;
/// Items under way for each request that an endpoint takes at once: a refused one is away for a second and more.
const SEATS: usize = 4;
/// In that second an endpoint that answers at once could have taken thousands of others: where no other worker waits for
/// them, so many are under way whatever it takes at once, but not more than this for each request.
const SEATS_ALONE: usize = 1024;
const MOST_SEATS: usize = 16;
/// A call to a local model waits for its place in the batch, however long the queue.
const LOCAL_DEADLINE: Duration = Duration::from_hours(7 * 24);

/// The caps of a recipe on what is spent for its plan, and who is told of it.
///
/// # Errors
/// The store's.
pub(crate) async fn budget(caps: &recipe::Budget, store: &Store, plan: &Digest) -> Result<Arc<Budget>, StoreError> {
    let time = caps.minutes.map(Duration::from_mins);
    let caps = Caps { calls: caps.calls, tokens: caps.tokens, price_nanos: caps.price_nanos(), time };
    Ok(match store {
        Store::Postgres(shared) => Budget::common(caps, shared.clone(), plan.clone()),
        Store::Sqlite(file) => Budget::kept(caps, file.spending(plan).await?, file.purse(plan).await?),
    })
}

/// The door that the stages use.
pub(crate) struct Registry {
    store: Store,
    resolved: BTreeMap<String, Resolved>,
    hosts: Arc<Hosts>,
    budget: Arc<Budget>,
    students: Mutex<HashMap<String, (String, Artefact)>>,
    clients: Mutex<HashMap<String, Ready>>,
    voices: Mutex<HashMap<String, Voice>>,
    batching: Batching,
    places: Places,
    /// Of clients, and of models whose replies are heard while they are written.
    lanes: Lanes,
    live_lanes: Lanes,
    flights: Flights,
    hurry: CancellationToken,
}

impl Registry {
    pub(crate) fn new(
        store: Store,
        resolved: BTreeMap<String, Resolved>,
        hosts: Arc<Hosts>,
        budget: Arc<Budget>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let places = Places::of(&resolved);
        Self {
            store,
            resolved,
            hosts,
            budget,
            students: Mutex::default(),
            clients: Mutex::default(),
            voices: Mutex::default(),
            batching: Batching::new(progress),
            places,
            lanes: Lanes::default(),
            live_lanes: Lanes::default(),
            flights: Flights::default(),
            hurry: CancellationToken::new(),
        }
    }

    /// Requests are on their way, or their replies.
    pub(crate) fn has_flights(&self) -> bool {
        self.flights.aloft() > 0
    }

    /// Replies that are under way are given up.
    pub(crate) fn hurry(&self) {
        self.hurry.cancel();
    }

    /// From now on nothing is asked in batches: somebody waits for the answer.
    pub(crate) fn ask_at_once(&self) {
        self.batching.suspend();
    }

    /// Whose batches this recipe waits for, by endpoint and model.
    pub(crate) fn batch_places(&self) -> Vec<(String, String)> {
        self.resolved.values().filter_map(batching::batch_place).collect()
    }

    /// Gives back what is lent of a budget that workers have in common.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn settle(&self) -> Result<(), divvy_llm::ChatError> {
        // Nobody is left who waits for them.
        self.hurry();
        self.budget.settle().await
    }

    /// A client that keeps what it hears.
    fn make(&self, name: &str) -> Result<Ready, FlowError> {
        let (called, model, endpoints, id) = self.place(name, false)?;
        let config = self.config(called, model).map_err(|reason| fail(name, reason))?;
        if let Some((batches, concurrency)) =
            self.batching.of(model, &self.store, &config).map_err(|error| fail(name, error.to_string()))?
        {
            let client = Arc::new(Client::batched(endpoints, self.store.clone(), config, batches));
            return Ok(Ready { client, id, concurrency, in_bulk: true });
        }
        let alone = self.store.shared().is_none();
        let at_once: usize = endpoints.iter().map(|endpoint| endpoint.max_concurrency).sum();
        // What one worker holds, others wait for: no more than its endpoints are known to take.
        let at_once = if alone || config.local { at_once } else { pace::pace(model).at_once };
        let concurrency = if config.local { at_once } else { seats(at_once, alone) };
        let client = Arc::new(Client::new(endpoints, self.store.clone(), config));
        Ok(Ready { client, id, concurrency, in_bulk: false })
    }

    /// A model whose replies are heard while they are written, for `divvy serve`. The recipe's budget is for its stages and
    /// is not counted here.
    ///
    /// # Errors
    /// [`FlowError::Model`]: not trained, not defined, no key.
    pub(crate) fn live(&self, name: &str) -> Result<Voice, FlowError> {
        // One for all arms.
        if let Some(voice) = self.voices.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(voice.clone());
        }
        let (called, model, endpoints, id) = self.place(name, true)?;
        let config = self.config(called, model).map_err(|reason| fail(name, reason))?;
        let config = ClientConfig { budget: Arc::default(), lanes: self.live_lanes.clone(), ..config };
        let live = Arc::new(Live::new(endpoints, &config));
        let raw = self
            .local(name)?
            .map(|(_, model, chat, _)| Arc::new(Live::new(vec![in_process(Arc::new(chat.raw()), model)], &config)));
        let (called, provider) = told(called, model);
        let (local, prices) = (config.local, config.prices);
        let voice = Voice { name: name.to_owned(), id, called, provider, live, raw, local, prices };
        self.voices.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), voice.clone());
        Ok(voice)
    }

    /// Where a model is: what it is called, what it is described by, its endpoints, its identity.
    fn place<'a>(&'a self, name: &'a str, live: bool) -> Result<Place<'a>, FlowError> {
        let fail = |reason: String| fail(name, reason);
        if let Some((called, model, chat, id)) = self.local(name)? {
            return Ok((called, model, vec![in_process(Arc::new(chat), model)], id));
        }
        let model = self.resolved.get(name).ok_or_else(|| fail("is not defined under [models]".into()))?;
        let endpoints = match (&model.source, &model.path) {
            (ModelSource::Endpoint { url }, _) => {
                self.places.endpoints(url, &model.recipe, live).map_err(|error| fail(error.to_string()))?
            }
            (ModelSource::Recorded(_), Some(file)) => {
                let chat = divvy_llm::Recorded::open(file).map_err(|error| fail(error.to_string()))?;
                vec![Endpoint { max_concurrency: REMOTE_CONCURRENCY, ..Endpoint::new(Arc::new(chat)) }]
            }
            _ => return Err(fail("has no weights".into())),
        };
        Ok((name, model, endpoints, model.id.clone()))
    }

    /// A model in this process; `None` for one that is elsewhere.
    fn local<'a>(&'a self, name: &'a str) -> Result<Option<(&'a str, &'a Resolved, LocalChat, ModelId)>, FlowError> {
        if let Some(student) = name.strip_prefix("student:") {
            let found = self.student(student);
            let (model, chat, id) = found.ok_or_else(|| fail(name, "is not trained yet; run `divvy train`".into()))?;
            return Ok(Some((student, model, chat, id)));
        }
        let Some(model) = self.resolved.get(name) else { return Ok(None) };
        let (ModelSource::PyPi { .. } | ModelSource::Hub { .. } | ModelSource::Path(_), Some(path)) =
            (&model.source, &model.path)
        else {
            return Ok(None);
        };
        let chat = self.hosts.chat(name, model.form(path), None, batch(model));
        Ok(Some((name, model, chat, model.id.clone())))
    }

    fn student(&self, student: &str) -> Option<(&Resolved, LocalChat, ModelId)> {
        let (base, artefact) = self.students.lock().unwrap_or_else(PoisonError::into_inner).get(student)?.clone();
        let model = self.resolved.get(&base)?;
        let id = ModelId::local(model.weights.as_deref()?, Some(&artefact.content), "", &model.recipe.profile());
        let base_path = model.path.as_deref()?;
        // Full weights stand alone; an adapter needs its base.
        let chat = if artefact.path.join("adapter_config.json").exists() {
            self.hosts.chat(&base, model.form(base_path), Some(artefact.path), batch(model))
        } else {
            self.hosts.chat(student, model.form(&artefact.path), None, batch(model))
        };
        Some((model, chat, id))
    }

    fn config(&self, name: &str, model: &Resolved) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new(name);
        config.local = !matches!(model.source, ModelSource::Endpoint { .. });
        if config.local {
            // A local model answers when its turn comes, and a second try would fail as the first did.
            (config.deadline, config.attempt_timeout, config.retry) =
                (LOCAL_DEADLINE, LOCAL_DEADLINE, RetryPolicy::NEVER);
            // Replies that somebody recorded took no time here.
            config.timed = !matches!(model.source, ModelSource::Recorded(_));
        }
        let price = list::price(&model.recipe);
        config.prices = price.map(Prices::parse).transpose().map_err(|error| format!("price: {error}"))?;
        config.batch_prices = price.map(Prices::parse_batch).transpose().map_err(|error| format!("price: {error}"))?;
        config.budget = Arc::clone(&self.budget);
        config.flights = self.flights.clone();
        config.lanes = self.lanes.clone();
        config.clock = Clock::starting_at(crate::clock::now_ms());
        config.stall = model.recipe.stall_seconds.map(Duration::from_secs);
        config.lands = (!config.local).then(|| self.hurry.clone());
        Ok(match model.recipe.timeout_seconds {
            Some(seconds) => config.within(Duration::from_secs(seconds)),
            None => config,
        })
    }
}

fn fail(name: &str, reason: String) -> FlowError {
    FlowError::Model { name: name.to_owned(), reason }
}

/// A model's name where it is served, and whose it is, as OpenTelemetry tells them apart: where the recipe does not say, by
/// the protocol that it speaks.
fn told(name: &str, model: &Resolved) -> (Arc<str>, Arc<str>) {
    if !matches!(model.source, ModelSource::Endpoint { .. }) {
        return (name.into(), "divvy".into());
    }
    (model.recipe.model.as_deref().unwrap_or(name).into(), model.recipe.provider.as_deref().unwrap_or("openai").into())
}

type Place<'a> = (&'a str, &'a Resolved, Vec<Endpoint>, ModelId);

/// Sequences in the batch of a local model.
fn batch(model: &Resolved) -> usize {
    model.recipe.concurrency.unwrap_or(LOCAL_BATCH)
}

fn in_process(chat: Arc<dyn Chat>, model: &Resolved) -> Endpoint {
    Endpoint { max_concurrency: batch(model), ..Endpoint::new(chat) }
}

#[async_trait]
impl Models for Registry {
    async fn get(&self, name: &str) -> Result<Ready, FlowError> {
        if let Some(ready) = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(ready.clone());
        }
        let ready = self.make(name)?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), ready.clone());
        Ok(ready)
    }

    fn base(&self, name: &str) -> String {
        let weights = self.resolved.get(name).and_then(|model| model.weights.as_deref());
        let exact = |weights| ModelId::local(weights, None, "", recipe::Numerics::Exact.name()).0.hex().to_owned();
        weights.map(exact).unwrap_or_default()
    }

    fn add_student(&self, name: &str, base: &str, artefact: &Artefact) {
        let student = (base.to_owned(), artefact.clone());
        self.students.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), student);
    }
}

/// Items that wait for their next try leave their place to others; the endpoints' own limits hold all the same.
fn seats(at_once: usize, alone: bool) -> usize {
    let few = SEATS * at_once;
    if alone { few.max((MOST_SEATS * at_once).min(SEATS_ALONE)) } else { few }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_its_next_try_leaves_its_place_and_leaves_other_workers_their_share() {
        let of = |alone| [1, 16, 64, 256, 1024].map(|at_once| seats(at_once, alone));
        assert_eq!(of(true), [16, 256, 1024, 1024, 4096]);
        assert_eq!(of(false), [4, 64, 256, 1024, 4096]);
    }
}
