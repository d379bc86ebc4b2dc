//! So many requests at once, so many waiting; the next is told to come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

pub(crate) struct Line {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    longest: usize,
}

/// Being answered, until it is dropped.
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
    running: Gauge,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.dec();
    }
}

/// A place in the line: the way to a turn.
pub(crate) struct Ticket {
    state: TicketState,
    running: Gauge,
}

enum TicketState {
    Admitted(OwnedSemaphorePermit),
    Waiting(Arc<Semaphore>, Waiting),
}

/// Counted as long as it lives.
struct Waiting(Arc<AtomicUsize>, Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        self.1.dec();
    }
}

impl Line {
    pub(crate) fn new(at_once: usize, longest: usize) -> Self {
        let places = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Self { places, waiting: Arc::default(), longest }
    }

    /// Takes a ticket.
    ///
    /// # Errors
    /// 429 when the line is full.
    pub(crate) fn enter(&self, running: &Gauge, waiting: &Gauge) -> Result<Ticket, ApiError> {
        let running = running.clone();
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Ticket { state: TicketState::Admitted(place), running });
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        waiting.inc();
        let counted = Waiting(Arc::clone(&self.waiting), waiting.clone());
        if before >= self.longest {
            let message = "Too many requests are waiting; come back later";
            return Err(ApiError::limited("queue_full", message, Duration::from_secs(1)));
        }
        Ok(Ticket { state: TicketState::Waiting(Arc::clone(&self.places), counted), running })
    }
}

impl Ticket {
    pub(crate) async fn turn(self) -> Turn {
        let place = match self.state {
            TicketState::Admitted(place) => place,
            TicketState::Waiting(places, _waiting) => places.acquire_owned().await.expect("the line is never closed"),
        };
        self.running.inc();
        Turn { _place: place, running: self.running }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_line_is_bounded_and_those_who_leave_it_make_room() {
        let (line, running, waiting) = (Line::new(1, 1), Gauge::default(), Gauge::default());
        let first = line.enter(&running, &waiting).unwrap().turn().await;
        {
            let second = line.enter(&running, &waiting).unwrap().turn();
            let mut second = std::pin::pin!(second);
            assert!(futures::poll!(&mut second).is_pending());
            assert_eq!(waiting.get(), 1);
            let third = line.enter(&running, &waiting).err().expect("the line is full");
            assert_eq!((third.status, third.code), (429, "queue_full"));
            assert_eq!(waiting.get(), 1);
        }
        assert_eq!((running.get(), waiting.get()), (1, 0));
        drop(first);
        drop(line.enter(&running, &waiting).unwrap().turn().await);
        assert_eq!(running.get(), 0);
    }
}
