//! What all requests share.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::{
    admission::{keys::Keys, line::Line},
    menu::Menu,
    metrics::Metrics,
    page::Shelf,
    settings::Settings,
};

/// One running service.
pub struct Desk {
    pub(crate) menu: Menu,
    pub(crate) settings: Settings,
    pub(crate) keys: Keys,
    pub(crate) line: Line,
    pub(crate) metrics: Metrics,
    pub(crate) shelf: Option<Arc<dyn Shelf>>,
    /// Cancelled when no new request is taken any more.
    pub(crate) closing: CancellationToken,
    /// Why it is not ready to answer, or that it is.
    ready: OnceLock<Result<(), String>>,
}

impl Desk {
    #[must_use]
    pub fn new(menu: Menu, settings: Settings, keys: Keys, shelf: Option<Arc<dyn Shelf>>) -> Arc<Self> {
        let line = Line::new(settings.concurrency, settings.queue);
        let (metrics, closing, ready) = (Metrics::new(), CancellationToken::new(), OnceLock::new());
        Arc::new(Self { menu, settings, keys, line, metrics, shelf, closing, ready })
    }

    /// Says that the models are loaded, or why they cannot be.
    pub fn set_ready(&self, ready: Result<(), String>) {
        // Said once.
        let _ = self.ready.set(ready);
    }

    pub(crate) fn readiness(&self) -> Result<(), String> {
        if self.closing.is_cancelled() {
            return Err("shutting down".to_owned());
        }
        self.ready.get().cloned().unwrap_or_else(|| Err("models are being loaded".to_owned()))
    }
}
