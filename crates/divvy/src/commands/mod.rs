//! One file a command. Each takes what was typed and returns; errors are printed once, in `main`.

mod ask;
mod batches;
mod calls;
mod conditions;
mod data;
mod estimate;
mod export;
mod export_for;
mod export_rows;
mod init;
mod models;
mod prompts;
mod redo;
mod report;
mod run;
pub(crate) mod runs;
mod score;
mod serve;
mod shelf;
mod status;
pub(crate) mod submit;

pub(crate) use calls::ago;

use crate::cli::{Cli, Command};

pub(crate) async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    use divvy_core::records::Stage;
    match cli.command {
        Command::Init { path } => init::run(&path),
        Command::Run { place, dry_run: true, .. } => run::dry(&place).await,
        Command::Run { place, estimate: Some(rows), json, .. } => estimate::run(&place, rows, json).await,
        Command::Run { place, .. } => run::all(&place).await,
        Command::Collect { place, shard } => run::until(&place, Stage::Collect, shard).await,
        Command::Screen { place, shard } => run::until(&place, Stage::Screen, shard).await,
        Command::Train { place } => run::until(&place, Stage::Train, None).await,
        Command::Eval { place, shard } => run::until(&place, Stage::Evaluate, shard).await,
        Command::Report { place, run, formats, out, json, html, compare, fail_on_regression } => {
            let asked = report::Asked { run, formats, out, json, html, compare, fail_on_regression };
            report::run(&place, &asked).await
        }
        Command::Ask { question, premise, arm, recipe, data, store, json } => {
            let place = crate::cli::Place { recipe, data, store, from: None };
            ask::run(&place, ask::Asked { question, premise, arm, json }).await
        }
        Command::Export { place, student, rows, parquet, out, .. } if !rows.is_empty() => {
            let asked = export_rows::Asked { student: &student, forms: &rows, parquet, out: &out };
            export_rows::run(&place, &asked).await
        }
        Command::Export { place, student, format, dtype, engine, out, .. } => {
            let engine = engine.map(Into::into);
            export::run(&place, &export::Asked { student: &student, format, dtype, engine, out: &out }).await
        }
        Command::Redo { place, conditions, max_tokens } => redo::run(&place, &conditions, max_tokens).await,
        Command::Calls { key, model, finish, since, last, failed, store, json } => {
            calls::run(store.as_deref(), &calls::Wanted { key, model, finish, since, last, failed, json }).await
        }
        Command::Runs { store, json } => runs::run(store.as_deref(), json).await,
        Command::Submit { place, asked } => submit::run(place, asked).await,
        Command::Status { place, rows: false, json, .. } => status::run(&place, json).await,
        Command::Status { place, rows: true, conditions, json } => status::rows::run(&place, &conditions, json).await,
        Command::Serve { new_key: Some(name), .. } => serve::new_key(&name),
        Command::Serve { place, new_key: None, run, arms, listen, keys, record, strict, hosts } => {
            serve::run(place, serve::Asked { run, arms, listen, keys, record, strict, hosts }).await
        }
        Command::Score { scorer, compare, predictions } => {
            score::run(score::wanted(scorer, compare.as_deref())?, &predictions)
        }
        Command::Data { dataset, folder, files, store, rows, seed, json } => {
            let preview = data::Preview { files: &files, rows, seed, json };
            match dataset.as_deref() {
                Some(recipe) if recipe.ends_with(".toml") => {
                    let place = crate::cli::Place { recipe: recipe.into(), data: folder, store, from: None };
                    data::of_recipe(&place, &preview)
                }
                dataset => data::run(dataset, &preview),
            }
        }
        Command::Prompts { place, show, question, model, diff, json } => {
            prompts::run(&place, prompts::Asked { show, question, model, diff, json }).await
        }
        Command::Models { action, json } => models::run(action, json),
    }
}
