//! What every arm and every student cost, and whether a student pays back, from items, calls and artefacts.

use std::collections::{BTreeMap, HashMap};

use divvy_core::{
    arm::Arm,
    cost::{Prices, account, latency},
    plan::TEACHER,
    records::ItemState,
    results::{
        ArmResult, TrainingSummary,
        costs::{ArmCost, Costs, Distilling, Mean, Measure, Outlay, StatedTerms},
    },
};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{
    counted::{ByArm, Counted as Row},
    families,
    once::Stages,
    outline::Outlines,
    scored::Evaluated,
    took::{Calls, Tariff, Took},
};
use crate::{context::Context, error::FlowError};

/// One arm with what each answer took, in the order of the questions, repeat by repeat and seed by seed; `None` for one that
/// was not asked.
struct Counted<'a> {
    arm: Arm,
    result: &'a ArmResult,
    took: Vec<Option<Took>>,
}

pub(super) async fn of(
    context: &Context,
    (terms, prices): (StatedTerms, &BTreeMap<String, Prices>),
    questions: &Outlines<'_>,
    evaluated: &[Evaluated],
    (rows, calls): (&ByArm, &Calls),
    training: &[TrainingSummary],
) -> Result<Option<Costs>, FlowError> {
    let Some(plan) = context.plan.evaluate.as_ref().filter(|_| !evaluated.is_empty()) else { return Ok(None) };
    let tariff = Tariff::new(context, terms, prices);
    let clusters = clusters(questions);
    let stages = Stages::read(context, &tariff).await?;
    let counted: Vec<Counted> = evaluated
        .par_iter()
        .filter_map(|Evaluated { arm: result, members, .. }| {
            let first = members.first()?;
            let arm = context.plan.pool(first).unwrap_or_else(|| first.clone());
            let mut took = Vec::with_capacity(result.n as usize);
            for (member, repeat) in members.iter().flat_map(|arm| (0..plan.repeats).map(move |repeat| (arm, repeat))) {
                let rows = &rows[&member.slug()];
                let row = |question| rows.get(question, repeat).filter(|row| is_on_record(row));
                took.extend(questions.each.iter().map(|asked| row(&asked.id).map(|row| calls.of(&row.calls, &tariff))));
            }
            Some(Counted { arm, result, took })
        })
        .collect();
    let one_off = |arm: &Arm| stages.of_arm(&context.plan.students, &tariff, training, arm);
    let arms = counted.iter().zip(evaluated).map(|(counted, Evaluated { right, .. })| {
        let recorded = counted.arm.decomposer.as_deref().is_some_and(|name| context.is_recorded(name));
        ArmCost { recorded, one_off: one_off(&counted.arm), ..arm_cost(counted, right, &clusters) }
    });
    let students = training.iter().map(|trained| stages.of_student(&context.plan.students, &tariff, trained));
    Ok(Some(Costs {
        terms,
        arms: arms.collect(),
        students: students.collect(),
        distilling: distilling(context, &counted, &clusters, &one_off),
    }))
}

/// Versions before kept no calls of an item that failed: what it took is not known, and no zero.
fn is_on_record(row: &Row) -> bool {
    row.state == ItemState::Done || !row.calls.is_empty()
}

/// A number for the cluster of each; a question without one is its own.
fn clusters(questions: &Outlines<'_>) -> Vec<usize> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut number = |at, name| *first.entry(name).or_insert(at);
    let all = questions.each.iter().enumerate();
    all.map(|(at, question)| question.cluster.as_deref().map_or(at, |name| number(at, name))).collect()
}

/// The clusters of these questions, among which one may be several times. Of a single cluster nothing is known but its questions:
/// they stand for themselves, and what is said holds for it alone, as it does of accuracy.
fn units(places: &[usize], clusters: &[usize]) -> Vec<usize> {
    let units: Vec<usize> = places.iter().map(|at| clusters[*at]).collect();
    if units.iter().all(|unit| *unit == units[0]) { places.to_vec() } else { units }
}

