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
    waiting: AtomicUsize,
    longest: usize,
}

/// Being answered, until it is dropped.
pub(crate) struct Turn {
    place: Option<OwnedSemaphorePermit>,
    running: Gauge,
}

impl Turn {
    /// Makes room before the reply has left: who reads slowly keeps nobody waiting.
    pub(crate) fn give_back(&mut self) {
        if self.place.take().is_some() {
            self.running.dec();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Counted as long as it lives.
struct Waiting<'l>(&'l AtomicUsize, &'l Gauge);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        self.1.dec();
    }
}

impl Line {
    pub(crate) fn new(at_once: usize, longest: usize) -> Self {
        let places = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Self { places, waiting: AtomicUsize::new(0), longest }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// 429 when the line is full.
    pub(crate) async fn turn(&self, running: &Gauge, waiting: &Gauge) -> Result<Turn, ApiError> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let before = self.waiting.fetch_add(1, Ordering::Relaxed);
                waiting.inc();
                let _waiting = Waiting(&self.waiting, waiting);
                if before >= self.longest {
                    let message = "Too many requests are waiting; come back later";
                    return Err(ApiError::limited("queue_full", message, Duration::from_secs(1)));
                }
                Arc::clone(&self.places).acquire_owned().await.expect("the line is never closed")
            }
        };
        running.inc();
        Ok(Turn { place: Some(place), running: running.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_line_is_bounded_and_those_who_leave_it_make_room() {
        let (line, running, waiting) = (Line::new(1, 1), Gauge::default(), Gauge::default());
        let first = line.turn(&running, &waiting).await.expect("there is a place");
        {
            let second = line.turn(&running, &waiting);
            let mut second = std::pin::pin!(second);
            assert!(futures::poll!(&mut second).is_pending());
            assert_eq!(waiting.get(), 1);
            let third = line.turn(&running, &waiting).await.err().expect("the line is full");
            assert_eq!((third.status, third.code), (429, "queue_full"));
        }
        assert_eq!((running.get(), waiting.get()), (1, 0));
        drop(first);
        assert!(line.turn(&running, &waiting).await.is_ok());
        assert_eq!(running.get(), 0);
    }
}
