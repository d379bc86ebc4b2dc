//! What the page of `divvy serve` shows of the store: every plan that was run in it, a page at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use divvy_core::{
    decomposition::Decomposition,
    digest::Digest,
    plan::Plan,
    question::Split,
    recipe::EvalSplit,
    records::{Collected, Stage, Verdict},
    stats,
};
use divvy_flow::{
    evaluate::Graded,
    graders::judge::Judged,
    rows::{Make, OfCalls},
};
use divvy_report::Rows;
use divvy_serve::{CallsWanted, RowsWanted, Shelf};
use divvy_store::{ItemPage, ItemRow, Store};
use serde_json::{Value, json};

use super::{calls, runs, status};
use crate::{
    kept::{self, Look},
    session::{Session, figures_with},
};

/// Other plans than the served one that are kept at hand, with their questions.
const AT_HAND: usize = 4;
/// Where a payload says that the answer is right.
const CORRECT: &str = "$.grade.correct";

pub(super) struct Records {
    session: Arc<Session>,
    others: Mutex<Vec<Arc<Look>>>,
    /// Figures of each plan, with the last item that they count.
    arms: Mutex<HashMap<Digest, (Option<i64>, Value)>>,
}

#[async_trait]
impl Shelf for Records {
    async fn runs(&self) -> Result<Value, String> {
        self.list().await.map_err(|error| error.to_string())
    }

    async fn report(&self, plan: Option<&str>) -> Result<String, String> {
        self.html(plan).await.map_err(|error| error.to_string())
    }

    async fn status(&self, plan: Option<&str>) -> Result<Value, String> {
        self.standing(plan).await.map_err(|error| error.to_string())
    }

    async fn rows(&self, wanted: RowsWanted) -> Result<Value, String> {
        self.page(wanted).await.map_err(|error| error.to_string())
    }

    async fn calls(&self, wanted: CallsWanted) -> Result<Value, String> {
        self.asked(wanted).await.map_err(|error| error.to_string())
    }
}

impl Records {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session, others: Mutex::default(), arms: Mutex::default() }
    }

    fn store(&self) -> &Store {
        &self.session.context.store
    }

    fn served(&self) -> &Digest {
        &self.session.context.digest
    }

    fn digest(&self, plan: Option<&str>) -> anyhow::Result<Digest> {
        let Some(plan) = plan.filter(|plan| !plan.is_empty()) else { return Ok(self.served().clone()) };
        Digest::from_hex(plan).ok_or_else(|| anyhow::anyhow!("`{plan}` is no plan's digest"))
    }

    /// A plan other than the served one.
    async fn other(&self, digest: &Digest) -> anyhow::Result<Arc<Look>> {
        let known = || self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = known().iter().find(|look| look.context.digest == *digest) {
            return Ok(Arc::clone(look));
        }
        let look = Arc::new(kept::look(self.store(), digest, &self.session.folder).await?);
        let mut others = known();
        others.truncate(AT_HAND - 1);
        others.insert(0, Arc::clone(&look));
        Ok(look)
    }

    async fn list(&self) -> anyhow::Result<Value> {
        let all = runs::all(self.store()).await?;
        let mut plans = serde_json::Map::new();
        for (run, _) in &all {
            if !plans.contains_key(&*run.plan.hex()) {
                plans.insert(run.plan.hex().to_owned(), self.arms_of(&run.plan).await?);
            }
        }
        let values: Vec<Value> = all.iter().map(|(run, word)| runs::value(run, word)).collect();
        Ok(json!({"served": self.served().hex(), "runs": values, "plans": plans}))
    }

    /// Each arm of a plan with its accuracy; counted anew when items have been added.
    async fn arms_of(&self, digest: &Digest) -> anyhow::Result<Value> {
        let last = self.store().last_item(digest).await?;
        let known = || self.arms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, arms)) = known().get(digest).filter(|(counted, _)| *counted == last) {
            return Ok(arms.clone());
        }
        // A plan of another version is listed all the same.
        let arms = match kept::plan(self.store(), digest).await {
            Ok(plan) => count_arms(self.store(), digest, &plan).await?,
            Err(error) => json!({"arms": [], "unreadable": error.to_string()}),
        };
        known().insert(digest.clone(), (last, arms.clone()));
        Ok(arms)
    }

    async fn html(&self, plan: Option<&str>) -> anyhow::Result<String> {
        let digest = self.digest(plan)?;
        // A page that is sent is one file.
        let mut rows = Rows::new(None);
        let make = Make::new(OfCalls::Everything, divvy_report::chunk);
        let take = |chunk| {
            rows.add(chunk);
            Ok(())
        };
        let results = if digest == *self.served() {
            self.session.results_with(make, take).await?
        } else {
            let look = self.other(&digest).await?;
            figures_with(&look.context, &look.models, &look.costs, look.numerics.clone(), make, take).await?
        };
        Ok(divvy_report::html(&results, &rows))
    }

    /// How a plan stands: the one that is asked for, else that of the job at work, else the newest run's.
    async fn standing(&self, plan: Option<&str>) -> anyhow::Result<Value> {
        let all = runs::all(self.store()).await?;
        let at_work = all.first().filter(|(_, word)| *word == "running");
        let newest = all.first().map(|(run, _)| run.plan.hex());
        let digest = self.digest(plan.or(newest.as_deref()))?;
        let mut value = if digest == *self.served() {
            status::as_value(&self.session.context).await?
        } else {
            status::as_value(&self.other(&digest).await?.context).await?
        };
        let of_plan = all.iter().find(|(run, _)| run.plan == digest);
        value["running"] = at_work.map_or(Value::Null, |(run, word)| runs::value(run, word));
        value["run"] = of_plan.map_or(Value::Null, |(run, word)| runs::value(run, word));
        Ok(value)
    }

    async fn page(&self, wanted: RowsWanted) -> anyhow::Result<Value> {
        let digest = self.digest(wanted.plan.as_deref())?;
        let stage = wanted.stage.unwrap_or(Stage::Evaluate);
        let arms = self.store().arms(&digest, stage).await?;
        let arm = if wanted.arm.is_empty() { arms.first().cloned().unwrap_or_default() } else { wanted.arm };
        let without = match stage {
            _ if !wanted.wrong => None,
            Stage::Evaluate => Some(CORRECT),
            Stage::Screen => Some("$.keep"),
            _ => Some(""),
        };
        let page = ItemPage { plan: &digest, stage, arm: &arm, without, from: wanted.from, count: wanted.count };
        let total = self.store().items_matching(&page).await?;
        let mut rows = Vec::new();
        for row in self.store().items_page(&page).await? {
            rows.push(self.row(&row).await?);
        }
        Ok(json!({"arms": arms, "arm": arm, "stage": stage.name(), "total": total, "from": wanted.from, "rows": rows}))
    }

    async fn row(&self, row: &ItemRow) -> anyhow::Result<Value> {
        let question = self.store().question(&row.plan, &row.question).await?;
        let question = question.as_ref();
        let mut value = json!({
            "id": row.question, "stage": row.stage.name(), "sample": row.sample, "arm": row.arm,
            "state": row.state.name(), "reason": row.state.reason(),
            "question": question.map(|question| &question.text),
            "premise": question.and_then(|question| question.premise.as_ref()),
            "golds": question.map(|question| question.golds.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap_or_default(),
            "calls": row.calls.iter().map(|key| key.hex()).collect::<Vec<_>>(),
        });
        payload(row, &mut value);
        Ok(value)
    }

    /// The last calls of the store, of a plan, or the one that is named.
    async fn asked(&self, wanted: CallsWanted) -> anyhow::Result<Value> {
        let Some(plan) = wanted.plan.as_deref().filter(|plan| !plan.is_empty() && wanted.key.is_none()) else {
            let filter = calls::Wanted { key: wanted.key, last: wanted.last, json: true, ..calls::Wanted::default() };
            let found = self.store().calls(&calls::filter(&filter)?).await?;
            return Ok(found.iter().map(calls::as_json).collect::<anyhow::Result<Vec<_>>>()?.into());
        };
        let mut found = Vec::new();
        for row in self.store().newest_asked(&self.digest(Some(plan))?, wanted.from, wanted.last).await? {
            for key in &row.calls {
                let Some(call) = self.store().call(key).await? else { continue };
                let mut call = calls::as_json(&call)?;
                (call["question"], call["stage"], call["arm"]) =
                    (json!(row.question), json!(row.stage.name()), json!(row.arm));
                found.push(call);
            }
        }
        Ok(found.into())
    }
}

