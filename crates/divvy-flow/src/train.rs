//! Train: every student of the plan learns what its target says: to decompose, to answer, or both. A student that was trained on the same rows with the same settings is found, not trained again.

pub(crate) mod asked;
pub(crate) mod given;
pub(crate) mod mix;
pub(crate) mod rows;
mod sweep;

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

pub use sweep::tried;

use divvy_core::{
    chat::Message,
    digest::Digest,
    plan::{Plan, StudentPlan},
    question::{Question, QuestionId, ScorerKind},
    questions::Questions,
    records::{Stage, TrainNews, TrainPoint},
    results::KeptStep,
};
use divvy_store::Unit;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{claims, context::Context, demonstrations, error::FlowError};

/// One row as text. The trainer tokenises it with the functions that inference uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub id: String,
    pub prompt: Vec<Message>,
    pub completion: String,
    /// How much it counts in the loss, one beside another.
    #[serde(skip_serializing_if = "counts_once")]
    pub weight: f64,
    /// It teaches to decompose: what its prompt brings forth can be told from what cannot be read.
    #[serde(skip)]
    pub decomposes: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn counts_once(weight: &f64) -> bool {
    *weight == 1.0
}

/// Everything a trainer needs; its digest is the student's identity before it exists.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    pub base: String,
    pub base_id: String,
    /// Digest of the prompts that it is trained on and their parsers: another prompt is another student.
    pub prompt_id: String,
    pub plan: StudentPlan,
    pub seed: u64,
    pub rows: Vec<Row>,
    pub dev: Vec<Row>,
    /// Candidates that gave no row, to be told with the result.
    #[serde(skip)]
    pub unusable: u64,
}

/// A trained student on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artefact {
    pub path: PathBuf,
    /// Content hash of the adapter (or of the full weights): part of the student's model identity.
    pub content: String,
    pub rows: u64,
    /// Rows left out because they were too long.
    pub too_long: u64,
    /// Replies of the screening's solver that taught nothing.
    #[serde(default)]
    pub unusable: u64,
    /// Where training might end early: the step whose weights these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptStep>,
    pub wall_ms: i64,
}

/// What a trainer tells while it works; it stops at [`ControlFlow::Break`], leaving a checkpoint.
pub type Observe<'a> = dyn FnMut(TrainNews<'_>) -> ControlFlow<()> + Send + 'a;

