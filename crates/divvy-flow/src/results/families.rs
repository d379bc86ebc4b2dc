//! Which comparisons are asked for. They are fixed by the plan before anything is measured, and fall into families, within each of
//! which Holm's adjustment holds over all data sets, so that a further student does not blur another question. Where the recipe
//! declares comparisons, those are the one family that counts, and all others are exploratory. Accuracy decides; partial credit is
//! a second look at the same answers, adjusted by itself.

use std::collections::BTreeMap;

use divvy_core::{
    arm::{Arm, Strategy, Variant},
    plan::{EvaluatePlan, Plan, TEACHER},
    recipe::Target,
    results::Family,
};

use super::seeds;
use crate::grid::Grid;

/// A comparison of two arms, by their slugs, on a data set.
pub(super) struct Asked {
    pub(super) a: String,
    pub(super) b: String,
    pub(super) family: Family,
    pub(super) exploratory: bool,
    pub(super) declared: bool,
    /// In what it is adjusted with.
    pub(super) tests: Tests,
}

/// How many tests there are in a family, over all data sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tests {
    pub(super) accuracy: u64,
    /// Where scorers have it.
    pub(super) partial: u64,
}

/// By data set.
pub(super) struct Families(BTreeMap<String, Vec<Asked>>);

impl Families {
    /// `sets`: every data set, and whether it has partial credit.
    pub(super) fn of(plan: &Plan, evaluate: &EvaluatePlan, grid: &Grid, sets: &[(&str, bool)]) -> Self {
        let told = seeds::told(plan, evaluate);
        let on = |set: &str| {
            let arms: Vec<&Arm> = told.iter().map(|told| &told.arm).filter(|arm| grid.asks(arm, set)).collect();
            asked(plan, evaluate, &arms)
        };
        let mut families = Self(sets.iter().map(|(set, _)| ((*set).to_owned(), on(set))).collect());
        families.count(sets);
        families
    }

    /// In the order in which they are told of.
    pub(super) fn on(&self, set: &str) -> &[Asked] {
        self.0.get(set).map_or(&[], Vec::as_slice)
    }

    fn count(&mut self, sets: &[(&str, bool)]) {
        // Those that are declared are one, whatever they ask.
        let group = |asked: &Asked| (!asked.declared).then_some(asked.family);
        let mut sizes: BTreeMap<Option<Family>, Tests> = BTreeMap::new();
        for (asked, partial) in
            sets.iter().flat_map(|(set, partial)| self.on(set).iter().map(|asked| (asked, *partial)))
        {
            let tests = sizes.entry(group(asked)).or_default();
            tests.accuracy += 1;
            tests.partial += u64::from(partial);
        }
        self.0.values_mut().flatten().for_each(|asked| asked.tests = sizes[&group(asked)]);
    }
}

/// What the recipe declares, in its order, then the others in the order of arms.
fn asked(plan: &Plan, evaluate: &EvaluatePlan, arms: &[&Arm]) -> Vec<Asked> {
    let mut all = declared(plan, evaluate, arms);
    let exploratory = !evaluate.comparisons.is_empty();
    let mut others = Vec::new();
    let numbered = || arms.iter().enumerate();
    for ((at, arm), (place, other)) in numbered().flat_map(|arm| numbered().map(move |other| (arm, other))) {
        let Some(family) = family(plan, arm, other) else { continue };
        // Of two students the later against the earlier, and once.
        if family == Family::Students && at < place {
            continue;
        }
        let (a, b) = (arm.slug(), other.slug());
        if !all.iter().any(|pair| pair.is_of(&a, &b)) {
            others.push(Asked { a, b, family, exploratory, declared: false, tests: Tests::default() });
        }
    }
    all.extend(others);
    all
}

/// Each with the family that would have asked it too.
fn declared(plan: &Plan, evaluate: &EvaluatePlan, arms: &[&Arm]) -> Vec<Asked> {
    let find = |slug: &str| arms.iter().find(|arm| arm.slug() == slug);
    let pairs = evaluate.comparisons.iter().filter_map(|pair| Some((pair, find(&pair.a)?, find(&pair.b)?)));
    pairs
        .map(|(pair, a, b)| {
            let family = family(plan, a, b).or_else(|| family(plan, b, a)).unwrap_or(Family::Declared);
            Asked {
                a: pair.a.clone(),
                b: pair.b.clone(),
                family,
                exploratory: false,
                declared: true,
                tests: Tests::default(),
            }
        })
        .collect()
}

