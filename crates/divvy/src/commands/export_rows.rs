//! `divvy export --rows`: what a student learns from, for other trainers, in any number of forms in one pass. Rows go to their files as
//! they are made; a file has its name when all of them are whole.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use divvy_core::{
    export::{Form, Preference, TrainingRow},
    plan::StudentPlan,
};
use divvy_data::rows::{self, RowsFile};
use divvy_flow::{
    error::FlowError,
    export::{self, Part, Wanted},
};
use divvy_student::model::Model;
use serde_json::Value;

use crate::{
    cli::{Place, RowForm},
    commands::export::student_plan,
    output::{Usage, say},
    session::{Access, Session},
};

pub(crate) struct Asked<'a> {
    pub(crate) student: &'a str,
    pub(crate) forms: &'a [RowForm],
    /// In a folder; a file says by its ending what it is.
    pub(crate) parquet: bool,
    pub(crate) out: &'a Path,
}

pub(crate) async fn run(place: &Place, asked: &Asked<'_>) -> anyhow::Result<()> {
    let session = Session::open(place, Access::Look).await?;
    let plan = student_plan(&session, asked.student)?;
    let forms = forms(asked, plan)?;
    let model = if forms.contains(&Form::Ids) { Some(session.base(&plan.base)?) } else { None };
    let mut sinks = sinks(asked, &forms)?;
    let wanted =
        Wanted { rows: forms.iter().any(|form| *form != Form::Preferences), pairs: forms.contains(&Form::Preferences) };
    let written = export::each(&session.context, plan, wanted, |part| {
        sinks.iter_mut().try_for_each(|sink| sink.take(&part, model.as_ref()).map_err(FlowError::Output))
    });
    // Who is interrupted lets go of the files, and nothing of them is left.
    tokio::select! {
        written = written => written?,
        _ = tokio::signal::ctrl_c() => {
            return Err(anyhow::Error::from(FlowError::Interrupted).context("no file was written"));
        }
    }
    let without = sinks.iter().filter(|sink| sink.file.is_none()).map(|sink| sink.form.name());
    let without: Vec<&str> = without.collect();
    let all = asked.forms.contains(&RowForm::All);
    if without.len() == sinks.len() || (!all && !without.is_empty()) {
        return Err(no_rows(place, if sinks.len() > 1 { &without } else { &[] }));
    }
    if !without.is_empty() {
        say(&format!("there are no rows for {}", without.join(", ")));
    }
    finish(sinks)
}

/// Each once, in the order in which they were named.
fn forms(asked: &Asked<'_>, plan: &StudentPlan) -> Result<Vec<Form>, Usage> {
    let (student, solves) = (asked.student, plan.target.solves().is_some());
    let mut forms = Vec::new();
    for form in asked.forms {
        match form.one() {
            None => forms.extend(Form::ALL.into_iter().filter(|form| !(solves && *form == Form::Preferences))),
            Some(Form::Preferences) if solves => {
                let target = plan.target.name();
                let reason = format!("--rows preferences: `{student}` learns {target}; they are for SD-T and SD-R");
                return Err(Usage(reason));
            }
            Some(form) => forms.push(form),
        }
    }
    let mut once: Vec<Form> = Vec::new();
    forms.into_iter().for_each(|form| {
        if !once.contains(&form) {
            once.push(form)
        }
    });
    Ok(once)
}

impl RowForm {
    /// `None` for all of them.
    fn one(self) -> Option<Form> {
        match self {
            Self::PromptCompletion => Some(Form::PromptCompletion),
            Self::Messages => Some(Form::Messages),
            Self::Sharegpt => Some(Form::Sharegpt),
            Self::Alpaca => Some(Form::Alpaca),
            Self::Ids => Some(Form::Ids),
            Self::Preferences => Some(Form::Preferences),
            Self::All => None,
        }
    }
}

/// One form on its way to its file, which is made when the first row comes.
struct Sink {
    form: Form,
    path: PathBuf,
    /// In a folder that may have to be made.
    in_folder: bool,
    file: Option<RowsFile>,
    rows: u64,
}

