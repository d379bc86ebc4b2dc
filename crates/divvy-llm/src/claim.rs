//! A request that another worker has on its way is not paid twice: whoever asks second waits for the first one's reply,
//! and asks itself only if the first gives up or is no longer heard of.

use std::time::Duration;

use divvy_core::digest::Digest;
use divvy_store::{PostgresStore, Store};

use crate::{
    cache::kept,
    client::Call,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

const FIRST_POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_secs(1);

/// Asks below, unless the reply is there already or on its way to another worker.
pub(crate) async fn alone<L: Layer>(store: &Store, inner: &L, job: Job) -> Result<Call, ChatError> {
    let Some(shared) = store.shared() else {
        return match kept(store, &job).await? {
            Some(call) => Ok(call),
            None => inner.call(job).await,
        };
    };
    loop {
        if let Some(call) = claimed(store, shared, &job).await? {
            return Ok(call);
        }
        let mut claim = Claim { store: shared.clone(), key: job.key.clone(), ended: false };
        // The other's reply may have come between our last look and the claim.
        if let Some(call) = kept(store, &job).await? {
            return Ok(call);
        }
        let result = inner.call(job.clone()).await;
        let is_taken = result.as_ref().is_err_and(|error| error.kind == ErrorKind::Taken);
        // The record of a call ends its claim in the same transaction, and what was taken over is another's.
        claim.ended = result.is_ok() || is_taken;
        if !is_taken {
            return result;
        }
    }
}

/// Waits until the request is ours to ask, `None`, or somebody else has its reply.
async fn claimed(store: &Store, shared: &PostgresStore, job: &Job) -> Result<Option<Call>, ChatError> {
    let mut poll = FIRST_POLL;
    while !shared.claim_call(&job.key).await? {
        let slept = job.cancel.run_until_cancelled(tokio::time::sleep(poll)).await;
        slept.ok_or_else(ChatError::cancelled)?;
        poll = (2 * poll).min(LONGEST_POLL);
        if let Some(call) = kept(store, job).await? {
            return Ok(Some(call));
        }
    }
    Ok(None)
}

/// Given up when it is dropped before its call is on record.
struct Claim {
    store: PostgresStore,
    key: Digest,
    ended: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (store, key) = (self.store.clone(), self.key.clone());
        tokio::spawn(async move {
            if let Err(error) = store.give_up_call(&key).await {
                tracing::debug!(%error, "a claim is left to expire");
            }
        });
    }
}
