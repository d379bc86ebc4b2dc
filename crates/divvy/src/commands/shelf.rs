//! What the page of `divvy serve` shows of the store.

use std::sync::Arc;

use async_trait::async_trait;
use divvy_serve::Shelf;
use serde_json::Value;

use super::{calls, status};
use crate::session::Session;

pub(super) struct Records(pub(super) Arc<Session>);

#[async_trait]
impl Shelf for Records {
    async fn report(&self) -> Result<String, String> {
        let results = self.0.results().await.map_err(|error| error.to_string())?;
        Ok(divvy_report::html(&results))
    }

    async fn status(&self) -> Result<Value, String> {
        status::as_value(&self.0).await.map_err(|error| error.to_string())
    }

    async fn calls(&self, key: Option<&str>, last: u32) -> Result<Value, String> {
        let wanted = calls::Wanted { key: key.map(str::to_owned), model: None, last, failed: false, json: true };
        let filter = calls::filter(&wanted).map_err(|error| error.to_string())?;
        let calls = self.0.context.store.calls(&filter).await.map_err(|error| error.to_string())?;
        calls.iter().map(calls::as_json).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }
}
