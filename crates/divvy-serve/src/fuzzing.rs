//! What `fuzz/` reaches of this crate: the readers of requests, without a connection. Nobody else's business.

/// A body is a request of either kind, or refused with a status that blames its sender.
pub fn requests(body: &[u8]) {
    for error in crate::api::refusals(body) {
        assert_eq!(error.status, 400, "{}", error.json());
    }
}
