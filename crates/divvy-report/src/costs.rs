//! What answering and distilling cost, as tables that every form of the report uses: each arm, each student, and when a student
//! pays back. Money and the machine's time stand in columns of their own, where they are known.

use divvy_core::results::{
    Results,
    costs::{ArmCost, BreakEven, Costs, Distilling, Mean, Measure, Outlay, PerCorrect, Spending, StudentCost},
};

use crate::{
    number::{self, DASH, count},
    roles,
    table::{Cell, Column, Table},
};

pub(crate) const MEASURES: [Measure; 2] = [Measure::Money, Measure::Machine];
/// Figures of a single question are too small to read.
const THOUSAND: i64 = 1000;

/// Every table on costs, in reading order; none before anything was evaluated.
pub(crate) fn tables(results: &Results) -> Vec<Table> {
    let arms = MEASURES.into_iter().filter_map(|measure| arms(results, measure));
    arms.chain([break_even(results), students(results), calls(results)].into_iter().flatten()).collect()
}

/// What questions and right answers cost in each arm; `None` where that is known of none.
fn arms(results: &Results, measure: Measure) -> Option<Table> {
    let costs = results.costs.as_ref().filter(|costs| costs.arms.iter().any(|arm| spent(arm, measure).is_some()))?;
    let spread = costs.arms.iter().any(|arm| arm.one_off.is_some());
    let mut columns = vec![Column::left("Arm"), Column::right("n", "")];
    for title in ["1,000 questions", "1,000 right answers"] {
        columns.extend([Column::right(title, ""), Column::right("95 % interval", "")]);
    }
    if spread {
        let questions = count(costs.terms.questions);
        columns.push(Column::right(format!("1,000 questions with the student’s cost, over {questions} questions"), ""));
    }
    let row = |arm: &ArmCost| {
        let mut cells = vec![named(results, &arm.arm), counted(arm.n)];
        cells.extend(spending_cells(spent(arm, measure), arm.n, measure));
        cells.extend(spread.then(|| spread_cell(costs, arm, measure)));
        cells
    };
    let (id, caption) = match measure {
        Measure::Money => ("costs", "Money, every call counted"),
        Measure::Machine => ("machine-time", "The machine’s time, every call counted"),
    };
    Some(Table { id, caption: caption.to_owned(), columns, rows: costs.arms.iter().map(row).collect() })
}

/// Intervals are sorted by their lower ends.
fn spending_cells(spent: Option<&Spending>, n: u64, measure: Measure) -> [Cell; 4] {
    let Some(spent) = spent else { return [DASH; 4].map(Cell::text) };
    let mean = per_question(spent, n).map_or(Cell::text(DASH), |mean| exact(mean, measure));
    let its = spent.question.map_or(Cell::text(DASH), |Mean { ci, .. }| sorted(interval(ci, measure), ci.0));
    let (right, its_right) = match spent.correct {
        None => (Cell::text(DASH), Cell::text(DASH)),
        Some(right) => (exact(right.mean, measure), sorted(right_interval(&right, measure), right.low)),
    };
    [mean, its, right, its_right]
}

fn right_interval(right: &PerCorrect, measure: Measure) -> String {
    let high = right.high.map_or_else(|| "no upper end".to_owned(), |high| thousand(high, measure));
    format!("{} to {high}", thousand(right.low, measure))
}

/// With the share of a question in what was paid once; an arm without a student pays nothing once.
fn spread_cell(costs: &Costs, arm: &ArmCost, measure: Measure) -> Cell {
    let once = arm.one_off.as_ref().map_or(Some(0), |outlay| paid(outlay, measure));
    let running = spent(arm, measure).and_then(|spent| per_question(spent, arm.n));
    let questions = i64::try_from(costs.terms.questions).unwrap_or(i64::MAX).max(1);
    let total = running.zip(once).and_then(|(running, once)| running.checked_add(once / questions));
    total.map_or(Cell::text(DASH), |total| exact(total, measure))
}

