//! The comparisons that bear on the question "which part should you distil?", picked from the results and turned the right
//! way round. No words here, and no statistics: those were computed with the grades.

use divvy_core::{
    arm::Variant,
    results::{
        ArmResult, Comparison, Family, Results,
        costs::{Distilling, Mean},
    },
    stats::{LEVEL, power::Terms},
};

use crate::roles::{self, Part, Role};

/// What a paired comparison says about arm `a` against arm `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Better,
    Worse,
    Unclear,
    Untested,
}

/// A comparison seen from `a`, whichever way round it was stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paired<'r> {
    pub a: &'r ArmResult,
    pub b: &'r ArmResult,
    pub n: u64,
    /// Questions that exactly one of the two got right.
    pub discordant: u64,
    /// accuracy(a) − accuracy(b).
    pub difference: f64,
    pub ci: (f64, f64),
    /// Before Holm's adjustment.
    pub p_value: f64,
    pub p_holm: f64,
    pub exploratory: bool,
    pub detectable: Option<f64>,
    /// How many it is adjusted with; by declaring comparisons a recipe says which these are.
    pub tests: u64,
    pub declared: bool,
    /// What it takes to show a difference here.
    pub terms: Terms,
    /// Mean square of a question's difference.
    pub spread: f64,
}

/// What the distilled arm would stand in for, with what that saves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instead<'r> {
    pub costs: &'r Distilling,
    pub replaced: &'r ArmResult,
    /// `None` where the two were not compared.
    pub pair: Option<Paired<'r>>,
}

/// What was measured about distilling one part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'r> {
    pub role: Role,
    /// The distilled arm that speaks for the part.
    pub subject: &'r ArmResult,
    /// Other arms with this part distilled.
    pub others: usize,
    /// Against the same arm with the part untrained.
    pub training: Option<Paired<'r>>,
    /// Against the best single-stage arm without a distilled part.
    pub one_call: Option<Paired<'r>>,
    /// Against the same solver fed with the teacher's decompositions.
    pub teacher: Option<Paired<'r>>,
    /// The teacher's decompositions against that single-stage arm: what a perfect student could gain.
    pub ceiling: Option<Paired<'r>>,
    /// The arm that it would replace, where costs were counted: one that makes it pointless, else the most accurate.
    pub instead: Option<Instead<'r>>,
    /// A single-stage arm that surely costs less than this one, and is not shown to be worse.
    pub undercut: Option<&'r ArmResult>,
}

/// What distilling is good for, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Merit {
    None,
    /// See [`Evidence::cheaper`].
    Saves,
    Pays,
}

/// A loss that an interval does not exclude and that nobody should be advised to risk: a tenth of all questions.
const MOST_BEARABLE: f64 = 0.1;

impl Paired<'_> {
    pub(crate) fn shown(&self) -> Shown {
        if self.exploratory || !self.p_holm.is_finite() || self.p_holm >= LEVEL || self.n == 0 {
            Shown::Unclear
        } else if self.difference > 0.0 {
            Shown::Better
        } else if self.difference < 0.0 {
            Shown::Worse
        } else {
            Shown::Unclear
        }
    }

    /// As [`Paired::shown`]; where the recipe does not declare the comparison, what its own interval says: that is enough to warn
    /// by, and not to praise by.
    pub(crate) fn seems(&self) -> Shown {
        match self.shown() {
            Shown::Unclear if self.exploratory && self.n > 0 && self.ci.0 > 0.0 => Shown::Better,
            Shown::Unclear if self.exploratory && self.loses() => Shown::Worse,
            shown => shown,
        }
    }

    /// Shown to be better, or the whole interval is a gain.
    fn gains(&self) -> bool {
        self.shown() == Shown::Better || (self.n > 0 && self.ci.0.is_finite() && self.ci.0 > 0.0)
    }

    /// The whole interval is a loss, whether or not Holm's adjustment lets it be called shown.
    pub(crate) fn loses(&self) -> bool {
        self.n > 0 && self.ci.0.is_finite() && self.ci.1 < 0.0
    }
}

pub(crate) fn shown(paired: Option<&Paired>) -> Shown {
    paired.map_or(Shown::Untested, Paired::shown)
}

