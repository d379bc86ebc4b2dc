//! What the page of `divvy serve` shows of the store.

use std::sync::Arc;

use async_trait::async_trait;
use divvy_core::records::{ItemState, Stage};
use divvy_flow::{
    evaluate::{self, Graded},
    items,
};
use divvy_serve::{RowsWanted, Shelf};
use divvy_store::ItemRow;
use serde_json::{Value, json};

use super::{calls, status};
use crate::session::Session;

pub(super) struct Records(pub(super) Arc<Session>);

#[async_trait]
impl Shelf for Records {
    async fn report(&self) -> Result<String, String> {
        let results = self.0.results().await.map_err(|error| error.to_string())?;
        Ok(divvy_report::html(&results))
    }

    async fn status(&self) -> Result<Value, String> {
        status::as_value(&self.0).await.map_err(|error| error.to_string())
    }

    async fn rows(&self, wanted: RowsWanted) -> Result<Value, String> {
        let context = &self.0.context;
        let all = context.store.items(&context.digest, Stage::Evaluate).await.map_err(|error| error.to_string())?;
        let has_rows = |slug: &String| all.iter().any(|row| row.arm == *slug);
        let plan = context.plan.evaluate.as_ref();
        let arms: Vec<String> =
            plan.iter().flat_map(|plan| &plan.arms).map(|arm| arm.slug()).filter(has_rows).collect();
        let arm = if wanted.arm.is_empty() { arms.first().cloned().unwrap_or_default() } else { wanted.arm };
        let answered = all.iter().filter(|row| row.arm == arm && row.state == ItemState::Done);
        let graded = answered.map(|row| Ok((row, items::payload::<Graded>(row)?))).collect::<Result<Vec<_>, _>>();
        let graded = graded.map_err(|error: divvy_flow::error::FlowError| error.to_string())?;
        let chosen: Vec<_> = graded.iter().filter(|(_, graded)| !wanted.wrong || !graded.grade.correct).collect();
        let page = chosen.iter().skip(wanted.from).take(wanted.count);
        let rows: Vec<Value> = page.map(|(row, graded)| self.row(row, graded)).collect();
        Ok(json!({"arms": arms, "arm": arm, "total": chosen.len(), "rows": rows}))
    }

    async fn calls(&self, key: Option<&str>, last: u32) -> Result<Value, String> {
        let wanted = calls::Wanted { key: key.map(str::to_owned), model: None, last, failed: false, json: true };
        let filter = calls::filter(&wanted).map_err(|error| error.to_string())?;
        let calls = self.0.context.store.calls(&filter).await.map_err(|error| error.to_string())?;
        calls.iter().map(calls::as_json).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }
}

impl Records {
    fn row(&self, row: &ItemRow, graded: &Graded) -> Value {
        let context = &self.0.context;
        let questions =
            context.plan.evaluate.as_ref().map(|plan| evaluate::questions(context, plan)).unwrap_or_default();
        let question = questions.iter().find(|question| question.id == row.question);
        let steps = graded.decomposition.as_ref().map(|decomposition| decomposition.steps()).unwrap_or_default();
        json!({
            "id": row.question, "question": question.map(|question| &question.text),
            "premise": question.and_then(|question| question.premise.as_ref()),
            "golds": question.map(|question| question.golds.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap_or_default(),
            "subquestions": steps.iter().map(|step| &step.text).collect::<Vec<_>>(), "sub_answers": graded.sub_answers,
            "answer": graded.grade.answer, "correct": graded.grade.correct, "outcome": graded.grade.outcome,
            "reply": graded.reply, "calls": row.calls.iter().map(|key| key.hex()).collect::<Vec<_>>(),
        })
    }
}
