//! The verdict in one sentence, which somebody reads who reads nothing else.

use divvy_core::results::Results;

use super::{
    Answer,
    evidence::{Evidence, Instead, Shown, shown},
    summary, uses_both, words,
};
use crate::{number, roles::Role};

pub(super) fn headline(results: &Results, answer: Answer, tested: &[&Evidence]) -> String {
    let part = match tested {
        [one] => format!("the {}", words::role_name(one.role)),
        _ => "either part".to_owned(),
    };
    let against_one_call = tested.iter().all(|evidence| evidence.one_call.is_some());
    match answer {
        Answer::Decomposer if dearer(tested, Role::Decomposer) => for_its_answers("the decomposer", "its"),
        Answer::Solver if dearer(tested, Role::Solver) => for_its_answers("the solver", "its"),
        Answer::Both if dearer(tested, Role::Solver) => for_its_answers("both parts", "their"),
        Answer::Decomposer if against_one_call => "Distil the decomposer.".to_owned(),
        Answer::Decomposer => "If you decompose, distil the decomposer.".to_owned(),
        Answer::Solver => "Distil the solver.".to_owned(),
        Answer::Both => "Distil both parts.".to_owned(),
        Answer::Either => "Distil either part: which one pays more is not shown.".to_owned(),
        Answer::RatherDecomposer => rather(tested, Role::Decomposer),
        Answer::RatherSolver => rather(tested, Role::Solver),
        Answer::CheaperDecomposer => cheaper(results, tested, Role::Decomposer, "the decomposer"),
        Answer::CheaperSolver => cheaper(results, tested, Role::Solver, "the solver"),
        Answer::CheaperBoth => cheaper(results, tested, Role::Solver, "both parts"),
        Answer::SavesAtALoss => at_a_loss(results, tested),
        Answer::Neither if tested.iter().any(|evidence| evidence.pays() != Shown::Worse) => {
            let part = if tested.len() > 1 { "either part" } else { &*part };
            format!("Do not distil {part} on this evidence: no gain is shown, and every question costs more.")
        }
        Answer::Neither if against_one_call && tested.len() > 1 => {
            "Distil neither part here: answering in one call is better.".to_owned()
        }
        Answer::Neither if against_one_call => format!("Do not distil {part} here: answering in one call is better."),
        Answer::Neither => format!("Do not distil {part} here: training made it worse."),
        Answer::NotShown => format!("Not shown: these numbers do not say that distilling {part} pays."),
        Answer::NothingDistilled => "Nothing was distilled in this run.".to_owned(),
        Answer::Withheld => "No verdict.".to_owned(),
    }
}

/// One part is the better one to distil, though it does not beat one call.
fn rather(tested: &[&Evidence], role: Role) -> String {
    let evidence = tested.iter().find(|evidence| evidence.role == role);
    let but = match evidence.map(|evidence| shown(evidence.one_call.as_ref())) {
        Some(Shown::Worse) => "but answering in one call is better",
        Some(Shown::Better) => "but training it is not shown to help",
        _ => "but that it beats answering in one call is not shown",
    };
    format!("If you distil one part, distil the {}; {but}.", words::role_name(role))
}

/// Better, and surely dearer.
fn dearer(tested: &[&Evidence], role: Role) -> bool {
    let speaks = tested.iter().find(|evidence| evidence.role == role && evidence.one_call.is_some());
    speaks.and_then(|evidence| evidence.instead).is_some_and(|instead| instead.costs_more())
}

fn for_its_answers(part: &str, its: &str) -> String {
    format!("Distil {part} for {its} answers, not to save: a question costs more.")
}

/// It saves, and what may be lost by it is said in the same breath, as is what would save more.
fn cheaper(results: &Results, tested: &[&Evidence], role: Role, part: &str) -> String {
    let evidence = tested.iter().find(|evidence| evidence.role == role);
    let instead = evidence.and_then(|evidence| evidence.instead);
    let less = instead.as_ref().and_then(|instead| share_saved(results, instead));
    let less = less.map_or_else(|| "less".to_owned(), |share| format!("{} % less", number::percent(share)));
    let loss = instead.and_then(|instead| instead.pair).map_or(0.0, |pair| -pair.ci.0);
    let saves = if loss > 0.0 {
        let loss = number::percent(loss);
        format!("Distil {part} if you can bear a loss of up to {loss} points: a question costs {less}")
    } else {
        format!("Distil {part}: no loss is shown, and a question costs {less}")
    };
    let undercut = instead.zip(evidence.and_then(|evidence| evidence.undercut));
    undercut.map_or_else(
        || format!("{saves}."),
        |(instead, rival)| {
            let (replaced, rival) = (&instead.replaced.arm, &rival.arm);
            format!("{saves} than with {replaced}. But {rival} costs less still, and is not shown to be worse.")
        },
    )
}

/// What it saves beside what it loses, and no advice; of two such parts, the more accurate.
fn at_a_loss(results: &Results, tested: &[&Evidence]) -> String {
    let at_a_loss = tested.iter().filter(|evidence| evidence.saves_at_a_loss());
    let best = at_a_loss.reduce(|best, next| if next.subject.accuracy > best.subject.accuracy { next } else { best });
    let found = best.and_then(|evidence| Some((evidence, evidence.instead.as_ref()?)));
    let (evidence, instead) = found.expect("the answer is given where a part saves at a loss");
    let (low, high) = instead.pair.map_or((0.0, 0.0), |pair| pair.ci);
    let both = evidence.role == Role::Solver && uses_both(results, Some(evidence));
    let part = if both { "both parts".to_owned() } else { format!("the {}", words::role_name(evidence.role)) };
    let saved =
        share_saved(results, instead).map_or_else(String::new, |share| format!("{} % ", number::percent(share)));
    format!(
        "Distilling {part} saves {saved}against {}, and costs {} to {} points of accuracy: no recommendation.",
        instead.replaced.arm,
        number::percent(-high),
        number::percent(-low),
    )
}

/// Of what the replaced arm costs; a share below one in a thousand has no figure.
fn share_saved(results: &Results, instead: &Instead) -> Option<f64> {
    let was = summary::per_question(results, &instead.costs.replaces, instead.costs.measure?)?;
    let share = instead.saving()?.mean as f64 / was as f64;
    (share.is_finite() && share >= 0.001).then_some(share)
}
