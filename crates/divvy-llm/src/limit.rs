//! At most so many requests in flight at once. How many is found out: an endpoint that says 429, that answers much slower
//! than it can, or lets tries time out, gets fewer ([`window`]). Waiting in line is not part of a call's latency. A reply that is on disk gives
//! its slot to the next request while it is still read and recorded ([`Slot::leave`]). Where requests are charged and none ever brings a reply,
//! no more are sent.

mod window;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    client::Call,
    error::{ChatError, ErrorKind, may_be_charged_with},
    layer::{Job, Layer},
};
use window::Window;

/// Requests that may be charged and bring no reply, where none ever did: as many items end a stage.
const MOST_IN_VAIN: u32 = 64;

pub(crate) struct Limit<L> {
    seats: Arc<Seats>,
    /// How long a try may take.
    patience: Duration,
    /// An error that every request would meet closes the line: a run should end, before more is paid for that cannot be kept. A
    /// service goes on and tries again.
    closes: bool,
    inner: L,
}

/// The places at an endpoint, for all who ask it.
pub(crate) struct Seats {
    slots: Arc<Semaphore>,
    size: Mutex<Size>,
}

struct Size {
    most: usize,
    /// `None`: the size is fixed.
    window: Option<Window>,
    /// Slots in use that go when they are given back.
    too_many: usize,
    /// Requests that came to nothing at a price; `None` once one has brought a reply.
    in_vain: Option<u32>,
    /// Why nobody is let in any more.
    closed: Option<ChatError>,
}

impl<L> Limit<L> {
    pub(crate) fn new(seats: Arc<Seats>, patience: Duration, closes: bool, inner: L) -> Self {
        Self { seats, patience, closes, inner }
    }

    /// Requests that may be in flight now.
    pub(crate) fn most(&self) -> usize {
        let size = self.seats.size();
        size.window.as_ref().map_or(size.most, Window::size)
    }

    /// Those in line would hear the same: they are told so without being sent.
    fn close(&self, error: &ChatError) {
        self.seats.size().closed.get_or_insert_with(|| error.clone());
        self.seats.slots.close();
    }

    /// Many requests may be under way, and each is tried again: they need not all be paid for what none of them gets.
    fn doubt(&self, first_try: bool, result: &Result<Call, ChatError>) {
        let useless = self.seats.size().is_useless(first_try, result);
        if let Err(error) = result
            && useless
            && self.closes
        {
            self.close(&nothing_comes(error));
        }
    }

    /// Why there is no slot: asked for when the line is closed.
    fn refusal(&self) -> ChatError {
        let closed = self.seats.size().closed.clone();
        closed.unwrap_or_else(|| ChatError::new(ErrorKind::Backend, "the line of requests is closed (a bug)"))
    }

    /// What this request tells about how many the endpoint can take.
    fn learn(&self, started: Instant, busy: bool, result: &Result<Call, ChatError>) {
        if let Err(error) = result
            && (error.condemns_endpoint() || error.kind == ErrorKind::Store)
        {
            if self.closes {
                self.close(error);
            }
            return;
        }
        let mut size = self.seats.size();
        let others = self.seats.has_others(&size);
        let Some(window) = &mut size.window else { return };
        let before = window.size();
        match result {
            Ok(call) if call.from_cache => {}
            Ok(call) => window.answered(started, Instant::now(), call.reply.usage.tokens_out, busy),
            Err(error) if error.kind == ErrorKind::RateLimited => window.refused(started, Instant::now()),
            // One that was alone there, as to see whether the endpoint is back, stood in no queue.
            Err(error) if others && self.is_late(started, error) => window.late(started, Instant::now()),
            Err(_) => {}
        }
        let after = window.size();
        self.seats.resize(&mut size, before, after);
    }

    /// All of the time for a try was over before its reply was there, by our clock or by that of a proxy in between, or it stood
    /// still for longer than it may. One that had less time than others says nothing about the queue.
    fn is_late(&self, started: Instant, error: &ChatError) -> bool {
        let full = error.kind == ErrorKind::TimedOut && started.elapsed() >= self.patience;
        full || error.kind == ErrorKind::Stalled || error.status.is_some_and(may_be_charged_with)
    }
}

