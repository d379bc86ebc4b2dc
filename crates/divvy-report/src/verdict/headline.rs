//! The verdict in a sentence or two, which somebody reads who reads nothing else.

use divvy_core::results::{ArmResult, Results};

use super::{
    Answer,
    evidence::{Evidence, Instead, Paired, Shown, shown},
    saving, uses_both, words,
};
use crate::{
    number::percent,
    roles::{self, Kind, Role},
};

pub(super) fn headline(results: &Results, answer: Answer, tested: &[&Evidence]) -> String {
    let sentence = sentence(results, answer, tested);
    let decomposes = matches!(answer, Answer::Decomposer | Answer::RatherDecomposer | Answer::CheaperDecomposer);
    let evidence = tested.iter().find(|evidence| decomposes && evidence.role == Role::Decomposer);
    match evidence.and_then(|evidence| before_which_solver(results, evidence)) {
        Some(solver) => format!("{sentence} {solver}"),
        None => sentence,
    }
}

/// With several solvers, a decomposer is judged before one of them: which, and whether another needs none.
fn before_which_solver(results: &Results, evidence: &Evidence) -> Option<String> {
    let subject = evidence.subject;
    let is_other =
        |arm: &&ArmResult| arm.n > 0 && arm.solver != subject.solver && !roles::is_solved_by_student(results, arm);
    results.arms.iter().find(is_other)?;
    let by_itself = results.arms.iter().filter(is_other).filter(|arm| roles::kind(results, arm) == Kind::OneCall);
    let best = by_itself.reduce(|best, next| if next.accuracy > best.accuracy { next } else { best });
    let solver = format!("That is with {} as the solver", subject.solver);
    Some(match best.filter(|best| best.accuracy > subject.accuracy) {
        Some(best) => {
            let [own, others] = [subject, best].map(|arm| percent(arm.accuracy));
            format!("{solver}; {} has more right answers in one call ({others} % against {own} %).", best.arm)
        }
        None => format!("{solver}."),
    })
}

/// In a few words. Of what was not distilled nothing is said.
pub(super) fn short(answer: Answer, tested: &[&Evidence]) -> String {
    let part = match tested {
        [one] => words::role_name(one.role),
        _ => "parts",
    };
    let against_one_call = tested.iter().all(|evidence| evidence.one_call.is_some());
    match answer {
        Answer::Decomposer if against_one_call => "Distil the decomposer",
        Answer::Decomposer => "Distil the decomposer, if you decompose",
        Answer::Solver => "Distil the solver",
        Answer::Both => "Distil both parts",
        Answer::Either => "Distil either part",
        Answer::RatherDecomposer => "The decomposer, if you distil one part",
        Answer::RatherSolver => "The solver, if you distil one part",
        Answer::CheaperDecomposer => "Distil the decomposer to save",
        Answer::CheaperSolver => "Distil the solver to save",
        Answer::CheaperBoth => "Distil both parts to save",
        Answer::SavesAtALoss => "No recommendation",
        Answer::Neither if part == "parts" => "Distil neither part",
        Answer::Neither => return format!("Do not distil the {part}"),
        Answer::NotShown if part == "parts" => "Neither part is shown to pay",
        Answer::NotShown => return format!("The {part} is not shown to pay"),
        Answer::NothingDistilled => "Nothing was distilled",
        Answer::Withheld => "No verdict",
    }
    .to_owned()
}

fn sentence(results: &Results, answer: Answer, tested: &[&Evidence]) -> String {
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
        Answer::Neither => neither(tested),
        Answer::NotShown => not_shown(results, tested, &part),
        Answer::NothingDistilled => "Nothing was distilled in this run.".to_owned(),
        Answer::Withheld => "No verdict.".to_owned(),
    }
}

/// What speaks against each part; said once where it is the same of both.
fn neither(tested: &[&Evidence]) -> String {
    let rival =
        |evidence: &Evidence| evidence.instead.as_ref().map(|instead| format!(" over {}", instead.replaced.arm));
    let why = |evidence: &Evidence| match (evidence.pays(), &evidence.one_call) {
        (Shown::Worse, Some(_)) => "here: answering in one call is better".to_owned(),
        (Shown::Worse, None) => "here: training made it worse".to_owned(),
        _ => {
            let rival = rival(evidence).unwrap_or_default();
            format!("on this evidence: no gain{rival} is shown, and every question costs more")
        }
    };
    let of_part =
        |evidence: &&Evidence| format!("Do not distil the {} {}.", words::role_name(evidence.role), why(evidence));
    match tested {
        [one, other] if why(one) == why(other) => format!("Distil neither part {}.", why(one)),
        parts => parts.iter().map(of_part).collect::<Vec<_>>().join(" "),
    }
}

/// One part is the better one to distil, though it does not beat one call.
fn rather(tested: &[&Evidence], role: Role) -> String {
    let evidence = tested.iter().find(|evidence| evidence.role == role);
    let one_call = evidence.and_then(|evidence| evidence.one_call);
    let but = match shown(one_call.as_ref()) {
        Shown::Worse => "answering in one call is better".to_owned(),
        Shown::Better => evidence
            .and_then(|evidence| for_less(evidence))
            .unwrap_or_else(|| "training it is not shown to help".to_owned()),
        _ => match one_call.filter(Paired::loses) {
            Some(pair) => more_in_one_call(&pair),
            None => "that it beats answering in one call is not shown".to_owned(),
        },
    };
    format!("If you distil one part, distil the {}; but {but}.", words::role_name(role))
}

