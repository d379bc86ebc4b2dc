//! Chooses the endpoint that a request goes to. Several may serve one model: the least busy one for its weight is asked,
//! one that fails is left alone for a while, and one that refuses our key or does not know the model for good. Whoever
//! still stands in line at one that is left alone, or wants a pause, chooses again: nothing was sent. The call's key
//! names no endpoint, so that a reply is the same whoever gave it, and is paid for once.

mod breaker;

use std::{
    cmp::Ordering,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{self, AtomicUsize},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{
    client::Call,
    error::{ChatError, ErrorKind, UNCHARGED},
    layer::{Job, Layer},
};
pub use breaker::BreakerState;
use breaker::{Breaker, Fitness};

/// What happens to an endpoint that fails again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It is asked all the same: nothing would be tried again, so nobody waits for it to come back either.
    Never,
    /// It is left alone for a while; a try that finds no other waits for it so long. One that refuses our key or does not
    /// know the model is given up where there are others.
    Wait(Duration),
    /// It is left alone for a while, whatever its error, and nobody waits for it: a service outlives its upstream's faults.
    Brief,
}

pub(crate) struct Route<L> {
    lanes: Vec<Lane<L>>,
    longest_wait: Duration,
}

/// The way to one endpoint.
struct Lane<L> {
    weight: f64,
    /// There are others.
    several: bool,
    /// No error is for ever.
    forgives: bool,
    /// Requests sent this way that are not back, those in line included.
    running: AtomicUsize,
    health: Arc<Health>,
    inner: L,
}

/// How an endpoint does, for all who ask it.
pub(crate) struct Health {
    state: Mutex<State>,
    /// It takes nothing for a while: told to those that stand in line there, whatever they call it.
    closed: watch::Sender<()>,
}

struct State {
    breaker: Breaker,
    /// Some of them may ask others instead.
    several: bool,
    /// Set by an error that every request would meet, where there is another endpoint.
    dead: bool,
    last_error: Option<ChatError>,
}

impl Health {
    /// `several`: whoever asks it may ask others instead.
    pub(crate) fn new(several: bool, rest: Rest) -> Arc<Self> {
        let breaker = Breaker::new(several, rest != Rest::Never).probed_by_one(rest != Rest::Brief);
        let state = Mutex::new(State { breaker, several, dead: false, last_error: None });
        Arc::new(Self { state, closed: watch::Sender::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Layer> Route<L> {
    /// Layers with the share of requests that each should get, and how their endpoints do.
    pub(crate) fn new(lanes: Vec<(u32, Arc<Health>, L)>, rest: Rest) -> Self {
        let several = lanes.len() > 1;
        lanes.iter().for_each(|(_, health, _)| health.state().several |= several);
        let lane = |(weight, health, inner): (u32, Arc<Health>, L)| Lane {
            weight: f64::from(weight.max(1)),
            several,
            forgives: rest == Rest::Brief,
            running: AtomicUsize::new(0),
            health,
            inner,
        };
        let longest_wait = if let Rest::Wait(longest) = rest { longest } else { Duration::ZERO };
        Self { lanes: lanes.into_iter().map(lane).collect(), longest_wait }
    }

    fn another_lives(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.state().dead)
    }

    /// The endpoint to ask, or why none can be asked now.
    fn choose(&self, now: Instant) -> Result<&Lane<L>, ChatError> {
        self.choose_but(&[], now)
    }

    /// Of the others.
    fn choose_but(&self, these: &[&Lane<L>], now: Instant) -> Result<&Lane<L>, ChatError> {
        let is_one = |lane: &Lane<L>| these.iter().any(|other| std::ptr::eq(*other, lane));
        let alive = self.lanes.iter().filter(|lane| !lane.state().dead && !is_one(lane));
        let mut fit: Vec<(Fitness, f64, &Lane<L>)> = alive.map(|lane| (lane.fitness(now), lane.load(), lane)).collect();
        fit.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal)));
        match fit.first() {
            Some((Fitness::Resting(until), _, lane)) => Err(resting(lane, *until - now)),
            Some((_, _, lane)) => Ok(lane),
            // It will not be back after a while.
            None => Err(ChatError { retry_after: None, ..self.lanes[0].last_error() }),
        }
    }

