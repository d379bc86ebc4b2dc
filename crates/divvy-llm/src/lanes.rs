//! What requests to one place have in common, under whatever name they are asked there: how many are in flight, what was sent
//! in the last minute, whether the place is left alone, and how its time is shared. A place is a model as it is served at a URL,
//! for whoever has one key: that is what an endpoint counts by. Two names of a recipe may mean the same one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{limit::Seats, meter::Meter, rate::Minute, route::Health};

/// Places by name. A clone knows the same ones.
#[derive(Clone, Default)]
pub struct Lanes(Arc<Mutex<HashMap<String, Shared>>>);

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) seats: Arc<Seats>,
    pub(crate) minute: Arc<Minute>,
    pub(crate) health: Arc<Health>,
    pub(crate) meter: Arc<Meter>,
}

impl Lanes {
    /// What a place has: as whoever came first made it. `None`: a place of one's own.
    pub(crate) fn at(&self, name: Option<&str>, make: impl FnOnce() -> Shared) -> Shared {
        let Some(name) = name else { return make() };
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(name.to_owned()).or_insert_with(make).clone()
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lanes")
    }
}
