//! The rule `best`: of each question's decompositions one is kept, chosen when all are screened.

use std::collections::BTreeMap;

use divvy_core::{
    plan::ScreenPlan,
    question::QuestionId,
    records::{Stage, Verdict},
    screening,
};
use divvy_store::ItemRow;

use super::screened;
use crate::{context::Context, error::FlowError, items};

/// Questions looked at together.
const PART: usize = 256;

/// Keeps the best decomposition of each question, and rejects those that are merely good.
pub(super) async fn keep(context: &Context, plan: &ScreenPlan) -> Result<(), FlowError> {
    let (train, questions) = (&context.questions.train, screened(context, plan));
    let places = context.store.places(&context.digest, Stage::Screen).await?;
    for first in (0..questions).step_by(PART) {
        let ids: Vec<QuestionId> = (first..questions.min(first + PART)).map(|at| train.at(at).id.clone()).collect();
        let rows = context.store.items_of(&places, &context.digest, Stage::Screen, &ids).await?;
        context.store.put_items(&changed(context, rows)?).await?;
    }
    Ok(())
}

/// Those of these rows that are judged otherwise beside the others of their question.
fn changed(context: &Context, rows: Vec<ItemRow>) -> Result<Vec<ItemRow>, FlowError> {
    let mut by_question: BTreeMap<QuestionId, Vec<(ItemRow, Verdict)>> = BTreeMap::new();
    for row in rows.into_iter().filter(|row| row.state.is_settled()) {
        let verdict = items::payload::<Verdict>(&row)?;
        by_question.entry(row.question.clone()).or_default().push((row, verdict));
    }
    let mut changed = Vec::new();
    for rows in by_question.into_values() {
        let (rows, verdicts): (Vec<ItemRow>, Vec<Verdict>) = rows.into_iter().unzip();
        let best = screening::best(&verdicts);
        for (at, (row, verdict)) in rows.into_iter().zip(verdicts).enumerate() {
            let now = match Some(at) == best {
                true if !verdict.keep => screening::the_best(verdict),
                false if verdict.keep => screening::not_the_best(verdict),
                _ => continue,
            };
            changed.push(judged_anew(context, row, &now));
        }
    }
    Ok(changed)
}

fn judged_anew(context: &Context, row: ItemRow, verdict: &Verdict) -> ItemRow {
    let payload_json = serde_json::to_string(verdict).expect("records are plain JSON");
    ItemRow { state: verdict.state(), payload_json, updated_ms: (context.now)(), ..row }
}
