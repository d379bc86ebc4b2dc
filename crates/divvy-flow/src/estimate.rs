//! Before a run: how many calls the plan needs and roughly how many tokens, from prompts that are rendered for real.

use std::collections::BTreeSet;

use divvy_core::{
    arm::{Arm, Strategy, Variant},
    chat::{Message, Usage},
    decomposition::{Decomposition, Subquestion},
    plan::{EvaluatePlan, Plan, RECORDED, StudentPlan, TEACHER, demonstrates},
    prompts::{
        Demonstration, Prompts, cot,
        decompose::{self, Manner},
        direct, self_ask,
        stepwise::{self, Known},
        two_stage,
    },
    question::Question,
    questions::Questions,
    recipe::EvalSplit,
};

use crate::{
    demonstrations::{self, Shown},
    grid::{self, Grid},
    split::Splits,
};

/// Calls and tokens of one stage and model, an upper estimate: no reply is longer than its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub stage: &'static str,
    pub model: String,
    /// In training: rows, each epoch anew.
    pub calls: u64,
    pub tokens_in: u64,
    /// If every reply used a third of its limit, which is what greedy answers to short questions do (rough).
    pub tokens_out: u64,
}

impl Estimate {
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { tokens_in: Some(self.tokens_in), tokens_cached: Some(0), tokens_out: Some(self.tokens_out) }
    }
}

/// Bytes of English text a token, for byte-pair vocabularies of 50,000 entries and more.
const BYTES_A_TOKEN: u64 = 4;

/// One line for each stage and model, in running order.
#[must_use]
pub fn estimate(plan: &Plan, questions: &Splits) -> Vec<Estimate> {
    let mut lines = Vec::new();
    let train = &questions.train;
    if plan.collect.teacher != RECORDED && plan.collects() {
        let asked = questions.for_students();
        lines.push(line(
            "collect",
            &plan.collect.teacher,
            asked.map(|question| decompose::messages(&plan.prompts, plan.style(TEACHER), &question)),
            plan.collect.max_tokens,
            plan.collect.samples,
        ));
    }
    if let Some(screen) = &plan.screen {
        let screened = train
            .iter()
            .take(screen.rows.unwrap_or(usize::MAX))
            .map(|question| two_stage::messages(&plan.prompts, &question, &guess(&question)));
        lines.push(line("screen", &screen.solver, screened, screen.max_tokens, plan.collect.samples * screen.samples));
    }
    lines.extend(plan.students.iter().map(|(name, student)| training(plan, name, student, train)));
    if let Some(evaluate) = &plan.evaluate {
        lines.extend(evaluation(plan, evaluate, questions));
    }
    lines
}

/// Rows and tokens that a student sees in all its epochs; of screened rows, as if all were kept.
fn training(plan: &Plan, name: &str, student: &StudentPlan, train: &Questions) -> Estimate {
    let screened = plan.screen.as_ref().filter(|_| student.target.needs_screening());
    let most = screened.and_then(|screen| screen.rows).unwrap_or(usize::MAX);
    let of_set = |set: &String, weight: f64| {
        let learnt = train.iter().take(most).filter(|question| question.dataset == *set);
        let once = line("train", name, learnt.flat_map(|question| taught(plan, student, &question)), 0, 1);
        scaled(once, weight)
    };
    let sets = plan.data.train.iter().filter(|set| student.learns_from(set));
    let sets = sets.map(|set| of_set(set, student.mix.get(set).copied().unwrap_or(1.0)));
    let all = sets.reduce(together).unwrap_or_else(|| line("train", name, std::iter::empty(), 0, 1));
    let most = student.rows.map_or(1.0, |rows| (rows as f64 / all.calls.max(1) as f64).min(1.0));
    scaled(all, most * student.epochs as f64 * student.sweep.len().max(1) as f64)
}

/// So many times as much.
fn scaled(line: Estimate, times: f64) -> Estimate {
    let scale = |count: u64| (count as f64 * times).round() as u64;
    Estimate { calls: scale(line.calls), tokens_in: scale(line.tokens_in), ..line }
}

fn together(left: Estimate, right: Estimate) -> Estimate {
    Estimate { calls: left.calls + right.calls, tokens_in: left.tokens_in + right.tokens_in, ..left }
}

/// The rows of one question, prompt and completion.
fn taught(plan: &Plan, student: &StudentPlan, question: &Question) -> Vec<Vec<Message>> {
    let (prompts, steps) = (&plan.prompts, guess(question));
    let row = |mut prompt: Vec<Message>, completion: String| {
        prompt.push(Message::user(completion));
        prompt
    };
    let mut rows = Vec::new();
    if student.target.decomposes() {
        rows.push(row(decompose::messages(prompts, student.style, question), decompose::completion(&steps)));
    }
    match student.target.solves() {
        Some(Strategy::Direct) => rows.push(row(direct::messages(prompts, &[], question), direct::completion("42"))),
        // Sub-answers are about as long as the subquestions.
        Some(_) => rows.push(row(two_stage::messages(prompts, question, &steps), decompose::completion(&steps))),
        None => {}
    }
    rows
}

