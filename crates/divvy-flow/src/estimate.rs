//! Before a run: how many calls the plan needs and roughly how many tokens, from prompts that are rendered for real.

mod evaluation;

use divvy_core::{
    arm::Strategy,
    chat::{Message, Usage},
    decomposition::Decomposition,
    plan::{Plan, RECORDED, StudentPlan, TEACHER},
    prompts::{
        PromptName,
        decompose::{self, Manner},
        direct, two_stage,
    },
    question::Question,
    questions::Questions,
    recipe::Target,
};

pub use self::evaluation::{Shape, shape};
use crate::{demonstrations::Shown, split::Splits, train::asked::Asked};

/// Calls and tokens of one stage and model, an upper estimate: no reply is longer than its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub stage: &'static str,
    pub model: String,
    /// Of the arms that it is asked for; `None` outside the evaluation.
    pub part: Option<Part>,
    pub arms: Vec<String>,
    /// In training: rows, each epoch anew.
    pub calls: u64,
    pub tokens_in: u64,
    /// If every reply used a third of its limit, which is what greedy answers to short questions do (rough).
    pub tokens_out: u64,
}

/// What a model does in an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Decomposer,
    Solver,
    Judge,
}

impl Part {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decomposer => "decomposer",
            Self::Solver => "solver",
            Self::Judge => "judge",
        }
    }
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
    let (train, shown) = (&questions.train, &Shown::of(plan, questions));
    if plan.collect.teacher != RECORDED && plan.collects() {
        // Of whom the screening has collected what it needs, the others are not asked.
        let waves = plan.screen.as_ref().filter(|_| plan.collects_in_waves());
        let most = waves.and_then(|screen| screen.rows).unwrap_or(usize::MAX);
        let asked = train.iter().take(most).chain(questions.dev.iter());
        lines.push(line(
            "collect",
            &plan.collect.teacher,
            asked.map(|question| {
                let shots = &shown.beside(PromptName::Decompose, plan.collect.shots, &question);
                let manner = Manner { style: plan.style(TEACHER), most: None, shots };
                decompose::messages(&plan.prompts, manner, &question)
            }),
            plan.collect.max_tokens,
            plan.collect.samples,
        ));
    }
    if let Some((screen, solver)) = plan.screen.as_ref().and_then(|screen| Some((screen, screen.solver.as_ref()?))) {
        let screened = train.iter().take(screen.rows.unwrap_or(usize::MAX)).map(|question| {
            let shots = shown.beside(PromptName::TwoStage, screen.shots, &question);
            two_stage::messages(&plan.prompts, &shots, &question, &guess(&question))
        });
        lines.push(line("screen", solver, screened, screen.max_tokens, plan.collect.samples * screen.samples));
    }
    lines.extend(plan.students.iter().map(|(name, student)| training(plan, shown, (name, student), train)));
    if let Some(evaluate) = &plan.evaluate {
        lines.extend(evaluation::lines(plan, evaluate, questions, shown));
    }
    lines
}

/// Rows and tokens that a student sees in all its epochs; of screened rows, as if all were kept, or as many as are wanted.
fn training(plan: &Plan, shown: &Shown, (name, student): (&str, &StudentPlan), train: &Questions) -> Estimate {
    let asked = Asked { prompts: &plan.prompts, shown, plan: student };
    let screened = plan.screen.as_ref().filter(|_| student.target.needs_screening());
    let rows = screened.and_then(|screen| screen.rows);
    let kept = screened.filter(|_| student.target == Target::SdR).and_then(|screen| screen.until);
    let most = rows.into_iter().chain(kept).min().unwrap_or(usize::MAX);
    let of_set = |set: &String, weight: f64| {
        let learnt = train.iter().take(most).filter(|question| question.dataset == *set);
        let once = line("train", name, learnt.flat_map(|question| taught(&asked, &question)), 0, 1);
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
fn taught(asked: &Asked<'_>, question: &Question) -> Vec<Vec<Message>> {
    let (target, steps) = (asked.plan.target, guess(question));
    let row = |mut prompt: Vec<Message>, completion: String| {
        prompt.push(Message::user(completion));
        prompt
    };
    let mut rows = Vec::new();
    if target.decomposes() {
        rows.push(row(asked.decomposing(question), decompose::completion(&steps)));
    }
    match target.solves() {
        Some(Strategy::Direct) => rows.push(row(asked.answering(question), direct::completion("42"))),
        // Sub-answers are about as long as the subquestions.
        Some(_) => rows.push(row(asked.solving(question, &steps), decompose::completion(&steps))),
        None => {}
    }
    rows
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
        part: None,
        arms: Vec::new(),
        calls,
        tokens_in: bytes / BYTES_A_TOKEN,
        tokens_out: calls * u64::from(max_tokens) / 3,
    }
}
