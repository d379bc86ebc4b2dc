//! `divvy run --estimate`: asks a few rows of every stage, keeps them, and tells what the rest will take.

use divvy_core::{cost::show_dollars, records::Stage, stats::forecast::Forecast};
use divvy_flow::{
    error::FlowError,
    estimate,
    forecast::{self, Cap, FIGURES, Figure, Figures, Outlook, Paces, Verdict},
    sample,
};
use serde_json::{Map, Value, json};

use crate::{
    cli::Place,
    commands::run,
    output::print,
    progress::thousands,
    session::{Access, Session, short},
};

/// Settled rows of a stage that a forecast looks at.
const MOST_ROWS: usize = 2000;
/// Stages in which models are asked.
const ASKING: [Stage; 3] = [Stage::Collect, Stage::Screen, Stage::Evaluate];

pub(crate) async fn run(place: &Place, rows: u32, as_json: bool) -> anyhow::Result<()> {
    let session = Session::open(place, Access::Run).await?;
    session.find_students().await?;
    let context = &session.context;
    let run = run::begin(&session, Stage::Evaluate).await?;
    let outcome = ask(&session, rows as usize).await;
    run::end(context, run, &outcome).await?;
    // At a cap the rows so far tell what they can.
    if !matches!(outcome, Ok(()) | Err(FlowError::Budget(_))) {
        session.close().await?;
        return Ok(outcome?);
    }
    let paces = session.registry.paces();
    let spent = session.registry.spent_for_plan().await?;
    let told = Told { outlook: forecast::read(context, &paces, MOST_ROWS).await?, paces, spent, session: &session };
    print(&if as_json { serde_json::to_string_pretty(&told.json())? } else { told.text() })?;
    session.close().await?;
    Ok(outcome?)
}

/// The stages on a few rows. Training is left out, and so are the arms whose student is not trained.
async fn ask(session: &Session, rows: usize) -> Result<(), FlowError> {
    let context = &session.context;
    let trained = context.plan.students.keys().map(|name| format!("student:{name}"));
    let trained: Vec<String> = trained.filter(|name| session.registry.is_trained(name)).collect();
    let there = |name: &String| !name.starts_with("student:") || trained.contains(name);
    let few = sample::sampled(context, rows, |arm| arm.decomposer.iter().chain([&arm.solver]).all(there));
    for stage in ASKING {
        Box::pin(run::one(session, &few, stage, Stage::Evaluate)).await?;
    }
    Ok(())
}

/// All that is told.
struct Told<'a> {
    session: &'a Session,
    outlook: Outlook,
    paces: Paces,
    /// By all commands of the plan: calls, tokens, nano-dollars.
    spent: (u64, u64, i64),
}

