//! The tables of a report, from results to cells: the arms, the paired comparisons, screening, training, stages. Order is the recipe's; nothing is left out, and every share stands beside its denominator.

use std::collections::BTreeMap;

use divvy_core::results::{
    ArmResult, Comparison, DatasetUse, Found, ModelUse, Results, StageTime, StepSlice, TrainingSummary,
};

use crate::{
    efficiency,
    number::{self, DASH},
    roles,
    table::{Bar, Cell, Column, Table},
};

type ArmColumn = (Column, fn(&Results, &ArmResult) -> Cell);

/// Everything about an arm in one table: the page's form.
pub(crate) fn arms(results: &Results) -> Table {
    let columns = outcome_columns(results).into_iter().chain(token_columns(results)).collect();
    arm_table("arms", "Every arm on the same questions; tokens are means per question", results, columns)
}

/// What became of the questions: the terminal's first table.
pub(crate) fn outcomes(results: &Results) -> Table {
    arm_table("arms", "Every arm on the same questions", results, outcome_columns(results))
}

/// What it took: the terminal's second table.
pub(crate) fn tokens(results: &Results) -> Table {
    arm_table(
        "tokens",
        "Tokens per question, and cost per 1,000 questions where known",
        results,
        token_columns(results),
    )
}

fn arm_table(id: &'static str, caption: &str, results: &Results, columns: Vec<ArmColumn>) -> Table {
    let row = |arm: &ArmResult| {
        let name = Cell { mark: Some(roles::kind(results, arm).class()), ..Cell::text(arm.arm.clone()) };
        std::iter::once(name).chain(columns.iter().map(|(_, cell)| cell(results, arm))).collect()
    };
    Table {
        id,
        caption: caption.to_owned(),
        rows: results.arms.iter().map(row).collect(),
        columns: std::iter::once(Column::left("Arm")).chain(columns.iter().map(|(column, _)| column.clone())).collect(),
    }
}

fn outcome_columns(results: &Results) -> Vec<ArmColumn> {
    let mut columns: Vec<ArmColumn> = vec![
        (Column::right("n", ""), |_, arm| answers(arm)),
        (Column::right("Correct", ""), |_, arm| counted(arm.correct)),
        (Column::right("Accuracy", "%"), |_, arm| Cell::number(number::percent(shown(arm)), shown(arm))),
        (Column::right("95 % interval", "%"), |_, arm| Cell {
            bar: accuracy_bar(arm),
            ..Cell::number(if arm.n == 0 { DASH.into() } else { number::percent_interval(arm.ci) }, arm.ci.0)
        }),
    ];
    if results.arms.iter().any(|arm| (arm.score - arm.accuracy).abs() > 1e-9) {
        columns.push((Column::right("Partial credit", "%"), |_, arm| {
            let score = if arm.n == 0 { f64::NAN } else { arm.score };
            Cell::number(number::percent(score), score)
        }));
    }
    if results.arms.iter().any(|arm| arm.score_ci.is_some()) {
        columns.push((Column::right("95 % interval of it", "%"), |_, arm| match arm.score_ci {
            Some(ci) => Cell::number(number::percent_interval(ci), ci.0),
            None => Cell::text(DASH),
        }));
    }
    columns.extend::<[ArmColumn; 2]>([
        (Column::right("No answer", ""), |_, arm| counted(arm.no_answer)),
        (Column::right("Truncated", ""), |_, arm| counted(arm.truncated)),
    ]);
    if results.arms.iter().any(|arm| arm.refused > 0) {
        columns.push((Column::right("Refused", ""), |_, arm| counted(arm.refused)));
    }
    columns.push((Column::right("Errors", ""), |_, arm| counted(arm.errors)));
    if results.arms.iter().any(|arm| arm.pending > 0) {
        columns.push((Column::right("Still to come", ""), |_, arm| counted(arm.pending)));
    }
    columns
}

fn token_columns(results: &Results) -> Vec<ArmColumn> {
    let mut columns: Vec<ArmColumn> = vec![
        (Column::grouped("Decompose", "in", ""), |_, arm| staged(arm, arm.decompose_tokens_in)),
        (Column::grouped("Decompose", "out", ""), |_, arm| staged(arm, arm.decompose_tokens_out)),
        (Column::grouped("Solve", "in", ""), |_, arm| averaged(arm.solve_tokens_in, arm.n)),
        (Column::grouped("Solve", "out", ""), |_, arm| averaged(arm.solve_tokens_out, arm.n)),
        (Column::grouped("Total", "in", ""), |_, arm| averaged(arm.tokens_in, arm.n)),
        (Column::grouped("Total", "out", ""), |_, arm| averaged(arm.tokens_out, arm.n)),
    ];
    if any_price(results) {
        columns.push((Column::right("Cost", "$ per 1,000"), |_, arm| {
            let dollars = arm.cost_nanos.map_or(f64::NAN, |nanos| nanos as f64 / arm.n.max(1) as f64);
            Cell::number(number::dollars_per_thousand(arm.cost_nanos, arm.n), dollars)
        }));
    }
    columns
}

