//! How words are drawn, with every choice made. What a recipe does not set is left out of the plan, and so of its digest: runs
//! of before are found.

use serde::{Deserialize, Serialize};

use super::{RECORDED, TEACHER, names::Names};
use crate::{
    arm::Arm,
    chat::Sampling,
    model::ModelSource,
    recipe::{self, Evaluate, RecipeError, Sampled},
};

/// What there is beside the temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draw {
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub top_p: f64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub top_k: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_p: f64,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub repetition_penalty: f64,
    /// `None`: the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for Draw {
    fn default() -> Self {
        Self { top_p: 1.0, top_k: 0, min_p: 0.0, repetition_penalty: 1.0, seed: None }
    }
}

/// How one part of an arm is sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartSampling {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub temperature: f64,
    #[serde(flatten)]
    pub draw: Draw,
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(value: &u32) -> bool {
    *value == 0
}

impl Draw {
    /// The seed is still to come: it is derived from this root and the item.
    #[must_use]
    pub fn sampling(&self, temperature: f64, max_tokens: u32) -> Sampling {
        let Self { top_p, top_k, min_p, repetition_penalty, .. } = *self;
        Sampling { temperature, top_p, top_k, min_p, repetition_penalty, ..Sampling::greedy(max_tokens) }
    }
}

impl PartSampling {
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature <= 0.0
    }

    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    #[must_use]
    pub fn sampling(&self, max_tokens: u32) -> Sampling {
        self.draw.sampling(self.temperature, max_tokens)
    }
}

impl recipe::Collect {
    fn sampled(&self) -> Sampled {
        let Self { temperature, top_p, top_k, min_p, repetition_penalty, seed, .. } = *self;
        Sampled { temperature, top_p, top_k, min_p, repetition_penalty, seed }
    }
}

impl recipe::Screen {
    fn sampled(&self) -> Sampled {
        let Self { temperature, top_p, top_k, min_p, repetition_penalty, seed, .. } = *self;
        Sampled { temperature, top_p, top_k, min_p, repetition_penalty, seed }
    }
}