/// How often each arm asked, what failed, and how long one waited.
fn calls(results: &Results) -> Option<Table> {
    let costs = results.costs.as_ref().filter(|costs| !costs.arms.is_empty())?;
    let waited = |of: Option<i64>| of.map_or(Cell::text(DASH), |ms| Cell::number(number::duration(ms), ms as f64));
    let row = |arm: &ArmCost| {
        vec![
            named(results, &arm.arm),
            counted(arm.n),
            averaged(arm.calls, arm.n),
            if arm.unknown_usage > 0 { Cell::text(DASH) } else { averaged(arm.tokens.cached, arm.n) },
            counted(arm.failed_tries),
            counted(arm.failed_tokens.input + arm.failed_tokens.output),
            waited(arm.latency.map(|latency| latency.p50_ms)),
            waited(arm.latency.map(|latency| latency.p95_ms)),
        ]
    };
    Some(Table {
        id: "calls",
        caption: "Calls, failures and waiting".to_owned(),
        columns: vec![
            Column::left("Arm"),
            Column::right("n", ""),
            Column::right("Calls", "a question"),
            Column::right("Cached input", "tokens a question"),
            Column::right("Failed tries", ""),
            Column::right("Tokens of failed tries", ""),
            Column::grouped("Latency", "p50", ""),
            Column::grouped("Latency", "p95", ""),
        ],
        rows: costs.arms.iter().map(row).collect(),
    })
}

fn named(results: &Results, slug: &str) -> Cell {
    let arm = results.arms.iter().find(|arm| arm.arm == slug);
    Cell { mark: arm.map(|arm| roles::kind(results, arm).class()), ..Cell::text(slug) }
}

/// What was paid once for each student, part by part.
fn students(results: &Results) -> Option<Table> {
    let costs = results.costs.as_ref().filter(|costs| !costs.students.is_empty())?;
    let known = |measure| costs.students.iter().filter(|student| paid(&student.total, measure).is_some()).count();
    let measure = most_known(known);
    let part = |outlay: &Outlay| {
        let value = paid(outlay, measure);
        value.map_or(Cell::text(both(outlay)), |value| sorted(both(outlay), value))
    };
    let row = |student: &StudentCost| {
        let tokens = student.total.tokens.input + student.total.tokens.output;
        vec![
            Cell::text(roles::plain(&student.student)),
            part(&student.collection),
            part(&student.screening),
            part(&student.training),
            part(&student.total),
            counted(tokens),
        ]
    };
    Some(Table {
        id: "outlays",
        caption: "Paid once for each student".to_owned(),
        columns: vec![
            Column::left("Student"),
            Column::right("Collection", ""),
            Column::right("Screening", ""),
            Column::right("Training", ""),
            Column::right("In all", ""),
            Column::right("Tokens of its calls", ""),
        ],
        rows: costs.students.iter().map(row).collect(),
    })
}

/// When each arm with a student has saved what the student cost, against each arm that it would replace.
fn break_even(results: &Results) -> Option<Table> {
    let costs = results.costs.as_ref().filter(|costs| !costs.distilling.is_empty())?;
    let known = |measure| costs.distilling.iter().filter(|pair| pair.measure == Some(measure)).count();
    let measure = most_known(known);
    let row = |pair: &Distilling| {
        let arms = [pair.arm.clone(), pair.replaces.clone()].map(Cell::text);
        arms.into_iter().chain(payback(pair, measure)).collect()
    };
    Some(Table {
        id: "break-even",
        caption: "When a student is paid back".to_owned(),
        columns: vec![
            Column::left("Arm"),
            Column::left("Instead of"),
            Column::right("Paid once", ""),
            Column::right("Saved in 1,000 questions", ""),
            Column::right("95 % interval", ""),
            Column::right("Break-even", "questions"),
            Column::right("95 % interval", "questions"),
        ],
        rows: costs.distilling.iter().map(row).collect(),
    })
}

/// What was paid once, what is saved, and the break-even, these two with their intervals. Amounts in another measure than `by` have
/// no place among those in it.
fn payback(pair: &Distilling, by: Measure) -> [Cell; 5] {
    let Some((measure, saving)) = pair.measure.zip(pair.saving) else { return [DASH; 5].map(Cell::text) };
    let cell = |text: String, value: i64| if measure == by { sorted(text, value) } else { Cell::text(text) };
    let even = pair.break_even.as_ref();
    [
        pair.one_off.map_or(Cell::text(DASH), |once| cell(amount(once, measure), once)),
        cell(thousand(saving.mean, measure), saving.mean),
        cell(interval(saving.ci, measure), saving.ci.0),
        even.map_or(Cell::text(DASH), |even| from(after(even.questions), even.questions)),
        even.map_or(Cell::text(DASH), |even| from(range(even), even.earliest)),
    ]
}

