//! Between a strategy and the models of its arm: puts the question, passes on what is heard, keeps the books.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use async_trait::async_trait;
use divvy_core::{
    arm::Strategy,
    chat::{ChatRequest, Finish, Message, Role, Sampling},
    prompts::{decompose, harmless},
};
use divvy_flow::strategy::{Ask, News, Turn};
use divvy_llm::{Call, ChatError};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{HearPiece, Order, Said, ask};
use crate::{
    desk::Desk,
    error::ApiError,
    menu::{ServedArm, Voice},
    metrics::ByModel,
    splitter::Splitter,
    tally::{Stage, Tally},
    thinking::{Thinking, Told},
};

/// Of the time that is left, a decomposer may use this share: the solver needs the rest, with or without its help.
const DECOMPOSER_SHARE: f64 = 0.5;

pub(super) struct Pipe<'a> {
    desk: &'a Desk,
    served: &'a ServedArm,
    order: &'a Order,
    tally: Arc<Tally>,
    deadline: Instant,
    script: Arc<Script>,
    decomposer_failed: AtomicBool,
    /// The model that failed last.
    failed: Mutex<String>,
}

/// What has been said so far. Shared with the closures that hear the models.
struct Script {
    says: UnboundedSender<Said>,
    /// Subquestions told.
    told: Mutex<Vec<String>>,
    /// Subquestions of the decomposition that is used.
    steps: AtomicUsize,
    /// Most subquestions of a decomposition.
    most: usize,
    splitter: Mutex<Splitter>,
    /// Of a reply that is all answer.
    thinking: Mutex<Thinking>,
    reasoned: AtomicUsize,
    characters: AtomicUsize,
}

impl Script {
    fn say(&self, said: Said) {
        // Nobody listens any more when the request is being dropped.
        let _ = self.says.send(said);
    }

    /// Tells a subquestion once, and again where it turns out to be another.
    fn subquestion(&self, number: usize, text: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(number - 1).is_some_and(|told| told == text) {
            return;
        }
        told.truncate(number - 1);
        told.push(text.to_owned());
        self.say(Said::Subquestion { number, text: text.to_owned() });
    }

    /// Tells the subquestions whose lines are whole. A reply that begins with words of its own is told when it is whole:
    /// only then is it known what they are.
    fn decomposition(&self, text: &str) {
        let (Some(end), true) = (text.rfind('\n'), text.trim_start().starts_with(|c: char| c.is_ascii_digit())) else {
            return;
        };
        let parsed = decompose::parse(&text[..end], &Finish::Stop, self.most);
        for (at, step) in parsed.decomposition.iter().flat_map(|steps| steps.steps()).enumerate() {
            self.subquestion(at + 1, &step.text);
        }
    }

    /// A piece of the reply to subquestions and question together.
    fn split(&self, pieces: Vec<Said>) {
        for said in pieces {
            if let Said::Reasoning(text) = &said {
                self.reasoned.fetch_add(text.chars().count(), Relaxed);
            }
            self.say(said);
        }
    }

    /// A piece of a reply that is all answer, but for what was thought before.
    fn answer(&self, Told { thoughts, text }: Told) {
        let said = [Said::Reasoning(thoughts), Said::Content(text)];
        let is_something =
            |said: &Said| !matches!(said, Said::Reasoning(text) | Said::Content(text) if text.is_empty());
        self.split(said.into_iter().filter(is_something).collect());
    }

    fn thinking(&self) -> std::sync::MutexGuard<'_, Thinking> {
        self.thinking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn splitter(&self) -> std::sync::MutexGuard<'_, Splitter> {
        self.splitter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Pipe<'a> {
    pub(super) fn new(
        desk: &'a Desk,
        served: &'a ServedArm,
        order: &'a Order,
        tally: Arc<Tally>,
        deadline: Instant,
        says: UnboundedSender<Said>,
    ) -> Self {
        let script = Script {
            says,
            told: Mutex::default(),
            steps: AtomicUsize::new(0),
            most: desk.menu.plan.most(&served.arm),
            splitter: Mutex::default(),
            thinking: Mutex::default(),
            reasoned: AtomicUsize::new(0),
            characters: AtomicUsize::new(0),
        };
        let (script, decomposer_failed, failed) = (Arc::new(script), AtomicBool::new(false), Mutex::default());
        Self { desk, served, order, tally, deadline, script, decomposer_failed, failed }
    }

    pub(super) fn decomposer_failed(&self) -> bool {
        self.decomposer_failed.load(Relaxed)
    }

    pub(super) fn falls_back(&self, why: &'static str) {
        self.desk.metrics.fallbacks.get_or_create(&ByModel { model: self.served.arm.slug() }).inc();
        self.tally.fell_back(why);
        // What was told of a decomposition that is not used is no part of the reply to come.
        self.script.steps.store(0, Relaxed);
        self.script.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.script.say(Said::Fallback(why));
    }

