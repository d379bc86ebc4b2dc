//! Sentences of the verdict: each says what was compared, both figures, the difference with its interval, and whether that
//! is shown. The words follow the test, never the sign alone.

use super::evidence::{Evidence, Paired, Shown};
use crate::{
    number::{self, p_phrase, percent, points, points_interval},
    roles::Role,
};

pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Decomposer => "decomposer",
        Role::Solver => "solver",
    }
}

/// Everything the comparisons say about distilling one part, most important first.
pub(crate) fn findings(evidence: &Evidence) -> Vec<String> {
    let role = role_name(evidence.role);
    let mut lines = vec![one_call(evidence)];
    lines.extend(training(evidence, role));
    lines.extend(evidence.teacher.as_ref().map(teacher));
    if evidence.role == Role::Decomposer {
        lines.extend(evidence.ceiling.as_ref().map(ceiling));
    }
    lines.extend(evidence.one_call.as_ref().and_then(tokens));
    if evidence.others > 0 {
        let all = evidence.others + 1;
        lines.push(format!(
            "{} was chosen among {all} arms with a distilled {role} by these very questions, which flatters it a little.",
            evidence.subject.arm
        ));
    }
    lines
}

/// The decomposer distilled against the solver distilled.
pub(crate) fn parts(pair: &Paired) -> String {
    let (a, b) = (&pair.a.arm, &pair.b.arm);
    let lead = match pair.seems() {
        Shown::Better => {
            format!("Of the two parts the decomposer distils better: {a} beats the distilled solver ({b})")
        }
        Shown::Worse => format!("Of the two parts the solver distils better: {b} beats the distilled decomposer ({a})"),
        _ => format!("Which of the two parts distils better is not shown: {a} and the distilled solver ({b})"),
    };
    format!("{lead}{}: {}.", hint(pair), figures(pair))
}

fn one_call(evidence: &Evidence) -> String {
    let Some(pair) = &evidence.one_call else {
        return format!("{} was not compared with answering in one call.", evidence.subject.arm);
    };
    let (a, b) = (&pair.a.arm, &pair.b.arm);
    let lead = match pair.seems() {
        Shown::Better => format!("{a} beats answering in one call ({b})"),
        Shown::Worse => format!("Answering in one call ({b}) beats {a}"),
        _ => format!("That {a} differs from answering in one call ({b}) is not shown"),
    };
    format!("{lead}{}: {}.", hint(pair), figures(pair))
}

/// Nothing where the recipe asks for no untrained arm.
fn training(evidence: &Evidence, role: &str) -> Option<String> {
    let pair = evidence.training.as_ref()?;
    let lead = match pair.seems() {
        Shown::Better => format!("Training the {role} helps"),
        Shown::Worse => format!("Training the {role} hurts"),
        _ => format!("That training the {role} changes anything is not shown"),
    };
    let (a, b, hint) = (&pair.a.arm, &pair.b.arm, hint(pair));
    Some(format!("{lead}{hint}: {a} against its untrained base ({b}), {}.", figures(pair)))
}

fn teacher(pair: &Paired) -> String {
    let lead = match pair.seems() {
        Shown::Better => "The student beats its teacher’s decompositions".to_owned(),
        Shown::Worse => "A gap to the teacher’s decompositions remains".to_owned(),
        _ => "No gap to the teacher’s decompositions is shown".to_owned(),
    };
    let room = match pair.seems() {
        Shown::Unclear if pair.ci.0 < 0.0 => {
            format!("; the interval still allows a loss of {} points", percent(-pair.ci.0))
        }
        _ => String::new(),
    };
    format!("{lead}{}: {}{room}.", hint(pair), figures(pair))
}

fn ceiling(pair: &Paired) -> String {
    let lead = match pair.seems() {
        Shown::Better => "A student as good as the teacher would beat one call",
        Shown::Worse => "Even the teacher’s decompositions lose to one call",
        _ => "Even for the teacher’s decompositions no difference from one call is shown",
    };
    format!("{lead}{}: {}.", hint(pair), figures(pair))
}

/// What an interval says of a comparison that nobody declared beforehand is not shown, and not nothing.
fn hint(pair: &Paired) -> &'static str {
    let seems = matches!(pair.seems(), Shown::Better | Shown::Worse);
    if pair.exploratory && seems { " (not declared, so only a hint)" } else { "" }
}

/// `30.0 % against 12.0 %, +18.0 points (95 % interval +12.1 to +23.9, Holm p < 0.001, n = 300)`.
pub(super) fn figures(pair: &Paired) -> String {
    let exploratory = if pair.exploratory { ", exploratory" } else { "" };
    format!(
        "{} % against {} %, {} points (95 % interval {}, Holm {}, n = {}{exploratory})",
        percent(pair.a.accuracy),
        percent(pair.b.accuracy),
        points(pair.difference),
        points_interval(pair.ci),
        p_phrase(pair.p_holm),
        number::count(pair.n),
    )
}

/// Nothing where some call of the two came without its tokens.
pub(super) fn tokens(pair: &Paired) -> Option<String> {
    let (total_a, total_b) = (pair.a.tokens()?, pair.b.tokens()?);
    let (a, b) = (number::ratio(total_a, pair.a.n)?, number::ratio(total_b, pair.b.n)?);
    (b > 0.0).then(|| {
        format!(
            "It takes {} tokens a question, {} times the {} of {}.",
            number::mean(total_a, pair.a.n),
            number::decimal(a / b, 1),
            number::mean(total_b, pair.b.n),
            pair.b.arm,
        )
    })
}
