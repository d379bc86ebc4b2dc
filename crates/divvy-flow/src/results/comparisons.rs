//! Which arms are compared, always on the same questions. What is asked falls into families, fixed by the plan before
//! anything is measured (a run that is not finished has fewer); Holm's adjustment holds within each, so that a further student does not blur another question.
//! Where the recipe declares comparisons, those are the one family that counts, and all others are exploratory.

use divvy_core::{
    arm::Strategy,
    plan::{Plan, TEACHER},
    recipe::Target,
    results::{ArmResult, Comparison, Family, ScoreDifference},
    stats,
};

use super::{
    scored::Evaluated,
    seeds,
    sharing::{Sharing, as_scores, has_partial_credit},
};

/// In the plan's order of arms.
pub(super) fn of(plan: &Plan, evaluated: &[Evaluated], sharing: &Sharing) -> Vec<Comparison> {
    let mut compared = declared(plan, evaluated, sharing);
    let exploratory = plan.evaluate.as_ref().is_some_and(|plan| !plan.comparisons.is_empty());
    adjust(compared.iter_mut().collect());
    let mut asked = Vec::new();
    for left in evaluated {
        for right in evaluated {
            let is_declared = compared.iter().any(|pair| is_of(pair, &left.arm, &right.arm));
            let family = family(plan, &left.arm, &right.arm).filter(|_| !is_declared);
            asked.extend(family.map(|family| Comparison { exploratory, ..compare(family, left, right, sharing) }));
        }
    }
    for family in Family::ALL {
        adjust(asked.iter_mut().filter(|comparison| comparison.family == family).collect());
    }
    compared.extend(asked);
    compared
}

/// In the recipe's order, each with the family that would have asked it too.
fn declared(plan: &Plan, evaluated: &[Evaluated], sharing: &Sharing) -> Vec<Comparison> {
    let find = |slug: &str| evaluated.iter().find(|evaluated| evaluated.arm.arm == slug);
    let pairs = plan.evaluate.iter().flat_map(|plan| &plan.comparisons);
    let both = pairs.filter_map(|pair| Some((find(&pair.a)?, find(&pair.b)?)));
    both.map(|(a, b)| {
        let asked = family(plan, &a.arm, &b.arm).or_else(|| family(plan, &b.arm, &a.arm));
        compare(asked.unwrap_or(Family::Declared), a, b, sharing)
    })
    .collect()
}

/// Whichever way round.
fn is_of(pair: &Comparison, left: &ArmResult, right: &ArmResult) -> bool {
    (pair.a == left.arm && pair.b == right.arm) || (pair.a == right.arm && pair.b == left.arm)
}

fn adjust(mut family: Vec<&mut Comparison>) {
    let adjusted = stats::holm::adjust(&family.iter().map(|comparison| comparison.p_value).collect::<Vec<_>>());
    for (comparison, p_holm) in family.iter_mut().zip(adjusted) {
        comparison.p_holm = p_holm;
    }
    let mut scores: Vec<&mut ScoreDifference> =
        family.into_iter().filter_map(|comparison| comparison.score.as_mut()).collect();
    let adjusted = stats::holm::adjust(&scores.iter().map(|score| score.p_value).collect::<Vec<_>>());
    for (score, p_holm) in scores.iter_mut().zip(adjusted) {
        score.p_holm = p_holm;
    }
}

/// What comparing `arm` with `other` answers, `None` where nobody asks.
fn family(plan: &Plan, arm: &ArmResult, other: &ArmResult) -> Option<Family> {
    match (distilled(&arm.solver), distilled(&other.solver)) {
        (true, false) => solves_instead(arm, other).then_some(Family::Solver),
        (false, true) => parts(plan, arm, other).then_some(Family::Parts),
        _ if worded_otherwise(arm, other) => Some(Family::Prompt),
        _ if arm.solver != other.solver || !arm.strategy.needs_decomposer() => None,
        _ => decomposes_otherwise(plan, arm, other),
    }
}

/// An arm with demonstrations, a cap or other words against the same one without.
fn worded_otherwise(arm: &ArmResult, other: &ArmResult) -> bool {
    let same = (arm.strategy, &arm.decomposer, &arm.solver) == (other.strategy, &other.decomposer, &other.solver);
    same && !arm.variant.is_plain() && other.variant.is_plain()
}

fn distilled(name: &str) -> bool {
    name.starts_with("student:")
}

/// A distilled solver against one that was not: in its own place, or in one call.
fn solves_instead(arm: &ArmResult, other: &ArmResult) -> bool {
    let in_place = arm.strategy == other.strategy && arm.variant == other.variant && arm.decomposer == other.decomposer;
    in_place || !other.strategy.needs_decomposer()
}

