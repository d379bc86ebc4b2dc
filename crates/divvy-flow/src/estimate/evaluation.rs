//! What the evaluation will ask: of decomposers, of solvers, of a judge, each for the arms that it is asked for.

use std::collections::{BTreeMap, BTreeSet};

use divvy_core::{
    arm::{Arm, Strategy, Variant},
    chat::Message,
    decomposition::Subquestion,
    plan::{EvaluatePlan, JudgePlan, Plan, RECORDED, TEACHER, demonstrates},
    prompts::{
        Demonstration, Prompts, cot,
        decompose::{self, Manner, Style},
        direct, judge, self_ask,
        stepwise::{self, Known},
        two_stage,
    },
    question::Question,
    questions::Questions,
    recipe::EvalSplit,
};

use super::{Estimate, Part, guess, line};
use crate::{
    demonstrations::{self, Shown},
    grid::{self, Grid},
    split::Splits,
};

/// In the order of the arms, the judge last.
pub(super) fn lines(whole: &Plan, plan: &EvaluatePlan, splits: &Splits, shown: &Shown) -> Vec<Estimate> {
    let questions = scored(plan, splits);
    let grid = Grid::of(whole, questions);
    let (mut written, mut lines): (BTreeMap<_, usize>, Vec<Estimate>) = (BTreeMap::new(), Vec::new());
    for arm in &plan.arms {
        let questions = &grid.asked(arm, questions);
        let shots = demonstrated(whole, shown, arm, &splits.train);
        // What a decomposer wrote at once serves every arm that asks it alike; what it asks on depends on the solver.
        let known = writes_at_once(whole, arm).and_then(|asked| written.get(&asked));
        match known {
            Some(at) => lines[*at].arms.push(arm.slug()),
            None => {
                let asked = decomposing((whole, plan), arm, &shots, questions);
                written.extend(writes_at_once(whole, arm).map(|asked| (asked, lines.len())));
                lines.extend(asked.map(|line| of_arm(line, Part::Decomposer, arm)));
            }
        }
        let behind = demonstrations::of_solver(whole, shown, arm);
        lines.push(of_arm(solving((whole, plan), arm, [&shots, &behind], questions), Part::Solver, arm));
    }
    lines.extend(plan.judge.as_ref().map(|judge| judging(judge, plan, &grid, questions)));
    lines
}

fn of_arm(line: Estimate, part: Part, arm: &Arm) -> Estimate {
    Estimate { part: Some(part), arms: vec![arm.slug()], ..line }
}

/// As if every answer had a verdict of its own. An answer is about as long as gold.
fn judging(judge: &JudgePlan, plan: &EvaluatePlan, grid: &Grid, questions: &Questions) -> Estimate {
    let arms = &plan.arms;
    let asked = questions.iter().flat_map(|question| {
        let answers = arms.iter().filter(|arm| grid.asks(arm, &question.dataset)).count();
        let answer = question.golds.first().map(ToString::to_string).unwrap_or_default();
        vec![judge::messages(&question, &answer); answers]
    });
    let line = line("judge", &judge.model, asked, judge.max_tokens, plan.repeats);
    Estimate { part: Some(Part::Judge), arms: arms.iter().map(Arm::slug).collect(), ..line }
}

/// The grid in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub arms: usize,
    /// Answers of an arm to a question.
    pub repeats: u32,
    /// Data sets that are scored, and their questions.
    pub sets: Vec<(String, u64)>,
    pub answers: u64,
    /// Answers that need a decomposition which is written at once by a model …
    pub decomposing: u64,
    /// … and how many are written.
    pub decompositions: u64,
}

/// `None` where nothing is evaluated.
#[must_use]
pub fn shape(plan: &Plan, questions: &Splits) -> Option<Shape> {
    let evaluate = plan.evaluate.as_ref()?;
    let questions = scored(evaluate, questions);
    let grid = Grid::of(plan, questions);
    let of_set = |set: &String| questions.iter().filter(|question| question.dataset == *set).count() as u64;
    let sets = grid::sets(plan).iter().map(|set| (set.clone(), of_set(set))).collect();
    let mut shape = Shape { arms: evaluate.arms.len(), repeats: evaluate.repeats, sets, ..Shape::default() };
    let mut written = BTreeSet::new();
    for arm in &evaluate.arms {
        let asked = questions.iter().filter(|question| grid.asks(arm, &question.dataset)).count() as u64;
        let answers = asked * u64::from(evaluate.repeats);
        shape.answers += answers;
        if let Some(decomposer) = writes_at_once(plan, arm) {
            // A greedy one is written once for all repeats.
            let asked = if evaluate.decomposing.is_greedy() { asked } else { answers };
            shape.decomposing += answers;
            shape.decompositions += if written.insert(decomposer) { asked } else { 0 };
        }
    }
    Some(shape)
}

