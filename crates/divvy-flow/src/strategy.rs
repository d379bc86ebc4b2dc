//! How a question is answered: the strategies, each a small function from a question to an [`Answer`]. Evaluation and
//! `divvy ask` go through the same door.

use divvy_core::{
    arm::{Arm, Strategy},
    chat::{Finish, Sampling},
    decomposition::Decomposition,
    digest::derive_seed,
    plan::EvaluatePlan,
    prompts::{cot, decompose, direct, two_stage},
    question::Question,
};
use divvy_llm::{Call, ChatError};

use crate::context::{Context, Ready};

/// What an arm said, with every call it made.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Raw text of the decomposer; `None` for single-stage arms and recorded teachers.
    pub decomposer_text: Option<String>,
    /// `None`: the arm has no decomposer, or what it wrote cannot be read as a decomposition.
    pub decomposition: Option<Decomposition>,
    /// The decomposer wrote something unusable; the solver was not asked.
    pub malformed: bool,
    pub reply: String,
    pub finish: Finish,
    pub decompose_call: Option<Call>,
    pub solve_call: Option<Call>,
}

/// Models of one arm, opened.
pub struct Opened<'a> {
    pub arm: &'a Arm,
    /// `None` for single-stage arms and for a recorded teacher.
    pub decomposer: Option<Ready>,
    pub solver: Ready,
}

/// Answers one question with one arm.
///
/// # Errors
/// A call that failed for good.
pub async fn answer(
    context: &Context,
    plan: &EvaluatePlan,
    opened: &Opened<'_>,
    question: &Question,
) -> Result<Answer, ChatError> {
    match opened.arm.strategy {
        Strategy::Direct => single(context, opened, direct::messages(question), plan.direct_tokens, question).await,
        Strategy::Cot => single(context, opened, cot::messages(question), plan.solve_tokens, question).await,
        Strategy::TwoStage => two_stages(context, plan, opened, question).await,
    }
}

async fn single(
    context: &Context,
    opened: &Opened<'_>,
    messages: Vec<divvy_core::chat::Message>,
    max_tokens: u32,
    question: &Question,
) -> Result<Answer, ChatError> {
    let call = context.ask(&opened.solver, messages, greedy(context, max_tokens, question), 0).await?;
    Ok(Answer {
        decomposer_text: None,
        decomposition: None,
        malformed: false,
        reply: call.reply.text.clone(),
        finish: call.reply.finish.clone(),
        decompose_call: None,
        solve_call: Some(call),
    })
}

async fn two_stages(
    context: &Context,
    plan: &EvaluatePlan,
    opened: &Opened<'_>,
    question: &Question,
) -> Result<Answer, ChatError> {
    let (decompose_call, decomposition) = decomposition(context, plan, opened, question).await?;
    let decomposer_text = decompose_call.as_ref().map(|call| call.reply.text.clone());
    let Some(decomposition) = decomposition else {
        return Ok(Answer {
            decomposer_text,
            decomposition: None,
            malformed: true,
            reply: String::new(),
            finish: Finish::Stop,
            decompose_call,
            solve_call: None,
        });
    };
    let messages = two_stage::messages(question, &decomposition);
    let call = context.ask(&opened.solver, messages, greedy(context, plan.solve_tokens, question), 0).await?;
    Ok(Answer {
        decomposer_text,
        decomposition: Some(decomposition),
        malformed: false,
        reply: call.reply.text.clone(),
        finish: call.reply.finish.clone(),
        decompose_call,
        solve_call: Some(call),
    })
}

/// Asks the decomposer, or reads the recorded teacher.
async fn decomposition(
    context: &Context,
    plan: &EvaluatePlan,
    opened: &Opened<'_>,
    question: &Question,
) -> Result<(Option<Call>, Option<Decomposition>), ChatError> {
    let Some(decomposer) = &opened.decomposer else { return Ok((None, question.recorded.clone())) };
    let sampling =
        Sampling { repetition_penalty: plan.repetition_penalty, ..greedy(context, plan.decompose_tokens, question) };
    let style = context.plan.style(opened.arm.decomposer.as_deref().unwrap_or_default());
    let call = context.ask(decomposer, decompose::messages(question, style), sampling, 0).await?;
    let parsed = decompose::parse(&call.reply.text, &call.reply.finish, plan.max_subquestions);
    Ok((Some(call), parsed.decomposition))
}

fn greedy(context: &Context, max_tokens: u32, question: &Question) -> Sampling {
    Sampling {
        seed: derive_seed(context.plan.seed, &format!("evaluate/{}", question.id)),
        ..Sampling::greedy(max_tokens)
    }
}