/// Trains on the machine at hand, or hands over to another engine. The binary chooses.
pub trait Trainer: Send + Sync {
    /// Blocks until trained. `key` names the job's folder, where a cut run finds its checkpoint.
    ///
    /// # Errors
    /// A sentence for people; [`Stopped::Interrupted`] after a break.
    fn train(&self, key: &Digest, job: &Job, observe: &mut Observe<'_>) -> Result<Artefact, Stopped>;
}

#[derive(Debug)]
pub enum Stopped {
    Interrupted,
    /// The loss ran away; another learning rate may serve.
    Diverged(String),
    Failed(String),
}

/// Refuses a target that learns gold answers where there are none, or a student that lacks demonstrations, before anything is
/// paid for.
///
/// # Errors
/// [`FlowError::Input`] naming a question without a gold answer, or the key.
pub fn check(context: &Context) -> Result<(), FlowError> {
    demonstrations::check_stage(context, Stage::Train)?;
    check_gold(&context.plan, &context.questions.train)
}

/// Refuses a target that learns gold answers where there are none; asks nobody and needs no store.
///
/// # Errors
/// [`FlowError::Input`] naming a question without a gold answer, or one that a program answers.
pub fn check_gold(plan: &Plan, train: &Questions) -> Result<(), FlowError> {
    for (name, student) in plan.students.iter().filter(|(_, student)| student.target.needs_gold()) {
        let mut learnt = train.iter().filter(|question| student.learns_from(&question.dataset));
        if let Some(why) = learnt.find_map(|question| unlearnable(&question)) {
            let target = student.target.name();
            return Err(FlowError::Input(format!("students.{name}: {target} learns gold answers, but {why}")));
        }
    }
    Ok(())
}

/// What is wrong with its gold as an answer to learn, and the way out.
fn unlearnable(Question { id, dataset, golds, scorer, .. }: &Question) -> Option<String> {
    if golds.is_empty() {
        return Some(format!("{id} has none; name the answer column, or choose another target"));
    }
    (*scorer == ScorerKind::Code).then(|| {
        format!(
            "that of {id} is the tests of a program, which nobody is to write as an answer; choose a target that learns from a \
             model (SD-T, SE-T), or leave `{dataset}` out of the student's `data`"
        )
    })
}

/// Trains, or finds, every student of the plan.
///
/// # Errors
/// [`FlowError::Train`], [`FlowError::Interrupted`], or the store's.
pub async fn run(context: &Context, trainer: &Arc<dyn Trainer>) -> Result<(), FlowError> {
    for (name, plan) in &context.plan.students {
        let job = job(context, plan).await?;
        let (artefact, key) = if plan.sweep.is_empty() {
            let key = identity(&job);
            (found_or_trained(context, trainer, name, job).await?, key)
        } else {
            (sweep::run(context, trainer, name, &job).await?, sweep::key(context, &job).await?)
        };
        given::remember(context, name, key.clone()).await?;
        let answers = who_answers(context, name, (key, artefact)).await?;
        context.models.add_student(name, &plan.base, &answers);
    }
    Ok(())
}

async fn found_or_trained(
    context: &Context,
    trainer: &Arc<dyn Trainer>,
    name: &str,
    job: Job,
) -> Result<Artefact, FlowError> {
    let key = identity(&job);
    match find(context, &key).await? {
        Some(artefact) => Ok(artefact),
        None if context.shard.is_some() => Err(untrained_in_a_shard(name)),
        None => train_alone(context, trainer, name, key, job).await,
    }
}

fn identity(job: &Job) -> Digest {
    Digest::of("student/1", job)
}

fn untrained_in_a_shard(name: &str) -> FlowError {
    FlowError::Input(format!(
        "students.{name} is not trained, and a shard holds a part of its rows only; run `divvy train` without --shard on a \
         store that has all shards, or leave the students out"
    ))
}

/// The student of that key, if it was trained and still lies where it was put.
///
/// # Errors
/// The store's.
pub async fn find(context: &Context, key: &Digest) -> Result<Option<Artefact>, FlowError> {
    let Some(record) = context.store.artefact(key).await? else { return Ok(None) };
    let artefact: Option<Artefact> = serde_json::from_str(&record.meta_json).ok();
    Ok(artefact.filter(|artefact| artefact.path.exists()))
}

/// The one that has answered already; else, and where that one is gone, the one that the plan has now.
async fn who_answers(context: &Context, name: &str, (key, now): (Digest, Artefact)) -> Result<Artefact, FlowError> {
    let Some(before) = given::who_answered(context, name).await?.filter(|before| *before != key) else {
        return Ok(now);
    };
    let answered = find(context, &before).await?;
    let what = match answered {
        Some(_) => "which answers what is left and is served; a recipe of another name measures the new one",
        None => "which is gone: what is left is answered by the new one, and the table is of both",
    };
    context.progress.note(&format!("train: `{name}` is another student than the one that has answered, {what}"));
    Ok(answered.unwrap_or(now))
}

/// A student of the plan: the one that has answered, else the one that the plan has as it stands; `None` while it is not trained.
///
/// # Errors
/// The store's.
pub async fn of_plan(context: &Context, name: &str) -> Result<Option<Artefact>, FlowError> {
    if let Some(answered) = given::who_answered(context, name).await?
        && let Some(artefact) = find(context, &answered).await?
    {
        return Ok(Some(artefact));
    }
    find(context, &key(context, name).await?).await
}

/// The key under which a student's artefact and loss curve are stored; of a sweep that of the rate that is kept, or as long
/// as there is more to try, of the next.
///
/// # Errors
/// The store's.
pub async fn key(context: &Context, name: &str) -> Result<Digest, FlowError> {
    let job = job(context, &context.plan.students[name]).await?;
    if job.plan.sweep.is_empty() { Ok(identity(&job)) } else { sweep::key(context, &job).await }
}

async fn job(context: &Context, plan: &StudentPlan) -> Result<Job, FlowError> {
    let rows = rows::rows(context, plan).await?;
    Ok(Job {
        base: plan.base.clone(),
        base_id: context.models.base(&plan.base),
        prompt_id: asked::Asked { prompts: &context.plan.prompts, shown: &context.shown, plan }.prompt_id(),
        plan: plan.clone(),
        seed: plan.seed.unwrap_or(context.plan.seed),
        rows: rows.train.into_iter().map(|taught| taught.row).collect(),
        dev: rows.dev.into_iter().map(|taught| taught.row).collect(),
        unusable: rows.unusable,
    })
}

/// Trains unless another worker does: then waits, and says what came of it. The store is shared, the files are not.
async fn train_alone(
    context: &Context,
    trainer: &Arc<dyn Trainer>,
    name: &str,
    key: Digest,
    job: Job,
) -> Result<Artefact, FlowError> {
    let Some(store) = context.store.shared() else { return train_one(context, trainer, name, key, job).await };
    let unit = Unit { question: QuestionId(format!("student/{}", key.hex())), sample: 0, arm: String::new() };
    let mut told = false;
    loop {
        if let Some(record) = store.artefact(&key).await? {
            let here = find(context, &key).await?;
            return here.ok_or_else(|| lies_elsewhere(name, &record.path));
        }
        let claims = store.claim(&context.digest, Stage::Train, std::slice::from_ref(&unit), 1, 0).await?;
        if !claims.mine.is_empty() && store.artefact(&key).await?.is_none() {
            let trained = train_one(context, trainer, name, key, job).await;
            store.give_back(&context.digest, Stage::Train).await?;
            return trained;
        }
        if !told {
            told = true;
            context.progress.note(&format!("train: another worker trains {name}; waiting for it"));
        }
        let slept = context.cancel.run_until_cancelled(tokio::time::sleep(claims::poll(store)?)).await;
        slept.ok_or(FlowError::Interrupted)?;
    }
}

fn lies_elsewhere(name: &str, path: &str) -> FlowError {
    let reason = format!(
        "it is trained, and its files lie at {path} on the machine that did it; copy that folder to the same place here, or \
         go on there (if they are lost, any change of its settings trains it anew)"
    );
    FlowError::Train { student: name.to_owned(), reason }
}

async fn train_one(
    context: &Context,
    trainer: &Arc<dyn Trainer>,
    name: &str,
    key: Digest,
    job: Job,
) -> Result<Artefact, FlowError> {
    if job.rows.is_empty() {
        let reason = "no rows to train on; `divvy status` tells what became of those that were collected and screened"
            .to_owned();
        return Err(FlowError::Train { student: name.to_owned(), reason });
    }
    if let Some(wanted) = job.plan.rows.filter(|wanted| *wanted > job.rows.len()) {
        let there_are = format!("train: students.{name} has {} rows, all that there are, not {wanted}", job.rows.len());
        context.progress.note(&there_are);
    }
    context.progress.start(Stage::Train, &format!("{name}: {} rows", job.rows.len()), 0, 0);
    let trained = blocking(context, trainer, name, &key, job).await;
    context.progress.finish();
    let artefact = trained?;
    let meta = serde_json::to_string(&artefact).expect("an artefact is plain JSON");
    context.store.put_artefact(&key, "student", &artefact.path.to_string_lossy(), &meta, (context.now)()).await?;
    Ok(artefact)
}

/// Training computes for minutes: it runs on a thread of its own, hears of Ctrl-C through the observer, and its log goes
/// to the store as it is written, so that the curve of a cut run is whole after the resume.
async fn blocking(
    context: &Context,
    trainer: &Arc<dyn Trainer>,
    name: &str,
    key: &Digest,
    job: Job,
) -> Result<Artefact, FlowError> {
    let (points, log) = mpsc::unbounded_channel();
    let (trainer, job_key, cancel, progress) =
        (Arc::clone(trainer), key.clone(), context.cancel.clone(), Arc::clone(&context.progress));
    let training = tokio::task::spawn_blocking(move || {
        let mut observe = |news: TrainNews<'_>| {
            match news {
                TrainNews::Step(point, total) => {
                    progress.train_step(point, total);
                    // Whoever writes it down is gone only when the store has failed.
                    let _ = points.send(*point);
                }
                TrainNews::Note(text) => progress.note(text),
                TrainNews::Nothing => {}
            }
            let stop = cancel.is_cancelled() || points.is_closed();
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        trainer.train(&job_key, &job, &mut observe)
    });
    write_log(context, key, log).await?;
    let fail = |reason: String| FlowError::Train { student: name.to_owned(), reason };
    match training.await {
        Ok(Ok(artefact)) => Ok(artefact),
        Ok(Err(Stopped::Interrupted)) => Err(FlowError::Interrupted),
        Ok(Err(Stopped::Diverged(reason))) => Err(FlowError::Diverged { student: name.to_owned(), reason }),
        Ok(Err(Stopped::Failed(reason))) => Err(fail(reason)),
        Err(panic) => Err(fail(format!("the trainer stopped unexpectedly: {panic}"))),
    }
}

async fn write_log(
    context: &Context,
    key: &Digest,
    mut log: mpsc::UnboundedReceiver<TrainPoint>,
) -> Result<(), FlowError> {
    let mut batch = Vec::new();
    while log.recv_many(&mut batch, 64).await > 0 {
        context.store.put_metrics(key, &batch).await?;
        batch.clear();
    }
    Ok(())
}
