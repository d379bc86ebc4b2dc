//! How a question is answered: the strategies, each a small function from a question to an [`Answer`]. Evaluation and
//! `divvy ask` go through the same door.

mod scene;
mod single;
mod static_steps;
mod stepwise;

use divvy_core::{
    arm::{Arm, Strategy},
    chat::Finish,
    decomposition::Decomposition,
    plan::EvaluatePlan,
    prompts::{cot, direct},
    question::Question,
};
use divvy_llm::{Call, ChatError};

use self::scene::Scene;
use crate::context::{Context, Ready};

/// What an arm said, with every call it made.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Raw text of the decomposer, all its replies; `None` for single-stage arms and recorded teachers.
    pub decomposer_text: Option<String>,
    /// `None`: the arm has no decomposer, or what it wrote cannot be read as a decomposition.
    pub decomposition: Option<Decomposition>,
    /// One a subquestion, in order; `None` where the solver gave none.
    pub sub_answers: Vec<Option<String>>,
    /// The decomposer wrote something unusable; the solver was not asked.
    pub malformed: bool,
    pub reply: String,
    pub finish: Finish,
    pub decompose_calls: Vec<Call>,
    pub solve_calls: Vec<Call>,
}

impl Answer {
    /// Ends with the solver's last reply.
    fn concluded(mut self, call: Call) -> Self {
        self.reply.clone_from(&call.reply.text);
        self.finish = call.reply.finish.clone();
        self.solve_calls.push(call);
        self
    }
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
    let scene = Scene { context, plan, opened, question };
    match opened.arm.strategy {
        Strategy::Direct => single::answer(&scene, direct::messages(question), plan.direct_tokens).await,
        Strategy::Cot => single::answer(&scene, cot::messages(question), plan.solve_tokens).await,
        Strategy::TwoStage => static_steps::two_stage(&scene).await,
        Strategy::Sequential => static_steps::sequential(&scene).await,
        Strategy::SelfAsk => stepwise::self_ask(&scene).await,
    }
}
