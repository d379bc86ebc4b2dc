//! The recipe's own prompts, checked before anything is asked: every placeholder, and every demonstration by the parser
//! that reads such replies.

use std::collections::BTreeMap;

use super::{EvaluatePlan, Plan, names::Names};
use crate::{
    arm::{Arm, Strategy, is_name},
    chat::Finish,
    extract,
    prompts::{
        Demonstration, PromptName, Prompts, Rewording, Wording, decompose, demonstration::Lesson, stepwise::Known,
        template, two_stage,
    },
    recipe::{Prompt, PromptVariant, RecipeError, Structured, WrittenDemonstration, WrittenStep},
};

impl Names<'_> {
    pub(super) fn prompts(&self) -> Result<Prompts, RecipeError> {
        let checked = self.recipe.prompts.iter().map(|(name, prompt)| Ok((*name, self.wording(*name, prompt)?)));
        Ok(Prompts::new(checked.collect::<Result<BTreeMap<_, _>, RecipeError>>()?))
    }

    fn wording(&self, name: PromptName, prompt: &Prompt) -> Result<Wording, RecipeError> {
        let (system, template) = (prompt.system.as_deref(), prompt.template.as_deref());
        let Rewording { system, template } = self.words(name, &format!("prompts.{name}"), (system, template))?;
        let variants = prompt.variants.iter().map(|(variant, words)| self.variant(name, variant, words));
        let variants = variants.collect::<Result<BTreeMap<_, _>, RecipeError>>()?;
        let written = prompt.demonstrations.iter().enumerate();
        let demonstrations = written.map(|(at, written)| self.demonstration(name, at + 1, written));
        let demonstrations = demonstrations.collect::<Result<Vec<_>, RecipeError>>()?;
        if template.is_none() && system.is_none() && demonstrations.is_empty() && variants.is_empty() {
            let nothing = "it says nothing; write template, system, demonstrations or variants";
            return self.fail(&format!("prompts.{name}"), nothing);
        }
        Ok(Wording { system, template, demonstrations, variants })
    }

    fn variant(
        &self,
        name: PromptName,
        variant: &str,
        words: &PromptVariant,
    ) -> Result<(String, Rewording), RecipeError> {
        let key = format!("prompts.{name}.variants.{variant}");
        if !is_name(variant) {
            return self.fail(&key, "a variant is called by letters, digits, `-` and `_`");
        }
        let reworded = self.words(name, &key, (words.system.as_deref(), words.template.as_deref()))?;
        match reworded {
            Rewording { system: None, template: None } => self.fail(&key, "it says nothing; write template or system"),
            reworded => Ok((variant.to_owned(), reworded)),
        }
    }

    fn words(
        &self,
        name: PromptName,
        key: &str,
        (system, template): (Option<&str>, Option<&str>),
    ) -> Result<Rewording, RecipeError> {
        let [system, template] = [system, template].map(|text| text.map(str::trim).map(str::to_owned));
        if let Some(template) = &template
            && let Err(error) = template::check(template, name.built_in().places)
        {
            return self.fail(&format!("{key}.template"), error);
        }
        if system.as_deref() == Some("") {
            let empty = "it is empty; chat templates would put a message of their own in its place";
            return self.fail(&format!("{key}.system"), empty);
        }
        Ok(Rewording { system, template })
    }

    fn demonstration(
        &self,
        name: PromptName,
        number: usize,
        written: &WrittenDemonstration,
    ) -> Result<Demonstration, RecipeError> {
        let WrittenDemonstration { premise, question, reply, steps } = written;
        let wrong = |why: &str| self.fail(&format!("prompts.{name}.demonstrations"), format!("number {number} {why}"));
        let lesson = match (name, reply.as_deref().map(str::trim), &**steps) {
            (PromptName::SelfAsk, None, [_, ..]) => {
                let known = steps
                    .iter()
                    .map(|step| Known { subquestion: step.subquestion.clone(), answer: Some(step.answer.clone()) });
                Lesson::Steps(known.collect())
            }
            (PromptName::SelfAsk, ..) => {
                return wrong("needs steps = [{ subquestion = \"…\", answer = \"…\" }], and no reply");
            }
            (PromptName::TwoStage, reply, [_, ..]) => match reply.filter(|reply| marks_answer(reply)) {
                Some(reply) => solution(steps, reply),
                None => return wrong(NO_ANSWER),
            },
            (PromptName::TwoStage, _, []) => {
                return wrong("needs steps = [{ subquestion = \"…\", answer = \"…\" }], and a reply to end with");
            }
            (_, _, [_, ..]) => return wrong("has steps, which are for `self-ask` and `two-stage` alone"),
            (PromptName::Decompose, Some(reply), _) => match decompose::parse(reply, &Finish::Stop, usize::MAX) {
                parsed if parsed.decomposition.is_some() && parsed.problems.is_empty() => {
                    Lesson::Reply(reply.to_owned())
                }
                _ => return wrong("is not read as a decomposition; write \"1. …\\n2. …\", or \"No decomposition\""),
            },
            (PromptName::Direct | PromptName::Cot, Some(reply), _) => match marks_answer(reply) {
                true => Lesson::Reply(reply.to_owned()),
                false => return wrong(NO_ANSWER),
            },
            (PromptName::Direct | PromptName::Cot | PromptName::Decompose, None, _) => return wrong("needs a reply"),
            _ => {
                return wrong(
                    "is of no use: `direct`, `cot`, `two-stage`, `self-ask` and `decompose` have demonstrations",
                );
            }
        };
        Ok(Demonstration { premise: premise.clone(), question: question.clone(), scorer: None, lesson })
    }

    /// A cap of which a decomposer is told needs a place to be told at.
    pub(super) fn caps(&self, plan: &Plan) -> Result<(), RecipeError> {
        let arms = plan.evaluate.iter().flat_map(|evaluate| &evaluate.arms);
        for arm in arms.filter(|arm| plan.told_most(arm).is_some() && arm.strategy != Strategy::SelfAsk) {
            let name = arm.decomposer.as_deref().unwrap_or_default();
            let tried = (plan.structured(name) == Structured::Auto).then_some(PromptName::DecomposeJson);
            for name in [Some(plan.style(name).prompt()), tried].into_iter().flatten() {
                if !template::has(plan.wording(arm).template(name), "limit") {
                    let message =
                        format!("the placeholder `{{limit}}` is missing, and `{arm}` tells its decomposer a cap");
                    let variant = arm.variant.prompt.as_ref().filter(|variant| plan.prompts.has_variant(name, variant));
                    let place = variant.map(|variant| format!(".variants.{variant}")).unwrap_or_default();
                    return self.fail(&format!("prompts.{name}{place}.template"), message);
                }
            }
        }
        Ok(())
    }
}