impl Evidence<'_> {
    /// Worth distilling: better than one call, by what it was taught, and not for nothing; where it was not compared with one call,
    /// better than untrained.
    pub(crate) fn pays(&self) -> Shown {
        let one_call = shown(self.one_call.as_ref());
        let pays = if one_call == Shown::Untested { shown(self.training.as_ref()) } else { one_call };
        let in_vain = !self.is_owed_to_training() || self.dearer_for_nothing();
        if pays == Shown::Better && in_vain { Shown::Unclear } else { pays }
    }

    /// Its untrained base is seen to do less, or was not asked: else one would take the base as it is.
    pub(crate) fn is_owed_to_training(&self) -> bool {
        self.training.as_ref().is_none_or(Paired::gains)
    }

    /// Good for something, which its base may do as well: that base's arm.
    pub(crate) fn owed_to_base(&self) -> Option<Paired<'_>> {
        let is_good = shown(self.one_call.as_ref()) == Shown::Better || self.saves_enough();
        self.training.filter(|_| is_good && !self.is_owed_to_training())
    }
}

impl Instead<'_> {
    /// Surely cheaper: the saving's whole interval is above zero.
    pub(crate) fn saves(&self) -> bool {
        self.saving().is_some_and(|saving| saving.ci.0 > 0)
    }

    /// Surely dearer.
    pub(crate) fn costs_more(&self) -> bool {
        self.saving().is_some_and(|saving| saving.ci.1 < 0)
    }

    /// It answers in one call for less, and nothing says that it answers worse.
    fn undercuts(&self) -> bool {
        let better = self.pair.as_ref().is_some_and(|pair| pair.seems() == Shown::Better);
        self.replaced.decomposer.is_none() && self.costs_more() && !better
    }

    /// It costs less, and has at least as many right answers.
    fn makes_pointless(&self) -> bool {
        self.costs_more() && self.pair.as_ref().is_some_and(|pair| pair.n > 0 && pair.difference <= 0.0)
    }

    pub(crate) fn saving(&self) -> Option<Mean> {
        self.costs.measure.and(self.costs.saving)
    }
}

impl Evidence<'_> {
    /// It saves, and that no accuracy is lost is possible: the interval of the difference reaches zero.
    pub(crate) fn saves(&self) -> bool {
        let possible =
            |pair: &Paired| pair.n > 0 && pair.ci.0.is_finite() && pair.ci.1 >= 0.0 && pair.seems() != Shown::Worse;
        self.instead.as_ref().is_some_and(|instead| instead.saves() && instead.pair.as_ref().is_some_and(possible))
    }

    /// Worth considering for what it saves, which its base does not save as it is.
    pub(crate) fn cheaper(&self) -> bool {
        self.saves_enough() && self.is_owed_to_training()
    }

    /// Nothing that answers in one call answers better or costs less still, and what may be lost is bounded.
    fn saves_enough(&self) -> bool {
        let pair = self.instead.as_ref().and_then(|instead| instead.pair);
        let outdone = self.undercut.is_some() || self.beaten_by_one_call().is_some();
        self.saves() && !outdone && pair.is_some_and(|pair| pair.ci.0 >= -MOST_BEARABLE)
    }

    /// One call is shown to answer better, or seems to. It need not be what the part would replace: that is the most accurate of
    /// all, and may be the teacher by a hair.
    pub(crate) fn beaten_by_one_call(&self) -> Option<Paired<'_>> {
        self.one_call.filter(|pair| pair.seems() == Shown::Worse)
    }

    fn merit(&self) -> Merit {
        match () {
            () if self.pays() == Shown::Better => Merit::Pays,
            () if self.cheaper() => Merit::Saves,
            () => Merit::None,
        }
    }

    /// It saves, and a loss of accuracy is nearly certain, though not shown: to be weighed, and nothing to recommend.
    pub(crate) fn saves_at_a_loss(&self) -> bool {
        let loses = |pair: &Paired| pair.loses() && pair.shown() != Shown::Worse;
        self.instead.as_ref().is_some_and(|instead| instead.saves() && instead.pair.as_ref().is_some_and(loses))
    }

    /// It costs more than something that is as good in the numbers.
    pub(crate) fn dearer_for_nothing(&self) -> bool {
        self.instead.as_ref().is_some_and(Instead::makes_pointless)
    }
}

