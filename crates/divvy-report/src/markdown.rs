//! The report for a terminal: verdict first, then tables that line up without being rendered.

use divvy_core::results::{Comparison, Results};

use crate::{
    chosen, costs, efficiency,
    number::count,
    quality, roles, scoring, seeds, sets, slices,
    table::{self, Table, clean},
    tables, verdict,
};

/// Markdown: verdict, arms, tokens, costs, paired comparisons, decompositions, slices, training rows, for each data set; then
/// screening, training, stages, notes.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut text = format!("# {}\n\n", clean(&results.name));
    match sets::overview(results) {
        None => push_set(&mut text, results, "##"),
        Some(overview) => push_sets(&mut text, results, &overview),
    }
    // Of one data set it stands among the tables of that.
    let quality = if results.by_dataset.is_empty() { None } else { quality::table(results) };
    let shared = [
        quality,
        tables::collection(results),
        tables::screening(results),
        tables::training(results),
        chosen::sweeps(results),
        chosen::steps(results),
        tables::stages(results),
    ];
    for table in shared.iter().flatten() {
        push_table(&mut text, table, "##", "");
    }
    // The last table.
    if !results.stages.is_empty() {
        text.push_str(&format!("{}\n\n", tables::STAGES_NOTE));
    }
    push_notes(&mut text, results);
    text
}

/// The answers first, then all data sets side by side, then one by one.
fn push_sets(text: &mut String, results: &Results, overview: &Table) {
    let verdicts = sets::verdicts(results);
    text.push_str(&format!("**{}**\n\n", clean(&sets::title(&verdicts))));
    for (set, verdict) in &verdicts {
        text.push_str(&format!("- {}: **{}**\n", clean(set), clean(&verdict.headline)));
        for (label, line) in &verdict.brief {
            text.push_str(&format!("  - {label}: {}\n", clean(line)));
        }
    }
    text.push('\n');
    push_table(text, overview, "##", "No arm was evaluated.");
    for (set, one) in results.by_data_set() {
        text.push_str(&format!("## Data set {}\n\n", clean(set)));
        push_set(text, &one, "###");
    }
}

fn push_set(text: &mut String, results: &Results, heading: &str) {
    push_verdict(text, results);
    push_table(text, &tables::outcomes(results), heading, "No arm was evaluated.");
    if let Some(seeds) = seeds::table(results) {
        push_table(text, &seeds, heading, "");
    }
    if !results.arms.is_empty() {
        push_table(text, &tables::tokens(results), heading, "");
    }
    for table in &costs::tables(results) {
        push_table(text, table, heading, "");
    }
    push_table(text, &tables::comparisons(results), heading, "No two arms were compared.");
    let optional = [
        quality::table(results),
        tables::steps_across(results),
        slices::gains(results),
        slices::answers(results),
        slices::subquestions(results),
        slices::passages(results),
        efficiency::table(results),
    ];
    for table in scoring::tables(results).iter().chain(optional.iter().flatten()) {
        push_table(text, table, heading, "");
    }
}

fn push_verdict(text: &mut String, results: &Results) {
    let verdict = verdict::verdict(results);
    text.push_str(&format!("**{}**\n\n", clean(&verdict.headline)));
    for (label, line) in &verdict.summary {
        text.push_str(&format!("**{label}:** {}\n\n", clean(line)));
    }
    for finding in &verdict.findings {
        text.push_str(&format!("- {}\n", clean(finding)));
    }
    if !verdict.findings.is_empty() {
        text.push('\n');
    }
}

fn push_table(text: &mut String, table: &Table, heading: &str, when_empty: &str) {
    text.push_str(&format!("{heading} {}\n\n", clean(&table.caption)));
    if table.rows.is_empty() {
        text.push_str(&format!("{when_empty}\n\n"));
    } else {
        text.push_str(&format!("{}\n", table::markdown(table)));
    }
}

fn push_notes(text: &mut String, results: &Results) {
    text.push_str("## Notes\n\n");
    for note in notes(results) {
        text.push_str(&format!("- {}\n", clean(&note)));
    }
}

