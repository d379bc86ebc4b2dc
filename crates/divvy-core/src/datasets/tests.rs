//! Rows of every data set, good and bad, and the real files where they are there.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;

mod hops;

use crate::{decomposition::Decomposition, quality, recipe::Columns};

const CONTEXT: RowContext<'static> = RowContext { dataset: "set", split: Split::Train, row: 7 };

fn reason<T: std::fmt::Debug>(result: Result<T, RowError>) -> String {
    result.unwrap_err().to_string()
}

fn recorded(question: &Question) -> Vec<&str> {
    question.recorded.as_ref().unwrap().steps().iter().map(|step| step.text.as_str()).collect()
}

fn worked(question: &Question) -> Vec<&str> {
    question.worked.iter().map(|step| step.text.as_str()).collect()
}

#[test]
fn kinds_go_by_their_names() {
    for kind in DatasetKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert!(!kind.description().is_empty() && !kind.files().is_empty());
    }
    assert!("squad".parse::<DatasetKind>().unwrap_err().to_string().contains("bamboogle"));
}

#[test]
fn gsm8k_plain() {
    let answer = "Half is 8/2 = <<8/2=4>>4.\nSo 8+4 = <<8+4=12>>12,\n#### 1,012";
    let question = gsm8k::parse(&json!({"question": " How many? ", "answer": answer}), &CONTEXT).unwrap();
    assert_eq!((question.id.0.as_str(), question.text.as_str()), ("set/train/7", "How many?"));
    assert_eq!(worked(&question), ["Half is 8/2 = 4.", "So 8+4 = 12,"]);
    assert_eq!((question.golds, question.steps, question.recorded), (vec![Gold::single("1,012")], Some(2), None));
}

#[test]
fn gsm8k_socratic() {
    let answer = "How many is half? ** Half is <<8/2=4>>4.\nHow many in all? ** 8+4 = <<8+4=12>>12.\n#### 12";
    let question = gsm8k::parse(&json!({"question": "How many?", "answer": answer}), &CONTEXT).unwrap();
    assert_eq!(recorded(&question), ["How many is half?", "How many in all?"]);
    assert_eq!(worked(&question), ["Half is 4.", "8+4 = 12."]);
    let answer = "How many is half? ** \nHow many in all? ** 8+4 = 12.\n#### 12";
    let question = gsm8k::parse(&json!({"question": "How many?", "answer": answer}), &CONTEXT).unwrap();
    assert_eq!(recorded(&question).len(), 2);
    let answer = "How many in all? ** 8\nHow many in  all? ** 8+4 = 12.\n#### 12";
    let question = gsm8k::parse(&json!({"question": "How many?", "answer": answer}), &CONTEXT).unwrap();
    assert_eq!((recorded(&question), question.steps), (vec!["How many in all?"], Some(2)));
}

#[test]
fn gsm8k_bad_rows_say_why() {
    let parse = |answer: &str| reason(gsm8k::parse(&json!({"question": "Q?", "answer": answer}), &CONTEXT));
    assert!(parse("12").contains("no `#### gold`"));
    assert!(parse("#### none").contains("no number behind"));
    assert!(parse("A? ** a\nno mark\n#### 1").contains("line 2"));
    assert!(reason(gsm8k::parse(&json!({"answer": "#### 1"}), &CONTEXT)).contains("`question` is missing"));
    assert!(reason(gsm8k::parse(&json!([1]), &CONTEXT)).contains("a list"));
}

#[test]
fn drop_nested() {
    let date = json!({"day": "3", "month": "May", "year": ""});
    let none = json!({"day": "", "month": "", "year": ""});
    let file = json!({
        "p2": {"passage": "B.", "qa_pairs": [
            {"question": "Who?", "answer": {"number": "", "date": none, "spans": ["Ann", "Bo"]}},
            {"question": "Bad?", "answer": {}}]},
        "p1": {"passage": "A.", "qa_pairs": [
            {"question": "When?", "answer": {"number": "", "date": date, "spans": []},
             "validated_answers": [{"number": 3}, {"number": "", "date": date, "spans": []}]}]},
    });
    let questions = drop::parse_nested(&file, &CONTEXT).unwrap();
    let first = questions[0].as_ref().unwrap();
    assert_eq!(
        (first.id.0.as_str(), first.cluster.as_deref(), first.premise.as_deref()),
        ("set/train/7", Some("p1"), Some("A."))
    );
    assert_eq!(first.golds, [Gold::single("3 May"), Gold::single("3")]);
    assert_eq!(questions[1].as_ref().unwrap().golds, [Gold(vec!["Ann".into(), "Bo".into()])]);
    assert!(reason(questions[2].clone()).contains("passage `p2`: an answer has neither"));
    assert!(reason(drop::parse_nested(&json!({"p": {"passage": "x"}}), &CONTEXT)).contains("qa_pairs"));
}

