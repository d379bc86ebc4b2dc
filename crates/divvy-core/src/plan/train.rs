//! The keys of `[train]`: what of them is part of a student, and what cannot be.

use serde::{Deserialize, Serialize};

use super::names::Names;
use crate::recipe::{Engine, Launch, Method, Precision, Quantised, RecipeError, Student};

/// A student that PyTorch trains is another one than divvy's own engine makes: close, and not the same numbers. Where it is
/// trained, in how many processes and how memory is saved makes no student of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TorchPlan {
    pub precision: Precision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantised: Option<Quantised>,
}

impl Names<'_> {
    /// `None` for divvy's own engine.
    pub(super) fn torch(&self, name: &str, student: &Student) -> Result<Option<TorchPlan>, RecipeError> {
        let train = &self.recipe.train;
        if train.engine == Engine::Native {
            return match train.foreign_keys().next() {
                Some(key) => self.fail(&format!("train.{key}"), "this key is for engine = \"torch\" alone"),
                None => Ok(None),
            };
        }
        let none = |count: Option<u64>| count == Some(0);
        if none(train.processes.map(u64::from)) {
            return self.fail("train.processes", "nobody would train; leave the line out for one");
        }
        if train.processes.is_some() && train.launch != Launch::Torchrun {
            return self.fail("train.processes", "several processes need launch = \"torchrun\"");
        }
        if none(train.micro_tokens.map(|tokens| tokens as u64)) {
            return self.fail("train.micro_tokens", "no row would fit; leave the line out for the default");
        }
        if train.quantised.is_some() && student.method == Method::Full {
            let message =
                format!("students.{name} has method = \"full\", which changes the base; quantised goes with lora");
            return self.fail("train.quantised", message);
        }
        let precision = train.precision.unwrap_or_default();
        Ok(Some(TorchPlan { precision, quantised: train.quantised }))
    }
}