impl Size {
    /// Whether all requests so far, and there were many, came to nothing though each may have been charged. A request counts once,
    /// however often it is tried.
    fn is_useless(&mut self, first_try: bool, result: &Result<Call, ChatError>) -> bool {
        match (result, &mut self.in_vain) {
            (Ok(_), in_vain) => *in_vain = None,
            (Err(error), Some(in_vain)) if first_try && error.is_retryable() && error.may_be_charged() => *in_vain += 1,
            _ => {}
        }
        self.in_vain.is_some_and(|in_vain| in_vain >= MOST_IN_VAIN)
    }
}

fn nothing_comes(error: &ChatError) -> ChatError {
    let message = format!(
        "{}; {MOST_IN_VAIN} requests, each of which may have been charged, and not one reply that can be used: no more are sent",
        error.message
    );
    ChatError::new(ErrorKind::Useless, message)
}

impl Seats {
    /// `patience`: how long a try may take, where the number follows the endpoint; `None` for one that is fixed.
    pub(crate) fn new(most: usize, patience: Option<Duration>) -> Arc<Self> {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        let window = patience.map(|patience| Window::new(most, patience));
        let slots = Arc::new(Semaphore::new(window.as_ref().map_or(most, Window::size)));
        let size = Mutex::new(Size { most, window, too_many: 0, in_vain: Some(0), closed: None });
        Arc::new(Self { slots, size })
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Slots are in use.
    fn has_others(&self, size: &Size) -> bool {
        let all = size.window.as_ref().map_or(size.most, Window::size) + size.too_many;
        self.slots.available_permits() < all
    }

    fn resize(&self, size: &mut Size, before: usize, after: usize) {
        let fewer = before.saturating_sub(after);
        size.too_many += fewer - self.slots.forget_permits(fewer);
        let more = after.saturating_sub(before);
        let kept = more.min(size.too_many);
        size.too_many -= kept;
        self.slots.add_permits(more - kept);
    }

    fn give_back(&self, slot: OwnedSemaphorePermit) {
        let mut size = self.size();
        if size.too_many > 0 {
            size.too_many -= 1;
            slot.forget();
        }
    }
}

impl<L: Layer> Layer for Limit<L> {
    fn held_until(&self) -> Option<Instant> {
        self.inner.held_until()
    }

    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let start = Instant::now();
        let turn = Arc::clone(&self.seats.slots).acquire_owned();
        let permit = job.in_line(turn).await?.map_err(|_| self.refusal())?;
        let slot = Slot::of(&self.seats, permit);
        job.waited.since(start);
        let (started, waited, first_try) = (Instant::now(), job.waited.clone(), job.attempt == 1);
        let before = waited.so_far();
        // On the heap, so that what waits, in line or for a batch, holds no room for a request under way, and that the next
        // request finds this one's room still in the processor's cache.
        let result = Box::pin(self.inner.call(Job { slot: Some(slot.clone()), ..job })).await;
        // Time that it stood in line for its rate says nothing about the endpoint.
        self.learn(started + waited.so_far().saturating_sub(before), slot.leave(), &result);
        self.doubt(first_try, &result);
        result
    }
}

/// A request's place at its endpoint, given back however its call ends.
#[derive(Clone)]
pub(crate) struct Slot(Arc<Taken>);

struct Taken {
    seats: Arc<Seats>,
    state: Mutex<Place>,
}

enum Place {
    Held(OwnedSemaphorePermit),
    /// Whether all places were taken at the time.
    Left {
        busy: bool,
    },
}

impl Slot {
    fn of(seats: &Arc<Seats>, permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Taken { seats: Arc::clone(seats), state: Mutex::new(Place::Held(permit)) }))
    }

    /// The endpoint is done with this request. Whether all places were taken when it was.
    pub(crate) fn leave(&self) -> bool {
        self.0.leave()
    }
}

impl Taken {
    fn leave(&self) -> bool {
        let mut place = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Place::Left { busy } = *place {
            return busy;
        }
        let busy = self.seats.slots.available_permits() == 0;
        if let Place::Held(permit) = std::mem::replace(&mut *place, Place::Left { busy }) {
            self.seats.give_back(permit);
        }
        busy
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.leave();
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(test)]
mod tests;