const NO_ANSWER: &str = "marks no answer; end its reply with \"The answer is: …\"";

fn marks_answer(reply: &str) -> bool {
    extract::final_answer(reply).is_some_and(|answer| answer.cue.is_explicit())
}

fn solution(steps: &[WrittenStep], end: &str) -> Lesson {
    let answers: Vec<&str> = steps.iter().map(|step| step.answer.as_str()).collect();
    let subquestions = steps.iter().map(|step| step.subquestion.clone()).collect();
    Lesson::Solution { subquestions, reply: two_stage::completion(&answers, end) }
}

/// The prompt in which a strategy shows demonstrations.
#[must_use]
pub fn demonstrates(strategy: Strategy) -> PromptName {
    match strategy {
        Strategy::Direct => PromptName::Direct,
        Strategy::Cot => PromptName::Cot,
        Strategy::TwoStage | Strategy::Sequential => PromptName::Decompose,
        Strategy::SelfAsk => PromptName::SelfAsk,
    }
}

impl Plan {
    /// The cap that an arm's decomposer is told. A student keeps to the prompt that it was trained on, and a data set hears
    /// nothing: what they write beyond the cap is left out.
    #[must_use]
    pub fn told_most(&self, arm: &Arm) -> Option<u32> {
        let follows = arm.decomposer.as_deref().is_some_and(|name| !name.starts_with("student:"));
        arm.variant.max_subquestions.filter(|_| follows).map(std::num::NonZeroU32::get)
    }
}