    pub(super) fn failure(&self, error: &ChatError) -> ApiError {
        let who = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ApiError::upstream(&who, error)
    }

    /// The last reply is whole.
    pub(super) fn end(&self, reply: &str) {
        if self.splits() {
            let rest = self.script.splitter().finish(reply);
            self.script.split(rest);
        } else {
            let rest = self.script.thinking().finish();
            self.script.answer(rest);
        }
    }

    pub(super) fn reasoned(&self) -> (usize, usize) {
        (self.script.reasoned.load(Relaxed), self.script.characters.load(Relaxed))
    }

    /// Whether the last reply holds the answers to subquestions too.
    fn splits(&self) -> bool {
        self.served.arm.strategy == Strategy::TwoStage && self.script.steps.load(Relaxed) > 0
    }

    fn voice(&self, turn: Turn) -> &Voice {
        match turn {
            Turn::Decompose => self.served.decomposer.as_ref().expect("the menu gives such an arm a decomposer"),
            Turn::Subquestion(_) | Turn::Solve => &self.served.solver,
        }
    }

    fn until(&self, turn: Turn) -> Instant {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        if turn == Turn::Decompose { now + left.mul_f64(DECOMPOSER_SHARE) } else { self.deadline }
    }

    fn request(&self, turn: Turn, mut messages: Vec<Message>, mut sampling: Sampling) -> ChatRequest {
        if turn != Turn::Decompose
            && let Some(own) = &self.order.system
            && let Some(first) = messages.first_mut().filter(|message| message.role == Role::System)
        {
            first.content.push_str("\n\n");
            first.content.push_str(&harmless(own));
        }
        if turn == Turn::Solve {
            sampling.max_tokens = sampling.max_tokens.min(self.order.max_tokens.unwrap_or(u32::MAX));
        }
        ChatRequest { model: self.voice(turn).id.clone(), messages, sampling, sample: 0 }
    }

    /// What is done with the pieces of a reply of this turn.
    fn ear(&self, turn: Turn) -> HearPiece {
        let script = Arc::clone(&self.script);
        match turn {
            Turn::Decompose if self.served.arm.strategy == Strategy::SelfAsk => Box::new(|_| {}),
            Turn::Decompose => {
                let whole = Mutex::new(String::new());
                Box::new(move |piece| {
                    let mut whole = whole.lock().unwrap_or_else(PoisonError::into_inner);
                    whole.push_str(piece);
                    if piece.contains('\n') {
                        script.decomposition(&whole);
                    }
                })
            }
            Turn::Subquestion(number) => {
                let first = AtomicBool::new(true);
                Box::new(move |piece| {
                    let lead = if first.swap(false, Relaxed) { format!("Answer {number}: ") } else { String::new() };
                    script.say(Said::Reasoning(lead + piece));
                })
            }
            Turn::Solve if self.splits() => Box::new(move |piece| {
                script.characters.fetch_add(piece.chars().count(), Relaxed);
                let pieces = script.splitter().push(piece);
                script.split(pieces);
            }),
            Turn::Solve => Box::new(move |piece| {
                script.characters.fetch_add(piece.chars().count(), Relaxed);
                let told = script.thinking().push(piece);
                script.answer(told);
            }),
        }
    }
}

#[async_trait]
impl Ask for Pipe<'_> {
    async fn ask(&self, turn: Turn, messages: Vec<Message>, sampling: Sampling) -> Result<Call, ChatError> {
        let (voice, stage) = (self.voice(turn), stage(turn));
        let request = self.request(turn, messages, sampling);
        let result = ask(voice, request, stage, &self.tally, self.until(turn), self.ear(turn)).await;
        if matches!(turn, Turn::Subquestion(_)) {
            self.script.say(Said::Reasoning("\n".to_owned()));
        }
        if result.is_err() {
            voice.name.clone_into(&mut self.failed.lock().unwrap_or_else(PoisonError::into_inner));
            self.decomposer_failed.store(turn == Turn::Decompose, Relaxed);
        }
        result
    }

    fn told(&self, news: News<'_>) {
        match news {
            News::Subquestion { number, text } => {
                self.script.steps.store(number, Relaxed);
                self.script.splitter().expect(number);
                self.script.subquestion(number, text);
            }
            News::SubAnswer { number, text } => {
                self.script.say(Said::SubAnswer { number, text: text.map(str::to_owned) });
            }
        }
    }
}

fn stage(turn: Turn) -> Stage {
    match turn {
        Turn::Decompose => Stage::Decompose,
        Turn::Subquestion(_) => Stage::Subquestion,
        Turn::Solve => Stage::Solve,
    }
}
