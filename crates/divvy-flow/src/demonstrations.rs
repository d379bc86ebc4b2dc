//! The demonstrations of an arm: those that the recipe writes, else training questions of the plan with their gold answers
//! and decompositions, the recorded ones or those that were collected. What was chosen from a teacher's replies is kept in
//! the store, so that an arm is asked with the same ones to its end.

use std::collections::{BTreeMap, HashMap};

use divvy_core::{
    arm::Arm,
    decomposition::Decomposition,
    digest::Digest,
    plan::{EvaluatePlan, Plan, RECORDED, demonstrates},
    prompts::{Demonstration, PromptName, demonstration},
    question::QuestionId,
};

use crate::{collect, context::Context, error::FlowError, screen, split::Splits};

/// Demonstrations that the questions alone give, as many of each prompt as an arm shows at most.
#[derive(Clone, Debug, Default)]
pub struct Shown(BTreeMap<PromptName, Vec<Demonstration>>);

impl Shown {
    /// Of all the training questions, whatever part of them a command works on.
    #[must_use]
    pub fn of(plan: &Plan, questions: &Splits) -> Self {
        let mut shown = BTreeMap::new();
        for arm in plan.evaluate.iter().flat_map(|evaluate| &evaluate.arms) {
            let name = demonstrates(arm.strategy);
            let chosen: &Vec<Demonstration> = shown.entry(name).or_default();
            if arm.variant.shots() > chosen.len() && is_known(plan, name) {
                shown.insert(name, demonstration::recorded(name, &questions.train, (plan.seed, arm.variant.shots())));
            }
        }
        Self(shown)
    }

    fn first(&self, name: PromptName, most: usize) -> Vec<Demonstration> {
        self.0.get(&name).into_iter().flatten().take(most).cloned().collect()
    }
}

/// Whether the questions have all that the prompt shows: whole decompositions are the teacher's, where it is a model.
fn is_known(plan: &Plan, name: PromptName) -> bool {
    name != PromptName::Decompose || plan.collect.teacher == RECORDED || !plan.collects()
}

/// What an arm shows, as far as it can be told before anything is collected.
#[must_use]
pub fn foreseen(plan: &Plan, shown: &Shown, arm: &Arm) -> Vec<Demonstration> {
    let (name, most) = (demonstrates(arm.strategy), arm.variant.shots());
    match plan.prompts.demonstrations(name) {
        [] => shown.first(name, most),
        written => written.iter().take(most).cloned().collect(),
    }
}

/// Refuses an arm that lacks demonstrations, before anything is paid for.
///
/// # Errors
/// [`FlowError::Input`] naming the arm.
pub fn check(context: &Context, plan: &EvaluatePlan) -> Result<(), FlowError> {
    let known = |arm: &&Arm| is_known(&context.plan, demonstrates(arm.strategy));
    for arm in plan.arms.iter().filter(known) {
        enough(arm, &foreseen(&context.plan, &context.shown, arm))?;
    }
    Ok(())
}

fn enough(arm: &Arm, found: &[Demonstration]) -> Result<(), FlowError> {
    let (name, most) = (demonstrates(arm.strategy), arm.variant.shots());
    if found.len() >= most {
        return Ok(());
    }
    let needs = match name {
        PromptName::Direct => "a gold answer",
        PromptName::Cot => "a worked solution (gsm8k, synth and bamboogle have them) and a gold answer",
        PromptName::SelfAsk => "a recorded decomposition with the answer to each step",
        _ => "a decomposition",
    };
    Err(FlowError::Input(format!(
        "evaluate.strategies: `{arm}` shows {most} training questions, each with {needs}, and there are {}; write \
         [[prompts.{name}.demonstrations]] in the recipe, or fewer shots",
        found.len()
    )))
}

/// The demonstrations of an arm.
///
/// # Errors
/// The store's; [`FlowError::Input`] where there are too few.
pub async fn of_arm(context: &Context, arm: &Arm) -> Result<Vec<Demonstration>, FlowError> {
    let name = demonstrates(arm.strategy);
    let written = !context.plan.prompts.demonstrations(name).is_empty();
    if arm.variant.shots() == 0 || written || is_known(&context.plan, name) {
        return Ok(foreseen(&context.plan, &context.shown, arm));
    }
    let found = match kept(context, name, arm.variant.shots()).await? {
        Some(kept) => kept,
        None => collected(context, name, arm.variant.shots()).await?,
    };
    enough(arm, &found)?;
    Ok(found)
}

/// Puts on record what every arm shows, before it is first asked.
///
/// # Errors
/// As [`of_arm`].
pub async fn keep(context: &Context, plan: &EvaluatePlan) -> Result<(), FlowError> {
    for arm in plan.arms.iter().filter(|arm| !is_known(&context.plan, demonstrates(arm.strategy))) {
        let (name, most) = (demonstrates(arm.strategy), arm.variant.shots());
        if most > 0 && kept(context, name, most).await?.is_none() {
            let json = serde_json::to_string(&of_arm(context, arm).await?).expect("demonstrations are plain JSON");
            context.store.put_artefact(&key(context, name, most), "demonstrations", "", &json, (context.now)()).await?;
        }
    }
    Ok(())
}

fn key(context: &Context, name: PromptName, most: usize) -> Digest {
    Digest::of("demonstrations/1", &(context.digest.hex(), name, most))
}

async fn kept(context: &Context, name: PromptName, most: usize) -> Result<Option<Vec<Demonstration>>, FlowError> {
    let record = context.store.artefact(&key(context, name, most)).await?;
    Ok(record.and_then(|record| serde_json::from_str(&record.meta_json).ok()))
}

/// From what was collected; where it was screened, from what was kept.
async fn collected(context: &Context, name: PromptName, most: usize) -> Result<Vec<Demonstration>, FlowError> {
    let verdicts = match context.plan.screen {
        Some(_) => Some(screen::verdicts(context).await?),
        None => None,
    };
    let mut by_question: HashMap<QuestionId, Decomposition> = HashMap::new();
    for (item, decomposition) in collect::collected(context).await? {
        let keep = verdicts.as_ref().is_none_or(|all| all.get(&item).is_some_and(|verdict| verdict.keep));
        if keep {
            by_question.entry(item.question).or_insert(decomposition);
        }
    }
    let train = &context.questions.train;
    Ok(demonstration::choose(name, train, |question| by_question.get(&question.id).cloned(), (context.plan.seed, most)))
}
