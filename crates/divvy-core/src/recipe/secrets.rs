//! Whether a recipe can be kept in a store, where everybody who may read results may read it.

use super::{Model, Recipe};

impl Recipe {
    /// A URL with a user's name or a query in it, where some put a key: such a recipe is not kept in a store. A version
    /// of an interface is no secret.
    #[must_use]
    pub fn may_hold_secrets(&self) -> bool {
        let urls = |model: &Model| {
            let further = model.endpoints.iter().map(|endpoint| endpoint.url.clone());
            further.chain([model.source.clone()]).collect::<Vec<_>>()
        };
        self.models.values().flat_map(urls).any(|url| {
            let (place, query) = url.split_once('?').unwrap_or((&url, ""));
            let version_alone = query.is_empty() || query.starts_with("api-version=") && !query.contains('&');
            place.starts_with("http") && (place.contains('@') || !version_alone)
        })
    }
}
