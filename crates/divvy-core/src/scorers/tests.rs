//! Grades of whole replies, and the DROP metric against the official scorer's own vectors.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn check(kind: ScorerKind, reply: &str, golds: &[&str], correct: bool) {
    let golds: Vec<Gold> = golds.iter().copied().map(Gold::single).collect();
    let grade = grade(kind, reply, &Finish::Stop, &golds);
    assert_eq!((grade.correct, grade.outcome), (correct, Outcome::Answered), "{reply:?}: {grade:?}");
}

#[test]
fn numeric_replies() {
    for reply in [
        "18 eggs...",
        "**18** (see step 2).",
        "Sum up: 9 * 2.\nThe answer is: 18",
        "The answer is: $18.00.",
        "The answer is: 18%",
        "So she makes $18 every day.",
        "\\boxed{18}",
        "#### 18",
        "First 3 eggs.\n\nThen 18 dollars in all.",
        "The answer is: so 18, which is 2 more than 16",
        "The answer is: 36/2",
        "The answer is: 9 * 2 = 18",
        "Janet sells 9 eggs a day for $2 each, so she makes $18 every day.",
        "Janet makes $18 (9 eggs at $2).",
        "18 = 20 - 2",
        "The answer is: 18 = 20 - 2",
        "She makes USD18 a day",
        "Step 1\n\nShe has 9 eggs left.\n\nSo she makes $18 every day.",
        "Solution\n\n9 * 2 = $18",
        "Total for 2 days\n\n2 * 9 = 18",
        "1. Find what is left\n\n3 + 4 = 7 eggs.\n\n2. So she makes $18.",
        "Janet makes $18\n\nShe has 16 eggs, eats 3 and bakes 4",
        "9 eggs * $2 = 18\n\nFor she has 9 eggs left and each is 2",
        "$18 a day\n\nShe sells 9 eggs for 2 dollars each.",
    ] {
        check(ScorerKind::Numeric, reply, &["18"], true);
    }
    for reply in [
        "So the final temperature is -5 degrees.",
        "The answer is: a loss of -$5",
        "The answer is –5.",
        "–5 degrees\n\nIt fell by 8.",
    ] {
        check(ScorerKind::Numeric, reply, &["-5"], true);
        check(ScorerKind::Numeric, reply, &["5"], false);
    }
    check(ScorerKind::Numeric, "$29.00.", &["29"], true);
    check(ScorerKind::Numeric, ".50", &["0.5"], true);
    check(ScorerKind::Numeric, "The answer is: 1000", &["1,000"], true);
    check(ScorerKind::Numeric, "He has 18 apples.\nThe answer is: 20", &["18"], false);
    check(ScorerKind::Numeric, "3.75", &["3"], false);
    check(ScorerKind::Numeric, "The answer is: twelve", &["12"], false);
}

#[test]
fn exact_replies() {
    check(ScorerKind::Exact, "The answer is: The Titan IIIE.", &["Titan IIIE", "Titan III"], true);
    check(ScorerKind::Exact, "The answer is: 1984", &["4"], false);
    let golds = [Gold::single("James Madison")];
    let partial = grade(ScorerKind::Exact, "President James Madison", &Finish::Stop, &golds);
    assert!(!partial.correct);
    assert_eq!(partial.score, 0.8);
}

#[test]
fn drop_replies() {
    let check = |reply: &str, gold: &[&str], em: bool, f1: f64| {
        let golds = [Gold(gold.iter().map(|span| (*span).to_owned()).collect())];
        let grade = grade(ScorerKind::Drop, reply, &Finish::Stop, &golds);
        assert_eq!((grade.correct, grade.score), (em, f1), "{reply:?}");
    };
    check("The answer is: 10 yards", &["10"], false, 0.67);
    check("The answer is: three", &["3"], false, 0.0);
    check("The answer is: Red, Green, and Blue.", &["Blue", "Red", "Green"], true, 1.0);
    check("The answer is: salt and pepper", &["salt and pepper"], true, 1.0);
    check("The answer is: salt and pepper", &["salt", "pepper"], true, 1.0);
    check("The answer is: salt", &["salt", "pepper"], false, 0.5);
    check("The answer is:\n- Red\n- Green", &["Green", "Red"], true, 1.0);
    check("The answer is:\n- salt and pepper\n- Green", &["Green", "salt and pepper"], true, 1.0);
    check("The answer is:\n- Red", &["Red"], true, 1.0);
    check("The answer is:\n- Red\n- Green", &["Red"], false, 0.67);
    let listed = grade(ScorerKind::Drop, "The answer is:\n- Red\n- Green", &Finish::Stop, &[Gold::single("Red")]);
    assert_eq!(listed.answer.as_deref(), Some("Red, Green"));
}

