//! `[models]`: sources, endpoints and prices.

use super::{
    super::{Plan, RECORDED, TEACHER},
    Names,
};
use crate::{
    cost,
    model::{ModelSource, shown_url},
    recipe::{self, KvCache, Numerics, RecipeError, Structured},
};

const LOCAL_ALONE: &str = "this key is for local models alone";

impl Names<'_> {
    pub(in crate::plan) fn sources(&self) -> Result<(), RecipeError> {
        for (name, model) in &self.recipe.models {
            let key = format!("models.{name}.source");
            match model.source.parse::<ModelSource>() {
                Err(error) => return self.fail(&key, error),
                Ok(ModelSource::Endpoint { .. }) if model.model.is_none() => {
                    return self
                        .fail(&format!("models.{name}.model"), "an endpoint serves many models: write model = \"…\"");
                }
                Ok(ModelSource::Endpoint { .. } | ModelSource::Recorded(_)) if model.numerics != Numerics::Exact => {
                    return self.fail(&format!("models.{name}.numerics"), LOCAL_ALONE);
                }
                Ok(ModelSource::Endpoint { .. } | ModelSource::Recorded(_)) if model.kv_cache != KvCache::F32 => {
                    return self.fail(&format!("models.{name}.kv_cache"), LOCAL_ALONE);
                }
                Ok(ModelSource::Endpoint { .. } | ModelSource::Recorded(_)) if model.kv_cache_tokens.is_some() => {
                    return self.fail(&format!("models.{name}.kv_cache_tokens"), LOCAL_ALONE);
                }
                Ok(_) if model.kv_cache_tokens == Some(0) => {
                    return self
                        .fail(&format!("models.{name}.kv_cache_tokens"), "no request has room in none: leave it out");
                }
                Ok(ModelSource::Student(_)) => {
                    return self.fail(&key, "a student is used by its name, `student:NAME`, not defined as a model");
                }
                Ok(source) => self.endpoint(name, model, &source)?,
            }
            if let Some(Err(error)) = model.price.as_ref().map(cost::Prices::parse) {
                return self.fail(&format!("models.{name}.price"), error);
            }
            if name == TEACHER || name == RECORDED {
                return self.fail(&format!("models.{name}"), "this name has a meaning of its own; choose another");
            }
        }
        Ok(())
    }

    /// A cap in money is worth nothing where a price is unknown.
    pub(in crate::plan) fn money(&self, plan: &Plan) -> Result<(), RecipeError> {
        let Some(dollars) = &self.recipe.budget.dollars else { return Ok(()) };
        if cost::parse_dollars(dollars).is_err() {
            let message = format!("`{dollars}` is no amount; write plain decimals, as in dollars = \"5.00\"");
            return self.fail("budget.dollars", message);
        }
        let free = |name: &String| {
            let model = &self.recipe.models[name];
            cost::list::price(model).is_some() || !matches!(model.source.parse(), Ok(ModelSource::Endpoint { .. }))
        };
        match plan.models_in_use().iter().find(|name| !free(name)) {
            Some(name) => self.fail(
                &format!("models.{name}.price"),
                "a budget in dollars needs it, and none is listed: price = { input = \"0.15\", output = \"0.60\" }, dollars per million tokens",
            ),
            None => Ok(()),
        }
    }

    /// Keys that mean something for endpoints alone, and their values.
    fn endpoint(&self, name: &str, model: &recipe::Model, source: &ModelSource) -> Result<(), RecipeError> {
        let at = |key: &str| format!("models.{name}.{key}");
        let numbers = [
            ("requests_per_minute", model.requests_per_minute),
            ("tokens_per_minute", model.tokens_per_minute),
            ("weight", model.weight.map(u64::from)),
            ("stall_seconds", model.stall_seconds),
        ];
        let numbers: Vec<(&str, u64)> = numbers.into_iter().filter_map(|(key, most)| Some((key, most?))).collect();
        if let Some((key, _)) = numbers.iter().find(|(_, value)| *value == 0) {
            return self.fail(&at(key), "nothing could ever be sent; leave the line out for no limit");
        }
        let keys = numbers.iter().map(|(key, _)| *key);
        let keys = keys.chain(model.provider.as_ref().map(|_| "provider"));
        let recorded = matches!(source, ModelSource::Recorded(_));
        let keys = keys.chain((recorded && model.structured != Structured::Off).then_some("structured"));
        let keys = keys.chain(model.batch.as_ref().map(|_| "batch"));
        let keys = keys.chain((model.mode == recipe::Mode::Batch).then_some("mode"));
        let mut keys = keys.chain(model.endpoints.first().map(|_| "endpoints"));
        self.batch(name, model)?;
        match (source, keys.next()) {
            (ModelSource::Endpoint { .. }, _) => self.further(name, model),
            (_, Some(key)) => self.fail(
                &at(key),
                if key == "structured" {
                    "a record cannot be held to a schema"
                } else {
                    "this key is for endpoints alone"
                },
            ),
            (_, None) => Ok(()),
        }
    }

    fn further(&self, name: &str, model: &recipe::Model) -> Result<(), RecipeError> {
        for further in &model.endpoints {
            let numbers = [
                ("requests_per_minute", further.requests_per_minute),
                ("tokens_per_minute", further.tokens_per_minute),
                ("weight", further.weight.map(u64::from)),
            ];
            let at = |key: &str| format!("models.{name}.endpoints.{key}");
            if !matches!(further.url.parse(), Ok(ModelSource::Endpoint { .. })) {
                let message = format!("`{}` is no endpoint; write http(s)://host/v1", shown_url(&further.url));
                return self.fail(&at("url"), message);
            }
            if let Some((key, _)) = numbers.iter().find(|(_, value)| *value == Some(0)) {
                let message = format!("`{}` would never be asked; leave the line out", shown_url(&further.url));
                return self.fail(&at(key), message);
            }
        }
        Ok(())
    }
}
