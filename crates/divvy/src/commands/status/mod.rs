//! `divvy status`: what every stage has done, rejected, failed and left, and what was paid. Item by
//! item it is told in `rows`; `figures` words what was paid.

mod figures;
pub(super) mod rows;

use std::collections::BTreeMap;

use divvy_core::records::{ItemState, Stage, TrainPoint};
use divvy_flow::{
    collect,
    context::Context,
    error::FlowError,
    evaluate, forecast,
    graders::judge,
    paid::{self, Paid},
    screen,
    train::{self, Artefact},
};
use divvy_store::{AttemptTotal, CallTotal, ItemCount, Spending, WorkerRow};
use serde_json::{Value, json};

use crate::{
    cli::Place,
    commands::{batches, estimate::cell},
    output::print,
    progress::thousands,
    session::{Access, Session, short},
};

/// What the store has of the plan, and of all calls.
struct Told {
    counts: Vec<ItemCount>,
    /// Items of each stage.
    expected: Vec<(Stage, u64)>,
    paid: BTreeMap<Stage, Paid>,
    students: Vec<Student>,
    spending: Spending,
    workers: Vec<WorkerRow>,
    calls: Vec<CallTotal>,
    /// Attempts that came to nothing.
    failed: Vec<AttemptTotal>,
    /// Replies on disk that no call was made of yet.
    unread: u64,
}

impl Told {
    async fn read(context: &Context) -> Result<Self, FlowError> {
        let Context { store, digest, .. } = context;
        let mut failed = store.attempt_totals().await?;
        failed.retain(|attempt| attempt.outcome != "ok");
        Ok(Self {
            counts: store.item_counts(digest).await?,
            expected: expected(context).await?,
            paid: paid::by_stage(context).await?,
            students: students(context).await?,
            spending: store.spending(digest).await?,
            workers: workers(context).await?,
            calls: store.call_totals().await?,
            failed,
            unread: store.unread_replies().await?,
        })
    }
}

pub(crate) async fn run(place: &Place, as_json: bool) -> anyhow::Result<()> {
    let session = Session::open(place, Access::Look).await?;
    let context = &session.context;
    if as_json {
        return Ok(print(&serde_json::to_string_pretty(&as_value(context).await?)?)?);
    }
    let (told, left) = (Told::read(context).await?, left(&session).await?);
    let mut text = format!("{}  plan {}\n\n", context.plan.name, short(&context.digest));
    for (stage, total) in &told.expected {
        text.push_str(&stage_lines(*stage, *total, &told.counts));
        text.push_str(&told.paid.get(stage).map(figures::lines).unwrap_or_default());
        let pace = pace(context, *stage, pending(*stage, *total, &told.counts)).await?;
        text.extend(pace.map(|pace| pace.line()));
        text.push_str(&left.iter().find(|(left, _)| left == stage).map(|(_, line)| line.clone()).unwrap_or_default());
    }
    text.extend(told.students.iter().map(student_line));
    text.push_str(&figures::spending_lines(&told.spending, &session.recipe.budget, &told.paid));
    text.push_str(&batches::lines(&context.store, (context.now)()).await?);
    text.extend(told.workers.iter().map(worker_line));
    text.push_str("\ncalls in this store, all runs together\n");
    text.extend(told.calls.iter().map(figures::call_line));
    text.push_str(&unread_line(told.unread));
    if !told.failed.is_empty() {
        text.push_str("\nattempts that came to nothing, all runs together\n");
        text.extend(told.failed.iter().map(figures::attempt_line));
    }
    print(&text)?;
    if told.counts.is_empty() {
        session.mention_other_plans().await?;
    }
    Ok(())
}

/// All of it for programs.
pub(super) async fn as_value(context: &Context) -> Result<Value, FlowError> {
    let told = Told::read(context).await?;
    Ok(json!({
        "plan": context.digest.hex(), "stages": stages(context, &told).await?,
        "students": told.students.iter().map(student).collect::<Vec<_>>(),
        "spending": figures::spending_value(&told.spending, &told.paid),
        "batches": batches::as_value(&context.store).await?,
        "workers": told.workers.iter().map(worker).collect::<Vec<_>>(),
        "calls": told.calls.iter().map(figures::call_value).collect::<Vec<_>>(),
        "unread_replies": told.unread,
        "failed_attempts": told.failed.iter().map(figures::attempt_value).collect::<Vec<_>>(),
    }))
}

