//! `divvy export --rows`: what a student learns from, for other trainers.

use std::path::Path;

use anyhow::Context as _;
use divvy_core::{export::TrainingRow, plan::StudentPlan};
use divvy_flow::export;
use divvy_student::model::Model;
use serde_json::Value;

use crate::{
    cli::{Place, RowForm},
    commands::export::student_plan,
    output::{Usage, say},
    session::{Access, Session},
};

pub(crate) async fn run(place: &Place, student: &str, form: RowForm, out: &Path) -> anyhow::Result<()> {
    let session = Session::open(place, Access::Look).await?;
    let plan = student_plan(&session, student)?;
    let rows = match form {
        RowForm::Preferences if plan.target.solves().is_some() => {
            let target = plan.target.name();
            return Err(
                Usage(format!("--rows preferences: `{student}` learns {target}; they are for SD-T and SD-R")).into()
            );
        }
        RowForm::Preferences => {
            let pairs = export::preferences(&session.context, plan).await?;
            pairs.iter().map(|pair| Ok(pair.json())).collect()
        }
        RowForm::Ids => {
            let model = session.base(&plan.base)?;
            export::rows(&session.context, plan).await?.iter().map(|row| ids(&model, row)).collect()
        }
        RowForm::PromptCompletion => all(&session, plan, TrainingRow::prompt_completion).await,
        RowForm::Messages => all(&session, plan, TrainingRow::messages).await,
        RowForm::Sharegpt => all(&session, plan, TrainingRow::sharegpt).await,
        RowForm::Alpaca => all(&session, plan, TrainingRow::alpaca).await,
    };
    let rows: Vec<Value> = rows_or_way_out(rows, place)?;
    divvy_data::rows::write(out, &rows).map_err(|error| Usage(format!("--out: {error}")))?;
    say(&format!("wrote {} rows to {}", rows.len(), out.display()));
    Ok(())
}

fn rows_or_way_out(rows: anyhow::Result<Vec<Value>>, place: &Place) -> anyhow::Result<Vec<Value>> {
    let rows = rows?;
    if rows.is_empty() {
        let recipe = place.recipe.display();
        anyhow::bail!(
            "there are no such rows yet; `divvy screen {recipe}` makes them, and `divvy status {recipe}` tells what \
             became of those that were collected (preferences need several samples in [collect] and a [screen])"
        );
    }
    Ok(rows)
}

async fn all(session: &Session, plan: &StudentPlan, form: fn(&TrainingRow) -> Value) -> anyhow::Result<Vec<Value>> {
    Ok(export::rows(&session.context, plan).await?.iter().map(form).collect())
}

fn ids(model: &Model, row: &TrainingRow) -> anyhow::Result<Value> {
    let encode = || {
        Ok::<_, divvy_student::error::TextError>((
            model.encode_chat(&row.prompt)?,
            model.encode_completion(&row.completion)?,
        ))
    };
    let (prompt, completion) = encode().with_context(|| row.id.clone())?;
    Ok(row.ids(&prompt, &completion))
}
