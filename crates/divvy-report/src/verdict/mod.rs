//! The answer in words to "which part should you distil?", derived from the numbers and their uncertainty alone. It can
//! say the decomposer, the solver, both, neither, and that nothing is shown.

mod evidence;
mod headline;
mod saving;
mod summary;
mod words;

use divvy_core::{
    recipe::EvalSplit,
    results::{self, ArmResult, Results},
};

use crate::{
    number,
    roles::{self, Part, Role},
    tables,
};
use evidence::{Evidence, Paired, Shown, distilled_solver, gather, paired, shown};
use headline::headline;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Decomposer,
    Solver,
    /// The arm that pays has both parts distilled.
    Both,
    /// Each part pays; which pays more is not shown.
    Either,
    /// Not shown to pay, but shown to be the better of the two parts.
    RatherDecomposer,
    RatherSolver,
    /// No gain is shown, and no loss: it saves. To be weighed by whoever pays.
    CheaperDecomposer,
    CheaperSolver,
    CheaperBoth,
    /// No gain is shown; it saves, and a loss is nearly certain. No recommendation.
    SavesAtALoss,
    /// Answering in one call is better than each distilled part, or as good in the numbers and cheaper.
    Neither,
    NotShown,
    NothingDistilled,
    Withheld,
}

impl Answer {
    /// Word in the JSON form and class on the page.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Decomposer => "decomposer",
            Self::Solver => "solver",
            Self::Both => "both",
            Self::Either => "either",
            Self::RatherDecomposer => "rather-decomposer",
            Self::RatherSolver => "rather-solver",
            Self::CheaperDecomposer => "cheaper-decomposer",
            Self::CheaperSolver => "cheaper-solver",
            Self::CheaperBoth => "cheaper-both",
            Self::SavesAtALoss => "saves-at-a-loss",
            Self::Neither => "neither",
            Self::NotShown => "not-shown",
            Self::NothingDistilled => "nothing-distilled",
            Self::Withheld => "withheld",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub answer: Answer,
    /// In a few words, for a line that many verdicts share.
    pub short: String,
    /// A sentence, and where it takes one more, two.
    pub headline: String,
    /// What it costs, how sure that is, what would change it: a heading and its sentences, for the first screen.
    pub summary: Vec<(&'static str, String)>,
    /// The same, a line each: for a first screen that many verdicts share.
    pub brief: Vec<(&'static str, String)>,
    /// A sentence each, most important first.
    pub findings: Vec<String>,
}

pub(crate) fn verdict(results: &Results) -> Verdict {
    let verdict = of_rows(results);
    match results.split {
        EvalSplit::Test => verdict,
        // Nobody is to take a figure of tuning for a result.
        EvalSplit::Dev => Verdict {
            short: format!("{} (dev rows)", verdict.short),
            headline: format!("On dev rows: {}", verdict.headline),
            ..verdict
        },
    }
}

fn of_rows(results: &Results) -> Verdict {
    if let Some(withheld) = withheld(results) {
        return withheld;
    }
    let decomposer = gather(results, Role::Decomposer);
    let solver = gather(results, Role::Solver);
    let tested: Vec<&Evidence> = [&decomposer, &solver].into_iter().flatten().collect();
    if tested.is_empty() {
        return nothing_distilled(results);
    }
    let parts = decomposer.as_ref().and_then(|evidence| distilled_solver(results, evidence.subject));
    let answer = answer(results, decomposer.as_ref(), solver.as_ref(), parts.as_ref());
    let mut findings: Vec<String> = parts.iter().map(words::parts).collect();
    findings.extend(tested.iter().flat_map(|evidence| words::findings(evidence)));
    findings.extend(scope(results));
    Verdict {
        answer,
        short: headline::short(answer, &tested),
        headline: headline(results, answer, &tested),
        summary: summary::of(results, answer, &tested),
        brief: summary::brief(results, answer, &tested),
        findings,
    }
}

/// For reasons outside the models, or with answers to come: then no headline is built on the arm's figures.
pub(crate) fn is_withheld(arm: &ArmResult) -> bool {
    results::failed_too_often(arm.errors + arm.pending, arm.n)
}

fn withheld(results: &Results) -> Option<Verdict> {
    let unjudged: Vec<&ArmResult> = results.arms.iter().filter(|arm| is_withheld(arm)).collect();
    let sum = |of: fn(&ArmResult) -> u64| results.arms.iter().map(of).sum::<u64>();
    let (pending, all) = (sum(|arm| arm.pending), sum(|arm| arm.n));
    let headline = if pending == all {
        "No verdict: no question has been answered yet.".to_owned()
    } else if unjudged.is_empty() {
        return None;
    } else if unjudged.iter().any(|arm| arm.pending > 0) {
        let (pending, all) = (number::count(pending), number::count(all));
        format!("No verdict yet: {pending} of {all} answers are still to come.")
    } else {
        "No verdict: more than 1 % of the rows failed for reasons outside the models.".to_owned()
    };
    let findings: Vec<String> = unjudged.iter().flat_map(|arm| why_withheld(arm)).collect();
    let brief = findings.iter().map(|line: &String| ("Why", line.clone())).collect();
    let short = headline::short(Answer::Withheld, &[]);
    Some(Verdict { answer: Answer::Withheld, short, headline, summary: Vec::new(), brief, findings })
}

/// What is missing, and what failed.
fn why_withheld(arm: &ArmResult) -> Vec<String> {
    let n = tables::answers(arm).text;
    let pending = || {
        let pending = number::count(arm.pending);
        format!("{}: {pending} of {n} answers are still to come; `divvy run` goes on with them.", arm.arm)
    };
    let errors = || {
        let errors = number::count(arm.errors);
        format!(
            "{}: {errors} of {n} questions ended in an error; `divvy status` has the reasons, and running again repeats only those.",
            arm.arm
        )
    };
    (arm.pending > 0).then(pending).into_iter().chain((arm.errors > 0).then(errors)).collect()
}

fn answer(
    results: &Results,
    decomposer: Option<&Evidence>,
    solver: Option<&Evidence>,
    parts: Option<&Paired>,
) -> Answer {
    let pays = |evidence: Option<&Evidence>| evidence.map_or(Shown::Untested, Evidence::pays);
    match (pays(decomposer), pays(solver)) {
        (Shown::Better, Shown::Better) => better_part(results, decomposer, solver),
        (Shown::Better, _) => Answer::Decomposer,
        (_, Shown::Better) if uses_both(results, solver) => Answer::Both,
        (_, Shown::Better) => Answer::Solver,
        _ if [decomposer, solver].into_iter().flatten().any(Evidence::cheaper) => cheaper(results, decomposer, solver),
        _ if [decomposer, solver].into_iter().flatten().all(is_no_use) => Answer::Neither,
        _ => match shown(parts) {
            Shown::Better => Answer::RatherDecomposer,
            Shown::Worse => Answer::RatherSolver,
            _ if [decomposer, solver].into_iter().flatten().any(Evidence::saves_at_a_loss) => Answer::SavesAtALoss,
            _ => Answer::NotShown,
        },
    }
}

/// Shown to be worse, or dearer without a gain.
fn is_no_use(evidence: &Evidence) -> bool {
    evidence.pays() == Shown::Worse || (evidence.pays() == Shown::Unclear && evidence.dearer_for_nothing())
}

/// Of two parts that both save, the more accurate.
fn cheaper(results: &Results, decomposer: Option<&Evidence>, solver: Option<&Evidence>) -> Answer {
    let saves =
        |evidence: Option<&Evidence>| evidence.filter(|evidence| evidence.cheaper()).map(|it| it.subject.accuracy);
    match (saves(decomposer), saves(solver)) {
        (Some(left), right) if right.is_none_or(|right| left >= right) => Answer::CheaperDecomposer,
        _ if uses_both(results, solver) => Answer::CheaperBoth,
        _ => Answer::CheaperSolver,
    }
}

/// Both parts pay: one is preferred only where the two arms were compared and differ.
fn better_part(results: &Results, decomposer: Option<&Evidence>, solver: Option<&Evidence>) -> Answer {
    let pair = decomposer.zip(solver).and_then(|(left, right)| paired(results, left.subject, right.subject));
    match shown(pair.as_ref()) {
        Shown::Better => Answer::Decomposer,
        Shown::Worse if uses_both(results, solver) => Answer::Both,
        Shown::Worse => Answer::Solver,
        // The solver's arm has the decomposer in it: that the solver adds anything is not shown.
        _ if uses_both(results, solver) => Answer::Decomposer,
        _ => Answer::Either,
    }
}

/// The arm that speaks for the solver has a distilled decomposer as well.
fn uses_both(results: &Results, solver: Option<&Evidence>) -> bool {
    solver.is_some_and(|evidence| roles::decomposer(results, evidence.subject) == Some(Part::Distilled))
}

/// Without a student there is still something to say: the best arm, and against which others that is shown.
fn nothing_distilled(results: &Results) -> Verdict {
    let answered = results.arms.iter().filter(|arm| arm.n > 0);
    let best = answered.reduce(|best, arm| if arm.accuracy > best.accuracy { arm } else { best });
    let findings = best.map(|arm| {
        if results.arms.iter().all(|arm| arm.correct == 0) {
            return "No arm gave a right answer; `divvy calls` shows what was asked and answered.".to_owned();
        }
        let (accuracy, interval) = (number::percent(arm.accuracy), number::percent_interval(arm.ci));
        let n = tables::answers(arm).text;
        format!("The most right answers came from {}: {accuracy} % (95 % interval {interval}, n = {n}).", arm.arm)
    });
    Verdict {
        answer: Answer::NothingDistilled,
        short: headline::short(Answer::NothingDistilled, &[]),
        headline: headline(results, Answer::NothingDistilled, &[]),
        summary: Vec::new(),
        brief: findings.iter().map(|line| ("How sure", line.clone())).collect(),
        findings: findings.into_iter().chain(scope(results)).collect(),
    }
}

/// What the sentences above hold for.
fn scope(results: &Results) -> Option<String> {
    let tested: Vec<String> = results
        .datasets
        .iter()
        .filter(|used| used.split == results.split.name())
        .map(|used| format!("{} ({}, {} rows)", used.dataset, used.split, number::count(used.rows)))
        .collect();
    (!tested.is_empty()).then(|| {
        let holds = format!("This holds for {} and these models; another task may differ.", tested.join(", "));
        [Some(holds), for_tuning(results), opened_often(results)].into_iter().flatten().collect::<Vec<_>>().join(" ")
    })
}

fn for_tuning(results: &Results) -> Option<String> {
    (results.split == EvalSplit::Dev).then(|| {
        "These rows were carved from the training set, to choose by; no test row was looked at. What was chosen is measured with \
         split = \"test\" under [evaluate]."
            .to_owned()
    })
}

/// A test set that guided choices is no test set any more.
fn opened_often(results: &Results) -> Option<String> {
    let scored = results.datasets.iter().filter(|_| results.split == EvalSplit::Test);
    let most = scored.map(|used| used.opened_by).max().filter(|plans| *plans > 1)?;
    Some(format!(
        "{most} plans of this store have looked at test rows of this data set: a choice made among them is not measured by \
         rows that they share."
    ))
}

#[cfg(test)]
mod tests;
