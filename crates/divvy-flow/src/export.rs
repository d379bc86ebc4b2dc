//! A student's training rows for other trainers, with where each comes from; nothing is asked.

use std::collections::{BTreeMap, HashMap};

use divvy_core::{
    export::{Preference, Provenance, TrainingRow},
    plan::StudentPlan,
    prompts::decompose,
    recipe::Target,
    records::Verdict,
};

use crate::{
    collect,
    context::Context,
    error::FlowError,
    items::ItemKey,
    screen,
    train::{
        asked::Asked,
        rows::{self, Taught},
    },
};

/// The rows that this student learns from, in the order of their questions.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn rows(context: &Context, student: &StudentPlan) -> Result<Vec<TrainingRow>, FlowError> {
    let sources = Sources::read(context, student).await?;
    let taught = rows::rows(context, student).await?.train;
    let row = |Taught { from, row }: Taught| TrainingRow {
        provenance: sources.of(&from),
        id: row.id,
        prompt: row.prompt,
        completion: row.completion,
    };
    Ok(taught.into_iter().map(row).collect())
}

/// Of each question that has both: its best decomposition against every different one that the screening rejected.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn preferences(context: &Context, student: &StudentPlan) -> Result<Vec<Preference>, FlowError> {
    let sources = Sources::read(context, student).await?;
    let mut by_question: BTreeMap<_, Vec<(ItemKey, String)>> = BTreeMap::new();
    for (key, steps) in collect::collected(context).await? {
        by_question.entry(key.question.clone()).or_default().push((key, decompose::completion(&steps)));
    }
    let asked = Asked { prompts: &context.plan.prompts, shown: &context.shown, plan: student };
    let mut pairs = Vec::new();
    for question in context.questions.train.iter() {
        let candidates = by_question.remove(&question.id).unwrap_or_default();
        let Some((best, chosen)) = sources.best(&candidates) else { continue };
        let rejected = candidates.iter().filter(|(key, text)| sources.failed(key) && text != chosen);
        pairs.extend(rejected.map(|(key, text)| Preference {
            id: question.id.0.clone(),
            prompt: asked.decomposing(&question),
            chosen: chosen.clone(),
            rejected: text.clone(),
            provenance: [sources.of(best), sources.of(key)],
        }));
    }
    Ok(pairs)
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

/// What is known about the items that rows are made of.
struct Sources {
    plan: String,
    target: Target,
    teacher: String,
    prompt_id: String,
    calls: HashMap<ItemKey, String>,
    verdicts: HashMap<ItemKey, Verdict>,
}

impl Sources {
    async fn read(context: &Context, student: &StudentPlan) -> Result<Self, FlowError> {
        Ok(Self {
            plan: context.digest.hex().to_owned(),
            target: student.target,
            teacher: context.plan.collect.teacher.clone(),
            prompt_id: Asked { prompts: &context.plan.prompts, shown: &context.shown, plan: student }.prompt_id(),
            calls: match author(student.target) {
                "solver" => screen::calls(context).await?,
                "gold" => HashMap::new(),
                _ => collect::calls(context).await?,
            },
            verdicts: screen::verdicts(context).await?,
        })
    }

    fn of(&self, item: &ItemKey) -> Provenance {
        Provenance {
            plan: self.plan.clone(),
            target: self.target.name().to_owned(),
            teacher: self.teacher.clone(),
            author: author(self.target),
            sample: item.sample,
            call: self.calls.get(item).cloned(),
            pass_rate: self.verdicts.get(item).and_then(|verdict| verdict.pass_rate),
            prompt_id: self.prompt_id.clone(),
        }
    }

    /// The kept one that passed most often; the first of equals.
    fn best<'c>(&self, candidates: &'c [(ItemKey, String)]) -> Option<&'c (ItemKey, String)> {
        let kept = candidates.iter().filter_map(|candidate| {
            let verdict = self.verdicts.get(&candidate.0).filter(|verdict| verdict.keep)?;
            Some((verdict.pass_rate, candidate))
        });
        kept.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, candidate)| candidate)
    }

    /// The solver was never right with it. One that is merely not the best is no bad example, nor is one that no solver was asked
    /// about.
    fn failed(&self, item: &ItemKey) -> bool {
        self.verdicts.get(item).is_some_and(|verdict| !verdict.keep && verdict.pass_rate == Some(0.0))
    }
}
