//! How a question is answered: the strategies, each a small function from a question to an [`Answer`]. Evaluation,
//! `divvy ask` and `divvy serve` go through the same door: what is served is what was measured.

mod kept;
mod scene;
mod single;
mod static_steps;
mod stepwise;

use async_trait::async_trait;
use divvy_core::{
    arm::{Arm, Strategy},
    chat::{Finish, Message, Sampling},
    decomposition::Decomposition,
    plan::EvaluatePlan,
    prompts::{
        Demonstration, Prompts, cot,
        decompose::{self, Manner, Style},
        direct,
    },
    question::Question,
};
use divvy_llm::{Call, ChatError};

use self::{kept::Kept, scene::Scene};
use crate::{
    context::{Context, Ready},
    redo::Take,
    structured::Request,
};

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
    /// How the solver's reply ended; the decomposer's, where nothing could be read from that.
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
    /// In which words its decomposer is asked.
    pub style: Style,
    /// The wording of every prompt.
    pub prompts: Prompts,
    /// What its prompt shows before the question …
    pub shots: Vec<Demonstration>,
    /// … and that of a student that solves behind a decomposer.
    pub solving: Vec<Demonstration>,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    Decompose,
    /// The solver answers one subquestion (1 is the first).
    Subquestion(usize),
    /// The solver answers the question.
    Solve,
}

/// What is known before the answer is. Subquestions count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    Subquestion { number: usize, text: &'a str },
    SubAnswer { number: usize, text: Option<&'a str> },
}

/// How a strategy reaches the models of its arm.
#[async_trait]
pub trait Ask: Send + Sync {
    async fn ask(&self, turn: Turn, messages: Vec<Message>, sampling: Sampling) -> Result<Call, ChatError>;

    fn told(&self, _news: News<'_>) {}
}

/// An arm and how it is run.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    pub arm: &'a Arm,
    pub plan: &'a EvaluatePlan,
    /// The wording of every prompt.
    pub prompts: &'a Prompts,
    /// How its decomposer is asked. Its demonstrations are those of the solver's prompt where there is no decomposer.
    pub manner: Manner<'a>,
    /// What a student that solves behind a decomposer is shown.
    pub solving: &'a [Demonstration],
    /// Its decomposer is the data set, and is not asked.
    pub recorded: bool,
    /// Of the plan.
    pub seed: u64,
    /// Which of the question's answers this is, from 0.
    pub repeat: u32,
}

impl Setting<'_> {
    /// Most subquestions that count.
    #[must_use]
    pub fn most(&self) -> usize {
        self.plan.most(self.arm)
    }
}

/// What the decomposer of an arm is asked for a whole decomposition.
#[must_use]
pub fn decomposing(plan: &EvaluatePlan, prompts: &Prompts, manner: Manner<'_>, question: &Question) -> Request {
    let sampling = Sampling { format: decompose::format(manner.style), ..plan.decomposing() };
    Request { messages: decompose::messages(prompts, manner, question), sampling, sample: 0, take: Take::default() }
}

/// Answers one question with one arm, for the so-manieth time; every call is kept, and one that was made before is free.
///
/// # Errors
/// A call that failed for good.
pub async fn answer(
    context: &Context,
    plan: &EvaluatePlan,
    opened: &Opened<'_>,
    (question, repeat): (&Question, u32),
) -> Result<Answer, ChatError> {
    let setting = Setting {
        arm: opened.arm,
        plan,
        prompts: &opened.prompts,
        manner: Manner { style: opened.style, most: context.plan.told_most(opened.arm), shots: &opened.shots },
        solving: &opened.solving,
        recorded: opened.decomposer.is_none(),
        seed: context.plan.seed,
        repeat,
    };
    let kept = Kept::new(context, opened, repeat);
    answer_with(&setting, &kept, question).await.map_err(|error| kept.after_all(error))
}

/// Answers one question with one arm, whose models are reached through `ask`.
///
/// # Errors
/// A call that failed for good.
pub async fn answer_with(setting: &Setting<'_>, ask: &dyn Ask, question: &Question) -> Result<Answer, ChatError> {
    let scene = Scene { setting, ask, question };
    let Setting { plan, prompts, manner: Manner { shots, .. }, .. } = setting;
    match setting.arm.strategy {
        Strategy::Direct => {
            single::answer(&scene, direct::messages(prompts, shots, question), plan.direct_tokens).await
        }
        Strategy::Cot => single::answer(&scene, cot::messages(prompts, shots, question), plan.solve_tokens).await,
        Strategy::TwoStage => static_steps::two_stage(&scene).await,
        Strategy::Sequential => static_steps::sequential(&scene).await,
        Strategy::SelfAsk => stepwise::self_ask(&scene).await,
    }
}