fn sinks(asked: &Asked<'_>, forms: &[Form]) -> Result<Vec<Sink>, Usage> {
    let no = |reason: String| Usage(format!("--out: {reason}"));
    let out = asked.out;
    let is_folder = out.is_dir() || out.to_string_lossy().ends_with(['/', '\\']);
    let several = asked.forms.len() > 1 || asked.forms.contains(&RowForm::All);
    if several && out.is_file() {
        return Err(no(format!("`{}` is a file; several forms need a folder", out.display())));
    }
    if !several && !is_folder && asked.parquet && out.extension().is_none_or(|ending| ending != "parquet") {
        return Err(no(format!("`{}` does not end in .parquet, which --parquet asks for", out.display())));
    }
    let (ending, in_folder) = (if asked.parquet { "parquet" } else { "jsonl" }, several || is_folder);
    let sink = |form: &Form| {
        let path = if in_folder { out.join(format!("{}.{ending}", form.name())) } else { out.to_owned() };
        rows::check(&path).map_err(no)?;
        Ok(Sink { form: *form, path, in_folder, file: None, rows: 0 })
    };
    forms.iter().map(sink).collect()
}

impl Sink {
    fn take(&mut self, part: &Part, model: Option<&Arc<Model>>) -> Result<(), String> {
        match self.form {
            Form::Preferences => part.pairs.iter().try_for_each(|pair| self.add(Preference::json(pair))),
            Form::Ids => {
                let model = model.expect("the base is open where its ids are wanted");
                part.rows.iter().try_for_each(|row| self.add(ids(model, row)?))
            }
            Form::PromptCompletion => part.rows.iter().try_for_each(|row| self.add(row.prompt_completion())),
            Form::Messages => part.rows.iter().try_for_each(|row| self.add(row.messages())),
            Form::Sharegpt => part.rows.iter().try_for_each(|row| self.add(row.sharegpt())),
            Form::Alpaca => part.rows.iter().try_for_each(|row| self.add(row.alpaca())),
        }
    }

    fn add(&mut self, row: Value) -> Result<(), String> {
        let mut file = self.file.take().map_or_else(|| self.create(), Ok)?;
        file.add(row)?;
        self.file = Some(file);
        self.rows += 1;
        Ok(())
    }

    fn create(&self) -> Result<RowsFile, String> {
        if let Some(folder) = self.path.parent().filter(|_| self.in_folder) {
            std::fs::create_dir_all(folder).map_err(|error| format!("cannot make `{}`: {error}", folder.display()))?;
        }
        RowsFile::create(&self.path, &self.form.columns())
    }
}

fn ids(model: &Model, row: &TrainingRow) -> Result<Value, String> {
    let encode = || {
        Ok::<_, divvy_student::error::TextError>((
            model.encode_chat(&row.prompt)?,
            model.encode_completion(&row.completion)?,
        ))
    };
    let (prompt, completion) = encode().map_err(|error| format!("{}: {error}", row.id))?;
    Ok(row.ids(&prompt, &completion))
}

/// `of`: forms that were named beside others.
fn no_rows(place: &Place, of: &[&str]) -> anyhow::Error {
    let recipe = place.recipe.display();
    let of = if of.is_empty() { String::new() } else { format!(" for {}", of.join(", ")) };
    anyhow::anyhow!(
        "there are no such rows yet{of}; `divvy screen {recipe}` makes them, and `divvy status {recipe}` tells what \
         became of those that were collected (preferences need several samples in [collect] and a [screen])"
    )
}

/// None has its name before all are whole.
fn finish(sinks: Vec<Sink>) -> anyhow::Result<()> {
    let mut whole = Vec::new();
    for sink in sinks {
        if let Some(file) = sink.file {
            whole.push((sink.path, sink.rows, file.finish().map_err(anyhow::Error::msg)?));
        }
    }
    for (path, rows, file) in whole {
        file.rename().map_err(anyhow::Error::msg)?;
        say(&format!("wrote {rows} rows to {}", path.display()));
    }
    Ok(())
}