/// What the figures mean; the page ends with the same notes.
pub(crate) fn notes(results: &Results) -> Vec<String> {
    let mut notes = vec![
        format!(
            "n is every {} question, whatever became of it. No answer, truncated, refused and error count as wrong{}.",
            results.split.name(),
            if results.arms.iter().any(|arm| arm.pending > 0) { ", and so does what is still to come" } else { "" },
        ),
        intervals(results),
        format!(
            "Comparisons are paired on the same questions: {}, Holm-adjusted within each family over all data sets, by the \
             number of tests that the plan asks for ({}{}); “shown” means Holm p < 0.05. The interval of a difference is the \
             95 % interval of the paired difference, not adjusted. Detectable is the smallest true difference that these \
             questions find four times in five, at the level of the first place in Holm’s order.",
            test(results),
            families(results, |pair| Some(pair.tests)).unwrap_or_else(|| "none here".to_owned()),
            families(results, |pair| Some(pair.score?.tests))
                .map_or(String::new(), |sizes| format!("; of partial credit {sizes}")),
        ),
        "Tokens are means per question over all n, input and output of every call, by stage.".to_owned(),
    ];
    notes.extend(seeds::notes(results));
    if results.comparisons.iter().any(|pair| pair.declared || pair.exploratory) {
        notes.push(
            "The recipe declares what is compared: Holm’s adjustment is over those comparisons. The others are exploratory: they \
             suggest, and show nothing."
                .to_owned(),
        );
    }
    notes.extend(unrecorded(results));
    notes.extend(costs::notes(results));
    notes.extend(quality::notes(results));
    if results.screening.is_some() {
        let screening = results.screening.as_ref().map_or((0, 0), |s| (s.tokens_in, s.tokens_out));
        notes.push(format!("Screening took {} tokens in and {} out.", count(screening.0), count(screening.1)));
    }
    let plan: String = results.plan.chars().take(12).collect();
    notes.push(format!("Plan {plan}, divvy {}, {}.", results.divvy_version, results.created));
    notes
}

/// Students that answered, though nothing is told of their training.
fn unrecorded(results: &Results) -> Option<String> {
    let on_record = |name: &str| results.training.iter().any(|training| training.student == name);
    let missing = results.students.iter().map(|student| student.student.as_str()).filter(|name| !on_record(name));
    let missing: Vec<&str> = missing.filter(|name| roles::answers(results, name)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "The training of {} is not on record here (rows were put back since, or another version of divvy made it): its rows, \
             losses and cost are told nowhere.",
            missing.join(", ")
        )
    })
}

/// Data sets whose questions share passages, with how many there are, and those whose questions stand alone. An arm over all data
/// sets does not say: figures and tests are those of each.
fn by_sharing(results: &Results) -> (Vec<(String, u64)>, Vec<String>) {
    let (mut sharing, mut alone) = (Vec::new(), Vec::new());
    for (set, one) in results.by_data_set() {
        match one.arms.iter().find_map(|arm| arm.passages) {
            Some(passages) => sharing.push((set.to_owned(), passages)),
            None => alone.push(set.to_owned()),
        }
    }
    (sharing, alone)
}

fn test(results: &Results) -> String {
    let single = match results.arms.iter().any(|arm| arm.each > 1) {
        true => "exact McNemar test, or where questions have several answers a paired bootstrap",
        false => "exact McNemar test",
    };
    match by_sharing(results) {
        (sharing, _) if sharing.is_empty() => single.to_owned(),
        (_, alone) if alone.is_empty() => "paired cluster bootstrap".to_owned(),
        (_, alone) => {
            format!("paired cluster bootstrap where questions share passages, and for {} {single}", alone.join(", "))
        }
    }
}

fn intervals(results: &Results) -> String {
    const ALONE: &str = "the interval of an accuracy is the 95 % Wilson interval; that of partial credit is a 95 % percentile \
                         bootstrap, seeded by the run, below thirty questions Student’s t.";
    let (sharing, alone) = by_sharing(results);
    let named = |(set, passages): &(String, u64)| match results.by_dataset.is_empty() {
        true => format!("{} passages", count(*passages)),
        false => format!("{} passages of {set}", count(*passages)),
    };
    let drawn = format!(
        "Questions share {} and are not independent: intervals and tests draw whole passages (95 % percentile bootstrap, \
         seeded by the run), or where there are fewer than thirty, as in slices, are Student’s t over them; an accuracy’s \
         are no narrower than of independent rows.",
        sharing.iter().map(named).collect::<Vec<_>>().join(", ")
    );
    match (sharing.is_empty(), alone.is_empty()) {
        (true, _) => ALONE.replacen("the", "The", 1),
        (false, true) => drawn,
        (false, false) => format!("{drawn} For {} {ALONE}", alone.join(", ")),
    }
}

/// `decomposer 13, solver 4`, in tests; `None` where there are none.
fn families(results: &Results, tests: impl Fn(&Comparison) -> Option<u64>) -> Option<String> {
    let sets = results.by_data_set();
    let mut sizes: Vec<String> = Vec::new();
    for pair in sets.iter().flat_map(|(_, one)| &one.comparisons) {
        let Some(tests) = tests(pair) else { continue };
        let size = format!("{} {tests}", if pair.declared { "declared" } else { pair.family.name() });
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    (!sizes.is_empty()).then(|| sizes.join(", "))
}