/// The model that writes whole decompositions for an arm, and what sets apart how it is asked.
fn writes_at_once<'a>(plan: &'a Plan, arm: &'a Arm) -> Option<(&'a str, Variant)> {
    let name = arm.decomposer.as_deref().filter(|_| arm.strategy != Strategy::SelfAsk)?;
    let name = if name == TEACHER { &plan.collect.teacher } else { name };
    let worded = |prompt: &String| Style::ALL.iter().any(|style| plan.prompts.has_variant(style.prompt(), prompt));
    let prompt = arm.variant.prompt.clone().filter(worded);
    // A student is asked as it was trained, whatever the arm's demonstrations and cap.
    let student = name.starts_with("student:");
    let variant = if student { Variant::default() } else { Variant { prompt, ..arm.variant.clone() } };
    (name != RECORDED).then_some((name, variant))
}

fn scored<'q>(plan: &EvaluatePlan, questions: &'q Splits) -> &'q Questions {
    match plan.split {
        EvalSplit::Dev => &questions.dev,
        EvalSplit::Test => &questions.test,
    }
}

/// Before a teacher has written anything, decompositions of a typical size stand in.
fn demonstrated(plan: &Plan, shown: &Shown, arm: &Arm, train: &Questions) -> Vec<Demonstration> {
    let (foreseen, most) = (demonstrations::foreseen(plan, shown, arm), arm.variant.shots());
    if foreseen.len() >= most {
        return foreseen;
    }
    let guessed = |question: &Question| Demonstration::of(demonstrates(arm.strategy), question, Some(&guess(question)));
    train.iter().filter_map(|question| guessed(&question)).take(most).collect()
}

fn solving(
    (whole, plan): (&Plan, &EvaluatePlan),
    arm: &Arm,
    [shots, behind]: [&[Demonstration]; 2],
    questions: &Questions,
) -> Estimate {
    let prompts = &*whole.wording(arm);
    let solver = |asked: &dyn Fn(&Question) -> Vec<Vec<Message>>, max_tokens| {
        let prompts = questions.iter().flat_map(|question| asked(&question));
        line("evaluate", &arm.solver, prompts, max_tokens, plan.repeats)
    };
    match arm.strategy {
        Strategy::Direct => solver(&|question| vec![direct::messages(prompts, shots, question)], plan.direct_tokens),
        Strategy::Cot => solver(&|question| vec![cot::messages(prompts, shots, question)], plan.solve_tokens),
        Strategy::TwoStage => solver(
            &|question| vec![two_stage::messages(prompts, behind, question, &guess(question))],
            plan.solve_tokens,
        ),
        Strategy::Sequential | Strategy::SelfAsk => {
            solver(&|question| step_by_step(prompts, question), plan.solve_tokens)
        }
    }
}

/// `None` for single-stage arms and for a recorded teacher.
fn decomposing(
    (whole, plan): (&Plan, &EvaluatePlan),
    arm: &Arm,
    shots: &[Demonstration],
    questions: &Questions,
) -> Option<Estimate> {
    let name = arm.decomposer.as_deref()?;
    let name = if name == TEACHER { &whole.collect.teacher } else { name };
    if name == RECORDED {
        return None;
    }
    let words = &*whole.wording(arm);
    let manner = Manner { style: whole.style(name), most: whole.told_most(arm), shots };
    let prompts = questions.iter().flat_map(|question| match arm.strategy {
        Strategy::SelfAsk => (0..=guess(&question).steps().len())
            .map(|at| self_ask::messages(words, shots, &question, &guessed(&question)[..at]))
            .collect(),
        _ => vec![decompose::messages(words, manner, &question)],
    });
    let once = plan.decomposing.is_greedy() && arm.strategy != Strategy::SelfAsk;
    Some(line("evaluate", name, prompts, plan.decompose_tokens, if once { 1 } else { plan.repeats }))
}

/// The solver's prompts of the strategies with one call a subquestion.
fn step_by_step(prompts: &Prompts, question: &Question) -> Vec<Vec<Message>> {
    let known = guessed(question);
    let steps = known.iter().enumerate();
    let asked = steps.map(|(at, step)| stepwise::subquestion(prompts, question, &known[..at], &step.subquestion));
    asked.chain([stepwise::conclusion(prompts, question, &known)]).collect()
}

/// A sub-answer is a few words.
fn guessed(question: &Question) -> Vec<Known> {
    let steps = guess(question);
    let known = |step: &Subquestion| Known { subquestion: step.text.clone(), answer: Some("an answer".to_owned()) };
    steps.steps().iter().map(known).collect()
}