impl Asked {
    /// Whichever way round.
    fn is_of(&self, a: &str, b: &str) -> bool {
        (self.a == a && self.b == b) || (self.a == b && self.b == a)
    }
}

/// What comparing `arm` with `other` answers, `None` where nobody asks.
fn family(plan: &Plan, arm: &Arm, other: &Arm) -> Option<Family> {
    if is_untaught(plan, arm) || is_untaught(plan, other) {
        return cost_of_training(plan, arm, other).then_some(Family::Untaught);
    }
    match (distilled(&arm.solver), distilled(&other.solver)) {
        (true, false) => (solves_instead(arm, other) || stands_for_both(plan, arm, other)).then_some(Family::Solver),
        (false, true) => parts(plan, arm, other).then_some(Family::Parts),
        (true, true) if adds_decomposer(plan, arm, other) => Some(Family::Parts),
        _ if worded_otherwise(arm, other) => Some(Family::Prompt),
        _ if taught_otherwise(plan, arm, other) => Some(Family::Students),
        _ if arm.solver != other.solver || !arm.strategy.needs_decomposer() => None,
        _ => decomposes_otherwise(plan, arm, other),
    }
}

/// A student fills a part that it was not taught, or in a way that it was not.
pub(super) fn is_untaught(plan: &Plan, arm: &Arm) -> bool {
    let solver = plan.student(&arm.solver).is_some_and(|student| student.target.solves() != Some(arm.strategy));
    let decomposer = arm.decomposer.as_deref().and_then(|name| plan.student(name));
    solver || decomposer.is_some_and(|student| !student.target.decomposes())
}

/// The same arm with a student's base in its place.
fn cost_of_training(plan: &Plan, arm: &Arm, other: &Arm) -> bool {
    let is_base = |name: &str, other: &str| plan.student(name).is_some_and(|student| student.base == other);
    let (decomposer, in_its_place) = (arm.decomposer.as_deref(), other.decomposer.as_deref());
    let decomposer =
        decomposer == in_its_place || decomposer.zip(in_its_place).is_some_and(|(name, other)| is_base(name, other));
    let solver = arm.solver == other.solver || is_base(&arm.solver, &other.solver);
    arm.strategy == other.strategy && arm.variant == other.variant && decomposer && solver && arm != other
}

/// An arm with demonstrations, a cap or other words against the same one without.
fn worded_otherwise(arm: &Arm, other: &Arm) -> bool {
    let same = (arm.strategy, &arm.decomposer, &arm.solver) == (other.strategy, &other.decomposer, &other.solver);
    same && !arm.variant.is_plain() && other.variant.is_plain()
}

fn distilled(name: &str) -> bool {
    name.starts_with("student:")
}

/// Two students of one base in one place: of other rows, of more of them, screened or not.
fn taught_otherwise(plan: &Plan, arm: &Arm, other: &Arm) -> bool {
    let related = |name: &str, other: &str| {
        let both = plan.student(name).zip(plan.student(other));
        name != other && both.is_some_and(|(student, other)| student.base == other.base)
    };
    if (arm.strategy, &arm.variant) != (other.strategy, &other.variant) {
        return false;
    }
    match (arm.decomposer.as_deref(), other.decomposer.as_deref()) {
        (decomposer, in_its_place) if decomposer == in_its_place => related(&arm.solver, &other.solver),
        (Some(decomposer), Some(in_its_place)) => arm.solver == other.solver && related(decomposer, in_its_place),
        _ => false,
    }
}

/// A distilled solver against one that was not: in its own place, or in one call.
fn solves_instead(arm: &Arm, other: &Arm) -> bool {
    let in_place = arm.strategy == other.strategy && arm.variant == other.variant && arm.decomposer == other.decomposer;
    in_place || !other.strategy.needs_decomposer()
}

/// With both parts distilled, against the teacher's decompositions before a model that is no student: what it would replace.
fn stands_for_both(plan: &Plan, arm: &Arm, other: &Arm) -> bool {
    let teacher = other.decomposer.as_deref().is_some_and(|name| is_teacher(plan, name));
    let student = arm.decomposer.as_deref().is_some_and(distilled);
    let of_base = plan.student(&arm.solver).is_some_and(|student| student.base == other.solver);
    teacher && student && !of_base && arm.strategy == other.strategy && is_shown_less(arm, other)
}