/// Evidence on one part; `None` when no arm has it distilled.
pub(crate) fn gather(results: &Results, role: Role) -> Option<Evidence<'_>> {
    let distilled: Vec<Evidence> = results
        .arms
        .iter()
        .filter(|arm| arm.n > 0 && is_distilled(results, arm, role))
        .map(|arm| weigh(results, arm, role))
        .collect();
    let others = distilled.len().checked_sub(1)?;
    let has_both = |evidence: &Evidence| decomposed_by(results, evidence.subject, Part::Distilled);
    let strongest = foremost(distilled.iter().copied())?;
    let best = match foremost(distilled.iter().copied().filter(|evidence| !has_both(evidence))) {
        Some(alone) if role == Role::Solver && has_both(&strongest) && is_enough(results, &alone, &strongest) => alone,
        _ => strongest,
    };
    Some(Evidence { others, ..best })
}

fn foremost<'r>(evidence: impl Iterator<Item = Evidence<'r>>) -> Option<Evidence<'r>> {
    evidence.reduce(|best, next| if rank(&next) > rank(&best) { next } else { best })
}

/// Shown to pay first, then to save without a shown loss, then what the recipe declares a comparison with one call of, then the share of
/// right answers; ties keep the recipe's order. What makes it pointless counts for nothing here: before a weak solver a student may be
/// as good as one call that is not worth much either.
fn rank(evidence: &Evidence) -> (Merit, bool, f64) {
    let is_declared = evidence.one_call.is_some_and(|pair| !pair.exploratory);
    (evidence.merit(), is_declared, evidence.subject.accuracy)
}

/// A distilled solver is as good a reason alone as with a distilled decomposer: that the decomposer adds anything is not shown, nor
/// is it what saves, nor what new questions need, as behind decompositions that came with the data.
fn is_enough(results: &Results, alone: &Evidence, both: &Evidence) -> bool {
    let recorded = |evidence: &Evidence| {
        let mut costs = results.costs.iter().flat_map(|costs| &costs.arms);
        costs.any(|cost| cost.arm == evidence.subject.arm && cost.recorded)
    };
    alone.merit() == both.merit()
        && (alone.cheaper() || !both.cheaper())
        && (!alone.dearer_for_nothing() || both.dearer_for_nothing())
        && (!recorded(alone) || recorded(both))
        && paired(results, both.subject, alone.subject).is_none_or(|pair| pair.shown() != Shown::Better)
}

fn is_distilled(results: &Results, arm: &ArmResult, role: Role) -> bool {
    match role {
        Role::Solver => roles::solver(results, arm) == Part::Distilled && !decomposed_by(results, arm, Part::Untaught),
        Role::Decomposer => !roles::is_solved_by_student(results, arm) && decomposed_by(results, arm, Part::Distilled),
    }
}

fn decomposed_by(results: &Results, arm: &ArmResult, part: Part) -> bool {
    roles::decomposer(results, arm) == Some(part)
}

fn weigh<'r>(results: &'r Results, subject: &'r ArmResult, role: Role) -> Evidence<'r> {
    let one_call = best_one_call(results, subject, role);
    let alike = |arm: &&ArmResult| {
        (&arm.solver, arm.strategy, &arm.variant) == (&subject.solver, subject.strategy, &subject.variant)
    };
    let taught_by = |arm: &&ArmResult| decomposed_by(results, arm, Part::Teacher);
    // A teacher that is only asked with demonstrations is still the teacher: then the best of its ways.
    let otherwise = |arm: &&ArmResult| {
        let without_shots = Variant { shots: None, ..arm.variant.clone() };
        (&arm.solver, arm.strategy, &without_shots) == (&subject.solver, subject.strategy, &subject.variant)
    };
    let better = |best: &'r ArmResult, next: &'r ArmResult| if next.accuracy > best.accuracy { next } else { best };
    let teacher = results.arms.iter().filter(alike).find(taught_by);
    let teacher = teacher.or_else(|| results.arms.iter().filter(otherwise).filter(taught_by).reduce(better));
    Evidence {
        role,
        subject,
        others: 0,
        training: untrained_twin(results, subject, role),
        one_call,
        teacher: if role == Role::Decomposer {
            teacher.and_then(|teacher| paired(results, subject, teacher))
        } else {
            None
        },
        ceiling: match (teacher, one_call) {
            (Some(teacher), Some(one_call)) => paired(results, teacher, one_call.b),
            _ => None,
        },
        instead: instead_of(results, subject),
        undercut: replaceable(results, subject).find(Instead::undercuts).map(|rival| rival.replaced),
    }
}

