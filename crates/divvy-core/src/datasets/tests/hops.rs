//! Rows of the multi-hop and reasoning sets, good and bad, and the real files where they are there.

use super::*;

#[test]
fn strategyqa_rows() {
    let row = json!({"question": "Could a cat outlive a tortoise?", "answer": false,
        "facts": ["Cats live 15 years.", "Tortoises live 100."],
        "decomposition": ["How long do cats live?", "How long do tortoises live?", "Is #1 more than #2?"]});
    let question = strategyqa::parse(&row, &CONTEXT).unwrap();
    assert_eq!((&question.golds, question.scorer), (&vec![Gold::single("no")], ScorerKind::YesNo));
    assert_eq!(question.premise.as_deref(), Some("Cats live 15 years.\nTortoises live 100."));
    assert_eq!(
        (question.steps, question.recorded.as_ref().unwrap().steps()[2].refs.as_slice()),
        (Some(3), &[1, 2][..])
    );
    let bare = strategyqa::parse(&json!({"question": "Is it?"}), &CONTEXT).unwrap();
    assert!(bare.golds.is_empty() && bare.premise.is_none() && bare.recorded.is_none());
    let wrong = strategyqa::parse(&json!({"question": "Is it?", "answer": "no"}), &CONTEXT);
    assert!(reason(wrong).contains("a string, not true or false"));
}

#[test]
fn musique_rows() {
    let row = json!({"question": "What is the capital of Ann's land?", "answer": "Sample City",
        "answer_aliases": ["Sample", "Sample City"], "answerable": true,
        "paragraphs": [{"title": "Ann", "paragraph_text": "Born in Samplia.", "is_supporting": true},
            {"title": "Bo", "paragraph_text": "No.", "is_supporting": false},
            {"title": "Samplia", "paragraph_text": "Its capital is Sample City.", "is_supporting": true}],
        "question_decomposition": [{"question": "Ann >> country of birth", "answer": "Samplia"},
            {"question": "What is the capital of #1?", "answer": "Sample City"}]});
    let question = musique::parse(&row, &CONTEXT).unwrap();
    assert_eq!(question.golds, [Gold::single("Sample City"), Gold::single("Sample")]);
    assert_eq!(question.premise.as_deref(), Some("Ann: Born in Samplia.\n\nSamplia: Its capital is Sample City."));
    assert_eq!(recorded(&question), ["What is the country of birth of Ann?", "What is the capital of #1?"]);
    let mut hidden = row.clone();
    hidden["answerable"] = false.into();
    assert!(reason(musique::parse(&hidden, &CONTEXT)).contains("leave such rows out"));
    hidden["answerable"] = true.into();
    hidden["paragraphs"] = json!({});
    assert!(reason(musique::parse(&hidden, &CONTEXT)).contains("`paragraphs` is an object, not a list"));
}

#[test]
fn hotpotqa_rows_in_both_forms() {
    let facts = json!([["Bo", 0], ["Ann", 0]]);
    let lists = json!({"question": "Who is older?", "answer": "Bo", "supporting_facts": facts,
        "context": [["Ann", ["Ann is 7.", " She swims."]], ["Cy", ["No."]], ["Bo", ["Bo is 9."]]]});
    let columns = json!({"question": "Who is older?", "answer": "Bo",
        "supporting_facts": {"title": ["Bo", "Ann"], "sent_id": [0, 0]},
        "context": {"title": ["Ann", "Cy", "Bo"], "sentences": [["Ann is 7.", "She swims."], ["No."], ["Bo is 9."]]}});
    for row in [lists.clone(), columns] {
        let question = hotpotqa::parse(&row, &CONTEXT).unwrap();
        assert_eq!(question.premise.as_deref(), Some("Ann: Ann is 7. She swims.\n\nBo: Bo is 9."));
        assert_eq!((question.golds, question.recorded), (vec![Gold::single("Bo")], None));
    }
    let broken = |key: &str, value: Value| {
        let mut row = lists.clone();
        row[key] = value;
        reason(hotpotqa::parse(&row, &CONTEXT))
    };
    assert!(broken("supporting_facts", json!([["Dan", 0]])).contains("names no paragraph"));
    assert!(broken("context", json!([["Ann"]])).contains("no list of [title, [sentences]]"));
    assert!(broken("context", json!("Ann")).contains("`context` is a string"));
    assert!(
        reason(hotpotqa::parse(&json!({"question": "Q?", "answer": "x"}), &CONTEXT)).contains("`context` is missing")
    );
}

