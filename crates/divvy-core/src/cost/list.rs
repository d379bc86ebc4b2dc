//! What models cost at well-known endpoints, for recipes that do not say: `list.toml` beside this file. A price in the recipe
//! goes before it. Listed are prices of short prompts; some providers charge more beyond 200,000 tokens.

use std::{collections::BTreeMap, sync::OnceLock};

use serde::Deserialize;

use crate::{
    model,
    recipe::{Model, Price},
};

#[derive(Deserialize)]
struct List {
    taken: String,
    /// Host of the endpoint → name of the model there → its price.
    hosts: BTreeMap<String, BTreeMap<String, Price>>,
}

/// What a model costs: what its recipe says, or what is listed.
#[must_use]
pub fn price(model: &Model) -> Option<&Price> {
    model.price.as_ref().or_else(|| listed(model))
}

/// The listed price of a model whose recipe has none. A model that other hosts serve too has none: they may be cheaper or dearer.
#[must_use]
pub fn listed(model: &Model) -> Option<&'static Price> {
    let host = model::host(&model.source);
    let alone = model.endpoints.iter().all(|further| model::host(&further.url) == host);
    let named = || list().hosts.get(host)?.get(model.model.as_ref()?);
    if model.price.is_none() && alone { named() } else { None }
}

/// Where the list is from, and when it was taken.
#[must_use]
pub fn origin() -> &'static str {
    &list().taken
}

fn list() -> &'static List {
    static LIST: OnceLock<List> = OnceLock::new();
    LIST.get_or_init(|| toml::from_str(include_str!("list.toml")).expect("a test reads it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Prices;

    fn model(text: &str) -> Model {
        toml::from_str(text).unwrap()
    }

    const LISTED: &str = "source = \"https://api.openai.com/v1/\"\nmodel = \"gpt-4o-mini\"\n";

    #[test]
    fn every_listed_price_is_one() {
        assert!(list().hosts.len() > 5, "{:?}", list().hosts.keys());
        for (name, price) in list().hosts.values().flatten() {
            let (whole, batch) = (Prices::parse(price).unwrap(), Prices::parse_batch(price).unwrap());
            assert!(whole.cached_input <= whole.input && batch.output <= whole.output, "{name}: {price:?}");
            assert!(whole.input > 0 && whole.output > 0, "{name}: {price:?}");
        }
    }

    #[test]
    fn a_known_model_at_a_known_host_has_a_price() {
        let found = model(LISTED);
        assert_eq!(price(&found).and_then(|price| price.output.as_deref()), Some("0.6"));
        assert_eq!(Prices::of(&found).unwrap().unwrap().output, 600_000_000);
        let halved = Prices::of(&model(&format!("{LISTED}mode = \"batch\""))).unwrap().unwrap();
        assert_eq!(halved.output, 300_000_000);
    }

    #[test]
    fn the_recipe_goes_before_the_list() {
        let own = model(&format!("{LISTED}price = {{ input = \"1\", output = \"2\" }}"));
        assert_eq!((price(&own).and_then(|price| price.output.as_deref()), listed(&own)), (Some("2"), None));
    }

    #[test]
    fn elsewhere_and_under_other_names_nothing_is_listed() {
        for (from, to) in [("api.openai.com", "localhost:8000"), ("gpt-4o-mini", "my-model"), ("https://", "pypi:")] {
            assert_eq!(listed(&model(&LISTED.replace(from, to))), None, "{to}");
        }
        let further = |url: &str| model(&format!("{LISTED}[[endpoints]]\nurl = \"{url}\""));
        assert!(listed(&further("https://api.openai.com/v2")).is_some());
        assert_eq!(listed(&further("http://localhost:8000/v1")), None);
    }
}