#[test]
fn what_is_missing_is_labelled_and_wrong() {
    let golds = [Gold::single("5")];
    for kind in [ScorerKind::Numeric, ScorerKind::Drop, ScorerKind::Exact, ScorerKind::Choice] {
        let outcome = |reply: &str, finish: Finish| {
            let grade = grade(kind, reply, &finish, &golds);
            (grade.outcome, grade.correct)
        };
        assert_eq!(outcome("", Finish::Stop), (Outcome::NoAnswer, false));
        assert_eq!(outcome("", Finish::Length), (Outcome::Truncated, false));
        assert_eq!(outcome("We add 2 and 3 to get 5", Finish::Length), (Outcome::Truncated, false));
        assert_eq!(
            outcome("The answer is: 5\n\nIn other", Finish::Length),
            (Outcome::Answered, kind != ScorerKind::Choice)
        );
        assert_eq!(outcome("The answer is: 5", Finish::Other("refusal".into())), (Outcome::Refused, false));
        assert_eq!(outcome("", Finish::Other("content_filter".into())), (Outcome::Refused, false));
    }
    let numeric = |reply: &str, finish| grade(ScorerKind::Numeric, reply, &finish, &golds).outcome;
    assert_eq!(numeric("I cannot tell.", Finish::Stop), Outcome::NoAnswer);
    assert_eq!(numeric("<think>It is 5.</think>\nI do not know.\nSorry.", Finish::Stop), Outcome::NoAnswer);
    assert_eq!(numeric("<think>So the answer is: 5. Or", Finish::Length), Outcome::Truncated);
    for heading in ["Step 1", "Solution", "Total for 2 days", "1. Find what is left"] {
        assert_eq!(
            numeric(&format!("{heading}\n\nThere are 5 eggs, so"), Finish::Length),
            Outcome::Truncated,
            "{heading}"
        );
    }
    assert_eq!(numeric("5 eggs\n\nThere are 2 and 3, so", Finish::Length), Outcome::Answered);
    let text = |kind, reply: &str, finish| grade(kind, reply, &finish, &[Gold::single("James Madison")]).outcome;
    for kind in [ScorerKind::Drop, ScorerKind::Exact] {
        let thinks = "Let me think about this\n\nThe passage says that";
        assert_eq!(text(kind, thinks, Finish::Length), Outcome::Truncated);
        assert_eq!(text(kind, thinks, Finish::Stop), Outcome::Answered);
        assert_eq!(text(kind, "James Madison\n\nHe was president in", Finish::Length), Outcome::Answered);
    }
    let part = grade(ScorerKind::Drop, "Dolley Madison\n\nShe was", &Finish::Length, &[Gold::single("James Madison")]);
    assert_eq!((part.outcome, part.score > 0.0), (Outcome::Answered, true));
    assert_eq!(failed().outcome, Outcome::Error);
}

/// Prediction, gold, EM, F1 for texts of our own, computed with a Python transcription of the official rules (CPython
/// 3.11, NumPy 2.4, SciPy 1.17) that agrees with the official vectors; 100,000 random cases against it do not differ.
#[test]
fn drop_traps() {
    for (predicted, gold, em, f1) in [
        (vec!["-5"], vec!["5"], 1.0, 1.0),
        (vec!["25%"], vec!["25"], 1.0, 1.0),
        (vec!["10\n\nPassage: x"], vec!["10"], 0.0, 0.0),
        (vec!["1_000"], vec!["1000"], 1.0, 1.0),
        (vec!["٣"], vec!["3"], 1.0, 1.0),
        (vec!["nan"], vec!["NaN"], 1.0, 1.0),
        (vec!["1,000"], vec!["1000"], 1.0, 1.0),
        (vec!["12.0"], vec!["12"], 1.0, 1.0),
        (vec!["a the an"], vec!["the"], 1.0, 1.0),
        (vec![], vec![], 0.0, 0.0),
        (vec![], vec!["x"], 0.0, 0.0),
        (vec!["blue", "red"], vec!["red", "blue", "green"], 0.0, 0.67),
    ] {
        let Metrics { exact_match, f1: found } = metrics::<&str, &str>(&predicted, &gold);
        assert_eq!((exact_match, found), (em, f1), "{predicted:?} against {gold:?}");
    }
}

use super::drop::{Metrics, best_metrics, metrics, normalize};

/// Rows of a development file, `None` (said loudly) when it is not there.
fn shared_rows(file: &str) -> Option<Vec<Value>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/drop").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("SKIPPED: ../shared/data/drop/{file} not found");
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A span or a list of spans.
fn spans(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().map(|span| span.as_str().unwrap().to_owned()).collect(),
        text => vec![text.as_str().unwrap().to_owned()],
    }
}

fn expected(row: &Value) -> Metrics {
    Metrics { exact_match: row["em"].as_f64().unwrap(), f1: row["f1"].as_f64().unwrap() }
}

#[test]
fn official_pairs() {
    for row in shared_rows("official_eval_pairs.jsonl").unwrap_or_default() {
        assert_eq!(metrics(&spans(&row["predicted"]), &spans(&row["gold"])), expected(&row), "{row}");
    }
}

#[test]
fn official_normalisation() {
    for row in shared_rows("official_eval_normalize.jsonl").unwrap_or_default() {
        for text in ["a", "b"].iter().filter_map(|key| row[*key].as_str()) {
            assert_eq!(normalize(text), row["normalized"].as_str().unwrap(), "{row}");
        }
    }
}