impl Names<'_> {
    pub(super) fn collect_draw(&self) -> Result<Draw, RecipeError> {
        let collect = &self.recipe.collect;
        Ok(self.draw("collect", &collect.sampled(), &[&collect.teacher])?.draw)
    }

    pub(super) fn screen_draw(&self, screen: &recipe::Screen) -> Result<Draw, RecipeError> {
        let solvers: Vec<&String> = screen.solver.iter().collect();
        Ok(self.draw("screen", &screen.sampled(), &solvers)?.draw)
    }

    /// Of solvers and of decomposers.
    pub(super) fn parts(&self, evaluate: &Evaluate) -> Result<(PartSampling, PartSampling), RecipeError> {
        let (solving, decomposing) = (evaluate.solving.unwrap_or_default(), evaluate.decomposing.unwrap_or_default());
        if evaluate.repetition_penalty.is_some() && decomposing.repetition_penalty.is_some() {
            return self.fail(
                "evaluate.decomposing.repetition_penalty",
                "evaluate.repetition_penalty says the same; write one of them",
            );
        }
        let solvers: Vec<&String> = evaluate.solvers.iter().collect();
        let decomposers: Vec<&String> = evaluate.decomposers.iter().collect();
        Ok((
            self.draw("evaluate.solving", &solving, &solvers)?,
            self.draw("evaluate.decomposing", &decomposing, &decomposers)?,
        ))
    }

    /// How `models` are sampled by the keys of `table`.
    fn draw(&self, table: &str, sampled: &Sampled, models: &[&String]) -> Result<PartSampling, RecipeError> {
        let at = |key: &str| format!("{table}.{key}");
        let (usual, temperature) = (Draw::default(), sampled.temperature.unwrap_or(0.0));
        if !(0.0..=2.0).contains(&temperature) {
            return self.fail(&at("temperature"), "a temperature lies between 0 and 2");
        }
        let draw = Draw {
            top_p: sampled.top_p.unwrap_or(usual.top_p),
            top_k: sampled.top_k.unwrap_or(usual.top_k),
            min_p: sampled.min_p.unwrap_or(usual.min_p),
            repetition_penalty: sampled.repetition_penalty.unwrap_or(usual.repetition_penalty),
            seed: sampled.seed,
        };
        let share = |value: f64| (0.0..=1.0).contains(&value);
        for (key, good, want) in [
            ("top_p", share(draw.top_p) && draw.top_p > 0.0, "it is a share of the probability, above 0 and at most 1"),
            ("min_p", share(draw.min_p), "it is a share of the likeliest token’s probability, between 0 and 1"),
            (
                "repetition_penalty",
                draw.repetition_penalty.is_finite() && draw.repetition_penalty > 0.0,
                "must be above 0; 1 is off",
            ),
        ] {
            if !good {
                return self.fail(&at(key), want);
            }
        }
        let drawing = [
            ("top_p", sampled.top_p.is_some()),
            ("top_k", sampled.top_k.is_some()),
            ("min_p", sampled.min_p.is_some()),
            ("seed", sampled.seed.is_some()),
        ];
        if let Some((key, _)) = drawing.iter().find(|(_, written)| *written && temperature <= 0.0) {
            return self.fail(&at(key), format!("nothing is drawn at temperature 0; set {}", at("temperature")));
        }
        self.local_keys(&at, sampled, models)?;
        Ok(PartSampling { temperature, draw })
    }

    /// What no OpenAI-compatible endpoint is sure to know is refused, not left out in silence.
    fn local_keys(
        &self,
        at: &dyn Fn(&str) -> String,
        sampled: &Sampled,
        models: &[&String],
    ) -> Result<(), RecipeError> {
        let keys = [
            ("top_k", sampled.top_k.is_some()),
            ("min_p", sampled.min_p.is_some()),
            ("repetition_penalty", sampled.repetition_penalty.is_some()),
        ];
        let Some((key, _)) = keys.iter().find(|(_, written)| *written) else { return Ok(()) };
        match models.iter().find(|name| self.is_endpoint(name)) {
            Some(name) => {
                self.fail(&at(key), format!("this key is for local models alone, and `{name}` is an endpoint"))
            }
            None => Ok(()),
        }
    }

    fn is_endpoint(&self, name: &str) -> bool {
        let name = if name == TEACHER { self.recipe.collect.teacher.as_str() } else { name };
        let source = self.recipe.models.get(name).map(|model| model.source.parse::<ModelSource>());
        name != RECORDED && matches!(source, Some(Ok(ModelSource::Endpoint { .. })))
    }

    /// How often each question is answered. An arm in which nothing is drawn would say the same every time.
    pub(super) fn repeats(
        &self,
        evaluate: &Evaluate,
        arms: &[Arm],
        (solving, decomposing): (PartSampling, PartSampling),
    ) -> Result<u32, RecipeError> {
        let repeats = evaluate.repeats.unwrap_or(1);
        if !(1..=MOST_REPEATS).contains(&repeats) {
            return self.fail("evaluate.repeats", format!("it is a number between 1 and {MOST_REPEATS}"));
        }
        if repeats == 1 {
            return Ok(1);
        }
        let recorded = |name: &str| name == TEACHER && self.recipe.collect.teacher == RECORDED;
        let draws = |arm: &&Arm| {
            let decomposes = arm.decomposer.as_deref().is_some_and(|name| !recorded(name));
            !solving.is_greedy() || (decomposes && !decomposing.is_greedy())
        };
        if let Some(arm) = arms.iter().find(|arm| !draws(arm)) {
            let message = format!("`{arm}` is greedy and would say the same {repeats} times");
            let error = RecipeError::at_key(self.origin, "evaluate.repeats", message);
            return Err(error.hint("write solving = { temperature = 0.7 } under [evaluate], or leave repeats out"));
        }
        Ok(repeats)
    }
}