#[test]
fn drop_flat() {
    let passages: drop::Passages = [drop::parse_passage(&json!({"passage_id": 4, "passage": "P."})).unwrap()].into();
    let row = json!({"passage_id": 4, "question": "Q?", "golds": ["a and b", "c"], "gold_spans": [["a", "b"], ["c"]]});
    let question = drop::parse_flat(&row, &passages, &CONTEXT).unwrap();
    assert_eq!(question.golds, [Gold(vec!["a".into(), "b".into()]), Gold::single("c")]);
    assert_eq!((question.premise.as_deref(), question.cluster.as_deref()), (Some("P."), Some("4")));
    let row = json!({"passage_id": 4, "question": "Q?", "golds": ["  1837", "1837"], "gold_spans": null});
    assert_eq!(drop::parse_flat(&row, &passages, &CONTEXT).unwrap().golds, [Gold::single("1837")]);
    let row = json!({"passage_id": 5, "question": "Q?"});
    assert!(reason(drop::parse_flat(&row, &passages, &CONTEXT)).contains("no passage has the id `5`"));
}

#[test]
fn bamboogle_csv() {
    let question = bamboogle::parse_csv(&["Who?", "", "", "", "Ann", "A. ", ""], &CONTEXT).unwrap();
    assert_eq!(question.golds, [Gold::single("Ann"), Gold::single("A.")]);
    assert!(reason(bamboogle::parse_csv(&["Who?", ""], &CONTEXT)).contains("answer"));
    assert!(reason(bamboogle::parse_csv::<&str>(&[], &CONTEXT)).contains("question"));
    assert!(
        bamboogle::is_header(&["Question", "Answer"]) && !bamboogle::is_header(&["Question marks, who made them?"])
    );
}

#[test]
fn bamboogle_hides_the_bridge() {
    let row = |second: &str, answers: &[&str]| {
        let steps =
            json!([{"question": "Which land has Mount X?", "answers": answers}, {"question": second, "answers": []}]);
        json!({"question": "Who rules the land of Mount X?", "answer": "Ann", "answer_aliases": ["ann"], "decomposition": steps})
    };
    let second = |text: &str, answers: &[&str]| {
        let question = bamboogle::parse(&row(text, answers), &CONTEXT).unwrap();
        recorded(&question)[1].to_owned()
    };
    assert_eq!(second("Who rules Samplia?", &["samplia"]), "Who rules #1?");
    assert_eq!(second("Who rules New Samplia City?", &["new samplia", "New Samplia City"]), "Who rules #1?");
    assert_eq!(second("Who rules the samplians?", &["samplia"]), "Who rules the samplians?");
    assert_eq!(second("Who rules the land?", &["land"]), "Who rules the land?");
    assert_eq!(second("Who ruled in 1?", &["1"]), "Who ruled in #1?");
    assert_eq!(second("Who rules Samplia?", &["samplia."]), "Who rules #1?");
    let sentence = ["mount x lies in new samplia."];
    assert_eq!(second("Who rules New Samplia: East, today?", &sentence), "Who rules #1, today?");
    assert_eq!(second("Who rules Samplia for Queen Bo?", &sentence), "Who rules Samplia for Queen Bo?", "which is it?");
    assert_eq!(second("Who rules the land of Mount X?", &sentence), "Who rules the land of Mount X?");
    let question = bamboogle::parse(&row("Who rules Samplia?", &["samplia"]), &CONTEXT).unwrap();
    assert_eq!((question.steps, question.golds.len()), (Some(2), 2));
    assert_eq!(question.recorded.unwrap().steps()[1].refs, [1]);
}

fn columns() -> Columns {
    Columns {
        question: "q".into(),
        answer: Some("a".into()),
        premise: None,
        decomposition: Some("d".into()),
        id: Some("i".into()),
        tests: None,
    }
}