/// Better, and surely dearer.
fn dearer(tested: &[&Evidence], role: Role) -> bool {
    let speaks = tested.iter().find(|evidence| evidence.role == role && evidence.one_call.is_some());
    speaks.and_then(|evidence| evidence.instead).is_some_and(|instead| instead.costs_more())
}

fn for_its_answers(part: &str, its: &str) -> String {
    format!("Distil {part} for {its} answers, not to save: a question costs more.")
}

/// It saves, and what may be lost by it is said in the same breath.
fn cheaper(results: &Results, tested: &[&Evidence], role: Role, part: &str) -> String {
    let evidence = tested.iter().find(|evidence| evidence.role == role);
    let instead = evidence.and_then(|evidence| evidence.instead);
    let less = instead.as_ref().and_then(|instead| share_saved(results, instead));
    let less = less.map_or_else(|| "less".to_owned(), |share| format!("{} % less", percent(share)));
    let loss = instead.and_then(|instead| instead.pair).map_or(0.0, |pair| -pair.ci.0);
    if loss > 0.0 {
        let loss = percent(loss);
        format!("Distil {part} if you can bear a loss of up to {loss} points: a question costs {less}.")
    } else {
        format!("Distil {part}: no loss is shown, and a question costs {less}.")
    }
}

/// And what it saves, with why that is not enough.
fn not_shown(results: &Results, tested: &[&Evidence], part: &str) -> String {
    let in_vain: String =
        tested.iter().filter(|evidence| !evidence.saves()).filter_map(|evidence| in_vain(evidence)).collect();
    let saves = tested.iter().filter(|evidence| evidence.saves()).filter_map(|evidence| {
        let instead = evidence.instead.as_ref()?;
        let loss = -instead.pair.as_ref()?.ci.0;
        let both = evidence.role == Role::Solver && uses_both(results, Some(evidence));
        let what = if both { "Distilling both" } else { &format!("A distilled {}", words::role_name(evidence.role)) };
        let replaced = &instead.replaced.arm;
        let saves = match share_saved(results, instead) {
            Some(share) => format!("saves {} % against {replaced}", percent(share)),
            None => format!("costs less than {replaced}"),
        };
        let but = match (evidence.undercut, evidence.beaten_by_one_call(), evidence.owed_to_base()) {
            (Some(rival), ..) => format!("{} costs less still, and is not shown to be worse", rival.arm),
            (None, Some(pair), _) => more_in_one_call(&pair),
            (None, None, Some(base)) => untaught(&base),
            (None, None, None) => format!("a loss of up to {} points is possible", percent(loss)),
        };
        Some(format!(" {what} {saves}, but {but}."))
    });
    let saves: String = saves.collect();
    format!("Not shown: these numbers do not say that distilling {part} pays.{in_vain}{saves}")
}

/// It beats one call, and may owe nothing of that to its training, or nothing is gained by it.
fn in_vain(evidence: &Evidence) -> Option<String> {
    let beats = shown(evidence.one_call.as_ref()) == Shown::Better;
    let but = for_less(evidence).or_else(|| Some(untaught(&evidence.owed_to_base()?))).filter(|_| beats)?;
    Some(format!(" A distilled {} beats answering in one call, but {but}.", words::role_name(evidence.role)))
}

/// What is as good in the numbers, and costs less.
fn for_less(evidence: &Evidence) -> Option<String> {
    let instead = evidence.instead.as_ref().filter(|_| evidence.dearer_for_nothing())?;
    let [own, others] = [evidence.subject, instead.replaced].map(|arm| percent(arm.accuracy));
    Some(format!("{} has {others} % right answers against {own} %, and costs less", instead.replaced.arm))
}

fn more_in_one_call(pair: &Paired) -> String {
    let [one_call, own] = [pair.b, pair.a].map(|arm| percent(arm.accuracy));
    format!("answering in one call has more right answers ({one_call} % against {own} %)")
}

fn untaught(base: &Paired) -> String {
    let [own, untrained] = [base.a, base.b].map(|arm| percent(arm.accuracy));
    format!("that its training adds anything is not shown ({own} % against {untrained} % of {})", base.b.arm)
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
    let saved = share_saved(results, instead).map_or_else(String::new, |share| format!("{} % ", percent(share)));
    let still = evidence.undercut.map_or_else(String::new, |rival| format!(", where {} costs less still", rival.arm));
    let base = evidence.training.as_ref().filter(|_| !evidence.is_owed_to_training());
    let base = base.map_or_else(String::new, |base| format!(", and {}", untaught(base)));
    format!(
        "Distilling {part} saves {saved}against {}, and costs {} to {} points of accuracy{still}{base}: no recommendation.",
        instead.replaced.arm,
        percent(-high),
        percent(-low),
    )
}

/// Of what the replaced arm costs; a share below one in a thousand has no figure.
fn share_saved(results: &Results, instead: &Instead) -> Option<f64> {
    let was = saving::per_question(results, &instead.costs.replaces, instead.costs.measure?)?;
    let share = instead.saving()?.mean as f64 / was as f64;
    (share.is_finite() && share >= 0.001).then_some(share)
}
