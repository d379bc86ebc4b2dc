//! A JSON object whose fields are taken one by one: a wrong type is told with the field's name, and what nobody took is
//! known at the end.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ApiError;

pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// # Errors
    /// 400 for what is no JSON object.
    pub(crate) fn read(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::body("The body must be a JSON object")),
            Err(error) => Err(ApiError::body(format!("The body is not valid JSON: {error}"))),
        }
    }

    /// `null` is as good as absent.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| ApiError::field(name, "invalid_type", format!("`{name}`: {error}"))),
        }
    }

    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, ApiError> {
        let missing = || ApiError::field(name, "missing_required_parameter", format!("`{name}` is missing"));
        self.take(name)?.ok_or_else(missing)
    }

    /// Names of what is left, `null`s not counted.
    pub(crate) fn left(&self) -> Vec<String> {
        self.0.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect()
    }
}
