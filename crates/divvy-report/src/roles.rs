//! What fills a role in an arm: a student that was taught it, the model it started from, the teacher, or another model. Read
//! off the names and the students' targets alone; the verdict and the plots build on it.

use divvy_core::{
    plan::{TEACHER, without_seed},
    recipe::Target,
    results::{ArmResult, Results, TrainingSummary},
};

/// The part of an arm that a model fills, and that a student may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Decomposer,
    Solver,
}

/// Who a decomposer or solver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A student that was taught this role.
    Distilled,
    /// A student of another role, or one that was taught another way of it, to see what its training cost it here.
    Untaught,
    /// The base that a student of this run was trained from, as it was.
    Untrained,
    Teacher,
    Other,
}

/// What kind of arrangement an arm is: its colour and marker in every plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    OneCall,
    UntrainedDecomposer,
    DistilledDecomposer,
    TeacherDecomposer,
    OtherDecomposer,
    DistilledSolver,
    Untaught,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::OneCall,
        Self::UntrainedDecomposer,
        Self::DistilledDecomposer,
        Self::TeacherDecomposer,
        Self::OtherDecomposer,
        Self::DistilledSolver,
        Self::Untaught,
    ];

    /// CSS class, see `assets/report.css`.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::OneCall => "k-one",
            Self::UntrainedDecomposer => "k-untrained",
            Self::DistilledDecomposer => "k-distilled",
            Self::TeacherDecomposer => "k-teacher",
            Self::OtherDecomposer => "k-other",
            Self::DistilledSolver => "k-solver",
            Self::Untaught => "k-untaught",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::OneCall => "one call",
            Self::UntrainedDecomposer => "untrained decomposer",
            Self::DistilledDecomposer => "distilled decomposer",
            Self::TeacherDecomposer => "teacher’s decompositions",
            Self::OtherDecomposer => "other decomposer",
            Self::DistilledSolver => "distilled solver",
            Self::Untaught => "student in a part not taught",
        }
    }
}

/// Who solves.
pub(crate) fn solver(results: &Results, arm: &ArmResult) -> Part {
    part(results, &arm.solver, &|target| target.solves() == Some(arm.strategy))
}

/// A student solves, whatever it was taught.
pub(crate) fn is_solved_by_student(results: &Results, arm: &ArmResult) -> bool {
    student(results, &arm.solver).is_some()
}

/// Who decomposes, where anybody does.
pub(crate) fn decomposer(results: &Results, arm: &ArmResult) -> Option<Part> {
    arm.decomposer.as_deref().map(|name| part(results, name, &Target::decomposes))
}

fn part(results: &Results, name: &str, teaches: &dyn Fn(Target) -> bool) -> Part {
    if let Some(student) = student(results, name) {
        return if student.is_taught(teaches) { Part::Distilled } else { Part::Untaught };
    }
    let is_teacher = |name: &str| results.collection.as_ref().is_some_and(|collection| collection.teacher == name);
    let mut taught = students(results).filter(|student| student.is_taught(teaches));
    if name == TEACHER {
        Part::Teacher
    } else if taught.any(|student| same_model(results, student.base, name)) {
        Part::Untrained
    } else if is_teacher(name) {
        Part::Teacher
    } else {
        Part::Other
    }
}

pub(crate) fn kind(results: &Results, arm: &ArmResult) -> Kind {
    match solver(results, arm) {
        Part::Distilled => return Kind::DistilledSolver,
        Part::Untaught => return Kind::Untaught,
        _ => {}
    }
    match decomposer(results, arm) {
        None => Kind::OneCall,
        Some(Part::Untaught) => Kind::Untaught,
        Some(Part::Distilled) => Kind::DistilledDecomposer,
        Some(Part::Untrained) => Kind::UntrainedDecomposer,
        Some(Part::Teacher) => Kind::TeacherDecomposer,
        Some(Part::Other) => Kind::OtherDecomposer,
    }
}

/// A student, as its training or the plan names it.
#[derive(Clone, Copy)]
pub(crate) struct Student<'r> {
    name: &'r str,
    pub(crate) base: &'r str,
    target: &'r str,
}

