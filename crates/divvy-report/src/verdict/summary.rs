//! The first screen below the headline, for somebody who has not read the paper: what it costs and saves, how sure that is, and
//! what would change it. Every sentence follows from a figure.

use divvy_core::{
    results::Results,
    stats::{LEVEL, power},
};

use super::{
    Answer,
    evidence::{Evidence, Instead, Paired, Shown, shown},
    saving, words,
};
use crate::{
    number::{count, percent, percent_interval, points, points_interval},
    roles::Role,
};

pub(super) fn of(results: &Results, answer: Answer, tested: &[&Evidence]) -> Vec<(&'static str, String)> {
    let each = |say: &dyn Fn(&Evidence) -> Option<String>| of_each(answer, tested, say);
    let all = |lines: Vec<String>| (!lines.is_empty()).then(|| lines.join(" "));
    [
        ("What it costs and saves", each(&|evidence| saving::cost(results, evidence))),
        ("How sure", each(&|evidence| Some(sureness(answer, evidence)))),
        ("What would change it", changes(results, answer, tested, all).join(" ")),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .collect()
}

/// The first sentence of each.
pub(super) fn brief(results: &Results, answer: Answer, tested: &[&Evidence]) -> Vec<(&'static str, String)> {
    let each = |say: &dyn Fn(&Evidence) -> Option<String>| of_each(answer, tested, say);
    let first = |lines: Vec<String>| lines.into_iter().next();
    [
        ("How sure", each(&|evidence| decisive(answer, evidence).map(compared).or_else(|| Some(unknown(evidence))))),
        ("What it costs and saves", each(&|evidence| saving::brief(results, evidence))),
        ("What would change it", changes(results, answer, tested, first).swap_remove(0)),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .collect()
}

/// Of the parts whose numbers the answer rests on.
fn of_each(answer: Answer, tested: &[&Evidence], say: &dyn Fn(&Evidence) -> Option<String>) -> String {
    let speaking: Vec<&Evidence> = tested.iter().copied().filter(|evidence| speaks(answer, evidence)).collect();
    let named = |evidence: &&Evidence| {
        let line = say(evidence)?;
        Some(if speaking.len() > 1 { format!("The {}: {line}", words::role_name(evidence.role)) } else { line })
    };
    speaking.iter().filter_map(named).collect::<Vec<_>>().join(" ")
}

/// Whose numbers the answer rests on.
fn speaks(answer: Answer, evidence: &Evidence) -> bool {
    let role = evidence.role;
    match answer {
        Answer::Decomposer | Answer::RatherDecomposer | Answer::CheaperDecomposer => role == Role::Decomposer,
        Answer::Solver | Answer::RatherSolver | Answer::Both | Answer::CheaperSolver | Answer::CheaperBoth => {
            role == Role::Solver
        }
        Answer::SavesAtALoss => evidence.saves_at_a_loss(),
        _ => true,
    }
}

/// The comparison that the answer rests on: of one that saves, with what it would replace.
fn decisive<'e, 'r>(answer: Answer, evidence: &'e Evidence<'r>) -> Option<&'e Paired<'r>> {
    let saves = matches!(
        answer,
        Answer::CheaperDecomposer | Answer::CheaperSolver | Answer::CheaperBoth | Answer::SavesAtALoss
    );
    // What it is no better than, and dearer: where one call is not shown to be better.
    let pointless = evidence.dearer_for_nothing() && evidence.pays() != Shown::Worse;
    let (one_call, training) = (evidence.one_call.as_ref(), evidence.training.as_ref());
    let replaced = || evidence.instead.as_ref()?.pair.as_ref();
    let first = match () {
        () if saves || pointless => replaced(),
        () if evidence.owed_to_base().is_some() => training,
        () => None,
    };
    first.or(one_call).or(training)
}

fn unknown(evidence: &Evidence) -> String {
    format!("{} was compared with nothing, so nothing is known.", evidence.subject.arm)
}

fn compared(pair: &Paired) -> String {
    let lead = match pair.shown() {
        _ if pair.exploratory => "Only a hint: the recipe does not declare this comparison",
        Shown::Better => "Shown",
        Shown::Worse => "Shown to be worse",
        _ => "Not shown",
    };
    format!("{lead}. {} against {}: {}.", pair.a.arm, pair.b.arm, words::figures(pair))
}

/// The comparison that decides, and what so many questions can show at all.
fn sureness(answer: Answer, evidence: &Evidence) -> String {
    let Some(pair) = decisive(answer, evidence) else { return unknown(evidence) };
    let compared = compared(pair);
    match pair.detectable.filter(|smallest| *smallest > 0.0 && *smallest <= 1.0) {
        Some(smallest) => format!(
            "{compared} With n = {}, a true difference of {} points is found four times in five, and a smaller one is often missed.",
            count(pair.n),
            percent(smallest),
        ),
        // A few questions that all went the same way can show it all the same.
        None if matches!(pair.shown(), Shown::Better | Shown::Worse) => compared,
        None => format!(
            "{compared} The two differ on {} of {} questions, too few to show anything.",
            count(pair.discordant),
            count(pair.n)
        ),
    }
}

/// Never empty. `say` makes a text of what is known of a part.
fn changes(
    results: &Results,
    answer: Answer,
    tested: &[&Evidence],
    say: fn(Vec<String>) -> Option<String>,
) -> Vec<String> {
    let of_parts = of_each(answer, tested, &|evidence| say(change(results, answer, evidence)));
    let of_parts = Some(of_parts).filter(|line| !line.is_empty());
    let lines: Vec<String> = of_parts.into_iter().chain(untested(tested)).collect();
    let nothing = || vec!["another task or other models; these numbers name nothing else.".to_owned()];
    if lines.is_empty() { nothing() } else { lines }
}

fn change(results: &Results, answer: Answer, evidence: &Evidence) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(decisive(answer, evidence).and_then(more_questions));
    if evidence.role == Role::Decomposer {
        lines.extend(evidence.teacher.as_ref().and_then(more_rows));
        lines.extend(
            evidence.ceiling.as_ref().filter(|_| shown(evidence.one_call.as_ref()) != Shown::Better).map(ceiling),
        );
    }
    lines.extend(evidence.instead.as_ref().and_then(|instead| volume(results, instead)));
    lines
}

/// Said only where nothing was shown.
fn more_questions(pair: &Paired) -> Option<String> {
    if pair.exploratory {
        return Some(
            "Declaring the comparison under [[evaluate.comparisons]], on questions not yet looked at.".to_owned(),
        );
    }
    if pair.shown() != Shown::Unclear {
        return None;
    }
    let needed = power::questions_needed(pair.difference, pair.spread, pair.terms).filter(|needed| *needed > pair.n);
    let needed = needed.map(|needed| {
        format!(
            "If the true difference is the {} points seen here, about {} questions would show it.",
            points(pair.difference),
            count(needed)
        )
    });
    let lines: Vec<String> = needed.into_iter().chain(fewer_comparisons(pair)).collect();
    (!lines.is_empty()).then(|| lines.join(" "))
}

/// Where the test by itself would show it, and all that could be asked is asked.
fn fewer_comparisons(pair: &Paired) -> Option<String> {
    (pair.p_value < LEVEL && !pair.declared && pair.tests > 1).then(|| {
        format!(
            "Holm’s adjustment is over {} comparisons: a recipe that declares the few that matter ([[evaluate.comparisons]]), on \
             questions not yet looked at, asks less of each.",
            count(pair.tests)
        )
    })
}

fn more_rows(pair: &Paired) -> Option<String> {
    (pair.shown() == Shown::Worse).then(|| {
        format!(
            "The student loses {} points to the teacher’s decompositions (95 % interval {}): more or better training rows can win \
             back that much.",
            percent(-pair.difference),
            percent_interval((-pair.ci.1, -pair.ci.0)),
        )
    })
}

fn ceiling(pair: &Paired) -> String {
    let stands = format!("{} points (95 % interval {})", points(pair.difference), points_interval(pair.ci));
    match pair.shown() {
        Shown::Worse => format!(
            "Even the teacher’s decompositions lose to one call, by {stands}: a student of that teacher cannot be expected to pay here."
        ),
        Shown::Better => format!(
            "The teacher’s decompositions beat one call by {stands}: that much is in reach of a better student."
        ),
        _ => format!(
            "The teacher’s own decompositions stand at {stands} against one call: a student that copies them perfectly gains about that, and no more."
        ),
    }
}

/// Fewer questions than it takes to pay back.
fn volume(results: &Results, instead: &Instead) -> Option<String> {
    // Stated by the recipe or not: whether, nobody knows here.
    let reckoned = results.costs.as_ref()?.terms.questions;
    let worse = shown(instead.pair.as_ref()) == Shown::Worse;
    let after = instead.costs.break_even?.questions.filter(|after| *after > 1 && !worse)?;
    let beside =
        if after > reckoned { format!(" ({} are reckoned with here)", count(reckoned)) } else { String::new() };
    Some(format!("Fewer than {} questions in all: then what it cost once is not saved{beside}.", count(after)))
}

/// A part that no arm distils is unknown, not bad.
fn untested(tested: &[&Evidence]) -> Option<String> {
    match tested {
        [Evidence { role: Role::Decomposer, .. }] => Some(
            "No solver was distilled in this run, so nothing is known about distilling the solver: a student with the target SE-A \
             or direct would tell."
                .to_owned(),
        ),
        [Evidence { role: Role::Solver, .. }] => Some(
            "No decomposer was distilled in this run, so nothing is known about distilling it: a student with the target SD-T \
             would tell."
                .to_owned(),
        ),
        _ => None,
    }
}