fn arm_cost(counted: &Counted, right: &[bool], clusters: &[usize]) -> ArmCost {
    let asked: Vec<usize> = (0..counted.took.len()).filter(|at| counted.took[*at].is_some()).collect();
    let took: Vec<&Took> = counted.took.iter().flatten().collect();
    let right: Vec<bool> = asked.iter().map(|at| right[*at]).collect();
    let places: Vec<usize> = asked.iter().map(|at| at % clusters.len()).collect();
    let clusters = units(&places, clusters);
    let spending = |of: fn(&Took) -> Option<i64>| {
        let amounts: Vec<Option<i64>> = took.iter().map(|took| of(took)).collect();
        account::spending(&amounts, &right, &clusters)
    };
    let mut cost = ArmCost { arm: counted.result.arm.clone(), n: asked.len() as u64, ..ArmCost::default() };
    for took in &took {
        cost.calls += took.calls;
        cost.unknown_usage += took.unknown_usage;
        cost.tokens = cost.tokens.and(took.tokens);
        cost.failed_tries += took.failed_tries;
        cost.failed_tokens = cost.failed_tokens.and(took.failed_tokens);
        cost.uncounted_tries += took.uncounted_tries;
    }
    ArmCost {
        money: spending(|took| took.money_nanos),
        machine: spending(|took| took.machine_us),
        latency: latency::quantiles(took.iter().filter_map(|took| took.path_ms).collect()),
        ..cost
    }
}

/// An arm that has a student for both parts names it once.
pub(super) fn students(arm: &Arm) -> impl Iterator<Item = &str> {
    let solver = arm.solver.strip_prefix("student:");
    let decomposer = arm.decomposer.as_deref().and_then(|name| name.strip_prefix("student:"));
    solver.into_iter().chain(decomposer.filter(move |name| solver != Some(*name)))
}

fn distilling(
    context: &Context,
    counted: &[Counted],
    clusters: &[usize],
    one_off: &dyn Fn(&Arm) -> Option<Outlay>,
) -> Vec<Distilling> {
    let mut found = Vec::new();
    let taught = |counted: &&Counted| !families::is_untaught(&context.plan, &counted.arm);
    let distilled = counted.iter().filter(|counted| students(&counted.arm).next().is_some());
    for distilled in distilled.filter(taught) {
        let Some(paid) = one_off(&distilled.arm).filter(|_| available(context, &distilled.arm)) else { continue };
        for replaced in rivals(context, counted, distilled) {
            found.push(compare(distilled, replaced, paid, clusters));
        }
    }
    found
}

fn compare(distilled: &Counted, replaced: &Counted, paid: Outlay, clusters: &[usize]) -> Distilling {
    let amounts = |counted: &Counted, of: fn(&Took) -> Option<i64>| -> Option<Vec<Option<i64>>> {
        // A question that was not asked is left out of both; one whose cost is unknown makes the arm's unknown.
        let each = counted.took.iter().map(|took| took.as_ref().map_or(Some(None), |took| of(took).map(Some)));
        Some(mean_answers(&each.collect::<Option<Vec<_>>>()?, clusters.len()))
    };
    let weigh = |measure: Measure, once: Option<i64>, of: fn(&Took) -> Option<i64>| {
        let saving = saved(&amounts(replaced, of)?, &amounts(distilled, of)?, clusters)?;
        Some((measure, once, saving))
    };
    let money = weigh(Measure::Money, paid.money_nanos, |took| took.money_nanos);
    let machine = weigh(Measure::Machine, paid.machine_us, |took| took.machine_us);
    // Money first; but a measure in which it can pay back goes before one in which it is only known to save.
    let known = || [money, machine].into_iter().flatten();
    let known = known().find(|(_, once, _)| once.is_some()).or_else(|| known().next());
    let once = known.and_then(|(_, once, _)| once);
    let saving = known.map(|(.., saving)| saving);
    Distilling {
        arm: distilled.result.arm.clone(),
        replaces: replaced.result.arm.clone(),
        measure: known.map(|(measure, ..)| measure),
        one_off: once,
        saving,
        break_even: once.zip(saving).map(|(once, saving)| account::break_even(once, &saving)),
    }
}

/// On the questions that both were asked.
fn saved(replaced: &[Option<i64>], distilled: &[Option<i64>], clusters: &[usize]) -> Option<Mean> {
    let is_in_both = |at: &usize| replaced[*at].is_some() && distilled[*at].is_some();
    let places: Vec<usize> = (0..clusters.len()).filter(is_in_both).collect();
    let of = |amounts: &[Option<i64>]| places.iter().map(|at| amounts[*at]).collect::<Vec<_>>();
    account::saving(&of(replaced), &of(distilled), &units(&places, clusters))
}

