//! An identical request in flight is shared: the first caller starts it, the others wait for the same reply. It goes
//! on as long as anybody waits. When the last one gives it up, what has not been sent is not sent, and what has been is paid for:
//! it is waited for and kept. What other workers have in flight is the business of `claim`.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use divvy_core::digest::Digest;
use divvy_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    claim::alone,
    client::Call,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

type Outcome = Option<Result<Call, ChatError>>;

/// What is in flight, by key: of several clients on one store where they share it, since two names in a recipe may mean one model.
#[derive(Clone, Default)]
pub struct Flights {
    by_key: Arc<Mutex<HashMap<Digest, Flight>>>,
    aloft: Arc<AtomicUsize>,
}

impl Flights {
    /// How many have begun and not ended, also those for which nobody waits any more.
    #[must_use]
    pub fn aloft(&self) -> usize {
        self.aloft.load(Relaxed)
    }

    fn list(&self) -> MutexGuard<'_, HashMap<Digest, Flight>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that has begun.
struct Aloft(Arc<AtomicUsize>);

impl Aloft {
    fn new(flights: &Flights) -> Self {
        flights.aloft.fetch_add(1, Relaxed);
        Self(Arc::clone(&flights.aloft))
    }
}

impl Drop for Aloft {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flights").field(&self.list().len()).finish()
    }
}

struct Flight {
    outcome: watch::Receiver<Outcome>,
    cancel: CancellationToken,
    waiting: usize,
}

pub(crate) struct SingleFlight<L> {
    store: Store,
    flights: Flights,
    inner: Arc<L>,
}

impl<L: Layer> SingleFlight<L> {
    pub(crate) fn new(store: Store, flights: Flights, inner: L) -> Self {
        Self { store, flights, inner: Arc::new(inner) }
    }

    /// Joins the flight of this key, or starts one. `true`: it was in flight already.
    fn board(&self, job: &Job) -> (watch::Receiver<Outcome>, Seat, bool) {
        let mut flights = self.flights.list();
        let flight = flights.entry(job.key.clone()).or_insert_with(|| self.take_off(job));
        let shared = flight.waiting > 0;
        flight.waiting += 1;
        let (flights, key, cancel) = (self.flights.clone(), job.key.clone(), flight.cancel.clone());
        let seat = Seat { flights, key, cancel, left: false };
        (flight.outcome.clone(), seat, shared)
    }

    fn take_off(&self, job: &Job) -> Flight {
        let (sender, outcome) = watch::channel(None);
        let cancel = CancellationToken::new();
        let job = Job { cancel: cancel.clone(), ..job.clone() };
        let (store, inner, aloft) = (self.store.clone(), self.inner.clone(), Aloft::new(&self.flights));
        tokio::spawn(async move {
            let _aloft = aloft;
            // The flight before this one may have landed between our look into the cache and now: it is looked for again.
            let result = alone(&store, &*inner, job).await;
            let _ = sender.send(Some(result));
        });
        Flight { outcome, cancel, waiting: 0 }
    }
}

impl<L: Layer> Layer for SingleFlight<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let (mut outcome, seat, shared) = self.board(&job);
        let waited = job.cancel.run_until_cancelled(outcome.wait_for(Option::is_some)).await.is_some();
        if !waited && !seat.leave() {
            return Err(ChatError::cancelled());
        }
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => {
                let result = outcome.clone().expect("waited for it");
                // Only the caller that started it has paid.
                let result = result.map(|call| Call { from_cache: call.from_cache || shared, ..call });
                if waited { result } else { result.map_err(|_| ChatError::cancelled()) }
            }
            Err(_) => {
                Err(ChatError::new(ErrorKind::Backend, "the model failed while it answered (a bug); see the log"))
            }
        }
    }
}

/// A caller that waits. The last to leave takes the flight off the list, and gives it up if it is still on its way.
struct Seat {
    flights: Flights,
    key: Digest,
    cancel: CancellationToken,
    left: bool,
}

impl Seat {
    /// Whether that was the last one.
    fn leave(mut self) -> bool {
        self.get_up()
    }

    fn get_up(&mut self) -> bool {
        if std::mem::replace(&mut self.left, true) {
            return false;
        }
        let mut flights = self.flights.list();
        let Some(flight) = flights.get_mut(&self.key) else { return false };
        flight.waiting -= 1;
        let last = flight.waiting == 0;
        if last {
            flights.remove(&self.key);
            self.cancel.cancel();
        }
        last
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.get_up();
    }
}