fn graded(row: &Value) -> Metrics {
    let golds: Vec<Gold> = row["golds"].as_array().unwrap().iter().map(|gold| Gold(spans(gold))).collect();
    best_metrics(&spans(&row["predicted"]), &golds)
}

#[test]
fn official_vectors() {
    for row in shared_rows("scorer_vectors.jsonl").unwrap_or_default() {
        assert_eq!(graded(&row), expected(&row), "{row}");
    }
}

/// Our own predictions and golds, which stand in where the official vectors are absent: dates, numbers of every writing, spans that
/// match in part, several golds, halves to be rounded. `make_drop_vectors.py` beside them says where the figures come from.
#[test]
fn own_vectors() {
    let rows: Vec<Value> = include_str!("../../tests/fixtures/drop_vectors.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| graded(row) != expected(row))
        .map(|row| format!("{row} is {:?}", graded(row)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let partly = rows.iter().filter(|row| ![0.0, 1.0].contains(&row["f1"].as_f64().unwrap())).count();
    assert!(rows.len() > 600 && partly > 300, "{partly} of {}", rows.len());
}

/// Whole files as the official script reads them: golds through our reader of its format, mean over the questions.
#[test]
fn official_files() {
    use crate::{
        datasets::{RowContext, drop::parse_nested},
        question::Split,
    };
    for row in shared_rows("official_eval_json_cases.jsonl").unwrap_or_default() {
        let mut file = row["annotations"].clone();
        let mut predictions = Vec::new();
        for passage in file.as_object_mut().unwrap().values_mut() {
            passage["passage"] = "P.".into();
            for pair in passage["qa_pairs"].as_array_mut().unwrap() {
                predictions
                    .push(row["predictions"].get(pair["query_id"].as_str().unwrap()).map(spans).unwrap_or_default());
                pair["question"] = "Q?".into();
            }
        }
        let context = RowContext { dataset: "drop", split: Split::Test, row: 0 };
        let questions = parse_nested(&file, &context).unwrap();
        assert_eq!(questions.len(), predictions.len());
        let graded: Vec<Metrics> = questions
            .iter()
            .zip(&predictions)
            .map(|(question, predicted)| best_metrics(predicted, &question.as_ref().unwrap().golds))
            .collect();
        let mean = |figure: fn(&Metrics) -> f64| graded.iter().map(figure).sum::<f64>() / graded.len() as f64;
        let expect = expected(&row);
        assert_eq!((mean(|m| m.exact_match), mean(|m| m.f1)), (expect.exact_match, expect.f1), "{row}");
    }
}

#[test]
fn scorers_go_by_their_names() {
    for scorer in Scorer::ALL {
        assert_eq!(scorer.name().parse(), Ok(scorer));
        assert_eq!(serde_json::to_value(scorer).unwrap(), scorer.name());
    }
    assert!("f1".parse::<Scorer>().unwrap_err().to_string().contains("yes-no"));
    assert_eq!(grade(ScorerKind::Code, "x", &Finish::Stop, &[]).outcome, Outcome::Error);
}

/// Percent, units, fractions and thousands are the number they state, and nothing else.
#[test]
fn numeric_forms() {
    for (reply, gold) in [
        ("The answer is: 12.5 %", "12.5"),
        ("The answer is: **1,250** kg", "1250"),
        ("The answer is: \\boxed{\\frac{3}{4}}", "0.75"),
        ("The answer is: 2 1/2 hours", "5/2"),
        ("The answer is: €1.200", "1.2"),
        ("The answer is: 3 apples (not 4)", "3"),
        ("The answer is: $\\frac12$", "0.5"),
        ("The answer is: 2½ cups", "2.5"),
        ("The answer is: 1 250 kg", "1250"),
        ("The answer is: 1\u{2009}250 kg", "1250"),
        ("The answer is: 1.2 million", "1,200,000"),
        ("The answer is: 1.2 million", "1.2"),
        ("The answer is: 1200000", "1.2 million"),
    ] {
        check(ScorerKind::Numeric, reply, &[gold], true);
    }
    check(ScorerKind::Numeric, "The answer is: 12.5", &["12"], false);
    check(ScorerKind::Numeric, "The answer is: 1.2", &["1.2 million"], false);
    check(ScorerKind::Numeric, "The answer is: 2 million", &["1000000"], false);
    check(ScorerKind::Numeric, "The answer is: 0.333", &["1/3"], false);
}

proptest! {
    #[test]
    fn no_reply_panics(reply in any::<String>(), gold in any::<String>()) {
        let golds = [Gold::single(gold.clone()), Gold(vec![gold, "x".into()]), Gold(vec![])];
        for scorer in Scorer::ALL {
            for finish in [Finish::Stop, Finish::Length] {
                let grade = scorer.grade(&reply, &finish, &golds);
                prop_assert!((0.0..=1.0).contains(&grade.score));
            }
        }
    }

    #[test]
    fn a_drop_answer_matches_itself(text in "[A-Za-z0-9 ,.$%-]{1,30}") {
        prop_assume!(!text.trim().is_empty());
        prop_assert_eq!(metrics(&[&text], &[&text]), Metrics { exact_match: 1.0, f1: 1.0 });
    }
}