    /// Whether another endpoint takes a request before this one does.
    fn is_second_to_another(&self, lane: &Lane<L>, now: Instant) -> bool {
        self.choose(now).is_ok_and(|best| !std::ptr::eq(best, lane))
    }

    /// Asks this one. `None`: the request has left the line there.
    async fn ask(&self, lane: &Lane<L>, job: &Job) -> Option<Result<Call, ChatError>> {
        // It stands in this line alone: what is told in another one is no reason to leave it.
        let mut closed = lane.health.closed.subscribe();
        job.sent.not_yet();
        // Told before we listened.
        if self.leaves(lane) {
            return None;
        }
        let (start, before) = (Instant::now(), job.waited.so_far());
        let mut asked = pin!(lane.ask(job.clone()));
        loop {
            tokio::select! {
                biased;
                Ok(()) = closed.changed(), if !job.sent.is_so() => {
                    if !job.sent.is_so() && self.leaves(lane) {
                        // What it stood there for without a place.
                        job.waited.since(start + job.waited.so_far().saturating_sub(before));
                        return None;
                    }
                }
                result = &mut asked => {
                    Self::tell(lane, &result);
                    return Some(result);
                }
            }
        }
    }

    /// Whether those in line at this endpoint should choose again.
    fn leaves(&self, lane: &Lane<L>) -> bool {
        let now = Instant::now();
        lane.is_open(now) || (lane.is_held(now) && self.is_second_to_another(lane, now))
    }

    /// Tells those in line what the result of a request says to them.
    fn tell(lane: &Lane<L>, result: &Result<Call, ChatError>) {
        let now = Instant::now();
        let several = lane.state().several;
        if (result.is_err() && lane.is_open(now)) || (several && lane.is_held(now)) {
            lane.health.closed.send_replace(());
        }
    }

    /// Another endpoint may serve what this one refused: nothing was paid for, and no time lost. `blocked` are those, this one
    /// included, that have a firewall which does not let it through.
    fn another_serves(&self, lane: &Lane<L>, error: &ChatError, blocked: &[&Lane<L>]) -> bool {
        let now = Instant::now();
        match error.kind {
            _ if error.condemns_endpoint() => lane.state().dead && self.another_lives(),
            ErrorKind::Blocked => self.choose_but(blocked, now).is_ok(),
            ErrorKind::RateLimited => lane.is_held(now) && self.choose(now).is_ok_and(|best| !best.is_held(now)),
            _ => false,
        }
    }
}

impl<L> Route<L> {
    /// BreakerState of each endpoint, requests sent its way, and its layers; in the order of [`Route::new`].
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (BreakerState, usize, &L)> {
        let now = Instant::now();
        self.lanes.iter().map(move |lane| {
            let state = lane.health.state();
            // One that is given up is left alone for good.
            let standing = if state.dead { BreakerState::Open } else { state.breaker.standing(now) };
            (standing, lane.running.load(atomic::Ordering::Relaxed), &lane.inner)
        })
    }
}

