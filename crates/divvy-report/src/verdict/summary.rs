//! The first screen below the headline, for somebody who has not read the paper: what it costs and saves, how sure that is, and
//! what would change it. Every sentence follows from a figure.

use divvy_core::{
    results::{
        Results,
        costs::{BreakEven, Mean, Measure, Outlay, StudentCost},
    },
    stats::{LEVEL, power},
};

use super::{
    Answer,
    evidence::{Evidence, Instead, Paired, Shown, shown},
    words,
};
use crate::{
    costs::{self, amount, interval, thousand},
    number::{count, percent, percent_interval, points, points_interval},
    roles::{self, Role},
};

pub(super) fn of(results: &Results, answer: Answer, tested: &[&Evidence]) -> Vec<(&'static str, String)> {
    let each = |say: &dyn Fn(&Evidence) -> Option<String>| of_each(answer, tested, say);
    let mut change = vec![each(&|evidence| change(results, answer, evidence))];
    change.extend(untested(tested));
    let change: Vec<String> = change.into_iter().filter(|line| !line.is_empty()).collect();
    let nothing = || "another task or other models; these numbers name nothing else.".to_owned();
    [
        ("What it costs and saves", each(&|evidence| cost(results, evidence))),
        ("How sure", each(&|evidence| Some(sureness(answer, evidence)))),
        ("What would change it", if change.is_empty() { nothing() } else { change.join(" ") }),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .collect()
}

/// The first sentence of each of the first two.
pub(super) fn brief(results: &Results, answer: Answer, tested: &[&Evidence]) -> Vec<(&'static str, String)> {
    let each = |say: &dyn Fn(&Evidence) -> Option<String>| of_each(answer, tested, say);
    let cost = |evidence: &Evidence| {
        let priced = evidence.instead.as_ref().and_then(|instead| takes(results, instead));
        priced.or_else(|| tokens(evidence)).or_else(|| uncounted(evidence))
    };
    [
        ("How sure", each(&|evidence| decisive(answer, evidence).map(compared).or_else(|| Some(unknown(evidence))))),
        ("What it costs and saves", each(&cost)),
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

pub(super) fn per_question(results: &Results, arm: &str, measure: Measure) -> Option<i64> {
    let arm = results.costs.as_ref()?.arms.iter().find(|cost| cost.arm == arm)?;
    costs::per_question(costs::spent(arm, measure)?, arm.n)
}

fn cost(results: &Results, evidence: &Evidence) -> Option<String> {
    let known = evidence.instead.as_ref().and_then(|instead| priced(results, instead));
    known.or_else(|| {
        let tokens = tokens(evidence).or_else(|| uncounted(evidence))?;
        Some(format!("{tokens} {}", no_price(results, evidence)))
    })
}

fn tokens(evidence: &Evidence) -> Option<String> {
    evidence.one_call.as_ref().and_then(words::tokens)
}

fn uncounted(evidence: &Evidence) -> Option<String> {
    let pair = evidence.one_call.as_ref()?;
    let arm = [pair.a, pair.b].into_iter().find(|arm| arm.n > 0 && arm.tokens().is_none())?;
    Some(format!("How many tokens {} takes is not known: some of its calls came without usage.", arm.arm))
}

fn no_price(results: &Results, evidence: &Evidence) -> &'static str {
    let recorded = |arm: &divvy_core::results::costs::ArmCost| arm.arm == evidence.subject.arm && arm.recorded;
    if results.costs.iter().flat_map(|costs| &costs.arms).any(recorded) {
        "Its decompositions came with the data; what making them for new questions costs was not measured."
    } else {
        "What that costs is not known: some model has no price, and the machine none under [costs]."
    }
}

fn priced(results: &Results, instead: &Instead) -> Option<String> {
    let measure = instead.costs.measure?;
    let lines = [
        Some(takes(results, instead)?),
        worse_answers(instead),
        right_answers(results, instead, measure),
        // What worse answers save pays nothing back.
        payback(results, instead, measure).filter(|_| shown(instead.pair.as_ref()) != Shown::Worse),
    ];
    Some(lines.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// What it takes, what the other takes, and the difference.
fn takes(results: &Results, instead: &Instead) -> Option<String> {
    let (measure, saving) = (instead.costs.measure?, instead.saving()?);
    let (arm, replaced) = (&instead.costs.arm, &instead.costs.replaces);
    let now = thousand(per_question(results, arm, measure)?, measure);
    let was = thousand(per_question(results, replaced, measure)?, measure);
    let takes = match measure {
        Measure::Money => format!("A thousand questions cost {now} with {arm} and {was} with {replaced}"),
        Measure::Machine => {
            format!("A thousand questions take {now} of the machine with {arm} and {was} with {replaced}")
        }
    };
    Some(format!("{takes}: {}.", gain(&saving, measure)))
}

fn gain(saving: &Mean, measure: Measure) -> String {
    let turned = i64::saturating_neg;
    match saving.mean {
        0 => format!("no difference (95 % interval of the saving {})", interval(saving.ci, measure)),
        more if more < 0 => {
            let ci = (turned(saving.ci.1), turned(saving.ci.0));
            format!("{} more (95 % interval {})", thousand(turned(more), measure), interval(ci, measure))
        }
        less => format!("{} less (95 % interval {})", thousand(less, measure), interval(saving.ci, measure)),
    }
}

/// What is saved by not answering is no saving.
fn worse_answers(instead: &Instead) -> Option<String> {
    let saves = instead.saving().is_some_and(|saving| saving.mean > 0);
    let unread = instead.pair.and_then(|pair| pair.a.well_formed).map(|share| 1.0 - share).filter(|share| *share > 0.1);
    let worse = shown(instead.pair.as_ref()) == Shown::Worse;
    if let Some(pair) = instead.pair.filter(|pair| saves && !worse && pair.loses()) {
        return Some(format!(
            "Its answers lose {} to {} points (95 % interval): what is saved is to be weighed against that.",
            percent(-pair.ci.1),
            percent(-pair.ci.0)
        ));
    }
    (saves && worse).then(|| match unread {
        Some(share) => format!(
            "That is no bargain: its answers are worse, and {} % of its decompositions could not be used, so that the solver was \
             not even asked.",
            percent(share)
        ),
        None => "That is no bargain: its answers are worse.".to_owned(),
    })
}

fn right_answers(results: &Results, instead: &Instead, measure: Measure) -> Option<String> {
    let costs = results.costs.as_ref()?;
    let right = |slug: &str| {
        let arm = costs.arms.iter().find(|cost| cost.arm == slug)?;
        costs::spent(arm, measure)?.correct.map(|right| thousand(right.mean, measure))
    };
    let (now, was) = (right(&instead.costs.arm)?, right(&instead.costs.replaces)?);
    Some(match measure {
        Measure::Money => format!("A thousand right answers cost {now} against {was}."),
        Measure::Machine => format!("A thousand right answers take {now} against {was}."),
    })
}

/// On what the students of an arm took money or the machine's time, once: "to collect, screen and train".
fn outlays(results: &Results, arm: &str, measure: Measure) -> String {
    let arm = results.arms.iter().find(|one| one.arm == arm);
    let costs = results.costs.iter().flat_map(|costs| &costs.students);
    let own: Vec<_> = costs.filter(|cost| arm.is_some_and(|arm| roles::has_student(arm, &cost.student))).collect();
    let took = |of: fn(&StudentCost) -> &Outlay| own.iter().any(|cost| costs::paid(of(cost), measure) != Some(0));
    let stages = [
        ("collect", took(|cost| &cost.collection)),
        ("screen", took(|cost| &cost.screening)),
        ("train", took(|cost| &cost.training)),
    ];
    let named: Vec<&str> = stages.into_iter().filter_map(|(name, took)| took.then_some(name)).collect();
    match named.split_last() {
        Some((last, before)) if !before.is_empty() => format!(" to {} and {last}", before.join(", ")),
        Some((only, _)) => format!(" to {only}"),
        None => String::new(),
    }
}

fn payback(results: &Results, instead: &Instead, measure: Measure) -> Option<String> {
    let (even, once) = (instead.costs.break_even?, amount(instead.costs.one_off?, measure));
    let outlays = outlays(results, &instead.costs.arm, measure);
    let spent = match measure {
        Measure::Money => format!("The {once} spent once{outlays}"),
        Measure::Machine => format!("The {once} of the machine spent once{outlays}"),
    };
    Some(match even {
        BreakEven { questions: None, earliest: None, .. } => {
            format!("Nothing is saved: {} never comes back.", lower(&spent))
        }
        BreakEven { questions: None, earliest: Some(best), .. } => {
            format!(
                "No saving is seen: {} would come back after {} questions at the very best.",
                lower(&spent),
                count(best)
            )
        }
        BreakEven { questions: Some(after), earliest, latest } => {
            let range = earliest.map_or(String::new(), |earliest| match latest {
                Some(latest) => format!(" (95 % interval {} to {})", count(earliest), count(latest)),
                None => format!(" (at best {}, and perhaps never)", count(earliest)),
            });
            format!("{spent} comes back after {} questions{range}.", count(after))
        }
    })
}

fn lower(text: &str) -> String {
    text.replacen("The ", "the ", 1)
}

/// The comparison that the answer rests on: of one that saves, with what it would replace.
fn decisive<'e, 'r>(answer: Answer, evidence: &'e Evidence<'r>) -> Option<&'e Paired<'r>> {
    let saves = matches!(
        answer,
        Answer::CheaperDecomposer | Answer::CheaperSolver | Answer::CheaperBoth | Answer::SavesAtALoss
    );
    let replaced = evidence.instead.as_ref().filter(|_| saves).and_then(|instead| instead.pair.as_ref());
    replaced.or(evidence.one_call.as_ref()).or(evidence.training.as_ref())
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

fn change(results: &Results, answer: Answer, evidence: &Evidence) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(decisive(answer, evidence).and_then(more_questions));
    if evidence.role == Role::Decomposer {
        lines.extend(evidence.teacher.as_ref().and_then(more_rows));
        lines.extend(
            evidence.ceiling.as_ref().filter(|_| shown(evidence.one_call.as_ref()) != Shown::Better).map(ceiling),
        );
    }
    lines.extend(evidence.instead.as_ref().and_then(|instead| volume(results, instead)));
    (!lines.is_empty()).then(|| lines.join(" "))
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
    let stated = results.costs.as_ref()?.terms.questions;
    let worse = shown(instead.pair.as_ref()) == Shown::Worse;
    let after = instead.costs.break_even?.questions.filter(|after| *after > 1 && !worse)?;
    let expected = if after > stated { format!(" (the recipe expects {})", count(stated)) } else { String::new() };
    Some(format!("Fewer than {} questions in all: then what it cost once is not saved{expected}.", count(after)))
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