/// A distilled decomposer before the solver that it was made for, against a student that answers by itself or from the
/// teacher's decompositions: which of the two should be distilled?
fn parts(plan: &Plan, arm: &ArmResult, other: &ArmResult) -> bool {
    let Some(decomposer) = arm.decomposer.as_deref().and_then(|name| plan.student(name)) else { return false };
    let Some(solver) = plan.student(&other.solver) else { return false };
    let one_part = decomposer.target != Target::Joint && solver.target != Target::Joint;
    one_part
        && arm.strategy == Strategy::TwoStage
        && arm.solver != solver.base
        && other.decomposer.as_deref().is_none_or(|name| name == TEACHER)
}

/// Of two arms with one solver.
fn decomposes_otherwise(plan: &Plan, arm: &ArmResult, other: &ArmResult) -> Option<Family> {
    let student = arm.decomposer.as_deref().and_then(|name| plan.student(name));
    let base = student.map(|student| student.base.as_str());
    if arm.strategy != Strategy::TwoStage && other.strategy == Strategy::TwoStage {
        let alike = arm.decomposer == other.decomposer && arm.variant == other.variant;
        return alike.then_some(Family::Strategy);
    }
    let asked = match (other.strategy, other.decomposer.as_deref()) {
        (Strategy::Cot | Strategy::Direct, _) => true,
        (strategy, _) if strategy != arm.strategy || other.variant != arm.variant => false,
        (_, Some(TEACHER)) => arm.decomposer.as_deref() != Some(TEACHER),
        (_, name) => name.is_some() && name == base,
    };
    asked.then_some(Family::Decomposer)
}

fn compare(family: Family, left: &Evaluated, right: &Evaluated, sharing: &Sharing) -> Comparison {
    if [left, right].iter().any(|arm| arm.right.len() != sharing.questions) {
        return compare_means(family, left, right, sharing);
    }
    let paired = stats::paired::compare(&left.right, &right.right);
    let discordant = (paired.only_a + paired.only_b) as f64 / paired.n.max(1) as f64;
    // Where all are alike, every resample says the same: that is no certainty.
    let clustered = sharing.accuracies(&left.right, &right.right).filter(|_| discordant > 0.0);
    let (ci, p_value) = clustered.map_or((paired.ci, paired.p_value), |found| (found.ci, found.p_value));
    Comparison {
        a: left.arm.arm.clone(),
        b: right.arm.arm.clone(),
        family,
        n: paired.n,
        only_a: paired.only_a,
        only_b: paired.only_b,
        difference: paired.difference,
        ci,
        p_value,
        p_holm: p_value,
        score: score(left, right, sharing),
        exploratory: false,
        detectable: stats::power::minimum_detectable_difference(paired.n, discordant),
    }
}

/// Where questions have several answers: the mean of each question's is what is paired, and whole questions are drawn.
fn compare_means(family: Family, left: &Evaluated, right: &Evaluated, sharing: &Sharing) -> Comparison {
    let means = |arm: &Evaluated| seeds::per_question(&as_scores(&arm.right), sharing.questions);
    let (a, b) = (means(left), means(right));
    let n = sharing.questions as u64;
    let found = sharing.difference(&a, &b);
    let differs = found.filter(|_| a != b);
    // Where all are alike, every resample says the same: that is no certainty.
    let alike = (0.0, stats::paired::interval(0, 0, n), 1.0);
    let (difference, ci, p_value) = differs.map_or(alike, |found| (found.difference, found.ci, found.p_value));
    let more = |a: &[f64], b: &[f64]| a.iter().zip(b).filter(|(a, b)| a > b).count() as u64;
    let squares: f64 = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum();
    Comparison {
        a: left.arm.arm.clone(),
        b: right.arm.arm.clone(),
        family,
        n,
        only_a: more(&a, &b),
        only_b: more(&b, &a),
        difference,
        ci,
        p_value,
        p_holm: p_value,
        score: score(left, right, sharing),
        exploratory: false,
        // Of single answers the mean square is the share that only one arm gets right.
        detectable: stats::power::minimum_detectable_difference(n, squares / n.max(1) as f64),
    }
}

/// Of partial credit, where either arm has any.
fn score(left: &Evaluated, right: &Evaluated, sharing: &Sharing) -> Option<ScoreDifference> {
    let partial = |evaluated: &Evaluated| has_partial_credit(&evaluated.right, &evaluated.scores);
    if !partial(left) && !partial(right) {
        return None;
    }
    let means = |arm: &Evaluated| seeds::per_question(&arm.scores, sharing.questions);
    let found = sharing.difference(&means(left), &means(right))?;
    let (difference, ci, p_value) = (found.difference, found.ci, found.p_value);
    Some(ScoreDifference { difference, ci, p_value, p_holm: p_value })
}