/// The same variant; a student is shown no demonstrations, whatever its teacher is shown.
fn is_shown_less(arm: &Arm, other: &Arm) -> bool {
    arm.variant == other.variant || arm.variant == Variant { shots: None, ..other.variant.clone() }
}

/// With both parts distilled, against a student that solves alone: what the decomposer adds.
fn adds_decomposer(plan: &Plan, arm: &Arm, other: &Arm) -> bool {
    let decomposer = arm.decomposer.as_deref().and_then(|name| plan.student(name));
    decomposer.is_some_and(|student| student.target != Target::Joint) && !other.strategy.needs_decomposer()
}

/// A distilled decomposer before the solver that it was made for, against a student that answers by itself or from the
/// teacher's decompositions: which of the two should be distilled?
fn parts(plan: &Plan, arm: &Arm, other: &Arm) -> bool {
    let Some(decomposer) = arm.decomposer.as_deref().and_then(|name| plan.student(name)) else { return false };
    let Some(solver) = plan.student(&other.solver) else { return false };
    let one_part = decomposer.target != Target::Joint && solver.target != Target::Joint;
    one_part
        && arm.strategy == Strategy::TwoStage
        && arm.solver != solver.base
        && other.decomposer.as_deref().is_none_or(|name| is_teacher(plan, name))
}

/// Of two arms with one solver.
fn decomposes_otherwise(plan: &Plan, arm: &Arm, other: &Arm) -> Option<Family> {
    let student = arm.decomposer.as_deref().and_then(|name| plan.student(name));
    if arm.strategy != Strategy::TwoStage && other.strategy == Strategy::TwoStage {
        let alike = arm.decomposer == other.decomposer && arm.variant == other.variant;
        return alike.then_some(Family::Strategy);
    }
    let Some(decomposer) = other.decomposer.as_deref() else { return Some(Family::Decomposer) };
    let of_teacher =
        is_teacher(plan, decomposer) && !arm.decomposer.as_deref().is_some_and(|name| is_teacher(plan, name));
    // Its base, and any other model in its place.
    let of_another = student.is_some() && !distilled(decomposer);
    let alike = arm.variant == other.variant || (of_teacher && student.is_some() && is_shown_less(arm, other));
    (arm.strategy == other.strategy && alike && (of_teacher || of_another)).then_some(Family::Decomposer)
}

/// By its role, or by the name of its model.
fn is_teacher(plan: &Plan, name: &str) -> bool {
    name == TEACHER || name == plan.collect.teacher
}

#[cfg(test)]
mod tests {
    use divvy_core::recipe::Recipe;

    use super::*;

    /// What is asked of the arms of a recipe with these students and this evaluation: `a > b: family`.
    fn asked_of(students: &[(&str, &str)], evaluate: &str) -> Vec<String> {
        let student =
            |(name, target): &(&str, &str)| format!("[students.{name}]\nbase = \"small\"\ntarget = \"{target}\"\n");
        let students: String = students.iter().map(student).collect();
        let text = format!(
            "name = \"t\"\n[data.train]\ndataset = \"synth\"\nrows = 4\n[data.test]\ndataset = \"synth\"\nrows = 4\n\
             [models.small]\nsource = \"path:small.gguf\"\n[models.big]\nsource = \"path:big.gguf\"\n[models.third]\nsource = \"path:third.gguf\"\n\
             [collect]\nteacher = \"big\"\n[screen]\nsolver = \"big\"\n{students}[evaluate]\n{evaluate}"
        );
        let plan = Plan::resolve(&Recipe::parse(&text, "r.toml").unwrap(), "r.toml").unwrap();
        let evaluate = plan.evaluate.as_ref().unwrap();
        let told = seeds::told(&plan, evaluate);
        let arms: Vec<&Arm> = told.iter().map(|told| &told.arm).collect();
        let pairs = asked(&plan, evaluate, &arms);
        pairs.iter().map(|pair| format!("{} > {}: {}", pair.a, pair.b, pair.family.name())).collect()
    }

    fn of(family: &str, asked: &[String]) -> Vec<String> {
        let ending = format!(": {family}");
        asked.iter().filter_map(|pair| pair.strip_suffix(&ending)).map(str::to_owned).collect()
    }

