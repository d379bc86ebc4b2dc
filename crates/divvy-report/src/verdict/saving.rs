//! What distilling a part costs and saves, in sentences: what questions and right answers take, and when what was paid once comes
//! back. What is not known is said with its cause.

use divvy_core::results::{
    ArmResult, Results,
    costs::{BreakEven, Mean, Measure, Outlay, StudentCost},
};

use super::{
    evidence::{Evidence, Instead, Shown, shown},
    words,
};
use crate::{
    costs::{self, MEASURES, amount, interval, thousand},
    number::{count, percent},
    roles,
};

pub(super) fn cost(results: &Results, evidence: &Evidence) -> Option<String> {
    let known = evidence.instead.as_ref().and_then(|instead| priced(results, instead));
    known.or_else(|| {
        let tokens = tokens(evidence).or_else(|| uncounted(evidence))?;
        Some(format!("{tokens} {}", without_saving(results, evidence)))
    })
}

/// The first sentence of it.
pub(super) fn brief(results: &Results, evidence: &Evidence) -> Option<String> {
    let priced = evidence.instead.as_ref().and_then(|instead| takes(results, instead));
    priced.or_else(|| tokens(evidence)).or_else(|| uncounted(evidence))
}

pub(super) fn per_question(results: &Results, arm: &str, measure: Measure) -> Option<i64> {
    let arm = results.costs.as_ref()?.arms.iter().find(|cost| cost.arm == arm)?;
    costs::per_question(costs::spent(arm, measure)?, arm.n)
}

fn tokens(evidence: &Evidence) -> Option<String> {
    evidence.one_call.as_ref().and_then(words::tokens)
}

fn uncounted(evidence: &Evidence) -> Option<String> {
    let pair = evidence.one_call.as_ref()?;
    let arm = [pair.a, pair.b].into_iter().find(|arm| arm.n > 0 && arm.tokens().is_none())?;
    Some(format!("How many tokens {} takes is not known: some of its calls came without usage.", arm.arm))
}

/// Where no saving is known: what questions take by themselves, or why that is not known.
fn without_saving(results: &Results, evidence: &Evidence) -> String {
    let costs = results.costs.iter().flat_map(|costs| &costs.arms);
    if costs.clone().any(|cost| cost.arm == evidence.subject.arm && cost.recorded) {
        return "Its decompositions came with the data; what making them for new questions costs was not measured."
            .to_owned();
    }
    let against = |measure| side_by_side(results, &evidence.subject.arm, &evidence.one_call?.b.arm, measure);
    match MEASURES.into_iter().find_map(against) {
        Some(known) => format!("{known}."),
        None if uncounted(evidence).is_some() => "What that costs is not known either.".to_owned(),
        None => "What that costs is not known: some model has no price, and the machine none under [costs].".to_owned(),
    }
}

fn priced(results: &Results, instead: &Instead) -> Option<String> {
    let measure = instead.costs.measure?;
    let lines = [
        Some(takes(results, instead)?),
        worse_answers(instead),
        right_answers(results, instead, measure),
        // What worse answers save pays nothing back.
        (shown(instead.pair.as_ref()) != Shown::Worse).then(|| payback(results, instead, measure)),
    ];
    Some(lines.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// What it takes, what the other takes, and the difference.
fn takes(results: &Results, instead: &Instead) -> Option<String> {
    let (measure, saving) = (instead.costs.measure?, instead.saving()?);
    let takes = side_by_side(results, &instead.costs.arm, &instead.costs.replaces, measure)?;
    Some(format!("{takes}: {}.", gain(&saving, measure)))
}

fn side_by_side(results: &Results, arm: &str, other: &str, measure: Measure) -> Option<String> {
    let now = thousand(per_question(results, arm, measure)?, measure);
    let was = thousand(per_question(results, other, measure)?, measure);
    Some(match measure {
        Measure::Money => format!("A thousand questions cost {now} with {arm} and {was} with {other}"),
        Measure::Machine => format!("A thousand questions take {now} of the machine with {arm} and {was} with {other}"),
    })
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

fn payback(results: &Results, instead: &Instead, measure: Measure) -> String {
    let Some((even, once)) = instead.costs.break_even.zip(instead.costs.one_off) else {
        return once_unknown(results, instead, measure);
    };
    let (once, outlays) = (amount(once, measure), outlays(results, &instead.costs.arm, measure));
    let spent = match measure {
        Measure::Money => format!("The {once} spent once{outlays}"),
        Measure::Machine => format!("The {once} of the machine spent once{outlays}"),
    };
    match even {
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
    }
}

/// Why nobody can say when it comes back.
fn once_unknown(results: &Results, instead: &Instead, measure: Measure) -> String {
    let missing = unrecorded(results, &instead.costs.arm);
    match measure {
        _ if !missing.is_empty() => {
            format!("What was paid once is not known: the training of {} is not on record here.", missing.join(" and "))
        }
        Measure::Money => {
            "What was paid once is not known: some model has no price, or the machine that trained none under [costs]."
                .to_owned()
        }
        Measure::Machine => "What was paid once is not known: not all of it was done on this machine.".to_owned(),
    }
}

/// Students of the arm of whose training nothing is known.
fn unrecorded<'r>(results: &'r Results, arm: &str) -> Vec<&'r str> {
    let arm = results.arms.iter().find(|one| one.arm == arm);
    let parts = |arm: &'r ArmResult| arm.decomposer.as_deref().into_iter().chain([arm.solver.as_str()]);
    let students = arm.into_iter().flat_map(parts).filter(|part| part.starts_with("student:"));
    let mut missing: Vec<&str> =
        students.filter(|name| roles::trained(results, name).is_none()).map(roles::plain).collect();
    missing.dedup();
    missing
}

fn lower(text: &str) -> String {
    text.replacen("The ", "the ", 1)
}
