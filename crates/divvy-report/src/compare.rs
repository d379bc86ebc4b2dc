//! Two runs side by side: how each arm changed, and which rows flipped.

use divvy_core::regression::{ArmChange, Change, Regression, ScoreChange, Test};
use serde_json::{Value, json};

use crate::{
    number,
    table::{self, Cell, Column, Table, clean},
};

/// Flipped rows that a person is shown; programs get all.
const SHOWN: usize = 40;

/// The names are those of the runs, for people.
#[must_use]
pub fn compare_markdown(before: &str, after: &str, regression: &Regression) -> String {
    let mut text = format!("# {}\n\n", clean(&headline(regression)));
    text.push_str(&format!("- Before: {}\n- After: {}\n\n", clean(before), clean(after)));
    if regression.arms.is_empty() {
        text.push_str("The two runs have no arm in common.\n\n");
    } else {
        text.push_str(&format!("## Arms of both, on the same questions\n\n{}\n", table::markdown(&arms(regression))));
    }
    if let Some(scores) = scores(regression) {
        text.push_str(&format!("## With partial credit\n\n{}\n", table::markdown(&scores)));
    }
    text.push_str(&flips(regression));
    text.push_str(&notes(regression));
    text
}

/// `{"before", "after", "regression": bool, "arms": […], "flips": […], …}`.
#[must_use]
pub fn compare_json(before: &str, after: &str, regression: &Regression) -> Value {
    let mut value = serde_json::to_value(regression).expect("a comparison holds only texts, numbers and lists");
    value["before"] = json!(before);
    value["after"] = json!(after);
    value["regression"] = json!(regression.worse().next().is_some());
    value
}

fn headline(regression: &Regression) -> String {
    let names = |change| {
        let arms = regression.arms.iter().filter(move |arm| arm.change == change);
        arms.map(|arm| arm.arm.as_str()).collect::<Vec<_>>().join(", ")
    };
    if regression.arms.iter().all(|arm| arm.n == 0) {
        return "Nothing could be compared.".to_owned();
    }
    let told = [
        ("Worse", names(Change::Worse)),
        ("Better", names(Change::Better)),
        (
            "Not judged, as more than 1 % of the answers failed for reasons outside the models or are still to come",
            names(Change::Withheld),
        ),
    ];
    let told = told.into_iter().filter(|(_, arms)| !arms.is_empty());
    let told: Vec<String> = told.map(|(what, arms)| format!("{what}: {arms}.")).collect();
    if told.is_empty() { "No arm is shown to have changed.".to_owned() } else { told.join(" ") }
}

fn arms(regression: &Regression) -> Table {
    Table {
        id: "changes",
        caption: "Arms of both, on the same questions".to_owned(),
        columns: vec![
            Column::left("Arm"),
            Column::left("Change"),
            Column::right("n", ""),
            Column::right("To come", ""),
            Column::right("Before", "%"),
            Column::right("After", "%"),
            Column::right("After − before", "points"),
            Column::right("95 % interval", "points"),
            Column::right("Lost", ""),
            Column::right("Gained", ""),
            Column::right("Errors before", ""),
            Column::right("Errors after", ""),
            Column::right("p", ""),
            Column::right("Holm p", ""),
        ],
        rows: regression.arms.iter().map(row).collect(),
    }
}

fn row(arm: &ArmChange) -> Vec<Cell> {
    let some = |value: f64| if arm.n == 0 { f64::NAN } else { value };
    let counted = |value: u64| Cell::number(number::count(value), value as f64);
    let percent = |share: f64| Cell::number(number::percent(share), share);
    let word = match arm.change {
        Change::Worse => "worse",
        Change::Better => "better",
        Change::NotShown => "not shown",
        Change::Withheld => "not judged",
    };
    let interval = if arm.n == 0 { number::DASH.to_owned() } else { number::points_interval(arm.ci) };
    vec![
        Cell::text(arm.arm.clone()),
        Cell::text(word),
        counted(arm.n),
        counted(arm.pending),
        percent(some(arm.accuracy_before)),
        percent(some(arm.accuracy_after)),
        Cell::number(number::points(some(arm.difference)), arm.difference),
        Cell::number(interval, arm.ci.0),
        counted(arm.lost),
        counted(arm.gained),
        counted(arm.errors_before),
        counted(arm.errors_after),
        Cell::number(number::p_value(some(arm.p_value)), arm.p_value),
        Cell::number(number::p_value(some(arm.p_holm)), arm.p_holm),
    ]
}