/// What a stage made of an item.
fn payload(row: &ItemRow, value: &mut Value) {
    let texts = |steps: &Decomposition| steps.steps().iter().map(|step| step.text.clone()).collect::<Vec<_>>();
    match row.stage {
        Stage::Evaluate => {
            let Ok(graded) = serde_json::from_str::<Graded>(&row.payload_json) else { return };
            value["subquestions"] = json!(graded.decomposition.as_ref().map(texts));
            value["sub_answers"] = json!(graded.sub_answers);
            value["answer"] = json!(graded.grade.answer);
            value["correct"] = json!(graded.grade.correct);
            value["outcome"] = json!(graded.grade.outcome);
            value["reply"] = json!(graded.reply);
        }
        Stage::Collect => {
            let Ok(collected) = serde_json::from_str::<Collected>(&row.payload_json) else { return };
            value["subquestions"] = json!(texts(&collected.decomposition));
        }
        Stage::Screen => {
            let Ok(verdict) = serde_json::from_str::<Verdict>(&row.payload_json) else { return };
            value["verdict"] = json!(verdict);
            value["answer"] = json!(verdict.answer);
        }
        Stage::Judge => {
            let Ok(judged) = serde_json::from_str::<Judged>(&row.payload_json) else { return };
            value["answer"] = json!(judged.answer);
            value["correct"] = json!(judged.correct);
            value["reply"] = json!(judged.reply);
        }
        Stage::Train => {}
    }
}

async fn count_arms(store: &Store, digest: &Digest, plan: &Plan) -> anyhow::Result<Value> {
    let Some(evaluate) = &plan.evaluate else { return Ok(json!({"arms": []})) };
    let (split, name) = match evaluate.split {
        EvalSplit::Dev => (Split::Dev, "dev"),
        EvalSplit::Test => (Split::Test, "test"),
    };
    let questions = store.question_count(digest, split).await?;
    let marks = store.arm_marks(digest, Stage::Evaluate, CORRECT).await?;
    let arm = |slug: String| {
        let mark = marks.iter().find(|mark| mark.arm == slug);
        let (asked, correct) = mark.map_or((0, 0), |mark| (mark.items, mark.marked));
        json!({
            "arm": slug, "asked": asked, "correct": correct,
            "accuracy": (asked > 0).then(|| correct as f64 / asked as f64), "ci": stats::wilson::interval(correct, asked),
        })
    };
    let arms: Vec<Value> = evaluate.arms.iter().map(|one| arm(one.slug())).collect();
    Ok(json!({"split": name, "questions": questions, "arms": arms}))
}