pub(crate) fn any_price(results: &Results) -> bool {
    results.arms.iter().any(|arm| arm.cost_nanos.is_some())
}

/// Accuracy as reported, and no figure at all without questions.
fn shown(arm: &ArmResult) -> f64 {
    if arm.n == 0 { f64::NAN } else { arm.accuracy }
}

fn accuracy_bar(arm: &ArmResult) -> Option<Bar> {
    let finite = [arm.accuracy, arm.ci.0, arm.ci.1].iter().all(|value| value.is_finite());
    (arm.n > 0 && finite).then_some(Bar { value: arm.accuracy, low: arm.ci.0, high: arm.ci.1, domain: (0.0, 1.0) })
}

/// Questions; of several answers to each, `300 × 3`.
pub(crate) fn answers(arm: &ArmResult) -> Cell {
    match arm.each {
        0 | 1 => counted(arm.n),
        each => Cell::number(format!("{} × {each}", number::count(arm.questions())), arm.n as f64),
    }
}

pub(crate) fn counted(value: u64) -> Cell {
    Cell::number(number::count(value), value as f64)
}

fn averaged(total: Option<u64>, n: u64) -> Cell {
    let cell = |total| Cell::number(number::mean(total, n), number::ratio(total, n).unwrap_or(f64::NAN));
    total.map_or(Cell::text(DASH), cell)
}

/// A single-stage arm has no decomposition stage: a dash, not a zero.
fn staged(arm: &ArmResult, total: Option<u64>) -> Cell {
    if arm.decomposer.is_none() && total == Some(0) { Cell::text(DASH) } else { averaged(total, arm.n) }
}

pub(crate) fn comparisons(results: &Results) -> Table {
    let reach = results.comparisons.iter().flat_map(|pair| [pair.ci.0, pair.ci.1, pair.difference]);
    let reach = reach.filter(|value| value.is_finite()).fold(0.01_f64, |reach, value| reach.max(value.abs()));
    Table {
        id: "comparisons",
        caption: "Paired comparisons on the same questions".to_owned(),
        columns: pair_columns([
            Column::right("Detectable", "points"),
            Column::grouped("Right:", "only A", ""),
            Column::grouped("Right:", "only B", ""),
        ]),
        rows: results.comparisons.iter().map(|pair| comparison_row(pair, reach)).collect(),
    }
}

/// Which two arms, how they differ, whatever else there is, and whether that is shown.
pub(crate) fn pair_columns(more: impl IntoIterator<Item = Column>) -> Vec<Column> {
    let first = [
        Column::left("A"),
        Column::left("B"),
        Column::left("Family"),
        Column::right("n", ""),
        Column::right("A − B", "points"),
        Column::right("95 % interval", "points"),
    ];
    first.into_iter().chain(more).chain([Column::right("p", ""), Column::right("Holm p", "")]).collect()
}

fn comparison_row(pair: &Comparison, reach: f64) -> Vec<Cell> {
    let some = |value: f64| if pair.n == 0 { f64::NAN } else { value };
    let finite = [pair.difference, pair.ci.0, pair.ci.1].iter().all(|value| value.is_finite());
    let bar = Bar { value: pair.difference, low: pair.ci.0, high: pair.ci.1, domain: (-reach, reach) };
    let detectable = pair.detectable.unwrap_or(f64::NAN);
    let interval = if pair.n == 0 { DASH.to_owned() } else { number::points_interval(pair.ci) };
    vec![
        Cell::text(pair.a.clone()),
        Cell::text(pair.b.clone()),
        Cell::text(if pair.exploratory {
            format!("{}, exploratory", pair.family.name())
        } else {
            pair.family.name().into()
        }),
        counted(pair.n),
        Cell::number(number::points(some(pair.difference)), some(pair.difference)),
        Cell { bar: (pair.n > 0 && finite).then_some(bar), ..Cell::number(interval, pair.ci.0) },
        Cell::number(number::percent(detectable), detectable),
        counted(pair.only_a),
        counted(pair.only_b),
        Cell::number(number::p_value(some(pair.p_value)), some(pair.p_value)),
        Cell::number(number::p_value(some(pair.p_holm)), some(pair.p_holm)),
    ]
}