fn evaluation(whole: &Plan, plan: &EvaluatePlan, splits: &Splits) -> Vec<Estimate> {
    let shown = Shown::of(whole, splits);
    let questions = scored(plan, splits);
    let grid = Grid::of(whole, questions);
    let (mut decomposed, mut lines) = (Vec::new(), Vec::new());
    for arm in &plan.arms {
        let questions = &grid.asked(arm, questions);
        let shots = demonstrated(whole, &shown, arm, &splits.train);
        // What a decomposer wrote at once serves every arm that asks it alike; what it asks on depends on the solver.
        let dynamic = arm.strategy == Strategy::SelfAsk;
        if let Some(once) =
            decomposing((whole, plan), arm, &shots, questions).filter(|line| dynamic || !decomposed.contains(line))
        {
            decomposed.push(once.clone());
            lines.push(once);
        }
        lines.push(solving((whole, plan), arm, &shots, questions));
    }
    lines
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
    let mut written: BTreeSet<(&str, Variant)> = BTreeSet::new();
    for arm in &evaluate.arms {
        let asked = questions.iter().filter(|question| grid.asks(arm, &question.dataset)).count() as u64;
        let answers = asked * u64::from(evaluate.repeats);
        shape.answers += answers;
        if let Some(decomposer) = writes_at_once(plan, arm) {
            // A greedy one is written once for all repeats.
            let asked = if evaluate.decomposing.is_greedy() { asked } else { answers };
            shape.decomposing += answers;
            // A student is asked as it was trained, whatever the arm's demonstrations and cap.
            let student = decomposer.starts_with("student:");
            let variant = if student { Variant::default() } else { arm.variant };
            shape.decompositions += if written.insert((decomposer, variant)) { asked } else { 0 };
        }
    }
    Some(shape)
}

/// The model that writes whole decompositions for an arm.
fn writes_at_once<'a>(plan: &'a Plan, arm: &'a Arm) -> Option<&'a str> {
    let name = arm.decomposer.as_deref().filter(|_| arm.strategy != Strategy::SelfAsk)?;
    let name = if name == TEACHER { &plan.collect.teacher } else { name };
    (name != RECORDED).then_some(name)
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
    if foreseen.len() == most {
        return foreseen;
    }
    let guessed = |question: &Question| Demonstration::of(demonstrates(arm.strategy), question, Some(&guess(question)));
    train.iter().filter_map(|question| guessed(&question)).take(most).collect()
}

fn solving(
    (whole, plan): (&Plan, &EvaluatePlan),
    arm: &Arm,
    shots: &[Demonstration],
    questions: &Questions,
) -> Estimate {
    let prompts = &whole.prompts;
    let solver = |asked: &dyn Fn(&Question) -> Vec<Vec<Message>>, max_tokens| {
        let prompts = questions.iter().flat_map(|question| asked(&question));
        line("evaluate", &arm.solver, prompts, max_tokens, plan.repeats)
    };
    match arm.strategy {
        Strategy::Direct => solver(&|question| vec![direct::messages(prompts, shots, question)], plan.direct_tokens),
        Strategy::Cot => solver(&|question| vec![cot::messages(prompts, shots, question)], plan.solve_tokens),
        Strategy::TwoStage => {
            solver(&|question| vec![two_stage::messages(prompts, question, &guess(question))], plan.solve_tokens)
        }
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
    let manner = Manner { style: whole.style(name), most: whole.told_most(arm), shots };
    let prompts = questions.iter().flat_map(|question| match arm.strategy {
        Strategy::SelfAsk => (0..=guess(&question).steps().len())
            .map(|at| self_ask::messages(&whole.prompts, shots, &question, &guessed(&question)[..at]))
            .collect(),
        _ => vec![decompose::messages(&whole.prompts, manner, &question)],
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

/// Where no decomposition is known yet, one of typical size stands in.
fn guess(question: &Question) -> Decomposition {
    question.recorded.clone().unwrap_or_else(|| Decomposition::from_texts(vec![question.text.clone(); 3]))
}

fn line(
    stage: &'static str,
    model: &str,
    prompts: impl Iterator<Item = Vec<Message>>,
    max_tokens: u32,
    samples: u32,
) -> Estimate {
    let (mut calls, mut bytes) = (0, 0);
    for prompt in prompts {
        calls += u64::from(samples);
        bytes += u64::from(samples) * prompt.iter().map(|message| message.content.len() as u64).sum::<u64>();
    }
    Estimate {
        stage,
        model: model.to_owned(),
        calls,
        tokens_in: bytes / BYTES_A_TOKEN,
        tokens_out: calls * u64::from(max_tokens) / 3,
    }
}