impl Told<'_> {
    fn text(&self) -> String {
        let context = &self.session.context;
        let mut text = format!("{}  plan {}\n\n{}", context.plan.name, short(&context.digest), self.rows());
        text.push_str(&format!("\nwhat is left, with its 95 % interval over rows\n{}", self.table()));
        self.unseen().iter().for_each(|line| text.push_str(&format!("{line}\n")));
        let budget = self.budget();
        if !budget.is_empty() {
            text.push_str("\nbudget of the plan; minutes of one command\n");
            budget.iter().for_each(|(cap, verdict)| text.push_str(&verdict_line(*cap, *verdict)));
        }
        text
    }

    fn table(&self) -> String {
        let heading = ["stage", "model", "calls", "tokens in", "tokens out", "price", "time"].map(str::to_owned);
        let lines = self.outlook.lines.iter().map(|line| cells(line.stage.name(), &line.model, &line.figures));
        let all = cells("all", "", &self.outlook.of_all(&self.paces));
        let table: Vec<[String; 7]> = std::iter::once(heading).chain(lines).chain([all]).collect();
        let width = |column: usize| table.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        table.iter().map(|line| aligned(line, &widths)).collect()
    }

    fn rows(&self) -> String {
        let (calls, tokens, nanos) = self.session.registry.spent();
        let line = |rows: &forecast::Rows| {
            let done = rows.total - rows.left.min(rows.total);
            format!("{:<9} {} of {} rows done, and free\n", rows.stage.name(), thousands(done), thousands(rows.total))
        };
        let asked =
            format!("asked now {} calls, {} tokens, {}\n", thousands(calls), thousands(tokens), show_dollars(nanos));
        self.outlook.rows.iter().map(line).chain([asked]).collect()
    }

    /// What no row tells: arms that cannot be asked yet, and training, which is a guess.
    fn unseen(&self) -> Vec<String> {
        let context = &self.session.context;
        let training = estimate::estimate(&context.plan, &context.questions);
        let training = training.iter().filter(|line| line.stage == "train" && !self.is_trained(&line.model));
        let training = training.map(|line| {
            let minutes = run::seconds(line) / 60 + 1;
            format!(
                "train {}: not counted, about {minutes} min on two cores with AVX-512 (rough, from the sizes)",
                line.model
            )
        });
        self.outlook.unseen.iter().cloned().chain(training).collect()
    }

    fn is_trained(&self, student: &str) -> bool {
        self.session.registry.is_trained(&format!("student:{student}"))
    }

    fn budget(&self) -> Vec<(Cap, Verdict)> {
        let left = |figure: Figure| self.stages(|figures| figures.get(figure).cloned());
        let tokens =
            |figures: &Figures| Some(figures.get(Figure::TokensIn)?.clone().and(figures.get(Figure::TokensOut)?));
        let budget = &self.session.recipe.budget;
        let spent = self.spent;
        let caps = [
            ("calls", budget.calls.map(|calls| calls as f64), spent.0 as f64, left(Figure::Calls)),
            ("tokens", budget.tokens.map(|tokens| tokens as f64), spent.1 as f64, self.stages(tokens)),
            ("dollars", budget.price_nanos().map(|nanos| nanos as f64), spent.2 as f64, left(Figure::Money)),
            ("minutes", budget.minutes.map(|minutes| 60.0 * minutes as f64), 0.0, left(Figure::Seconds)),
        ];
        let verdict = |(name, most, spent, stages): (_, Option<f64>, _, Vec<_>)| {
            let cap = Cap { name, most: most?, spent };
            Some((cap, forecast::against(cap, &stages)))
        };
        caps.into_iter().filter_map(verdict).collect()
    }

    fn stages(&self, of: impl Fn(&Figures) -> Option<Forecast>) -> Vec<(Stage, Option<Forecast>)> {
        let stage = |rows: &forecast::Rows| (rows.stage, of(&self.outlook.of_stage(rows.stage, &self.paces)));
        self.outlook.rows.iter().map(stage).collect()
    }

    fn json(&self) -> Value {
        let (calls, tokens, nanos) = self.session.registry.spent();
        let rows = |rows: &forecast::Rows| json!({ "stage": rows.stage.name(), "rows": rows.total, "left": rows.left, "seen": rows.seen });
        let line = |line: &forecast::Line| json!({ "stage": line.stage.name(), "model": line.model, "left": figures_json(&line.figures) });
        json!({
            "plan": self.session.context.digest.hex(),
            "asked_now": { "calls": calls, "tokens": tokens, "cost_nanos": nanos },
            "stages": self.outlook.rows.iter().map(rows).collect::<Vec<_>>(),
            "lines": self.outlook.lines.iter().map(line).collect::<Vec<_>>(),
            "all": figures_json(&self.outlook.of_all(&self.paces)),
            "not_counted": self.unseen(),
            "budget": self.budget().into_iter().map(|(cap, verdict)| verdict_json(cap, verdict)).collect::<Vec<_>>(),
        })
    }
}

fn cells(stage: &str, model: &str, figures: &Figures) -> [String; 7] {
    let [calls, tokens_in, tokens_out, price, time] = FIGURES.map(|figure| cell(figures.get(figure), figure));
    [stage.to_owned(), model.to_owned(), calls, tokens_in, tokens_out, price, time]
}

