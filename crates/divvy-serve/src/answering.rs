//! One request answered: an arm's strategy over models that are heard while they write, or a plain model. What is heard
//! goes into a channel piece by piece; the future ends with the outcome, and dropping it stops the models.

mod pipe;

use std::{sync::Arc, time::SystemTime};

use divvy_core::{
    arm::{Arm, Strategy, Variant},
    chat::{ChatRequest, Finish, Message, Sampling},
    prompts::decompose::Manner,
    question::Question,
};
use divvy_flow::strategy::{self, Answer, Setting};
use divvy_llm::{Call, ChatError, Hear, TraceHeaders};
use futures::future::BoxFuture;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use crate::{
    desk::Desk,
    error::ApiError,
    menu::{Served, ServedArm, Voice},
    tally::{Running, Stage, Tally},
};
use pipe::Pipe;

/// A piece of what a client hears.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Reasoning(String),
    Content(String),
    /// Counted from 1.
    Subquestion {
        number: usize,
        text: String,
    },
    SubAnswer {
        number: usize,
        text: Option<String>,
    },
    /// The solver answers alone, and why.
    Fallback(&'static str),
}

/// What an arm is asked.
pub(crate) struct Order {
    pub(crate) question: Question,
    /// The caller's own instruction, for the solver.
    pub(crate) system: Option<String>,
    /// Most tokens of the last reply, where the caller wants fewer than the arm would write.
    pub(crate) max_tokens: Option<u32>,
}

pub(crate) struct Outcome {
    pub(crate) finish: Finish,
    /// `None` for a plain model.
    pub(crate) answer: Option<Answer>,
    pub(crate) fallback: Option<&'static str>,
    /// Characters of the last reply that went out as reasoning, and all of them.
    pub(crate) reasoned: (usize, usize),
}

pub(crate) type Heard = UnboundedReceiver<Said>;
pub(crate) type Answering = BoxFuture<'static, Result<Outcome, ApiError>>;

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// An arm answers.
pub(crate) fn by_arm(
    desk: Arc<Desk>,
    served: Arc<Served>,
    order: Order,
    tally: Arc<Tally>,
    deadline: Instant,
) -> (Heard, Answering) {
    let (says, heard) = unbounded_channel();
    let answering = async move {
        let Served::Arm(served) = &*served else { return Err(ApiError::internal()) };
        // Boxed when its turn has come: many may stand in line.
        Box::pin(arm(&desk, served, &order, tally, deadline, says)).await
    };
    (heard, Box::pin(answering))
}

async fn arm(
    desk: &Desk,
    served: &ServedArm,
    order: &Order,
    tally: Arc<Tally>,
    deadline: Instant,
    says: UnboundedSender<Said>,
) -> Result<Outcome, ApiError> {
    let pipe = Pipe::new(desk, served, order, tally, deadline, says);
    let setting = Setting {
        arm: &served.arm,
        plan: &desk.menu.plan,
        prompts: &served.prompts,
        manner: served.manner(),
        solving: &served.solving,
        recorded: false,
        seed: desk.menu.seed,
        repeat: 0,
    };
    let (before, fallback) = match strategy::answer_with(&setting, &pipe, &order.question).await {
        Ok(answer) if !answer.malformed => (answer, None),
        Ok(_) if !desk.settings.falls_back => return Err(ApiError::malformed_decomposition()),
        Ok(answer) => (answer, Some("malformed-decomposition")),
        Err(_) if pipe.decomposer_failed() && desk.settings.falls_back => {
            (Answer::default(), Some("decomposer-failed"))
        }
        Err(error) => return Err(pipe.failure(&error)),
    };
    let answer = match fallback {
        None => before,
        Some(why) => alone(&setting, &pipe, order, before, why).await?,
    };
    pipe.end(&answer.reply);
    let outcome = Outcome { finish: answer.finish.clone(), reasoned: pipe.reasoned(), answer: Some(answer), fallback };
    if let Some(recorder) = &desk.recorder {
        recorder.keep(order, &served.arm.slug(), &outcome, now());
    }
    Ok(outcome)
}

/// The solver answers without a decomposition; what was decomposed stays in the answer.
async fn alone(
    setting: &Setting<'_>,
    pipe: &Pipe<'_>,
    order: &Order,
    before: Answer,
    why: &'static str,
) -> Result<Answer, ApiError> {
    pipe.falls_back(why);
    let solver = setting.arm.solver.clone();
    let arm = Arm { strategy: Strategy::Cot, variant: Variant::default(), decomposer: None, solver };
    // Its demonstrations were for the decomposer.
    let setting = Setting { arm: &arm, manner: Manner::default(), ..*setting };
    let answer = strategy::answer_with(&setting, pipe, &order.question).await.map_err(|error| pipe.failure(&error))?;
    Ok(Answer {
        decomposer_text: before.decomposer_text,
        malformed: before.malformed,
        decompose_calls: before.decompose_calls,
        ..answer
    })
}

/// A plain model answers.
pub(crate) fn by_model(
    voice: Voice,
    messages: Vec<Message>,
    sampling: Sampling,
    tally: Arc<Tally>,
    deadline: Instant,
) -> (Heard, Answering) {
    let (says, heard) = unbounded_channel();
    let answering = async move {
        let request = ChatRequest { model: voice.id.clone(), messages, sampling, sample: 0 };
        let hear = move |piece: &str| {
            // Nobody listens any more when the request is being dropped.
            let _ = says.send(Said::Content(piece.to_owned()));
        };
        // Boxed when its turn has come: many may stand in line.
        let asked = Box::pin(ask(&voice, request, Stage::Complete, &tally, deadline, Box::new(hear))).await;
        let call = asked.map_err(|error| ApiError::upstream(&voice.name, &error))?;
        Ok(Outcome { finish: call.reply.finish, answer: None, fallback: None, reasoned: (0, 0) })
    };
    (heard, Box::pin(answering))
}

/// What is done with a piece of a reply.
type HearPiece = Box<dyn Fn(&str) + Send + Sync>;

/// Hears a reply and counts it.
struct Ear {
    running: Arc<Running>,
    hear: HearPiece,
}

impl Hear for Ear {
    fn piece(&self, text: &str) {
        self.running.heard(text);
        (self.hear)(text);
    }

    fn trying(&self, endpoint: Option<&str>) -> Option<TraceHeaders> {
        self.running.trying(endpoint)
    }

    fn failed_try(&self, error: &ChatError) {
        self.running.failed_try(error);
    }
}

/// One call, with its place in the books. Who goes away drops the future, and with it the model's work.
async fn ask(
    voice: &Voice,
    request: ChatRequest,
    stage: Stage,
    tally: &Arc<Tally>,
    until: Instant,
    hear: HearPiece,
) -> Result<Call, ChatError> {
    let running = tally.begin(stage, voice, &request);
    let ear = Ear { running: Arc::clone(&running), hear };
    let result = voice.live.ask(request, until, Arc::new(ear)).await;
    running.ended(&result);
    result
}