impl Student<'_> {
    /// A target that this version does not know may be either.
    fn is_taught(self, teaches: &dyn Fn(Target) -> bool) -> bool {
        Target::ALL.into_iter().find(|target| target.name() == self.target).is_none_or(teaches)
    }

    fn is_called(self, name: &str) -> bool {
        // A student may carry its base's name (`student:small` from `small`): then only the prefixed form is the trained one.
        plain(self.name) == plain(name) && (is_prefixed(name) || plain(self.name) != self.base)
    }

    /// The name is that of all seeds of a student, one of which this is.
    fn is_seed_of(self, name: &str) -> bool {
        is_prefixed(name) && without_seed(plain(self.name)) == Some(plain(name))
    }
}

fn is_prefixed(name: &str) -> bool {
    name.starts_with("student:")
}

/// Of the record first, which a plan of another version need not agree with.
fn students(results: &Results) -> impl Iterator<Item = Student<'_>> {
    let trained = results.training.iter().map(of_training);
    let planned = results.students.iter();
    trained.chain(planned.map(|student| Student {
        name: &student.student,
        base: &student.base,
        target: &student.target,
    }))
}

fn of_training(training: &TrainingSummary) -> Student<'_> {
    Student { name: &training.student, base: &training.base, target: &training.target }
}

/// Of a student with several seeds, the first of them.
pub(crate) fn student<'r>(results: &'r Results, name: &str) -> Option<Student<'r>> {
    students(results)
        .find(|student| student.is_called(name))
        .or_else(|| students(results).find(|student| student.is_seed_of(name)))
}

/// Whether some arm that was asked has this student in it.
pub(crate) fn answers(results: &Results, name: &str) -> bool {
    results.arms.iter().any(|arm| arm.n > 0 && has_student(arm, name))
}

/// Whether an arm has this student in it, by its own name or that of all its seeds.
pub(crate) fn has_student(arm: &ArmResult, name: &str) -> bool {
    let is = |part: &str| is_prefixed(part) && (plain(part) == name || without_seed(name) == Some(plain(part)));
    is(&arm.solver) || arm.decomposer.as_deref().is_some_and(is)
}

/// The training run that made `name`, if this run trained it; of a student with several seeds, the first of them.
pub(crate) fn trained<'r>(results: &'r Results, name: &str) -> Option<&'r TrainingSummary> {
    let is = |training: &&TrainingSummary| of_training(training).is_called(name);
    let all = || results.training.iter();
    all().find(is).or_else(|| all().find(|training| stands_for_seeds(name, training)))
}

/// The name is that of all seeds of a student, one of which this training made.
pub(crate) fn stands_for_seeds(name: &str, training: &TrainingSummary) -> bool {
    of_training(training).is_seed_of(name)
}

/// Two names for one model: equal, or declared with the same source or the same id.
pub(crate) fn same_model(results: &Results, left: &str, right: &str) -> bool {
    let declared = |name: &str| results.models.iter().find(|model| model.name == name);
    match (declared(left), declared(right)) {
        _ if left == right => true,
        (Some(left), Some(right)) => left.source == right.source || (!left.id.is_empty() && left.id == right.id),
        (Some(model), None) => model.source == right,
        (None, Some(model)) => model.source == left,
        (None, None) => false,
    }
}

/// The name people read: `student:sd-r` is `sd-r`.
pub(crate) fn plain(name: &str) -> &str {
    name.strip_prefix("student:").unwrap_or(name)
}

/// The slug without what every arm shares: the solver, when there is only one.
pub(crate) fn short_names(results: &Results) -> Vec<String> {
    let one_solver = results.arms.windows(2).all(|pair| pair[0].solver == pair[1].solver);
    let shorten = |arm: &ArmResult| match (one_solver && results.arms.len() > 1, arm.arm.rsplit_once('/')) {
        (true, Some((head, _))) => format!("{head}{}", arm.variant),
        _ => arm.arm.clone(),
    };
    results.arms.iter().map(shorten).collect()
}
