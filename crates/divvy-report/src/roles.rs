//! What fills a role in an arm: a student we trained, the model it started from, the teacher, or another model. Read off
//! the names alone; the verdict and the plots build on it.

use divvy_core::{
    plan::without_seed,
    results::{ArmResult, Results, TrainingSummary},
};

/// Who a decomposer or solver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Distilled,
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
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::OneCall,
        Self::UntrainedDecomposer,
        Self::DistilledDecomposer,
        Self::TeacherDecomposer,
        Self::OtherDecomposer,
        Self::DistilledSolver,
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
        }
    }
}

pub(crate) fn part(results: &Results, name: &str) -> Part {
    if trained(results, name).is_some() {
        Part::Distilled
    } else if name == "teacher" {
        Part::Teacher
    } else if results.training.iter().any(|training| same_model(results, &training.base, name)) {
        Part::Untrained
    } else {
        Part::Other
    }
}

pub(crate) fn kind(results: &Results, arm: &ArmResult) -> Kind {
    if part(results, &arm.solver) == Part::Distilled {
        return Kind::DistilledSolver;
    }
    match arm.decomposer.as_deref().map(|name| part(results, name)) {
        None => Kind::OneCall,
        Some(Part::Distilled) => Kind::DistilledDecomposer,
        Some(Part::Untrained) => Kind::UntrainedDecomposer,
        Some(Part::Teacher) => Kind::TeacherDecomposer,
        Some(Part::Other) => Kind::OtherDecomposer,
    }
}

/// The training run that made `name`, if this run trained it; of a student with several seeds, the first of them.
pub(crate) fn trained<'r>(results: &'r Results, name: &str) -> Option<&'r TrainingSummary> {
    let is = |training: &&TrainingSummary| plain(&training.student) == plain(name) && explicit(name, training);
    let all = || results.training.iter();
    all().find(is).or_else(|| all().find(|training| stands_for_seeds(name, training)))
}

/// The name is that of all seeds of a student, one of which this training made.
pub(crate) fn stands_for_seeds(name: &str, training: &TrainingSummary) -> bool {
    name.starts_with("student:") && without_seed(plain(&training.student)) == Some(plain(name))
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

/// A student may carry its base's name (`student:small` from `small`): then only the prefixed form is the trained one.
fn explicit(name: &str, training: &TrainingSummary) -> bool {
    name.starts_with("student:") || plain(&training.student) != training.base
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