#[test]
fn two_wiki_rows() {
    let row = json!({"question": "When was the director of Sample Film born?", "answer": "3 May 1900",
        "answer_aliases": ["May 3, 1900"], "supporting_facts": [["Sample Film", 0]],
        "context": [["Sample Film", ["By Ann Example."]], ["Cy", ["No."]]],
        "evidences": [["Sample Film", "director", "Ann Example"], ["Ann Example", "date of birth", "3 May 1900"]]});
    let question = two_wiki::parse(&row, &CONTEXT).unwrap();
    assert_eq!(recorded(&question), ["What is the director of Sample Film?", "What is the date of birth of #1?"]);
    assert_eq!((question.steps, question.golds.len()), (Some(2), 2));
    assert_eq!(question.premise.as_deref(), Some("Sample Film: By Ann Example."));
    let alone = two_wiki::parse(&json!({"question": "Q?", "answer": "x", "evidences": []}), &CONTEXT).unwrap();
    assert_eq!((alone.premise, alone.recorded, alone.steps), (None, None, None));
    let wrong = two_wiki::parse(&json!({"question": "Q?", "answer": "x", "evidences": [["a", "b"]]}), &CONTEXT);
    assert!(reason(wrong).contains("[subject, relation, object]"));
}

#[test]
fn bbh_rows_are_graded_by_their_target() {
    let parse = |input: &str, target: &str| bbh::parse(&json!({"input": input, "target": target}), &CONTEXT);
    let kind = |target: &str| parse("Which?", target).unwrap().scorer;
    assert_eq!(["Yes", "false"].map(kind), [ScorerKind::YesNo; 2]);
    assert_eq!(["-24", "8", "3.5"].map(kind), [ScorerKind::Numeric; 3]);
    assert_eq!(["valid", "12 monkeys", "ant bee cat"].map(kind), [ScorerKind::Exact; 3]);
    let choice = parse("When?\nOptions:\n(A) 12/11\n(B) 12/25", "(B)").unwrap();
    assert_eq!((choice.scorer, choice.golds), (ScorerKind::Choice, vec![Gold::single("(B)"), Gold::single("12/25")]));
    assert!(reason(parse("When?\nOptions:\n(A) 12/11", "(B)")).contains("no option is called `(B)`"));
    assert!(reason(parse("Close it: [", "]")).contains("leave this task out"));
    assert_eq!(parse("Question: Does Bo lie?", "Yes").unwrap().text, "Does Bo lie?");
}

#[test]
fn every_real_multi_hop_row_reads() {
    type Parse = fn(&Value, &RowContext<'_>) -> Result<Question, RowError>;
    let files: [(&str, Parse, usize); 3] = [
        ("musique/musique_dev_sample.jsonl", musique::parse, 200),
        ("hotpotqa/hotpot_dev_distractor_sample.jsonl", hotpotqa::parse, 0),
        ("2wikimultihopqa/2wiki_dev_sample.jsonl", two_wiki::parse, 200),
    ];
    for (file, parse, decomposed) in files {
        let Some(text) = shared(file) else { return };
        let questions = all(&text, parse);
        assert_eq!(questions.len(), 200, "{file}");
        assert_eq!(questions.iter().filter(|question| question.recorded.is_some()).count(), decomposed, "{file}");
        let refers = |question: &&Question| {
            question.recorded.iter().flat_map(|steps| steps.steps()).any(|step| !step.refs.is_empty())
        };
        assert!(questions.iter().filter(refers).count() * 2 >= decomposed, "{file}: too few refer to an answer");
    }
}

#[test]
fn every_real_strategyqa_and_bbh_row_reads() {
    let Some(text) = shared("strategyqa/train.json") else { return };
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let questions: Vec<Question> = rows.iter().map(|row| strategyqa::parse(row, &CONTEXT).unwrap()).collect();
    assert_eq!(questions.len(), 2061);
    assert!(questions.iter().all(|question| question.recorded.is_some() && question.golds.len() == 1));
    for (task, kind) in [
        ("date_understanding", ScorerKind::Choice),
        ("logical_deduction_three_objects", ScorerKind::Choice),
        ("multistep_arithmetic_two", ScorerKind::Numeric),
        ("object_counting", ScorerKind::Numeric),
        ("web_of_lies", ScorerKind::YesNo),
    ] {
        let Some(text) = shared(&format!("bbh/{task}.json")) else { return };
        let file: Value = serde_json::from_str(&text).unwrap();
        let rows = file["examples"].as_array().unwrap();
        let questions: Vec<Question> = rows.iter().map(|row| bbh::parse(row, &CONTEXT).unwrap()).collect();
        assert!(questions.len() == 250 && questions.iter().all(|question| question.scorer == kind), "{task}");
    }
}