/// "never" is no number, and stands last.
fn from(text: String, questions: Option<u64>) -> Cell {
    questions.map_or(Cell::text(text.clone()), |questions| Cell::number(text, questions as f64))
}

/// By which a column that has both is sorted: two measures do not compare.
fn most_known(known: impl Fn(Measure) -> usize) -> Measure {
    let [money, machine] = MEASURES.map(known);
    if money < machine { Measure::Machine } else { Measure::Money }
}

pub(crate) fn after(questions: Option<u64>) -> String {
    questions.map_or_else(|| "never".to_owned(), count)
}

fn range(even: &BreakEven) -> String {
    match even.earliest {
        None => "never".to_owned(),
        Some(earliest) => format!("{} to {}", count(earliest), after(even.latest)),
    }
}

/// The terms on which the figures above hold, those of every data set together.
pub(crate) fn notes(results: &Results) -> Vec<String> {
    let sets = results.by_data_set();
    let told: Vec<&Costs> = sets.iter().filter_map(|(_, one)| one.costs.as_ref()).collect();
    let arms: Vec<&ArmCost> = told.iter().flat_map(|costs| &costs.arms).collect();
    let Some(costs) = told.first().filter(|_| !arms.is_empty()) else { return Vec::new() };
    let mut notes = vec![
        "Costs count every call behind an arm’s questions, failed tries and questions without an answer included; a call that \
         arms share counts for each of them, and one from the cache counts what it took when it was made."
            .to_owned(),
    ];
    notes.extend(terms(costs, &arms));
    let recorded = |name: &&str| arms.iter().any(|arm| arm.recorded && arm.arm == *name);
    let recorded: Vec<&str> = results.arms.iter().map(|arm| arm.arm.as_str()).filter(recorded).collect();
    if !recorded.is_empty() {
        notes.push(format!(
            "{}: the decompositions came with the data, so nothing is paid for them here, and a new question would have none.",
            recorded.join(", ")
        ));
    }
    let unknown: Vec<String> = arms.iter().filter(|arm| arm.unknown_usage > 0).map(|arm| unknown_usage(arm)).collect();
    if !unknown.is_empty() {
        notes.push(format!(
            "Tokens are not known where an endpoint says nothing of usage, and such an arm has no place among those drawn by \
             tokens. Calls without: {}.",
            unknown.join(", ")
        ));
    }
    let uncounted: u64 = arms.iter().map(|arm| arm.uncounted_tries).sum();
    if uncounted > 0 {
        notes.push(format!(
            "Failed tries that may have been charged and did not say for what, in no figure: {}.",
            count(uncounted)
        ));
    }
    if arms.iter().any(|arm| arm.latency.is_some()) {
        notes.push(
            "Latency is a question’s calls one after another, failed tries included, with other questions under way; waiting for \
             a turn is not counted, nor are calls in batches."
                .to_owned(),
        );
    }
    notes
}

/// `cot/big 12 of 300`
fn unknown_usage(arm: &ArmCost) -> String {
    format!("{} {} of {}", arm.arm, count(arm.unknown_usage), count(arm.calls))
}

fn terms(costs: &Costs, arms: &[&ArmCost]) -> Option<String> {
    let timed = arms.iter().any(|arm| arm.machine.is_some());
    let unpriced = arms.iter().any(|arm| arm.money.is_none());
    let at = match costs.terms.machine_hour_nanos {
        Some(nanos) => format!("An hour of the machine is taken to cost {}", number::dollars(nanos)),
        None if timed && arms.iter().all(|arm| arm.money.is_none()) => {
            return Some(
                "No price is known for these models, so costs are in the machine’s time; `machine_hour` under [costs] turns it \
                 into money, and `utilisation` counts hours in which the machine waits."
                    .to_owned(),
            );
        }
        None if unpriced => {
            return Some("No price is known for some of these models: a dash is a cost that is not known.".to_owned());
        }
        None => return None,
    };
    let share = number::percent(costs.terms.utilisation);
    Some(format!("{at}, at work {share} % of the time while it answers and all of the time while it trains."))
}

pub(crate) fn spent(arm: &ArmCost, measure: Measure) -> Option<&Spending> {
    match measure {
        Measure::Money => arm.money.as_ref(),
        Measure::Machine => arm.machine.as_ref(),
    }
}

pub(crate) fn paid(outlay: &Outlay, measure: Measure) -> Option<i64> {
    match measure {
        Measure::Money => outlay.money_nanos,
        Measure::Machine => outlay.machine_us,
    }
}

