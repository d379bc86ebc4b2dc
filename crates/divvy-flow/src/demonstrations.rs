//! Demonstrations: those that the recipe writes, else training questions of the plan with their gold answers and
//! decompositions, the recorded ones or, in an arm, those that were collected. What was chosen from a teacher's replies is kept
//! in the store, so that an arm is asked with the same ones to its end. Stages and students show what can be told before
//! anything is asked, so that a student sees in training what it sees ever after.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use divvy_core::{
    arm::Arm,
    decomposition::Decomposition,
    digest::Digest,
    leak,
    plan::{EvaluatePlan, Plan, Showing, demonstrates},
    prompts::{Demonstration, PromptName, demonstration},
    question::{Question, QuestionId},
    records::Stage,
};

use crate::{collect, context::Context, error::FlowError, evaluate, screen, split::Splits};

/// Demonstrations that recipe and questions alone give, as many of each prompt as are shown at most.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    of_arms: BTreeMap<PromptName, Vec<Demonstration>>,
    of_stages: BTreeMap<PromptName, Arc<[Demonstration]>>,
}

impl Shown {
    /// Of all the training questions, whatever part of them a command works on.
    #[must_use]
    pub fn of(plan: &Plan, questions: &Splits) -> Self {
        let recorded = |name, most| demonstration::recorded(name, &questions.train, (plan.seed, most));
        let mut shown = Self::default();
        for arm in plan.evaluate.iter().flat_map(|evaluate| &evaluate.arms) {
            let (name, most) = (demonstrates(arm.strategy), arm.variant.shots());
            let chosen: &Vec<Demonstration> = shown.of_arms.entry(name).or_default();
            if most > chosen.len() && plan.has_recorded(name) {
                shown.of_arms.insert(name, recorded(name, most));
            }
        }
        for Showing { prompt, shots, .. } in plan.showings() {
            let pool = shown.of_stages.entry(prompt).or_default();
            if shots >= pool.len() {
                *pool = match plan.prompts.demonstrations(prompt) {
                    // One more than is shown stands in for a question that is among them.
                    [] => recorded(prompt, shots + 1).into(),
                    written => written.into(),
                };
            }
        }
        shown
    }

    #[cfg(test)]
    pub(crate) fn staging(of_stages: BTreeMap<PromptName, Arc<[Demonstration]>>) -> Self {
        Self { of_stages, ..Self::default() }
    }

    fn first(&self, name: PromptName, most: usize) -> Vec<Demonstration> {
        self.of_arms.get(&name).into_iter().flatten().take(most).cloned().collect()
    }

    fn pool(&self, name: PromptName) -> &[Demonstration] {
        self.of_stages.get(&name).map_or(&[], |pool| pool)
    }

    /// What a stage or a student shows before any other question.
    #[must_use]
    pub fn staged(&self, name: PromptName, most: usize) -> Vec<Demonstration> {
        self.pool(name).iter().take(most).cloned().collect()
    }

    /// What a stage or a student shows before a training question.
    #[must_use]
    pub fn beside(&self, name: PromptName, most: usize, question: &Question) -> Vec<Demonstration> {
        demonstration::beside(self.pool(name), most, question)
    }
}

/// What an arm shows, as far as it can be told before anything is collected.
#[must_use]
pub fn foreseen(plan: &Plan, shown: &Shown, arm: &Arm) -> Vec<Demonstration> {
    let (name, most) = (demonstrates(arm.strategy), plan.shots(arm));
    match plan.prompts.demonstrations(name) {
        _ if is_students(plan, arm) => shown.staged(name, most),
        [] => shown.first(name, most),
        written => written.iter().take(most).cloned().collect(),
    }
}

/// It is a student's prompt that shows them, and not the arm's.
fn is_students(plan: &Plan, arm: &Arm) -> bool {
    plan.student(arm.decomposer.as_ref().unwrap_or(&arm.solver)).is_some()
}

/// What a student sees that solves behind a decomposer.
#[must_use]
pub fn of_solver(plan: &Plan, shown: &Shown, arm: &Arm) -> Vec<Demonstration> {
    shown.staged(PromptName::TwoStage, plan.solving_shots(arm))
}