/// From questions asked to decompositions that can be used, with every reason; `None` before anything was collected.
pub(crate) fn collection(results: &Results) -> Option<Table> {
    let collection = results.collection.as_ref()?;
    let caption = format!("Collected from {}", roles::plain(&collection.teacher));
    Some(funnel("collection", caption, collection.candidates, ("usable", collection.usable), &collection.reasons))
}

/// From candidates to kept rows, with every reason; `None` when the run did not screen.
pub(crate) fn screening(results: &Results) -> Option<Table> {
    let screening = results.screening.as_ref()?;
    let caption = match &screening.solver {
        Some(solver) => format!("Screening funnel, answered by {}", roles::plain(solver)),
        None => "Screening funnel, by form alone".to_owned(),
    };
    Some(funnel("screening", caption, screening.candidates, ("kept", screening.kept), &screening.reasons))
}

fn funnel(id: &'static str, caption: String, all: u64, kept: (&str, u64), reasons: &[(String, u64)]) -> Table {
    let row = |label: &str, rows: u64| {
        let share = number::ratio(rows, all).unwrap_or(f64::NAN);
        vec![Cell::text(label), counted(rows), Cell::number(number::percent(share), share)]
    };
    let mut rows = vec![row("candidates", all), row(kept.0, kept.1)];
    rows.extend(reasons.iter().map(|(reason, count)| row(&format!("reason: {reason}"), *count)));
    Table {
        id,
        caption,
        columns: vec![Column::left("Rows"), Column::right("Count", ""), Column::right("Of candidates", "%")],
        rows,
    }
}

pub(crate) fn training(results: &Results) -> Option<Table> {
    let rows: Vec<Vec<Cell>> = results.training.iter().map(training_row).collect();
    (!rows.is_empty()).then(|| Table {
        id: "training",
        caption: "Training".to_owned(),
        columns: vec![
            Column::left("Student"),
            Column::left("Base"),
            Column::left("Target"),
            Column::left("Method"),
            Column::right("Rows", ""),
            Column::right("Left out", ""),
            Column::right("Epochs", ""),
            Column::right("Steps", ""),
            Column::right("Final loss", "nats/token"),
            Column::right("Dev loss", "nats/token"),
            Column::right("Wall time", ""),
        ],
        rows,
    })
}

fn training_row(training: &TrainingSummary) -> Vec<Cell> {
    let last = training.curve.last();
    let loss = last.map_or(f64::NAN, |point| point.loss);
    let is_kept = |step| training.kept.is_none_or(|kept| kept.step == step);
    let looks = training.curve.iter().rev().filter(|point| is_kept(point.step));
    let dev = looks.filter_map(|point| point.dev_loss).next().unwrap_or(f64::NAN);
    vec![
        Cell::text(roles::plain(&training.student)),
        Cell::text(training.base.clone()),
        Cell::text(training.target.clone()),
        Cell::text(training.method.clone()),
        counted(training.rows),
        counted(training.too_long + training.unusable),
        Cell::number(number::decimal(training.epochs, 1), training.epochs),
        last.map_or(Cell::text(DASH), |point| counted(point.step)),
        Cell::number(number::decimal(loss, 3), loss),
        Cell::number(number::decimal(dev, 3), dev),
        timed(training.wall_ms),
    ]
}

/// Stands below the stages.
pub(crate) const STAGES_NOTE: &str = "Times are of this plan’s own commands. What a stage found done already, by another plan, took \
                                      its time there.";

pub(crate) fn stages(results: &Results) -> Option<Table> {
    let any = results.stages.iter().any(|stage| stage.found.is_some());
    let found = |stage: &StageTime| {
        let Some(Found { calls, of }) = stage.found else { return Cell::text(DASH) };
        Cell::number(format!("{} of {}", number::count(calls), number::count(of)), calls as f64)
    };
    let row = |stage: &StageTime| {
        let cells = [Cell::text(stage.stage.clone()), timed(stage.wall_ms)];
        cells.into_iter().chain(any.then(|| found(stage))).collect()
    };
    let columns = [Column::left("Stage"), Column::right("Wall time", "")];
    let found_done = any.then(|| Column::right("Found done", "calls"));
    (!results.stages.is_empty()).then(|| Table {
        id: "stages",
        caption: "Wall time by stage".to_owned(),
        columns: columns.into_iter().chain(found_done).collect(),
        rows: results.stages.iter().map(row).collect(),
    })
}

fn timed(milliseconds: i64) -> Cell {
    Cell::number(number::duration(milliseconds), milliseconds as f64)
}