    #[test]
    fn students_of_one_part_are_compared_once_the_later_with_the_earlier() {
        let asked = asked_of(
            &[("sd-t", "SD-T"), ("sd-r", "SD-R"), ("ans", "direct"), ("se", "SE-A")],
            "solvers = [\"big\", \"student:ans\", \"student:se\"]\nstrategies = [\"direct\", \"two-stage\"]\n\
             decomposers = [\"teacher\", \"student:sd-t\", \"student:sd-r\"]",
        );
        // Of the two students that solve, one answers directly and the other from subquestions.
        assert_eq!(
            of("students", &asked),
            ["two-stage/sd-r/big > two-stage/sd-t/big", "two-stage/sd-r/se > two-stage/sd-t/se"],
            "{asked:?}"
        );
    }

    #[test]
    fn a_teacher_is_known_by_its_model_too_and_with_demonstrations() {
        let asked = asked_of(
            &[("sd", "SD-T")],
            "solvers = [\"big\"]\nstrategies = [\"cot\", \"two-stage\", \"two-stage+shots=1\"]\ndecomposers = [\"big\", \"student:sd\"]",
        );
        let decomposers = of("decomposer", &asked);
        for teacher in ["two-stage/big/big", "two-stage/big/big+shots=1"] {
            assert!(decomposers.contains(&format!("two-stage/sd/big > {teacher}")), "{decomposers:?}");
        }
        assert!(decomposers.iter().all(|pair| !pair.starts_with("two-stage/big/big > two-stage")), "{decomposers:?}");
    }

    #[test]
    fn an_arm_with_both_parts_distilled_is_compared_with_what_it_replaces_and_with_the_solver_alone() {
        let asked = asked_of(
            &[("sd", "SD-T"), ("se", "SE-A"), ("ans", "direct")],
            "solvers = [\"big\", \"small\", \"student:se\", \"student:ans\"]\nstrategies = [\"direct\", \"two-stage\"]\n\
             decomposers = [\"teacher\", \"student:sd\"]",
        );
        let solvers = of("solver", &asked);
        assert!(solvers.contains(&"two-stage/sd/se > two-stage/teacher/big".to_owned()), "{solvers:?}");
        assert!(!solvers.contains(&"two-stage/sd/se > two-stage/teacher/small".to_owned()), "{solvers:?}");
        let parts = of("parts", &asked);
        assert!(parts.contains(&"two-stage/sd/se > direct/ans".to_owned()), "{parts:?}");
        assert!(asked.contains(&"two-stage/sd/se > two-stage/teacher/se: decomposer".to_owned()), "{asked:?}");
    }

    #[test]
    fn a_student_is_compared_with_every_model_that_could_decompose_in_its_place() {
        let asked = asked_of(
            &[("sd", "SD-T")],
            "solvers = [\"big\"]\nstrategies = [\"two-stage\"]\ndecomposers = [\"teacher\", \"small\", \"third\", \"student:sd\"]",
        );
        let decomposers = of("decomposer", &asked);
        let of_student: Vec<_> = decomposers.iter().filter(|pair| pair.starts_with("two-stage/sd/")).collect();
        assert_eq!(of_student.len(), 3, "{decomposers:?}");
        assert!(!decomposers.contains(&"two-stage/third/big > two-stage/small/big".to_owned()), "{decomposers:?}");
    }

    #[test]
    fn what_training_cost_in_another_part_is_a_question_of_its_own() {
        let asked = asked_of(
            &[("sd", "SD-T"), ("se", "SE-A")],
            "solvers = [\"small\", \"student:sd\"]\nstrategies = [\"cot\", \"two-stage\"]\n\
             decomposers = [\"small\", \"student:sd\", \"student:se\"]\nuntaught = true",
        );
        let untaught = of("untaught", &asked);
        for pair in [
            "cot/sd > cot/small",
            "two-stage/small/sd > two-stage/small/small",
            "two-stage/sd/sd > two-stage/small/small",
            "two-stage/se/small > two-stage/small/small",
        ] {
            assert!(untaught.contains(&pair.to_owned()), "{pair}: {untaught:?}");
        }
        let others = asked.iter().filter(|pair| !pair.ends_with(": untaught"));
        let mut named = others.flat_map(|pair| pair.split([' ', ':']));
        assert!(named.all(|arm| !arm.ends_with("/sd") && !arm.starts_with("two-stage/se")), "{asked:?}");
    }
}
