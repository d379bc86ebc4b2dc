//! Decomposition quality by decomposer: of the teacher, from what was collected and screened; of every other one, from the
//! arms that it decomposed for. Arms that share their decompositions share one entry.

use std::collections::HashMap;

use divvy_core::{
    arm::{Strategy, Variant},
    digest::Digest,
    prompts::decompose::completion,
    quality::{Observed, Quality, Secrets, list_repeats, repeated, repeats},
    question::{Question, QuestionId},
    recipe::Rule,
    records::{Collected, ItemState, Stage, Unusable, Verdict},
    results::{ArmResult, DecomposerQuality, Heard, Measured, Pass, ShareIntervals},
};
use divvy_store::ItemRow;

use super::{outline, sharing::Sharing};
use crate::{context::Context, error::FlowError, evaluate::Graded, items};

/// Of every answer whether it counts in each share, beside the place of its question.
#[derive(Default)]
pub(super) struct Shares([(Vec<usize>, Vec<bool>); 5]);

impl Shares {
    /// Of one answer.
    pub(super) fn add(&mut self, place: usize, one: &Quality) {
        let Quality { n, well_formed, repeating, steps, leaking, referring, .. } = *one;
        let (leaking, referring) = ((leaking.of, leaking.count), (referring.of, referring.count));
        let shares = [(n, well_formed), (steps.of, steps.equal), (n, repeating), leaking, referring];
        for ((places, counts), (of, count)) in self.0.iter_mut().zip(shares) {
            if of > 0 {
                places.push(place);
                counts.push(count > 0);
            }
        }
    }

    pub(super) fn intervals(&self, sharing: &Sharing) -> ShareIntervals {
        let interval =
            |(places, counts): &(Vec<usize>, Vec<bool>)| (!places.is_empty()).then(|| sharing.share_at(places, counts));
        let [well_formed, equal_steps, repeating, leaking, referring] = self.0.each_ref().map(interval);
        ShareIntervals { well_formed, equal_steps, repeating, leaking, referring }
    }
}

/// Of a question that got no reply.
pub(super) fn unanswered() -> Quality {
    let mut quality = Quality::default();
    quality.add_unanswered();
    quality
}

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
    Some(Pass { solver: chosen.solver.clone(), n: chosen.n, rate: chosen.accuracy, ci: Some(chosen.ci) })
}

async fn of_teacher(context: &Context) -> Result<Option<DecomposerQuality>, FlowError> {
    let rows = context.store.items(&context.digest, Stage::Collect).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut asked = Asked::default();
    for row in &rows {
        let Some(question) = context.questions.for_student(&row.question) else { continue };
        asked.add(&question, &collected(&question, row)?);
    }
    Ok(Some(DecomposerQuality {
        decomposer: context.plan.collect.teacher.clone(),
        stage: Stage::Collect,
        variant: Variant::default(),
        heard: None,
        quality: asked.measured(context.plan.seed),
        pass: screened(context).await?,
    }))
}

/// What the teacher was asked, in the order in which it comes.
#[derive(Default)]
struct Asked {
    places: HashMap<QuestionId, usize>,
    questions: Vec<(QuestionId, Option<Digest>)>,
    counts: Quality,
    shares: Shares,
}

impl Asked {
    fn add(&mut self, question: &Question, one: &Quality) {
        let next = self.questions.len();
        let place = *self.places.entry(question.id.clone()).or_insert(next);
        if place == next {
            self.questions.push((question.id.clone(), outline::passage(question)));
        }
        self.counts += *one;
        self.shares.add(place, one);
    }

    fn measured(&self, seed: u64) -> Measured {
        let questions = self.questions.iter().map(|(id, passage)| (id, passage.as_ref()));
        Measured { counts: self.counts, intervals: self.shares.intervals(&Sharing::of_each(questions, seed)) }
    }
}

fn collected(question: &Question, row: &ItemRow) -> Result<Quality, FlowError> {
    let mut quality = Quality::default();
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
            let repeats = list_repeats(&problems);
            quality.add(Observed { question, secrets, decomposition: None, repeats, heard: &[] });
        }
        ItemState::Failed(_) | ItemState::Pending => quality.add_unanswered(),
    }
    Ok(quality)
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
    Ok((n > 0).then(|| Pass { solver, n, rate: ordered.iter().sum::<f64>() / n as f64, ci: None }))
}

#[cfg(test)]
mod tests {
    use divvy_core::{
        quality::Share,
        question::{ScorerKind, Split},
        stats::wilson,
    };
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

    #[test]
    fn shares_have_intervals_over_the_questions_that_they_are_of() {
        let one = |well_formed, leaks: Option<bool>| {
            let leaking = Share { of: leaks.into_iter().count() as u64, count: u64::from(leaks == Some(true)) };
            Quality { n: 1, well_formed, leaking, ..Quality::default() }
        };
        let of = |passage: &dyn Fn(usize) -> Option<Digest>| {
            let mut asked = Asked::default();
            for row in 0..100 {
                let id = QuestionId::new("set", Split::Train, row);
                asked.questions.push((id, passage(row)));
                asked.shares.add(row, &one(u64::from(row / 10 % 2 == 0), (row < 20).then_some(row == 3)));
            }
            asked.measured(1).intervals
        };
        let alone = of(&|_| None);
        assert_eq!(
            (alone.well_formed, alone.leaking),
            (Some(wilson::interval(50, 100)), Some(wilson::interval(1, 20)))
        );
        assert_eq!((alone.repeating, alone.equal_steps), (Some(wilson::interval(0, 100)), None));
        let shared = of(&|row| Some(Digest::of("passage/1", &(row / 10).to_string())));
        let width = |interval: Option<(f64, f64)>| interval.map(|(low, high)| high - low);
        assert!(width(shared.well_formed) > width(alone.well_formed).map(|width| 2.0 * width), "{shared:?}");
    }

    #[test]
    fn several_decompositions_of_a_question_are_no_further_questions() {
        let question = |row| Question {
            id: QuestionId::new("set", Split::Train, row),
            dataset: "set".to_owned(),
            split: Split::Train,
            premise: None,
            text: "Q?".to_owned(),
            golds: Vec::new(),
            scorer: ScorerKind::Drop,
            steps: None,
            recorded: None,
            cluster: None,
            worked: Vec::new(),
        };
        let mut asked = Asked::default();
        for row in (0..40).flat_map(|row| [row; 5]) {
            let well_formed = u64::from(row % 2 == 0);
            asked.add(&question(row), &Quality { n: 1, well_formed, ..Quality::default() });
        }
        let Measured { counts, intervals } = asked.measured(1);
        let ((low, high), once) = (intervals.well_formed.unwrap(), wilson::interval(20, 40));
        assert_eq!((counts.n, counts.well_formed), (200, 100));
        assert!(low < once.0 + 1e-9 && high > once.1 - 1e-9, "{low} {high} {once:?}");
    }
}