pub(crate) fn datasets(results: &Results) -> Option<Table> {
    let row = |used: &DatasetUse| {
        let opened = if used.split == "test" { counted(used.opened_by) } else { Cell::text(DASH) };
        vec![Cell::text(used.dataset.clone()), Cell::text(used.split.clone()), counted(used.rows), opened]
    };
    (!results.datasets.is_empty()).then(|| Table {
        id: "datasets",
        caption: "Data sets".to_owned(),
        columns: vec![
            Column::left("Data set"),
            Column::left("Split"),
            Column::right("Rows", ""),
            Column::right("Opened by", "plans"),
        ],
        rows: results.datasets.iter().map(row).collect(),
    })
}

pub(crate) fn models(results: &Results) -> Option<Table> {
    let row = |model: &ModelUse| {
        let id: String = model.id.chars().take(12).collect();
        let numerics = model.numerics.clone().unwrap_or_else(|| "–".to_owned());
        vec![Cell::text(model.name.clone()), Cell::text(model.source.clone()), Cell::text(numerics), Cell::text(id)]
    };
    (!results.models.is_empty()).then(|| Table {
        id: "models",
        caption: "Models".to_owned(),
        columns: vec![Column::left("Name"), Column::left("Source"), Column::left("Numerics"), Column::left("Id")],
        rows: results.models.iter().map(row).collect(),
    })
}

/// Accuracy by number of reasoning steps, a row for each arm and step count; `None` where no data set knows them.
pub(crate) fn steps(results: &Results) -> Option<Table> {
    let rows: Vec<Vec<Cell>> = results.arms.iter().flat_map(|arm| step_rows(results, arm)).collect();
    (!rows.is_empty()).then(|| Table {
        id: "steps",
        caption: "Accuracy by number of reasoning steps".to_owned(),
        columns: vec![
            Column::left("Arm"),
            Column::right("Steps", ""),
            Column::right("n", ""),
            Column::right("Correct", ""),
            Column::right("Accuracy", "%"),
            Column::right("95 % interval", "%"),
        ],
        rows,
    })
}

fn step_rows(results: &Results, arm: &ArmResult) -> Vec<Vec<Cell>> {
    let row = |slice: &StepSlice| {
        let share = number::ratio(slice.correct, slice.n).unwrap_or(f64::NAN);
        vec![
            Cell { mark: Some(roles::kind(results, arm).class()), ..Cell::text(arm.arm.clone()) },
            counted(u64::from(slice.steps)),
            counted(slice.n),
            counted(slice.correct),
            Cell::number(number::percent(share), share),
            slice.ci.map_or(Cell::text(DASH), |ci| Cell::number(number::percent_interval(ci), ci.0)),
        ]
    };
    arm.by_steps.iter().map(row).collect()
}

fn with_interval(slice: &StepSlice) -> Cell {
    let part = number::ratio(slice.correct, slice.n).unwrap_or(f64::NAN);
    match slice.ci {
        Some(ci) => efficiency::share(slice.n, part, ci),
        None => Cell::number(number::percent(part), part),
    }
}

/// The same in the terminal's form: a row an arm, a column a step count.
pub(crate) fn steps_across(results: &Results) -> Option<Table> {
    let counts = most_at(results.arms.iter().flat_map(|arm| &arm.by_steps).map(|slice| (slice.steps, slice.n)));
    let cell = |arm: &ArmResult, steps: u32| {
        let slice = arm.by_steps.iter().find(|slice| slice.steps == steps);
        slice.map_or(Cell::text(DASH), with_interval)
    };
    let row = |arm: &ArmResult| {
        std::iter::once(Cell::text(arm.arm.clone())).chain(counts.keys().map(|steps| cell(arm, *steps))).collect()
    };
    (!counts.is_empty()).then(|| Table {
        id: "steps",
        caption: "Accuracy (%) by number of reasoning steps".to_owned(),
        columns: std::iter::once(Column::left("Arm (steps)")).chain(step_columns(&counts)).collect(),
        rows: results.arms.iter().map(row).collect(),
    })
}

/// Of each number of steps how many questions take it, where most were asked.
pub(crate) fn most_at(slices: impl Iterator<Item = (u32, u64)>) -> BTreeMap<u32, u64> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for (steps, n) in slices {
        let most = counts.entry(steps).or_default();
        *most = n.max(*most);
    }
    counts
}

pub(crate) fn step_columns(counts: &BTreeMap<u32, u64>) -> impl Iterator<Item = Column> {
    counts.iter().map(|(steps, n)| Column::right(format!("{steps} (n = {})", number::count(*n)), ""))
}
