//! What scorers say: partial credit compared, accuracy by scorer, and the rows on which scorers disagree.

use divvy_core::{
    recipe::FurtherScorer,
    results::{Comparison, Disagreement, Results, ScoredArm},
};

use crate::{
    number::{self, DASH},
    table::{Cell, Column, Table},
    tables::{counted, pair_columns},
};

/// Equal golds of a question are kept once, and the first of them stands for what most annotators said.
const NEARLY_THE_PAPERS: &str =
    " (paper-compat is an approximation on DROP: of several annotators it takes the first, the paper what most said)";

/// Rows of disagreement that a report shows; the JSON form has all.
const SHOWN: usize = 20;

/// Those that there is something for.
pub(crate) fn tables(results: &Results) -> Vec<Table> {
    [partial_credit(results), by_scorer(results), disagreements(results)].into_iter().flatten().collect()
}

fn partial_credit(results: &Results) -> Option<Table> {
    let row = |pair: &Comparison| {
        let score = pair.score?;
        Some(vec![
            Cell::text(pair.a.clone()),
            Cell::text(pair.b.clone()),
            Cell::text(pair.family.name()),
            counted(pair.n),
            Cell::number(number::points(score.difference), score.difference),
            Cell::number(number::points_interval(score.ci), score.ci.0),
            Cell::number(number::p_value(score.p_value), score.p_value),
            Cell::number(number::p_value(score.p_holm), score.p_holm),
        ])
    };
    let rows: Vec<Vec<Cell>> = results.comparisons.iter().filter_map(row).collect();
    (!rows.is_empty()).then(|| Table {
        id: "partial-credit",
        caption: "Partial credit compared (paired bootstrap, adjusted by itself; accuracy decides)".to_owned(),
        columns: pair_columns([]),
        rows,
    })
}

fn by_scorer(results: &Results) -> Option<Table> {
    let scoring = results.scoring.as_ref()?;
    let row = |arm: &ScoredArm| {
        let (accuracy, score) = if arm.n == 0 { (f64::NAN, f64::NAN) } else { (arm.accuracy, arm.score) };
        let interval = if arm.n == 0 { DASH.to_owned() } else { number::percent_interval(arm.ci) };
        vec![
            Cell::text(arm.arm.clone()),
            Cell::text(arm.scorer.clone()),
            counted(arm.n),
            counted(arm.correct),
            Cell::number(number::percent(accuracy), accuracy),
            Cell::number(interval, arm.ci.0),
            Cell::number(number::percent(score), score),
            counted(arm.unread),
        ]
    };
    let of_the_paper = scoring.arms.iter().any(|arm| arm.scorer == FurtherScorer::PaperCompat.name());
    Some(Table {
        id: "by-scorer",
        caption: format!(
            "The same answers by scorer; only the questions' own decide the verdict{}",
            if of_the_paper { NEARLY_THE_PAPERS } else { "" }
        ),
        columns: vec![
            Column::left("Arm"),
            Column::left("Scorer"),
            Column::right("n", ""),
            Column::right("Correct", ""),
            Column::right("Accuracy", "%"),
            Column::right("95 % interval", "%"),
            Column::right("Partial credit", "%"),
            Column::right("Unread", ""),
        ],
        rows: scoring.arms.iter().map(row).collect(),
    })
}

fn disagreements(results: &Results) -> Option<Table> {
    let all = &results.scoring.as_ref()?.disagreements;
    let row = |row: &Disagreement| {
        vec![
            Cell::text(row.arm.clone()),
            Cell::text(row.question_id.clone()),
            Cell::text(row.answer.clone().unwrap_or_else(|| DASH.to_owned())),
            Cell::text(row.gold.join(" | ")),
            Cell::text(row.right_by.join(", ")),
            Cell::text(row.wrong_by.join(", ")),
        ]
    };
    let shown = if all.len() > SHOWN { format!("; the first {SHOWN} are shown") } else { String::new() };
    (!all.is_empty()).then(|| Table {
        id: "disagreements",
        caption: format!("Rows on which scorers disagree: {}{shown}", number::count(all.len() as u64)),
        columns: ["Arm", "Question", "Answer", "Gold", "Right by", "Wrong by"].map(Column::left).into(),
        rows: all.iter().take(SHOWN).map(row).collect(),
    })
}

#[cfg(test)]
mod tests {
    use divvy_core::results::{ScoreDifference, Scoring};

    use super::*;
    use crate::{html, markdown, testing};

    fn with_scorers() -> Results {
        let mut results = testing::results();
        results.arms[1].score_ci = Some((0.41, 0.47));
        results.arms[1].refused = 4;
        let score = ScoreDifference { difference: 0.031, ci: (0.011, 0.052), p_value: 0.004, p_holm: 0.012, tests: 3 };
        results.comparisons[0].score = Some(score);
        let scored = |scorer: &str, correct: u64| ScoredArm {
            arm: testing::COT.to_owned(),
            scorer: scorer.to_owned(),
            n: 300,
            correct,
            accuracy: correct as f64 / 300.0,
            ci: (0.2, 0.6),
            score: 0.5,
            unread: 0,
        };
        let disagreement = |row: usize| Disagreement {
            arm: testing::COT.to_owned(),
            question_id: format!("set/test/{row}"),
            answer: Some("20 <b>".to_owned()),
            gold: vec!["18".to_owned()],
            right_by: vec!["paper-compat".to_owned()],
            wrong_by: vec!["own".to_owned()],
        };
        results.scoring = Some(Scoring {
            version: 2,
            arms: vec![scored("own", 120), scored("paper-compat", 150)],
            disagreements: (0..30).map(disagreement).collect(),
        });
        results
    }

    #[test]
    fn scorers_stand_side_by_side() {
        let (text, page) = (markdown(&with_scorers()), html(&with_scorers(), &crate::Rows::default()));
        for words in [
            "paper-compat is an approximation",
            "disagree: 30; the first 20 are shown",
            "Partial credit compared",
            "Refused",
        ] {
            assert!(text.contains(words) && page.contains(words), "{words}");
        }
        assert!(text.contains("set/test/19") && !text.contains("set/test/20"));
        assert!(!page.contains("20 <b>"));
        assert!(text.contains("+3.1") && text.contains("0.012"), "{text}");
    }

    #[test]
    fn only_the_papers_rules_are_called_an_approximation() {
        let mut results = with_scorers();
        let scored = results.scoring.as_mut().unwrap();
        scored.arms[1].scorer = FurtherScorer::Exact.name().to_owned();
        assert!(!markdown(&results).contains("approximation"));
    }

    #[test]
    fn without_further_scorers_nothing_is_said_of_them() {
        assert!(tables(&testing::results()).is_empty());
        assert!(!markdown(&testing::results()).contains("Refused"));
    }
}