#[test]
fn rows_with_columns() {
    let parse = |row: Value| rows::parse(&row, &columns(), None, &CONTEXT);
    let question = parse(json!({"q": "Q?", "a": 5, "d": ["A?", "B #1?"], "i": "x9"})).unwrap();
    assert_eq!((question.id.0.as_str(), question.scorer), ("set/train/x9", ScorerKind::Numeric));
    assert_eq!(recorded(&question), ["A?", "B #1?"]);
    let question = parse(json!({"q": "Q?", "a": ["Ann", "A."], "d": "1. A?\n2. B?", "i": 1})).unwrap();
    assert_eq!((question.golds.len(), question.scorer, question.steps), (2, ScorerKind::Exact, Some(2)));
    let question = parse(json!({"q": "Q?", "a": [["Ann", "Bo"]], "d": "No decomposition", "i": 1})).unwrap();
    assert_eq!((question.scorer, question.recorded), (ScorerKind::Drop, Some(Decomposition::None)));
    let question = parse(json!({"q": "Q?", "a": null, "d": null, "i": 1})).unwrap();
    assert!(question.golds.is_empty());
    assert!(reason(parse(json!({"q": "Q?", "b": 1}))).contains("column `i` is missing; the row has b, q"));
    assert!(reason(parse(json!({"q": " ", "i": 1}))).contains("`q` is blank"));
    assert!(reason(parse(json!({"q": "Q?", "a": {"x": 1}, "d": [], "i": 1}))).contains("an object where an answer"));
    let about = Columns { premise: Some("p".into()), ..columns() };
    let about = |premise: Value| {
        rows::parse(&json!({"q": "Q?", "a": "Ann", "d": [], "i": 1, "p": premise}), &about, None, &CONTEXT)
    };
    assert_eq!(about(json!("P.")).unwrap().premise.as_deref(), Some("P."));
    assert_eq!(about(Value::Null).unwrap().premise, None, "this one stands alone");
    assert!(reason(about(json!(" "))).contains("`p` is blank"));
}

#[test]
fn the_recipe_or_gold_says_what_rows_are_graded_by() {
    let parse = |answer: Value, scorer| {
        rows::parse(&json!({"q": "Q?", "a": answer, "d": [], "i": 1}), &columns(), scorer, &CONTEXT)
    };
    let told = |answer: Value, scorer| parse(answer, scorer).unwrap().scorer;
    assert_eq!(told(json!(true), None), ScorerKind::YesNo);
    assert_eq!(told(json!([false]), None), ScorerKind::YesNo);
    assert_eq!(told(json!([]), None), ScorerKind::Exact);
    assert_eq!(told(json!("yes"), None), ScorerKind::Exact, "a text may be anything");
    assert_eq!(told(json!("yes"), Some(ScorerKind::YesNo)), ScorerKind::YesNo);
    assert_eq!(told(json!("(B)"), Some(ScorerKind::Choice)), ScorerKind::Choice);
    assert_eq!(told(json!("5"), Some(ScorerKind::Drop)), ScorerKind::Drop);
    assert_eq!(parse(json!(true), None).unwrap().golds, [Gold::single("yes")]);
    let refused = reason(parse(json!("maybe"), Some(ScorerKind::YesNo)));
    assert!(refused.contains("`maybe`") && refused.contains("`scorer` wants yes, no, true or false"), "{refused}");
    assert!(reason(parse(json!(["5", "many"]), Some(ScorerKind::Numeric))).contains("wants a number"));
}

#[test]
fn tests_make_the_answer_a_program() {
    let columns = Columns { answer: None, decomposition: None, id: None, tests: Some("t".into()), ..columns() };
    let parse = |tests: Value| rows::parse(&json!({"q": "Double it.", "t": tests}), &columns, None, &CONTEXT);
    let question = parse(json!(["assert double(1) == 2", "assert double(0) == 0"])).unwrap();
    assert_eq!(question.golds, [Gold::single("assert double(1) == 2\nassert double(0) == 0")]);
    assert_eq!(question.scorer, ScorerKind::Code);
    assert!(reason(parse(json!(7))).contains("column `t` is a number"));
}

/// Rows of a development file, `None` (said loudly) when it is not there.
fn shared(file: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        println!("SKIPPED: ../shared/data/{file} not found");
    }
    text
}