/// Words to the left, figures to the right.
fn aligned(line: &[String; 7], widths: &[usize; 7]) -> String {
    let pad = |(column, (text, width)): (usize, (&String, &usize))| {
        let width = *width;
        if column < 2 { format!("{text:<width$}") } else { format!("{text:>width$}") }
    };
    let padded: Vec<String> = line.iter().zip(widths).enumerate().map(pad).collect();
    format!("{}\n", padded.join("  "))
}

/// `1,200 (1,100–1,350)`; the bare figure where it is sure, and no interval where rows cannot tell.
pub(super) fn cell(forecast: Option<&Forecast>, figure: Figure) -> String {
    let Some(forecast) = forecast else { return "unknown".to_owned() };
    let sum = amount(forecast.sum, figure);
    match forecast.interval() {
        None => format!("{sum} (no interval)"),
        Some((low, high)) if amount(low, figure) == amount(high, figure) => sum,
        Some((low, high)) => format!("{sum} ({}–{})", amount(low, figure), amount(high, figure)),
    }
}

fn amount(value: f64, figure: Figure) -> String {
    match figure {
        Figure::Money => show_dollars(value.round() as i64),
        Figure::Seconds if value < 120.0 => format!("{value:.0} s"),
        Figure::Seconds if value < 7200.0 => format!("{:.0} min", value / 60.0),
        Figure::Seconds => format!("{:.1} h", value / 3600.0),
        Figure::Calls | Figure::TokensIn | Figure::TokensOut => thousands(value.round() as u64),
    }
}

fn verdict_line(cap: Cap, verdict: Verdict) -> String {
    let show = |figure: f64| match cap.name {
        "dollars" => show_dollars(figure as i64),
        "minutes" => format!("{:.0}", figure / 60.0),
        _ => thousands(figure as u64),
    };
    let spent = if cap.spent > 0.0 { format!(", {} spent", show(cap.spent)) } else { String::new() };
    let most = format!("{}{spent}", show(cap.most));
    let verdict = match verdict {
        Verdict::Fits => "what is left fits".to_owned(),
        Verdict::MayStop => "the run may stop there: it lies within the interval".to_owned(),
        Verdict::Stops { stage, share } => {
            format!(
                "the run would stop in {}, with about {:.0} % of what it has left done",
                stage.name(),
                100.0 * share
            )
        }
        Verdict::Unknown => "cannot be compared: a figure is unknown".to_owned(),
    };
    format!("{:<9} {most}: {verdict}\n", cap.name)
}

fn figures_json(figures: &Figures) -> Value {
    const NAMES: [&str; 5] = ["calls", "tokens_in", "tokens_out", "cost_nanos", "seconds"];
    let figure = |figure: Figure| match figures.get(figure) {
        None => Value::Null,
        Some(forecast) => json!({ "estimate": forecast.sum, "ci": forecast.interval() }),
    };
    let named = FIGURES.iter().zip(NAMES).map(|(which, name)| (name.to_owned(), figure(*which)));
    Value::Object(named.collect::<Map<_, _>>())
}

fn verdict_json(cap: Cap, verdict: Verdict) -> Value {
    let most = if cap.name == "minutes" { cap.most / 60.0 } else { cap.most };
    let (word, stage, share) = match verdict {
        Verdict::Fits => ("fits", None, None),
        Verdict::MayStop => ("may-stop", None, None),
        Verdict::Stops { stage, share } => ("stops", Some(stage.name()), Some(share)),
        Verdict::Unknown => ("unknown", None, None),
    };
    // Money is in nano-dollars, as everywhere in JSON.
    let name = if cap.name == "dollars" { "cost_nanos" } else { cap.name };
    json!({ "cap": name, "most": most, "spent": cap.spent, "verdict": word, "stage": stage, "share": share })
}