/// Items that each stage of the plan has.
async fn expected(context: &Context) -> Result<Vec<(Stage, u64)>, FlowError> {
    let plan = &context.plan;
    let mut stages = vec![(Stage::Collect, collect::expected(context).await?)];
    if let Some(screen) = &plan.screen {
        stages.push((Stage::Screen, screen::expected(context, screen).await?));
    }
    if let Some(plan) = &plan.evaluate {
        stages.push((Stage::Evaluate, evaluate::expected(context, plan)));
        if plan.judge.is_some() {
            stages.push((Stage::Judge, judge::expected(context, plan).await?));
        }
    }
    Ok(stages)
}

struct Student {
    name: String,
    artefact: Option<Artefact>,
    /// The last step of its training, finished or not.
    step: Option<TrainPoint>,
}

/// Every student of the plan, with what its training left, once it has ended.
async fn students(context: &Context) -> Result<Vec<Student>, FlowError> {
    let mut students = Vec::new();
    for name in context.plan.students.keys() {
        let key = train::key(context, name).await?;
        let step = context.store.metrics(&key).await?.pop();
        students.push(Student { name: name.clone(), artefact: train::find(context, &key).await?, step });
    }
    Ok(students)
}

fn student(Student { name, artefact, step }: &Student) -> Value {
    let artefact = artefact.as_ref();
    json!({
        "student": name, "trained": artefact.is_some(), "rows": artefact.map(|artefact| artefact.rows),
        "too_long": artefact.map(|artefact| artefact.too_long),
        "unusable": artefact.map(|artefact| artefact.unusable), "wall_ms": artefact.map(|artefact| artefact.wall_ms),
        "step": step.map(|point| point.step), "loss": step.map(|point| point.loss),
        "tokens_per_second": step.map(|point| point.tokens_per_second),
    })
}

fn student_line(Student { name, artefact, step }: &Student) -> String {
    match artefact {
        None => match step {
            Some(TrainPoint { step, loss, .. }) => format!("train {name}: at step {step}, loss {loss:.3}\n"),
            None => format!("train {name}: not trained yet\n"),
        },
        Some(Artefact { rows, too_long, unusable, kept, .. }) => format!(
            "train {name}: trained on {} rows; left out: {} too long, {} replies without a usable answer{}\n",
            thousands(*rows),
            thousands(*too_long),
            thousands(*unusable),
            kept.map_or(String::new(), |kept| format!("; kept step {} of {}", kept.step, kept.of))
        ),
    }
}

/// Who is at work, on a store that several share.
async fn workers(context: &Context) -> Result<Vec<WorkerRow>, FlowError> {
    match context.store.shared() {
        Some(store) => Ok(store.workers().await?),
        None => Ok(Vec::new()),
    }
}

fn worker(worker: &WorkerRow) -> Value {
    json!({ "worker": worker.name, "items": worker.items })
}

fn worker_line(worker: &WorkerRow) -> String {
    format!("worker {}: {} items in work\n", worker.name, thousands(worker.items))
}

/// What a command received and did not live to read.
fn unread_line(replies: u64) -> String {
    match replies {
        0 => String::new(),
        _ => format!(
            "{:>10} replies on disk that a command did not live to read: whoever asks for them reads them, and pays nothing for those \
             that can be read\n",
            thousands(replies)
        ),
    }
}

/// done, then each reason, then what is left.
fn tally(stage: Stage, total: u64, counts: &[ItemCount]) -> Vec<(String, u64)> {
    let mut lines: Vec<(String, u64)> = Vec::new();
    for count in counts.iter().filter(|count| count.stage == stage && count.state != ItemState::Pending) {
        let word = count.state.to_string();
        match lines.iter_mut().find(|(known, _)| *known == word) {
            Some((_, items)) => *items += count.items,
            None => lines.push((word, count.items)),
        }
    }
    let seen: u64 = lines.iter().map(|(_, items)| items).sum();
    lines.push(("pending".to_owned(), total.saturating_sub(seen)));
    lines
}