impl<L: Layer> Lane<L> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.health.state()
    }

    /// Requests under way for each unit of weight, this one included.
    fn load(&self) -> f64 {
        (self.running.load(atomic::Ordering::Relaxed) + 1) as f64 / self.weight
    }

    fn is_open(&self, now: Instant) -> bool {
        self.state().breaker.standing(now) == BreakerState::Open
    }

    fn is_held(&self, now: Instant) -> bool {
        matches!(self.fitness(now), Fitness::Held(_))
    }

    fn fitness(&self, now: Instant) -> Fitness {
        let held = self.inner.held_until().filter(|until| *until > now);
        let fitness = self.state().breaker.fitness(now);
        held.map_or(fitness, |until| fitness.max(Fitness::Held(until)))
    }

    fn last_error(&self) -> ChatError {
        let unknown = || ChatError::new(ErrorKind::Unreachable, "no endpoint can be asked");
        self.state().last_error.clone().unwrap_or_else(unknown)
    }

    async fn ask(&self, job: Job) -> Result<Call, ChatError> {
        let _running = Running::new(&self.running);
        let mut probe = Probe { health: &self.health, pending: self.state().breaker.sent() };
        let result = self.inner.call(job).await;
        probe.pending &= !self.learn(&result);
        result
    }

    /// Takes note of what the result says about the endpoint; whether it says anything.
    fn learn(&self, result: &Result<Call, ChatError>) -> bool {
        let mut state = self.state();
        match result {
            Ok(_) => state.breaker.succeeded(),
            Err(error) if blames_endpoint(error.kind) || (self.forgives && error.condemns_endpoint()) => {
                state.breaker.failed(Instant::now());
                state.last_error = Some(error.clone());
            }
            Err(error) if error.condemns_endpoint() => {
                (state.dead, state.last_error) = (state.dead || self.several, Some(error.clone()));
            }
            // Perhaps the address is blocked as a whole.
            Err(error) if self.several && error.kind == ErrorKind::Blocked => {
                state.breaker.failed(Instant::now());
                // What is not sent meanwhile may be sent later.
                state.last_error = Some(ChatError { kind: ErrorKind::Unreachable, ..error.clone() });
            }
            // It answered, and refused this one request.
            Err(error) if error.status.is_some() => state.breaker.succeeded(),
            Err(_) => return false,
        }
        true
    }
}

/// The endpoint, or the way to it, is ill.
fn blames_endpoint(kind: ErrorKind) -> bool {
    use ErrorKind::{CutOff, ServerError, Stalled, TimedOut, Unreachable, Unreadable};
    matches!(kind, CutOff | ServerError | TimedOut | Stalled | Unreachable | Unreadable)
}

fn resting<L: Layer>(lane: &Lane<L>, left: Duration) -> ChatError {
    let error = lane.last_error();
    let message = format!("{}; it failed several times in a row and is left alone for a while", error.message);
    ChatError { message, retry_after: Some(left), usage: UNCHARGED, ..error }
}

impl<L: Layer> Layer for Route<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let (mut start, mut blocked) = (Instant::now(), Vec::new());
        loop {
            let lane = match self.choose_but(&blocked, Instant::now()) {
                Ok(lane) => lane,
                // Waiting is no try: an endpoint that comes back finds its requests still there.
                Err(ChatError { retry_after: Some(rest), .. })
                    if start.elapsed() < self.longest_wait && job.outlasts(rest) =>
                {
                    job.in_line(tokio::time::sleep(rest)).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let asked = self.ask(lane, &job).await;
            if let Some(Err(ChatError { kind: ErrorKind::Blocked, .. })) = &asked {
                blocked.push(lane);
            }
            match asked {
                // It waited for a place, and not yet for an endpoint that rests.
                None => start = Instant::now(),
                Some(Err(error)) if self.another_serves(lane, &error, &blocked) && !job.listener.has_heard() => {
                    if error.condemns_endpoint() {
                        tracing::warn!(%error, "this endpoint is not asked again");
                    }
                    job.listener.failed_try(&error);
                }
                Some(result) => return result,
            }
        }
    }
}

/// Counted as long as it lives.
struct Running<'l>(&'l AtomicUsize);

impl<'l> Running<'l> {
    fn new(count: &'l AtomicUsize) -> Self {
        count.fetch_add(1, atomic::Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, atomic::Ordering::Relaxed);
    }
}

/// A probe that ends without a verdict, a dropped one included, makes place for another.
struct Probe<'l> {
    health: &'l Health,
    pending: bool,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if self.pending {
            self.health.state().breaker.probe_lost();
        }
    }
}

#[cfg(test)]
mod tests;