/// A second look at the same answers, where words in common count.
fn scores(regression: &Regression) -> Option<Table> {
    let rows: Vec<_> = regression.arms.iter().filter_map(|arm| Some(score_row(&arm.arm, arm.score?))).collect();
    (!rows.is_empty()).then(|| Table {
        id: "scores",
        caption: "With partial credit".to_owned(),
        columns: vec![
            Column::left("Arm"),
            Column::right("Before", "%"),
            Column::right("After", "%"),
            Column::right("After − before", "points"),
            Column::right("95 % interval", "points"),
            Column::right("p", ""),
            Column::right("Holm p", ""),
        ],
        rows,
    })
}

fn score_row(arm: &str, score: ScoreChange) -> Vec<Cell> {
    let percent = |share: f64| Cell::number(number::percent(share), share);
    vec![
        Cell::text(arm.to_owned()),
        percent(score.before),
        percent(score.after),
        Cell::number(number::points(score.difference), score.difference),
        Cell::number(number::points_interval(score.ci), score.ci.0),
        Cell::number(number::p_value(score.p_value), score.p_value),
        Cell::number(number::p_value(score.p_holm), score.p_holm),
    ]
}

fn flips(regression: &Regression) -> String {
    let all = &regression.flips;
    if all.is_empty() {
        return "No row flipped.\n\n".to_owned();
    }
    let row = |flip: &divvy_core::regression::Flip| {
        let word = if flip.lost { "right → wrong" } else { "wrong → right" };
        vec![Cell::text(flip.arm.clone()), Cell::text(flip.question.clone()), Cell::text(word)]
    };
    // What was lost comes first.
    let (lost, gained): (Vec<_>, Vec<_>) = all.iter().partition(|flip| flip.lost);
    let table = Table {
        id: "flips",
        caption: String::new(),
        columns: vec![Column::left("Arm"), Column::left("Question"), Column::left("Change")],
        rows: lost.into_iter().chain(gained).take(SHOWN).map(row).collect(),
    };
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("\n{} more; `--json` has all.\n", number::count(more as u64)),
    };
    format!("## Rows that flipped\n\n{}{more}\n", table::markdown(&table))
}

fn tests(regression: &Regression) -> &'static str {
    let bootstrap = |arm: &ArmChange| arm.test == Test::Bootstrap;
    let judged = || regression.arms.iter().filter(|arm| arm.n > 0);
    match (judged().any(bootstrap), judged().all(bootstrap)) {
        (false, _) => "Exact McNemar test",
        (true, true) => "Paired bootstrap of whole questions, and of whole passages where questions share them",
        (true, false) => {
            "Exact McNemar test, or where questions share passages or have several answers a paired bootstrap of whole passages \
             or questions"
        }
    }
}

