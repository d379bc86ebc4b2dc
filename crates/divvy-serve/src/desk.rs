//! What all requests share.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::{
    admission::{keys::Keys, line::Line},
    menu::Menu,
    metrics::Metrics,
    page::Shelf,
    record::Recorder,
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
    pub(crate) recorder: Option<Recorder>,
    /// One look into the store at a time: it is no reason for answers to wait.
    pub(crate) looking: tokio::sync::Mutex<()>,
    /// Cancelled when no new request is taken any more.
    pub(crate) closing: CancellationToken,
    /// Cancelled when what is still under way has to end.
    pub(crate) hurry: CancellationToken,
    /// Whether the models could be loaded, once that is known.
    ready: OnceLock<bool>,
}

impl Desk {
    #[must_use]
    pub fn new(
        menu: Menu,
        settings: Settings,
        keys: Keys,
        shelf: Option<Arc<dyn Shelf>>,
        recorder: Option<Recorder>,
    ) -> Arc<Self> {
        let line = Line::new(settings.concurrency, settings.queue);
        let (metrics, closing, ready) = (Metrics::new(&menu), CancellationToken::new(), OnceLock::new());
        let (looking, hurry) = (tokio::sync::Mutex::new(()), CancellationToken::new());
        Arc::new(Self { menu, settings, keys, line, metrics, shelf, recorder, looking, closing, hurry, ready })
    }

    /// Says whether the models are loaded; what is said first holds.
    pub fn set_ready(&self, loaded: bool) {
        self.ready.get_or_init(|| loaded);
    }

    pub(crate) fn readiness(&self) -> Result<(), &'static str> {
        if self.closing.is_cancelled() {
            return Err("shutting down");
        }
        match self.ready.get() {
            Some(true) => Ok(()),
            Some(false) => Err("a model cannot be loaded; the server's log says why"),
            None => Err("models are being loaded"),
        }
    }
}