/// Samples of a call are numbered in 16 bits.
const MOST_REPEATS: u32 = 1000;

#[cfg(test)]
mod tests {
    use crate::{plan::Plan, recipe::Recipe};

    const HEAD: &str = "name = \"x\"\ndata.train = { dataset = \"synth\", rows = 4 }\ndata.test = { dataset = \"synth\", rows = 4 }\n\
                        models.m.source = \"path:m\"\nmodels.e = { source = \"http://h/v1\", model = \"e\" }\n";

    fn plan(collect: &str, evaluate: &str) -> Result<Plan, String> {
        let text = format!("{HEAD}[collect]\n{collect}\n[evaluate]\n{evaluate}");
        let recipe = Recipe::parse(&text, "x.toml").map_err(|error| error.to_string())?;
        Plan::resolve(&recipe, "x.toml").map_err(|error| error.to_string())
    }

    const ARMS: &str = "solvers = [\"m\"]\nstrategies = [\"direct\", \"two-stage\"]\ndecomposers = [\"m\"]\n";
    const RECORDED: &str = "teacher = \"recorded\"";

    #[test]
    fn what_is_not_set_is_no_part_of_the_plan() {
        let usual = serde_json::to_value(plan(RECORDED, ARMS).unwrap()).unwrap();
        for key in ["top_p", "top_k", "min_p", "seed"] {
            assert!(usual["collect"].get(key).is_none() && usual["evaluate"].get(key).is_none(), "{usual}");
        }
        for key in ["solving", "decomposing", "repeats"] {
            assert!(usual["evaluate"].get(key).is_none(), "{usual}");
        }
        assert!(usual["collect"].get("repetition_penalty").is_none(), "{usual}");
        let sampled = format!("{ARMS}repeats = 3\nsolving = {{ temperature = 0.7, top_k = 40 }}");
        let sampled = plan("teacher = \"m\"\ntemperature = 0.5\nmin_p = 0.1", &sampled).unwrap();
        let read: Plan = serde_json::from_value(serde_json::to_value(&sampled).unwrap()).unwrap();
        assert_eq!(read, sampled);
        assert_eq!((sampled.collect.draw.min_p, sampled.evaluate.unwrap().solving.draw.top_k), (0.1, 40));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        let refused = |collect: &str, evaluate: &str, words: &[&str]| {
            let told = plan(collect, &format!("{ARMS}{evaluate}")).unwrap_err();
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
        };
        refused(RECORDED, "repeats = 3", &["evaluate.repeats", "`direct/m`", "hint", "temperature"]);
        refused(RECORDED, "repeats = 3\ndecomposing = { temperature = 1 }", &["`direct/m`"]);
        refused(RECORDED, "repeats = 0", &["evaluate.repeats", "between 1 and"]);
        refused(RECORDED, "solving = { top_p = 0.9 }", &["evaluate.solving.top_p", "evaluate.solving.temperature"]);
        refused(RECORDED, "solving = { temperature = 3 }", &["evaluate.solving.temperature", "0 and 2"]);
        refused(RECORDED, "solving = { temperature = 1, top_p = 0 }", &["evaluate.solving.top_p"]);
        refused(RECORDED, "solving = { temprature = 1 }", &["temprature", "did you mean `temperature`"]);
        refused(
            RECORDED,
            "repetition_penalty = 1.1\ndecomposing = { repetition_penalty = 1.2 }",
            &["evaluate.decomposing.repetition_penalty", "one of them"],
        );
        let endpoint = "teacher = \"e\"\ntemperature = 1\ntop_k = 4";
        refused(endpoint, "", &["collect.top_k", "local models", "`e`"]);
        refused("teacher = \"m\"\ntop_p = 0.5", "", &["collect.top_p", "collect.temperature"]);
    }
}