/// What one would use otherwise: where something makes it pointless, the best such; else the most accurate.
fn instead_of<'r>(results: &'r Results, subject: &'r ArmResult) -> Option<Instead<'r>> {
    let better = |best: Instead<'r>, next: Instead<'r>| {
        if next.replaced.accuracy > best.replaced.accuracy { next } else { best }
    };
    let pointless = replaceable(results, subject).filter(Instead::makes_pointless).reduce(better);
    pointless.or_else(|| replaceable(results, subject).reduce(better))
}

/// Every arm that it would stand in for, where costs were counted.
fn replaceable<'r>(results: &'r Results, subject: &'r ArmResult) -> impl Iterator<Item = Instead<'r>> {
    let pairs = results.costs.iter().flat_map(|costs| &costs.distilling).filter(|pair| pair.arm == subject.arm);
    pairs.filter_map(|costs| {
        let replaced = results.arms.iter().find(|arm| arm.arm == costs.replaces)?;
        Some(Instead { costs, replaced, pair: paired(results, subject, replaced) })
    })
}

/// The same arm with the untrained base in place of the student.
fn untrained_twin<'r>(results: &'r Results, subject: &'r ArmResult, role: Role) -> Option<Paired<'r>> {
    let student = match role {
        Role::Decomposer => subject.decomposer.as_deref()?,
        Role::Solver => &subject.solver,
    };
    let base = roles::student(results, student)?.base;
    let stands_in = |name: &str| roles::student(results, name).is_none() && roles::same_model(results, base, name);
    results
        .arms
        .iter()
        .filter(|arm| (arm.strategy, &arm.variant) == (subject.strategy, &subject.variant))
        .filter(|arm| match role {
            Role::Decomposer => arm.solver == subject.solver && arm.decomposer.as_deref().is_some_and(stands_in),
            Role::Solver => arm.decomposer == subject.decomposer && stands_in(&arm.solver),
        })
        .find_map(|arm| paired(results, subject, arm))
}

/// Choosing the strongest rival makes the test harder to pass, never easier.
fn best_one_call<'r>(results: &'r Results, subject: &'r ArmResult, role: Role) -> Option<Paired<'r>> {
    results
        .arms
        .iter()
        .filter(|arm| arm.n > 0 && arm.decomposer.is_none())
        .filter(|arm| !roles::is_solved_by_student(results, arm))
        .filter(|arm| role == Role::Solver || arm.solver == subject.solver)
        .filter_map(|arm| paired(results, subject, arm))
        .reduce(|best, next| if next.b.accuracy > best.b.accuracy { next } else { best })
}

/// The distilled decomposer against an arm in which a student is the solver instead: the strongest, of those that the recipe
/// declares if it does.
pub(crate) fn distilled_solver<'r>(results: &'r Results, decomposer: &'r ArmResult) -> Option<Paired<'r>> {
    let asks = |pair: &&Comparison| pair.family == Family::Parts;
    let other = |pair: &'r Comparison| match () {
        () if pair.a == decomposer.arm => Some(&pair.b),
        () if pair.b == decomposer.arm => Some(&pair.a),
        () => None,
    };
    let others = results.comparisons.iter().filter(asks).filter_map(other);
    let arms = others.filter_map(|other| results.arms.iter().find(|arm| arm.arm == *other));
    let rank = |pair: &Paired| (!pair.exploratory, pair.b.accuracy);
    arms.filter_map(|arm| paired(results, decomposer, arm))
        .reduce(|best, next| if rank(&next) > rank(&best) { next } else { best })
}

/// The stored comparison of two arms, seen from `a`.
pub(crate) fn paired<'r>(results: &'r Results, a: &'r ArmResult, b: &'r ArmResult) -> Option<Paired<'r>> {
    results.comparisons.iter().find_map(|pair| {
        let sign = match () {
            () if pair.a == a.arm && pair.b == b.arm => 1.0,
            () if pair.a == b.arm && pair.b == a.arm => -1.0,
            () => return None,
        };
        let ci = if sign > 0.0 { pair.ci } else { (-pair.ci.1, -pair.ci.0) };
        let discordant = pair.only_a + pair.only_b;
        Some(Paired {
            a,
            b,
            n: pair.n,
            discordant,
            difference: sign * pair.difference,
            ci,
            p_value: pair.p_value,
            p_holm: pair.p_holm,
            exploratory: pair.exploratory,
            detectable: pair.detectable,
            tests: pair.tests,
            declared: pair.declared,
            terms: Terms::among(pair.tests, pair.design_effect, a.passages),
            spread: pair.spread,
        })
    })
}