impl EvaluatePlan {
    /// Most subquestions that count for an arm.
    #[must_use]
    pub fn most(&self, arm: &Arm) -> usize {
        arm.variant
            .max_subquestions
            .map_or(self.max_subquestions, |most| usize::try_from(most.get()).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    /// One of everything; `big` is also the teacher.
    fn plan(strategies: &str, more: &str) -> Result<Plan, String> {
        let text = format!(
            "name = \"t\"\n[data.train]\ndataset = \"synth\"\nrows = 4\n[data.test]\ndataset = \"synth\"\nrows = 4\n\
             [models.small]\nsource = \"path:a.gguf\"\n[models.big]\nsource = \"path:b.gguf\"\n[collect]\nteacher = \"big\"\n\
             [students.sd]\nbase = \"small\"\ntarget = \"SD-T\"\n[students.ans]\nbase = \"small\"\ntarget = \"direct\"\n\
             [evaluate]\nsolvers = [\"big\", \"student:ans\"]\nstrategies = [\"direct\", {strategies}]\n\
             decomposers = [\"small\", \"student:sd\"]\n{more}"
        );
        Plan::resolve(&Recipe::parse(&text, "r.toml").unwrap(), "r.toml").map_err(|error| error.to_string())
    }

    fn slugs(strategies: &str) -> Vec<String> {
        plan(strategies, "").unwrap().evaluate.unwrap().arms.iter().map(Arm::slug).collect()
    }

    #[test]
    fn students_are_asked_as_they_were_trained() {
        let plain = ["direct/big", "direct/ans"];
        let of = |strategies| {
            slugs(strategies).into_iter().filter(|slug| !plain.contains(&slug.as_str())).collect::<Vec<_>>()
        };
        assert_eq!(of("\"direct+shots=2\""), ["direct/big+shots=2"], "a student that answers sees no demonstrations");
        assert_eq!(of("\"two-stage+shots=1\""), ["two-stage/small/big+shots=1"], "nor does one that decomposes");
        assert_eq!(of("\"two-stage+max=2\""), ["two-stage/small/big+max=2", "two-stage/sd/big+max=2"]);
        let plan = plan("\"two-stage+max=2\"", "").unwrap();
        let told: Vec<Option<u32>> =
            plan.evaluate.as_ref().unwrap().arms.iter().map(|arm| plan.told_most(arm)).collect();
        assert_eq!(told, [None, Some(2), None, None], "what a student writes is cut, its prompt is not touched");
    }

    #[test]
    fn a_wording_is_part_of_the_plan_and_none_leaves_it_as_it_was() {
        let more = "[prompts.cot]\ntemplate = \"{question} Think.\"\n";
        let (built_in, own) = (plan("\"cot\"", "").unwrap(), plan("\"cot\"", more).unwrap());
        assert_ne!(built_in.digest(), own.digest());
        let json = serde_json::to_string(&built_in).unwrap();
        assert!(!json.contains("prompts") && !json.contains("variant"), "plans of earlier versions stay what they are");
        let back: Plan = serde_json::from_str(&serde_json::to_string(&own).unwrap()).unwrap();
        assert_eq!(back, own);
    }

    #[test]
    fn who_is_asked_with_which_prompt() {
        let plan = plan("\"cot+shots=2\", \"two-stage+max=2\"", "").unwrap();
        let places = |wanted: &str| {
            plan.prompt_usages().into_iter().find(|(usage, _)| usage.to_string() == wanted).map(|(_, places)| places)
        };
        assert_eq!(places("cot+shots=2").unwrap(), ["cot/big+shots=2"]);
        assert_eq!(places("decompose").unwrap(), ["collect", "students.sd", "two-stage/sd/big+max=2"]);
        assert_eq!(places("decompose+max=2").unwrap(), ["two-stage/small/big+max=2"]);
        assert_eq!(places("direct").unwrap(), ["students.ans", "direct/big", "direct/ans"]);
        assert_eq!(places("cot"), None);
    }

    #[test]
    fn demonstrations_are_read_as_replies_are() {
        let refused = |name: &str, rest: &str, says: &str| {
            let more = format!("[[prompts.{name}.demonstrations]]\nquestion = \"Who?\"\n{rest}\n");
            let error = plan("\"cot+shots=1\", \"self-ask+shots=1\", \"two-stage+shots=1\"", &more).unwrap_err();
            assert!(error.contains(&format!("prompts.{name}.demonstrations")) && error.contains(says), "{error}");
        };
        refused("cot", "", "number 1 needs a reply");
        refused("cot", "reply = \"Nine.\"", "marks no answer");
        refused("decompose", "reply = \"Nine.\"", "is not read as a decomposition");
        refused("decompose", "reply = \"1. Who?\\n2. Who?\"", "is not read as a decomposition");
        refused("self-ask", "reply = \"Enough\"", "needs steps = ");
        refused("cot", "steps = [{ subquestion = \"a?\", answer = \"b\" }]", "for `self-ask` and `two-stage` alone");
        refused("two-stage", "reply = \"The answer is: 4\"", "needs steps = ");
        refused("two-stage", "steps = [{ subquestion = \"a?\", answer = \"b\" }]", "marks no answer");
        refused("conclusion", "reply = \"The answer is: 4\"", "is of no use");
    }
}