fn notes(regression: &Regression) -> String {
    let mut notes = vec![format!(
        "n is every question that both runs answered under the arm; an error counts as wrong, and of several answers to a question \
         the mean counts. {}, Holm-adjusted over the arms that are judged; “worse” and “better” mean Holm p < 0.05.",
        tests(regression)
    )];
    if regression.arms.iter().any(|arm| arm.score.is_some()) {
        notes.push(
            "Partial credit (F1) is a second look at the same answers, by a paired bootstrap with an adjustment of its own; what is “worse” \
             is decided by right and wrong."
                .to_owned(),
        );
    }
    if regression.changed_questions > 0 {
        notes.push(format!(
            "{} questions have the same id and another text or gold answer; they are not compared.",
            number::count(regression.changed_questions)
        ));
    }
    for (which, arms) in [("before", &regression.only_before), ("after", &regression.only_after)] {
        if !arms.is_empty() {
            notes.push(format!("Only {which}: {}.", arms.join(", ")));
        }
    }
    let lines: String = notes.iter().map(|note| format!("- {}\n", clean(note))).collect();
    format!("## Notes\n\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use divvy_core::regression::Flip;

    fn regression(change: Change) -> Regression {
        let arm = ArmChange {
            arm: "cot/big".to_owned(),
            n: 200,
            pending: 0,
            answers_before: 200,
            answers_after: 200,
            correct_before: 100,
            correct_after: 80,
            accuracy_before: 0.5,
            accuracy_after: 0.4,
            errors_before: 0,
            errors_after: 2,
            lost: 30,
            gained: 10,
            difference: -0.1,
            ci: (-0.16, -0.04),
            test: Test::Mcnemar,
            p_value: 0.002,
            p_holm: 0.004,
            change,
            score: None,
        };
        let flip = |number: usize| Flip {
            arm: "cot/big".to_owned(),
            question: format!("q/test/{number}"),
            lost: number >= 10,
        };
        Regression {
            arms: vec![arm],
            only_before: vec!["old".to_owned()],
            only_after: Vec::new(),
            changed_questions: 3,
            flips: (0..50).map(flip).collect(),
        }
    }

    #[test]
    fn what_was_lost_is_told_first_and_nothing_is_left_out_silently() {
        let text = compare_markdown("run 1", "run 2 | \u{1b}[31m", &regression(Change::Worse));
        assert!(text.starts_with("# Worse: cot/big.\n\n- Before: run 1\n- After: run 2 \\|"), "{text}");
        assert!(
            text.contains("| cot/big | worse  | 200 |") && text.contains("−10.0") && text.contains("0.004"),
            "{text}"
        );
        assert!(text.find("q/test/10").unwrap() < text.find("wrong → right").unwrap_or(usize::MAX), "{text}");
        assert!(text.contains("10 more; `--json` has all.") && text.contains("3 questions have the same id"), "{text}");
        assert!(text.contains("Only before: old.") && !text.contains('\u{1b}'));
    }

    #[test]
    fn partial_credit_is_told_where_there_is_any() {
        let mut partial = regression(Change::Worse);
        assert!(!compare_markdown("a", "b", &partial).contains("partial credit"));
        let score = ScoreChange {
            before: 0.61,
            after: 0.55,
            difference: -0.06,
            ci: (-0.1, -0.02),
            p_value: 0.01,
            p_holm: 0.03,
        };
        partial.arms[0].score = Some(score);
        let text = compare_markdown("a", "b", &partial);
        assert!(text.contains("## With partial credit") && text.contains("61.0") && text.contains("−6.0"), "{text}");
        assert!(text.contains("second look"), "{text}");
    }

    #[test]
    fn runs_without_a_question_in_common_are_not_called_unchanged() {
        let mut none = regression(Change::NotShown);
        none.arms[0].n = 0;
        assert!(compare_markdown("a", "b", &none).starts_with("# Nothing could be compared."));
    }

    #[test]
    fn an_outage_is_said_to_be_one() {
        let mut down = regression(Change::Withheld);
        (down.arms[0].p_holm, down.arms[0].test) = (f64::NAN, Test::Bootstrap);
        let text = compare_markdown("a", "b", &down);
        assert!(text.starts_with("# Not judged, as more than 1 % of the answers failed"), "{text}");
        assert!(text.contains("| not judged |") && text.contains("Paired bootstrap of whole questions"), "{text}");
        let value = compare_json("a", "b", &down);
        assert!(value["arms"][0]["p_holm"].is_null() && value["arms"][0]["change"] == "withheld", "{value}");
        assert_eq!(value["regression"], json!(false));
    }

    #[test]
    fn programs_get_all_flips_and_a_yes_or_no() {
        let value = compare_json("a", "b", &regression(Change::NotShown));
        assert_eq!((&value["regression"], value["flips"].as_array().map(Vec::len)), (&json!(false), Some(50)));
        assert_eq!((&value["arms"][0]["change"], &value["before"]), (&json!("not-shown"), &json!("a")));
        assert!(
            compare_markdown("a", "b", &regression(Change::NotShown)).starts_with("# No arm is shown to have changed.")
        );
    }
}
