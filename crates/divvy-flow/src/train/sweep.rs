//! A student of several learning rates: each is trained as if it were the only one, and that with the least loss on dev is
//! kept. The others stay in the store, found again by whoever wants them. Test questions have no say.

use std::sync::Arc;

use divvy_core::{digest::Digest, plan::StudentPlan, records::TrainPoint, results::Tried};
use serde::{Deserialize, Serialize};

use super::{Artefact, Job, Trainer, find, found_or_trained, identity};
use crate::{context::Context, error::FlowError};

/// What the store remembers of a rate whose loss ran away, in the place of its artefact.
#[derive(Serialize, Deserialize)]
struct Diverged {
    diverged: String,
}

/// One rate.
struct Attempt {
    rate: f64,
    key: Digest,
    /// `None`: not tried yet.
    outcome: Option<Outcome>,
}

enum Outcome {
    /// With its loss on dev, where it was measured.
    Trained(Artefact, Option<f64>),
    Diverged(String),
}

/// Trains what was not tried, and chooses.
pub(super) async fn run(
    context: &Context,
    trainer: &Arc<dyn Trainer>,
    name: &str,
    job: &Job,
) -> Result<Artefact, FlowError> {
    let mut is_news = false;
    for rate in job.plan.sweep.iter().copied() {
        let one = at(job, rate);
        if attempt(context, job, rate).await?.outcome.is_some() {
            continue;
        }
        is_news = true;
        let (key, told) = (identity(&one), format!("{name} at learning rate {rate}"));
        match found_or_trained(context, trainer, &told, one).await {
            Err(FlowError::Diverged { reason, .. }) => remember(context, &key, reason).await?,
            trained => drop(trained?),
        }
    }
    let attempts = attempts(context, job).await?;
    let unmeasured = attempts.iter().find(|attempt| matches!(attempt.outcome, Some(Outcome::Trained(_, None))));
    if let Some(attempt) = unmeasured {
        return Err(without_loss(name, attempt.rate));
    }
    let Some(best) = best(&attempts) else { return Err(none_converged(name, attempts)) };
    if is_news {
        context.progress.note(&told(name, &attempts, best));
    }
    match attempts.into_iter().nth(best).and_then(|attempt| attempt.outcome) {
        Some(Outcome::Trained(artefact, _)) => Ok(artefact),
        _ => unreachable!("the best attempt was trained"),
    }
}

/// Of the rate that is kept; while some are left, of the next.
pub(super) async fn key(context: &Context, job: &Job) -> Result<Digest, FlowError> {
    let mut attempts = attempts(context, job).await?;
    let next = attempts.iter().position(|attempt| attempt.outcome.is_none());
    let at = next.or_else(|| best(&attempts)).unwrap_or(0);
    Ok(attempts.swap_remove(at).key)
}

/// What became of every rate of a student, and what all took together; nothing where there is one rate, or some are left.
///
/// # Errors
/// The store's.
pub async fn tried(context: &Context, name: &str) -> Result<(Vec<Tried>, i64), FlowError> {
    let plan = &context.plan.students[name];
    if plan.sweep.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let attempts = attempts(context, &super::job(context, plan).await?).await?;
    if attempts.iter().any(|attempt| attempt.outcome.is_none()) {
        return Ok((Vec::new(), 0));
    }
    let (best, mut wall_ms) = (best(&attempts), 0);
    let tried = attempts.iter().enumerate().map(|(place, attempt)| {
        let dev_loss = match &attempt.outcome {
            Some(Outcome::Trained(artefact, loss)) => {
                wall_ms += artefact.wall_ms;
                *loss
            }
            _ => None,
        };
        Tried { learning_rate: attempt.rate, dev_loss, kept: Some(place) == best }
    });
    Ok((tried.collect(), wall_ms))
}

/// As if this rate were the only one: the student of a recipe that names it alone is the same.
fn at(job: &Job, rate: f64) -> Job {
    let plan = StudentPlan { learning_rate: rate, sweep: Vec::new(), ..job.plan.clone() };
    Job { plan, ..job.clone() }
}

async fn attempts(context: &Context, job: &Job) -> Result<Vec<Attempt>, FlowError> {
    let mut attempts = Vec::new();
    for rate in job.plan.sweep.iter().copied() {
        attempts.push(attempt(context, job, rate).await?);
    }
    Ok(attempts)
}

async fn attempt(context: &Context, job: &Job, rate: f64) -> Result<Attempt, FlowError> {
    let key = identity(&at(job, rate));
    let outcome = match find(context, &key).await? {
        Some(artefact) => {
            let loss = dev_loss(&artefact, &context.store.metrics(&key).await?);
            Some(Outcome::Trained(artefact, loss))
        }
        None => diverged(context, &key).await?.map(Outcome::Diverged),
    };
    Ok(Attempt { rate, key, outcome })
}

/// At the step whose weights were kept.
fn dev_loss(artefact: &Artefact, curve: &[TrainPoint]) -> Option<f64> {
    let kept = artefact.kept.map(|kept| kept.step);
    let point = curve.iter().rev().find(|point| kept.is_none_or(|step| point.step == step))?;
    point.dev_loss
}

/// Rates ascend, so that of two that are as good the smaller is kept.
fn best(attempts: &[Attempt]) -> Option<usize> {
    let loss = |attempt: &Attempt| match attempt.outcome {
        Some(Outcome::Trained(_, loss)) => loss,
        _ => None,
    };
    let losses = attempts.iter().enumerate().filter_map(|(at, attempt)| Some((at, loss(attempt)?)));
    losses.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

async fn remember(context: &Context, key: &Digest, diverged: String) -> Result<(), FlowError> {
    let meta = serde_json::to_string(&Diverged { diverged }).expect("a sentence is plain JSON");
    Ok(context.store.put_artefact(key, "diverged", "", &meta, (context.now)()).await?)
}

async fn diverged(context: &Context, key: &Digest) -> Result<Option<String>, FlowError> {
    let record = context.store.artefact(key).await?;
    let known = record.and_then(|record| serde_json::from_str::<Diverged>(&record.meta_json).ok());
    Ok(known.map(|known| known.diverged))
}

fn told(name: &str, attempts: &[Attempt], best: usize) -> String {
    let losses = attempts.iter().map(|attempt| match &attempt.outcome {
        Some(Outcome::Trained(_, Some(loss))) => format!("{} has {loss:.4}", attempt.rate),
        _ => format!("{} diverged", attempt.rate),
    });
    let losses = losses.collect::<Vec<_>>().join(", ");
    format!("train: {name} keeps learning rate {} by its loss on dev: {losses}", attempts[best].rate)
}

fn without_loss(student: &str, rate: f64) -> FlowError {
    let reason = format!(
        "learning rate {rate} has no loss on dev to be chosen by: there are no dev rows that fit into `max_row_tokens`, or the \
         log of its training is not in this store"
    );
    FlowError::Train { student: student.to_owned(), reason }
}

fn none_converged(student: &str, attempts: Vec<Attempt>) -> FlowError {
    let last = attempts.into_iter().find_map(|attempt| match attempt.outcome {
        Some(Outcome::Diverged(reason)) => Some(reason),
        _ => None,
    });
    let reason = format!("no learning rate of the sweep serves; the smallest: {}", last.unwrap_or_default());
    FlowError::Train { student: student.to_owned(), reason }
}
