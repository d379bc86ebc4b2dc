//! How long stages take.

use std::{future::Future, time::Instant};

use divvy_core::records::Stage;

use crate::{context::Context, error::FlowError};

/// A stage, or a part of it; its time is on record however it ends.
///
/// # Errors
/// Those of the work, and the store's.
pub async fn timed(
    context: &Context,
    stage: Stage,
    work: impl Future<Output = Result<(), FlowError>>,
) -> Result<(), FlowError> {
    let began = Instant::now();
    let outcome = work.await;
    let wall_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    context.store.add_stage_time(&context.digest, stage, wall_ms).await?;
    outcome
}
