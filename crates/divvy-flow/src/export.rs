//! A student's training rows for other trainers, with where each comes from, question by question; nothing is asked. What is in
//! memory of any number of rows is where each question lies and where the store has it and, of a student that chooses among its
//! rows (`mix`, `rows`), which row is whose.

mod candidates;

use divvy_core::{
    export::{Preference, Provenance, TrainingRow},
    plan::StudentPlan,
    prompts::decompose,
    recipe::Target,
};

use self::candidates::{Asking, Candidate, Reader};
use crate::{
    context::Context,
    error::FlowError,
    items::ItemKey,
    train::{
        asked::Asked,
        mix,
        rows::{self, Known, Taught},
    },
};

/// Which are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub rows: bool,
    /// Of each question that has both: its best decomposition against every different one that the screening rejected and
    /// with which the solver was right less often.
    pub pairs: bool,
}

/// Those of a few questions.
#[derive(Debug, Default)]
pub struct Part {
    pub rows: Vec<TrainingRow>,
    pub pairs: Vec<Preference>,
}

/// The rows that this student learns from, or its pairs, or both, in the order of their questions' ids: a part at a time.
///
/// # Errors
/// The store's, an unreadable record, or what `take` says.
pub async fn each(
    context: &Context,
    student: &StudentPlan,
    wanted: Wanted,
    mut take: impl FnMut(Part) -> Result<(), FlowError>,
) -> Result<(), FlowError> {
    let reader = Reader::open(context, student).await?;
    let maker = Maker::of(context, student);
    let mut copies = None;
    if wanted.rows && mix::chooses(student) {
        copies = Some(chosen(&reader, &maker).await?.into_iter());
    }
    for part in reader.parts() {
        let asking = reader.read(part).await?;
        let mut made = Part::default();
        if wanted.rows {
            for row in asking.iter().flat_map(|asking| maker.rows(asking)) {
                let times = copies.as_mut().map_or(Ok(1), |copies| copies.next().ok_or_else(changed))?;
                made.rows.extend(std::iter::repeat_n(row.row(), times));
            }
        }
        if wanted.pairs {
            made.pairs = asking.iter().flat_map(|asking| maker.pairs(asking)).collect();
        }
        take(made)?;
    }
    if copies.is_some_and(|mut copies| copies.next().is_some()) { Err(changed()) } else { Ok(()) }
}

/// Another worker collects or screens: what was chosen is not what was read then.
fn changed() -> FlowError {
    FlowError::Output("the store's rows changed while they were read; run the command again".to_owned())
}

/// How often each row is learnt. For that all of them are looked at once before.
async fn chosen(reader: &Reader<'_>, maker: &Maker<'_>) -> Result<Vec<usize>, FlowError> {
    let mut marks = Vec::new();
    for part in reader.parts() {
        let asking = reader.read(part).await?;
        marks.extend(asking.iter().flat_map(|asking| maker.rows(asking)).map(|made| mix::Mark::of(&made.taught)));
    }
    Ok(mix::copies(&marks, maker.asked.plan, maker.context.plan.seed))
}

/// Who writes what a student of this target learns.
fn author(target: Target) -> &'static str {
    match target {
        Target::SdT | Target::SdR => "teacher",
        Target::SeT | Target::SeA | Target::SeTDirect => "solver",
        Target::SeADirect | Target::Direct => "gold",
        Target::Joint => "teacher and gold",
    }
}

/// Makes rows of what was read.
struct Maker<'a> {
    context: &'a Context,
    asked: Asked<'a>,
    prompt_id: String,
}

struct Made {
    taught: Taught,
    provenance: Provenance,
}

impl Made {
    fn row(self) -> TrainingRow {
        let Self { taught: Taught { row, .. }, provenance } = self;
        TrainingRow { id: row.id, prompt: row.prompt, completion: row.completion, provenance }
    }
}

impl<'a> Maker<'a> {
    fn of(context: &'a Context, student: &'a StudentPlan) -> Self {
        let asked = Asked { prompts: &context.plan.prompts, shown: &context.shown, plan: student };
        let prompt_id = asked.prompt_id();
        Self { context, asked, prompt_id }
    }

    /// What it learns of one question.
    fn rows(&self, Asking { question, candidates }: &Asking) -> Vec<Made> {
        if self.asked.plan.target == Target::Direct {
            let from = ItemKey { question: question.id.clone(), sample: 0, arm: String::new() };
            let made = |row| Made { taught: Taught { from, row }, provenance: self.provenance(0, None) };
            return rows::answer(&self.asked, question).map(made).into_iter().collect();
        }
        let of = |candidate: &Candidate| {
            let Candidate { key, steps, verdict, reply, .. } = candidate;
            let known = Known { steps, verdict: verdict.as_ref(), reply: reply.as_deref() };
            let made = |row| Made {
                taught: Taught { from: key.clone(), row },
                provenance: self.provenance(key.sample, Some(candidate)),
            };
            rows::of_training(&self.asked, question, &known).into_iter().map(made).collect::<Vec<_>>()
        };
        candidates.iter().flat_map(of).collect()
    }

    fn pairs(&self, Asking { question, candidates }: &Asking) -> Vec<Preference> {
        let Some(best) = best(candidates) else { return Vec::new() };
        let chosen = decompose::completion(&best.steps);
        let source = |candidate: &Candidate| self.provenance(candidate.key.sample, Some(candidate));
        let worse = candidates.iter().filter(|candidate| candidate.is_worse_than(best));
        let others = worse.map(|candidate| (candidate, decompose::completion(&candidate.steps)));
        let pair = |(candidate, rejected)| Preference {
            id: question.id.0.clone(),
            prompt: self.asked.decomposing(question),
            chosen: chosen.clone(),
            rejected,
            provenance: [source(best), source(candidate)],
        };
        others.filter(|(_, text)| *text != chosen).map(pair).collect()
    }

    fn provenance(&self, sample: u32, candidate: Option<&Candidate>) -> Provenance {
        let target = self.asked.plan.target;
        let call = candidate.and_then(|candidate| match author(target) {
            "solver" => candidate.solved.clone(),
            "gold" => None,
            _ => candidate.collected.clone(),
        });
        Provenance {
            plan: self.context.digest.hex().to_owned(),
            target: target.name().to_owned(),
            teacher: self.context.plan.collect.teacher.clone(),
            author: author(target),
            sample,
            call,
            pass_rate: candidate.and_then(|candidate| candidate.verdict.as_ref()?.pass_rate),
            prompt_id: self.prompt_id.clone(),
        }
    }
}

/// The kept one that passed most often; the first of equals.
fn best(candidates: &[Candidate]) -> Option<&Candidate> {
    let kept = candidates.iter().filter_map(|candidate| {
        let verdict = candidate.verdict.as_ref().filter(|verdict| verdict.keep)?;
        Some((verdict.pass_rate, candidate))
    });
    kept.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, candidate)| candidate)
}
