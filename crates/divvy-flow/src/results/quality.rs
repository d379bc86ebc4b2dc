//! Decomposition quality by decomposer: of the teacher, from what was collected and screened; of every other one, from the
//! arms that it decomposed for. Arms that share their decompositions share one entry.

use divvy_core::{
    arm::{Strategy, Variant},
    prompts::decompose::completion,
    quality::{Observed, Quality, Secrets, list_repeats, repeated, repeats},
    question::Question,
    recipe::Rule,
    records::{Collected, ItemState, Stage, Unusable, Verdict},
    results::{ArmResult, DecomposerQuality, Heard, Pass},
};
use divvy_store::ItemRow;

use crate::{context::Context, error::FlowError, evaluate::Graded, items};

/// What an arm was given to solve.
pub(super) fn count(
    quality: &mut Quality,
    strategy: Strategy,
    (question, secrets): (&Question, &Secrets),
    graded: &Graded,
) {
    let text = graded.decomposer_text.as_deref();
    let repeats = match (text, &graded.decomposition) {
        (Some(text), _) => repeats(text),
        // A data set's own.
        (None, Some(steps)) => repeats(&completion(steps)),
        (None, None) => false,
    };
    let heard = if strategy == Strategy::SelfAsk { &*graded.sub_answers } else { &[] };
    quality.add(Observed { question, secrets, decomposition: graded.decomposition.as_ref(), repeats, heard });
}

/// Of every decomposer, the teacher's collected rows first, then in the order of the arms.
pub(super) async fn of(context: &Context, arms: &[ArmResult]) -> Result<Vec<DecomposerQuality>, FlowError> {
    let mut all: Vec<DecomposerQuality> = of_teacher(context).await?.into_iter().collect();
    all.extend(of_arms(context, arms));
    Ok(all)
}

/// Of what arms were given to solve.
pub(super) fn of_arms(context: &Context, arms: &[ArmResult]) -> Vec<DecomposerQuality> {
    let mut all: Vec<DecomposerQuality> = Vec::new();
    for arm in arms {
        let (Some(decomposer), Some(quality)) = (&arm.decomposer, arm.decompositions) else { continue };
        let heard =
            (arm.strategy == Strategy::SelfAsk).then(|| Heard { strategy: arm.strategy, solver: arm.solver.clone() });
        let known = |entry: &DecomposerQuality| {
            (&entry.decomposer, &entry.variant, &entry.heard) == (decomposer, &arm.variant, &heard)
        };
        if !all.iter().any(known) {
            let screens = context.plan.screen.as_ref().and_then(|screen| screen.solver.as_deref());
            let pass = pass(screens, arms, arm);
            all.push(DecomposerQuality {
                decomposer: decomposer.clone(),
                stage: Stage::Evaluate,
                variant: arm.variant.clone(),
                heard,
                quality,
                pass,
            });
        }
    }
    all
}

/// By two-stage arms (a solver that answers all at once), or by self-ask itself: the screening's solver, else the one that
/// is right most often. Students are no yardstick.
fn pass(screens: Option<&str>, arms: &[ArmResult], arm: &ArmResult) -> Option<Pass> {
    let strategy = if arm.strategy == Strategy::SelfAsk { Strategy::SelfAsk } else { Strategy::TwoStage };
    let alike = |other: &&ArmResult| {
        (other.strategy, &other.variant, &other.decomposer) == (strategy, &arm.variant, &arm.decomposer)
            && (strategy != Strategy::SelfAsk || other.solver == arm.solver)
            && !other.solver.starts_with("student:")
    };
    let chosen = arms.iter().filter(alike).find(|other| Some(other.solver.as_str()) == screens);
    let strongest =
        || arms.iter().filter(alike).reduce(|best, next| if next.accuracy > best.accuracy { next } else { best });
    let chosen = chosen.or_else(strongest)?;
    Some(Pass { solver: chosen.solver.clone(), n: chosen.n, rate: chosen.accuracy })
}

async fn of_teacher(context: &Context) -> Result<Option<DecomposerQuality>, FlowError> {
    let rows = context.store.items(&context.digest, Stage::Collect).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut quality = Quality::default();
    for row in &rows {
        let Some(question) = context.questions.for_student(&row.question) else { continue };
        add_collected(&mut quality, &question, row)?;
    }
    Ok(Some(DecomposerQuality {
        decomposer: context.plan.collect.teacher.clone(),
        stage: Stage::Collect,
        variant: Variant::default(),
        heard: None,
        quality,
        pass: screened(context).await?,
    }))
}

fn add_collected(quality: &mut Quality, question: &Question, row: &ItemRow) -> Result<(), FlowError> {
    let secrets = &Secrets::of(question);
    match row.state {
        ItemState::Done => {
            let collected: Collected = items::payload(row)?;
            let decomposition = Some(&collected.decomposition);
            quality.add(Observed { question, secrets, decomposition, repeats: repeated(&collected), heard: &[] });
        }
        ItemState::Rejected(_) => {
            // Earlier versions kept nothing of these.
            let Unusable { problems } = items::payload::<Option<Unusable>>(row)?.unwrap_or_default();
            quality.add(Observed {
                question,
                secrets,
                decomposition: None,
                repeats: list_repeats(&problems),
                heard: &[],
            });
        }
        ItemState::Failed(_) | ItemState::Pending => quality.add_unanswered(),
    }
    Ok(())
}

/// Over the candidates that were screened against gold; of one that was rejected by its form nothing is known.
async fn screened(context: &Context) -> Result<Option<Pass>, FlowError> {
    let plan = context.plan.screen.as_ref().filter(|plan| plan.rule != Rule::Agreement);
    let Some(solver) = plan.and_then(|plan| plan.solver.clone()) else { return Ok(None) };
    let rows = items::settled(context, Stage::Screen).await?;
    let rates = rows.values().filter_map(|row| items::payload::<Verdict>(row).map(|told| told.pass_rate).transpose());
    let rates = rates.collect::<Result<Vec<f64>, FlowError>>()?;
    let n = rates.len() as u64;
    // In a stable order, so that the same rows give the same sum.
    let mut ordered = rates;
    ordered.sort_by(f64::total_cmp);
    Ok((n > 0).then(|| Pass { solver, n, rate: ordered.iter().sum::<f64>() / n as f64 }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arm(solver: &str, correct: u64) -> ArmResult {
        let arm = json!({
            "arm": format!("two-stage/teacher/{solver}"), "strategy": "two-stage", "decomposer": "teacher", "solver": solver,
            "n": 10, "correct": correct, "accuracy": correct as f64 / 10.0, "ci": [0.0, 1.0], "score": 0.0, "no_answer": 0,
            "truncated": 0, "errors": 0, "tokens_in": 0, "tokens_out": 0, "decompose_tokens_in": 0,
            "decompose_tokens_out": 0, "solve_tokens_in": 0, "solve_tokens_out": 0, "by_steps": [], "examples": [],
        });
        serde_json::from_value(arm).unwrap()
    }

    #[test]
    fn decompositions_are_judged_by_the_strongest_solver_unless_one_screened() {
        let arms = [arm("small", 2), arm("big", 6), arm("other", 6), arm("student:best", 9)];
        let judge = |screens| pass(screens, &arms, &arms[0]).unwrap().solver;
        assert_eq!(
            (judge(None), judge(Some("small")), judge(Some("absent"))),
            ("big".into(), "small".into(), "big".into())
        );
    }
}