fn all(text: &str, parse: impl Fn(&Value, &RowContext<'_>) -> Result<Question, RowError>) -> Vec<Question> {
    let rows = text.lines().filter(|line| !line.is_empty()).enumerate();
    rows.map(|(row, line)| parse(&serde_json::from_str(line).unwrap(), &RowContext { row, ..CONTEXT }).unwrap())
        .collect()
}

#[test]
fn every_real_gsm8k_row_reads() {
    for (plain, socratic) in [("train.jsonl", "train_socratic.jsonl"), ("test.jsonl", "test_socratic.jsonl")] {
        let (Some(plain), Some(socratic)) = (shared(&format!("gsm8k/{plain}")), shared(&format!("gsm8k/{socratic}")))
        else {
            return;
        };
        let (plain, socratic) = (all(&plain, gsm8k::parse), all(&socratic, gsm8k::parse));
        assert_eq!(plain.len(), socratic.len());
        for (plain, socratic) in plain.iter().zip(&socratic) {
            assert_eq!((&plain.text, &plain.golds), (&socratic.text, &socratic.golds));
            assert!(plain.recorded.is_none() && !recorded(socratic).is_empty());
        }
        assert_round_trip(&socratic);
    }
}

/// What a student learns to write is read back as it was. The few rows that repeat a subquestion but for case or
/// punctuation lose the repetition.
fn assert_round_trip(questions: &[Question]) {
    use crate::{chat::Finish, prompts::decompose};
    let changed = questions.iter().filter(|question| {
        let parsed = decompose::parse(&decompose::completion(question.recorded.as_ref().unwrap()), &Finish::Stop, 64);
        let clean = parsed.problems.is_empty();
        if clean {
            assert_eq!(parsed.decomposition, question.recorded, "{}", question.id);
        }
        !clean
    });
    assert!(changed.count() * 100 <= questions.len(), "more than 1 % of real decompositions do not come back");
}

#[test]
fn every_real_drop_row_reads() {
    let (Some(passages), Some(questions)) = (shared("drop/dev_passages.jsonl"), shared("drop/dev_questions.jsonl"))
    else {
        return;
    };
    let rows = passages.lines().map(|line| drop::parse_passage(&serde_json::from_str(line).unwrap()).unwrap());
    let passages: drop::Passages = rows.collect();
    let questions = all(&questions, |row, context| drop::parse_flat(row, &passages, context));
    assert_eq!(questions.len(), 9536);
    assert!(questions.iter().all(|question| !question.golds.is_empty()));
    let Some(contrast) = shared("drop/drop_contrast_sets_test.json") else { return };
    let contrast = drop::parse_nested(&serde_json::from_str(&contrast).unwrap(), &CONTEXT).unwrap();
    assert_eq!((contrast.len(), contrast.iter().filter(|row| row.is_ok()).count()), (947, 947));
}

#[test]
fn every_real_bamboogle_row_reads() {
    let Some(text) = shared("bamboogle/bamboogle.jsonl") else { return };
    let questions = all(&text, bamboogle::parse);
    let referring = questions.iter().filter(|q| q.recorded.as_ref().unwrap().steps()[1].refs == [1]).count();
    assert_eq!(questions.len(), 125);
    assert!(referring >= 105, "only {referring} of 125 refer to their first answer");
    let leaking = |q: &&Question| quality::leaks(q, q.recorded.as_ref().unwrap().steps(), &[]) == Some(true);
    let leaks: Vec<&Question> = questions.iter().filter(leaking).collect();
    assert!(leaks.is_empty(), "the bridge is still named: {leaks:#?}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z# *1é?\n]{0,12}".prop_map(Value::from),
    ];
    let keys = "question|answer|passage|passage_id|qa_pairs|golds|gold_spans|decomposition|answers|spans|date|q|a|d|i|x|context|supporting_facts|title|sentences|evidences|paragraphs|facts|input|target";
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_row_panics(row in any_json()) {
        let _ = (gsm8k::parse(&row, &CONTEXT), bamboogle::parse(&row, &CONTEXT), rows::parse(&row, &columns(), None, &CONTEXT));
        let _ = (drop::parse_nested(&row, &CONTEXT), drop::parse_passage(&row));
        let _ = drop::parse_flat(&row, &drop::Passages::new(), &CONTEXT);
        let _ = (musique::parse(&row, &CONTEXT), hotpotqa::parse(&row, &CONTEXT), two_wiki::parse(&row, &CONTEXT));
        let _ = (strategyqa::parse(&row, &CONTEXT), bbh::parse(&row, &CONTEXT));
    }

    #[test]
    fn no_answer_panics(answer in any::<String>()) {
        let _ = gsm8k::parse(&json!({"question": "Q?", "answer": answer}), &CONTEXT);
    }

    #[test]
    fn no_bridge_panics(text in "[A-Zİßé #1a-c]{1,20}", answer in "[İßé #1a-c]{0,6}") {
        let steps = json!([{"question": "Q?", "answers": [answer]}, {"question": text, "answers": []}]);
        let _ = bamboogle::parse(&json!({"question": "Q?", "answer": "x", "decomposition": steps}), &CONTEXT);
    }
}
