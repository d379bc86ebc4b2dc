//! A client for a thread that has no runtime and may wait: the one that sends traces away. Not for models.

use std::{thread, time::Duration};

use super::{builder, no_tls};
use crate::error::{ChatError, ErrorKind};

/// A client for the scheme of this URL, which gives a request up after `timeout`.
///
/// # Errors
/// A TLS set-up that does not work.
pub fn blocking_client(url: &str, timeout: Duration) -> Result<reqwest::blocking::Client, ChatError> {
    let build = || reqwest::blocking::ClientBuilder::from(builder(url)).timeout(timeout).build();
    // It starts a runtime of its own, which a thread with one must not.
    let built = thread::scope(|scope| scope.spawn(build).join());
    let built = built.map_err(|_| ChatError::new(ErrorKind::Unreachable, "a client could not be built (a bug)"))?;
    built.map_err(|error| no_tls(url, &error))
}