/// Refuses an arm that lacks demonstrations, before anything is paid for.
///
/// # Errors
/// [`FlowError::Input`] naming the arm.
pub fn check(context: &Context, plan: &EvaluatePlan) -> Result<(), FlowError> {
    let known = |arm: &&Arm| context.plan.has_recorded(demonstrates(arm.strategy));
    for arm in plan.arms.iter().filter(known) {
        enough(arm, &foreseen(&context.plan, &context.shown, arm))?;
    }
    Ok(())
}

/// Refuses a demonstration that the recipe writes and that is a question to be scored: whoever is asked would be shown its answer.
/// Asks nobody and needs no store.
///
/// # Errors
/// [`FlowError::Input`] naming the demonstration and the question.
pub fn check_written(plan: &Plan, splits: &Splits) -> Result<(), FlowError> {
    let Some(evaluate) = &plan.evaluate else { return Ok(()) };
    let content = |shot: &Demonstration| leak::text_digest(shot.premise.as_deref(), &shot.question);
    let mut written: HashMap<Digest, (PromptName, usize)> = HashMap::new();
    for name in PromptName::ALL {
        let numbered = plan.prompts.demonstrations(name).iter().enumerate();
        written.extend(numbered.map(|(at, shot)| (content(shot), (name, at + 1))));
    }
    if written.is_empty() {
        return Ok(());
    }
    let is_shown = |question: Arc<Question>| Some((*written.get(&leak::content_digest(&question))?, question));
    match evaluate::of_split(evaluate, splits).iter().find_map(is_shown) {
        Some(((name, number), question)) => Err(FlowError::Input(format!(
            "prompts.{name}.demonstrations: number {number} is {}, which is scored, and would be asked with its answer before it\n\
             hint: write a training question, or one of your own",
            question.id
        ))),
        None => Ok(()),
    }
}

/// Refuses a stage, or a student of the stage that trains, which lacks demonstrations.
///
/// # Errors
/// [`FlowError::Input`] naming the key.
pub fn check_stage(context: &Context, stage: Stage) -> Result<(), FlowError> {
    for Showing { prompt, shots, key, .. } in context.plan.showings().iter().filter(|showing| showing.stage == stage) {
        let found = context.shown.pool(*prompt).len();
        if found < *shots {
            return Err(too_few(key, *shots, *prompt, found));
        }
    }
    Ok(())
}

fn enough(arm: &Arm, found: &[Demonstration]) -> Result<(), FlowError> {
    let (name, most) = (demonstrates(arm.strategy), arm.variant.shots());
    if found.len() >= most {
        return Ok(());
    }
    Err(too_few(&format!("evaluate.strategies: `{arm}`"), most, name, found.len()))
}

fn too_few(who: &str, most: usize, name: PromptName, found: usize) -> FlowError {
    let needs = match name {
        PromptName::Direct => "a gold answer",
        PromptName::Cot => "a worked solution (gsm8k, synth and bamboogle have them) and a gold answer",
        PromptName::SelfAsk => "a recorded decomposition with the answer to each step",
        PromptName::TwoStage => {
            "a recorded decomposition, a line of a worked solution for each step, and a gold answer"
        }
        _ => "a decomposition",
    };
    FlowError::Input(format!(
        "{who} shows {most} training questions, each with {needs}, and there are {found}; write \
         [[prompts.{name}.demonstrations]] in the recipe, or fewer shots"
    ))
}

/// The demonstrations of an arm.
///
/// # Errors
/// The store's; [`FlowError::Input`] where there are too few.
pub async fn of_arm(context: &Context, arm: &Arm) -> Result<Vec<Demonstration>, FlowError> {
    let (plan, name) = (&context.plan, demonstrates(arm.strategy));
    let written = !plan.prompts.demonstrations(name).is_empty();
    if arm.variant.shots() == 0 || written || plan.has_recorded(name) {
        return Ok(foreseen(plan, &context.shown, arm));
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
    for arm in plan.arms.iter().filter(|arm| !context.plan.has_recorded(demonstrates(arm.strategy))) {
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
