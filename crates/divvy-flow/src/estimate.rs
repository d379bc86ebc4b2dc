//! Before a run: how many calls the plan needs and roughly how many tokens, from prompts that are rendered for real.

use divvy_core::{
    arm::Strategy,
    chat::{Message, Usage},
    decomposition::Decomposition,
    plan::{EvaluatePlan, Plan, RECORDED, StudentPlan, TEACHER},
    prompts::{
        cot,
        decompose::{self, Style},
        direct, two_stage,
    },
    question::Question,
    recipe::{EvalSplit, Target},
};

use crate::split::Splits;

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
    if plan.collect.teacher != RECORDED {
        let asked = train.iter().chain(&questions.dev);
        lines.push(line(
            "collect",
            &plan.collect.teacher,
            asked.map(|question| decompose::messages(question, Style::default())),
            plan.collect.max_tokens,
            plan.collect.samples,
        ));
    }
    if let Some(screen) = &plan.screen {
        let screened = train
            .iter()
            .take(screen.rows.unwrap_or(usize::MAX))
            .map(|question| two_stage::messages(question, &guess(question)));
        lines.push(line("screen", &screen.solver, screened, screen.max_tokens, plan.collect.samples * screen.samples));
    }
    lines.extend(plan.students.iter().map(|(name, student)| training(plan, name, student, train)));
    if let Some(evaluate) = &plan.evaluate {
        lines.extend(evaluation(plan, evaluate, questions));
    }
    lines
}

/// Rows and tokens that a student sees in all its epochs; of screened rows, as if all were kept.
fn training(plan: &Plan, name: &str, student: &StudentPlan, train: &[Question]) -> Estimate {
    let most = match (student.target, &plan.screen) {
        (Target::SdR, Some(screen)) => screen.rows.unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let rows = train.iter().take(most).map(|question| {
        let mut row = decompose::messages(question, student.style);
        row.push(Message::user(decompose::completion(&guess(question))));
        row
    });
    let once = line("train", name, rows, 0, 1);
    Estimate { calls: once.calls * student.epochs, tokens_in: once.tokens_in * student.epochs, ..once }
}

fn evaluation(whole: &Plan, plan: &EvaluatePlan, questions: &Splits) -> Vec<Estimate> {
    let questions = match plan.split {
        EvalSplit::Dev => &questions.dev,
        EvalSplit::Test => &questions.test,
    };
    let teacher = whole.collect.teacher.as_str();
    let resolve = |name: &'_ str| if name == TEACHER { teacher.to_owned() } else { name.to_owned() };
    let mut lines = Vec::new();
    for arm in &plan.arms {
        let stage = "evaluate";
        match arm.strategy {
            Strategy::Direct => {
                lines.push(line(stage, &arm.solver, questions.iter().map(direct::messages), plan.direct_tokens, 1))
            }
            Strategy::Cot => {
                lines.push(line(stage, &arm.solver, questions.iter().map(cot::messages), plan.solve_tokens, 1))
            }
            Strategy::TwoStage => {
                if let Some(decomposer) = arm.decomposer.as_deref().map(resolve).filter(|name| name != RECORDED) {
                    lines.push(line(
                        stage,
                        &decomposer,
                        questions.iter().map(|question| decompose::messages(question, whole.style(&decomposer))),
                        plan.decompose_tokens,
                        1,
                    ));
                }
                let solved = questions.iter().map(|question| two_stage::messages(question, &guess(question)));
                lines.push(line(stage, &arm.solver, solved, plan.solve_tokens, 1));
            }
        }
    }
    lines
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