/// What one answer to each question took, on average over those that were asked.
fn mean_answers(amounts: &[Option<i64>], questions: usize) -> Vec<Option<i64>> {
    let mean = |at: usize| {
        let asked: Vec<i64> = amounts.iter().skip(at).step_by(questions).copied().flatten().collect();
        let sum: i128 = asked.iter().map(|amount| i128::from(*amount)).sum();
        i64::try_from(sum.checked_div(asked.len() as i128)?).ok()
    };
    (0..questions).map(mean).collect()
}

/// It can answer a new question: nobody recorded its decompositions beforehand.
fn available(context: &Context, arm: &Arm) -> bool {
    !arm.decomposer.as_deref().is_some_and(|name| context.is_recorded(name))
}

/// What one would use without the student: the best that answers in one call, the best that decomposes in the same way, and what
/// answers in one call for least.
fn rivals<'c>(context: &Context, counted: &'c [Counted<'c>], distilled: &Counted) -> Vec<&'c Counted<'c>> {
    let parts = distilled.arm.decomposer.iter().chain([&distilled.arm.solver]);
    let bases: Vec<&str> =
        parts.filter_map(|part| context.plan.student(part).map(|student| student.base.as_str())).collect();
    let is_base = |name: &str| bases.contains(&name) && context.plan.collect.teacher != name;
    let solver_stays = !distilled.arm.solver.starts_with("student:");
    let undistilled = |other: &&Counted| {
        students(&other.arm).next().is_none()
            && available(context, &other.arm)
            && (!solver_stays || other.arm.solver == distilled.arm.solver)
            && (solver_stays || !is_base(&other.arm.solver))
            && !other.arm.decomposer.as_deref().is_some_and(|name| name != TEACHER && is_base(name))
    };
    let best = |of: &dyn Fn(&Counted) -> bool| {
        let those = counted.iter().filter(undistilled).filter(|other| of(other));
        those.reduce(|best, next| if next.result.accuracy > best.result.accuracy { next } else { best })
    };
    let in_one_call = |other: &&Counted| !other.arm.strategy.needs_decomposer();
    let least = cheapest(&counted.iter().filter(undistilled).filter(in_one_call).collect::<Vec<_>>());
    let one_call = best(&|other| in_one_call(&other));
    let in_place = best(&|other| other.arm.strategy.needs_decomposer() && other.arm.strategy == distilled.arm.strategy);
    let least = least.filter(|least| one_call.is_none_or(|best| best.arm != least.arm));
    one_call.into_iter().chain(in_place).chain(least).collect()
}

/// In money where that is known of all of them, else in the machine's time.
fn cheapest<'c>(those: &[&'c Counted<'c>]) -> Option<&'c Counted<'c>> {
    let by = |of: fn(&Took) -> Option<i64>| {
        let each: Option<Vec<f64>> = those.iter().map(|one| mean_spent(one, of)).collect();
        those.iter().zip(each?).min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(one, _)| *one)
    };
    by(|took| took.money_nanos).or_else(|| by(|took| took.machine_us))
}

/// Of the questions that were asked; `None` where some amount is unknown.
fn mean_spent(counted: &Counted, of: fn(&Took) -> Option<i64>) -> Option<f64> {
    let asked: Vec<f64> =
        counted.took.iter().flatten().map(|took| of(took).map(|amount| amount as f64)).collect::<Option<_>>()?;
    (!asked.is_empty()).then(|| asked.iter().sum::<f64>() / asked.len() as f64)
}

#[cfg(test)]
mod tests {
    use divvy_core::{
        arm::{Strategy, Variant},
        question::Split,
        questions::Questions,
        synth,
    };
    use serde_json::json;

    use super::*;

    fn result(arm: &str) -> ArmResult {
        let result = json!({
            "arm": arm, "strategy": "two-stage", "solver": "big", "n": 3, "correct": 2, "accuracy": 0.6, "ci": [0.1, 0.9],
            "score": 0.6, "no_answer": 0, "truncated": 0, "errors": 0, "by_steps": [], "examples": [],
        });
        serde_json::from_value(result).unwrap()
    }