/// Half up; the mean of nothing is unknown.
pub(crate) fn per_question(spent: &Spending, n: u64) -> Option<i64> {
    let n = i64::try_from(n).ok().filter(|n| *n > 0)?;
    Some(spent.question.map_or_else(|| spent.total.div_euclid(n), |Mean { mean, .. }| mean))
}

/// `$0.0021`, or `1.4 s`.
pub(crate) fn amount(value: i64, measure: Measure) -> String {
    match measure {
        Measure::Money => number::dollars(value),
        Measure::Machine => number::machine_time(value),
    }
}

/// The same of a thousand questions.
pub(crate) fn thousand(value: i64, measure: Measure) -> String {
    amount(value.saturating_mul(THOUSAND), measure)
}

/// `$2.10 to $3.50`, of a thousand questions.
pub(crate) fn interval((low, high): (i64, i64), measure: Measure) -> String {
    format!("{} to {}", thousand(low, measure), thousand(high, measure))
}

/// Money where it is known, and time where it is.
fn both(outlay: &Outlay) -> String {
    let known: Vec<String> =
        MEASURES.into_iter().filter_map(|measure| paid(outlay, measure).map(|value| amount(value, measure))).collect();
    if outlay.money_nanos == Some(0) && outlay.machine_us == Some(0) {
        return "0".to_owned();
    }
    if known.is_empty() { DASH.to_owned() } else { known.join(", ") }
}

fn exact(value: i64, measure: Measure) -> Cell {
    sorted(thousand(value, measure), value)
}

fn sorted(text: String, value: i64) -> Cell {
    Cell::number(text, value as f64)
}

fn counted(value: u64) -> Cell {
    Cell::number(count(value), value as f64)
}

fn averaged(total: u64, n: u64) -> Cell {
    Cell::number(number::mean(total, n), number::ratio(total, n).unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, COT, DISTILLED, costed, distilling, saving};

    /// Sort keys of a column.
    fn keys(table: &Table, column: usize) -> Vec<Option<f64>> {
        table.rows.iter().map(|row| row[column].number).collect()
    }

    #[test]
    fn amounts_are_sorted_by_their_value_and_never_stands_last() {
        let mut results = costed(testing::results(), saving(1, (1, 1)));
        let pair = |measure, mean| distilling(DISTILLED, COT, measure, saving(mean, (mean - 5_000, mean + 5_000)));
        let (hour, minutes) = (pair(Measure::Machine, 3_720_000), pair(Measure::Machine, 354_000));
        let never = pair(Measure::Machine, -20_000);
        let costs = results.costs.as_mut().unwrap();
        costs.distilling = vec![hour, minutes, never, pair(Measure::Money, 7)];
        let table = break_even(&results).unwrap();
        assert_eq!((table.rows[0][3].text.as_str(), table.rows[1][3].text.as_str()), ("1 h 02 min", "5 min 54 s"));
        assert_eq!(keys(&table, 3), [Some(3_720_000.0), Some(354_000.0), Some(-20_000.0), None], "money is no time");
        assert_eq!(keys(&table, 4)[1..3], [Some(349_000.0), Some(-25_000.0)]);
        assert_eq!(keys(&table, 5), [Some(25.0), Some(255.0), None, Some(171_428_572.0)]);
        assert_eq!((table.rows[2][5].text.as_str(), keys(&table, 6)[2]), ("never", None));
    }

    #[test]
    fn what_students_took_is_sorted_by_the_measure_that_is_known_of_most() {
        let mut results = costed(testing::results(), saving(1, (1, 1)));
        let costs = results.costs.as_mut().unwrap();
        let in_time = |micros| Outlay { money_nanos: None, machine_us: Some(micros), ..Outlay::NONE };
        let unpriced = StudentCost { total: in_time(354_000_000), ..costs.students[0].clone() };
        costs.students.push(unpriced);
        let table = students(&results).unwrap();
        assert_eq!(table.rows[1][4].text, "5 min 54 s");
        assert_eq!(keys(&table, 4), [Some(90e6), Some(354e6)], "money is known of one alone");
    }

    #[test]
    fn intervals_are_sorted_by_their_lower_ends() {
        let results = costed(testing::results(), saving(1_500_000, (1_000_000, 2_000_000)));
        let table = arms(&results, Measure::Money).unwrap();
        assert!(keys(&table, 3).iter().chain(&keys(&table, 5)).all(Option::is_some));
    }
}