fn pending(stage: Stage, total: u64, counts: &[ItemCount]) -> u64 {
    tally(stage, total, counts).last().map_or(0, |(_, items)| *items)
}

/// How fast a stage that is at work goes.
struct Pace {
    per_second: f64,
    /// Over which time that was counted.
    seconds: f64,
    seconds_left: f64,
}

/// From the last minute; `None` when nothing came to an end in it, or nothing is left.
async fn pace(context: &Context, stage: Stage, pending: u64) -> Result<Option<Pace>, FlowError> {
    const MINUTE_MS: i64 = 60_000;
    let now = (context.now)();
    let recent = context.store.items_since(&context.digest, stage, now - MINUTE_MS).await?;
    let Some((items, first)) = recent.filter(|_| pending > 0) else { return Ok(None) };
    let seconds = (now - first).max(1000) as f64 / 1000.0;
    let per_second = items as f64 / seconds;
    Ok(Some(Pace { per_second, seconds, seconds_left: pending as f64 / per_second }))
}

impl Pace {
    fn line(&self) -> String {
        let left = match self.seconds_left {
            seconds if seconds < 90.0 => format!("{:.0} s", seconds.ceil()),
            seconds => format!("{:.0} min", (seconds / 60.0).ceil()),
        };
        format!("{:>10.1} a second in the last {:.0} s, about {left} left\n", self.per_second, self.seconds)
    }
}

/// Rows of each stage that tell what is left.
const ROWS_SEEN: usize = 200;

/// What the rest of each stage takes, told from the rows that are done.
async fn left(session: &Session) -> Result<Vec<(Stage, String)>, FlowError> {
    session.find_students().await?;
    let paces = session.registry.paces();
    let outlook = forecast::read(&session.context, &paces, ROWS_SEEN).await?;
    let told = outlook.rows.iter().filter(|rows| rows.left > 0 && rows.seen > 1);
    Ok(told.map(|rows| (rows.stage, left_line(rows, &outlook.of_stage(rows.stage, &paces)))).collect())
}

fn left_line(rows: &forecast::Rows, figures: &forecast::Figures) -> String {
    use forecast::Figure::{Calls, Money, Seconds, TokensIn, TokensOut};
    let [calls, tokens_in, tokens_out, money, time] =
        [Calls, TokensIn, TokensOut, Money, Seconds].map(|figure| cell(figures.get(figure), figure));
    format!(
        "{:>10} left, from {} rows: {calls} calls, {tokens_in} tokens in, {tokens_out} out, price {money}, time {time}\n",
        "", rows.seen
    )
}

fn stage_lines(stage: Stage, total: u64, counts: &[ItemCount]) -> String {
    let lines = tally(stage, total, counts);
    let shown: Vec<String> = lines.iter().map(|(word, items)| format!("{:>10} {word}\n", thousands(*items))).collect();
    format!("{} ({})\n{}", stage.name(), thousands(total), shown.concat())
}

async fn stages(context: &Context, Told { counts, expected, paid, .. }: &Told) -> Result<Vec<Value>, FlowError> {
    let mut stages = Vec::new();
    for (stage, total) in expected {
        let pace = pace(context, *stage, pending(*stage, *total, counts)).await?;
        let states: serde_json::Map<String, Value> =
            tally(*stage, *total, counts).into_iter().map(|(word, items)| (word, json!(items))).collect();
        stages.push(json!({
            "stage": stage.name(), "items": total, "states": states, "calls": paid.get(stage).map(figures::value_of_stage),
            "per_second": pace.as_ref().map(|pace| pace.per_second), "seconds_left": pace.map(|pace| pace.seconds_left),
        }));
    }
    Ok(stages)
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn seconds_are_not_told_as_a_minute() {
        let left = |seconds_left| Pace { per_second: 40.0, seconds: 2.0, seconds_left }.line();
        assert!(
            left(10.4).ends_with("about 11 s left\n") && left(91.0).ends_with("about 2 min left\n"),
            "{}",
            left(10.4)
        );
    }
}