    fn took(money_nanos: Option<i64>, machine_us: Option<i64>) -> Took {
        Took {
            calls: 1,
            unknown_usage: 0,
            tokens: Default::default(),
            failed_tries: 0,
            failed_tokens: Default::default(),
            uncounted_tries: 0,
            money_nanos,
            machine_us,
            path_ms: None,
        }
    }

    fn counted(result: &ArmResult, money_nanos: Option<i64>, machine_us: Option<i64>) -> Counted<'_> {
        let arm = Arm {
            strategy: Strategy::TwoStage,
            variant: Variant::default(),
            decomposer: Some("teacher".to_owned()),
            solver: "big".to_owned(),
        };
        Counted { arm, result, took: vec![Some(took(money_nanos, machine_us)); 3] }
    }

    /// Twelve questions of a data set that has passages and no names for them.
    fn on_passages(passages: usize) -> Questions {
        let mut questions = synth::generate(Split::Test, 12, 1);
        for (row, question) in questions.iter_mut().enumerate() {
            (question.cluster, question.premise) = (None, Some(format!("Passage {}.", row % passages)));
        }
        questions.into_iter().collect()
    }

    /// What a question takes, and what it saves, where each fourth of twelve takes as much.
    fn of_passages(passages: usize) -> (Mean, Mean) {
        let clusters = clusters(&Outlines::of(&on_passages(passages)));
        let (student, rival) = (result("student"), result("rival"));
        let each = |of, nanos: i64| {
            let took = (0..12).map(|row| Some(took(Some(nanos * (row % 4)), None)));
            Counted { took: took.collect(), ..counted(of, None, None) }
        };
        let (distilled, replaced) = (each(&student, 100), each(&rival, 300));
        let spent = arm_cost(&distilled, &[true; 12], &clusters).money.and_then(|money| money.question);
        let saving = compare(&distilled, &replaced, Outlay::default(), &clusters).saving;
        (spent.unwrap(), saving.unwrap())
    }

    #[test]
    fn intervals_are_over_passages_whatever_the_data_set() {
        let (alone, shared) = (of_passages(12), of_passages(4));
        let width = |mean: Mean| mean.ci.1 - mean.ci.0;
        assert!(width(shared.0) > 2 * width(alone.0) && width(shared.1) > 2 * width(alone.1), "{shared:?} {alone:?}");
        assert_eq!((shared.0.mean, shared.1.mean), (alone.0.mean, alone.1.mean));
        assert_eq!(of_passages(1), alone, "the questions of a single passage stand for themselves");
        let result = result("student");
        let thrice = arm_cost(&counted(&result, Some(5), None), &[true; 3], &[0]);
        assert_eq!(thrice.money.unwrap().question, None, "three answers to one question say nothing of another");
    }

    /// Money and the machine's time of a question, of what was paid once → the measure, and whether it can pay back.
    #[test]
    fn a_saving_needs_nothing_of_what_was_paid_once() {
        let (student, rival) = (result("student"), result("rival"));
        let of = |(money, machine): (Option<i64>, Option<i64>), (once, hours): (Option<i64>, Option<i64>)| {
            let paid = Outlay { money_nanos: once, machine_us: hours, ..Outlay::default() };
            let (distilled, replaced) =
                (counted(&student, money, machine), counted(&rival, money.map(|it| it + 5), machine.map(|it| it + 9)));
            let pair = compare(&distilled, &replaced, paid, &[0, 1, 2]);
            (pair.measure, pair.saving.map(|saving| saving.mean), pair.one_off, pair.break_even.is_some())
        };
        assert_eq!(of((Some(1), None), (Some(50), None)), (Some(Measure::Money), Some(5), Some(50), true));
        assert_eq!(of((None, Some(1)), (None, None)), (Some(Measure::Machine), Some(9), None, false));
        assert_eq!(of((Some(1), Some(1)), (None, None)), (Some(Measure::Money), Some(5), None, false));
        assert_eq!(of((Some(1), Some(1)), (None, Some(90))), (Some(Measure::Machine), Some(9), Some(90), true));
        assert_eq!(of((None, None), (Some(50), Some(90))), (None, None, None, false));
    }
}
