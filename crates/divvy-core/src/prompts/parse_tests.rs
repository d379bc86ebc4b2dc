//! Replies as models write them, and what is read from them.

use proptest::prelude::*;

use super::*;
use crate::prompts::decompose::completion;

fn check(reply: &str, texts: &[&str], problems: &[Problem]) {
    let parsed = parse(reply, &Finish::Stop, 10);
    let expect = Decomposition::from_texts(texts.iter().copied());
    let expect = if texts.is_empty() { None } else { Some(expect) };
    assert_eq!((parsed.decomposition, parsed.problems.as_slice()), (expect, problems), "{reply:?}");
}

#[test]
fn marks_of_every_kind() {
    let texts = ["How many in May?", "How many in all?"];
    for reply in [
        "1. How many in May?\n2. How many in all?",
        "1) How many in May?\n2) How many in all?",
        "(1) How many in May?\n\n(2) How many in all?\n",
        "- How many in May?\n- How many in all?",
        "* How many in May?\r\n* How many in all?",
        "**1.** How many in May?\n**2.** How many in all?",
        "1. **How many in May?**\n2. **How many in all?**",
        "Decomposed subquestion 1: How many in May?\nDecomposed subquestion 2: How many in all?",
        "**Subquestion 1:** How many in May?\n**Subquestion 2:** How many in all?",
        "### Subquestion 1: How many in May?\n### Subquestion 2: How many in all?",
        "Q1: How many in May?\nQ2: How many in all?",
        "1. Step 1: How many in May?\n2. Step 2: How many in all?",
        "[\"How many in May?\", \"How many in all?\"]",
        "```json\n[\n  \"How many in May?\",\n  \"How many in all?\"\n]\n```",
        "{\"subquestions\": [{\"question\": \"How many in May?\"}, {\"question\": \"How many in all?\"}]}",
        "How many in May?\nHow many in all?",
    ] {
        check(reply, &texts, &[]);
    }
}

#[test]
fn chatter_is_left_out_and_reported() {
    check(
        "Here are subquestions you could ask?\n1. Who is he?\n2. When was he born?\nI hope this helps!",
        &["Who is he?", "When was he born?"],
        &[Problem::SkippedLine, Problem::SkippedLine],
    );
    check("Sure! Shall I?\nWho is he?", &["Who is he?"], &[Problem::SkippedLine]);
    check("Main question: who?\nWho is he?", &["Who is he?"], &[Problem::SkippedLine]);
    check("He sold 24 clips.", &[], &[Problem::SkippedLine, Problem::NoSubquestions]);
}

/// How models begin and end when they are not told to keep to the list.
#[test]
fn preambles_of_every_kind() {
    let texts = ["How many in May?", "How many in all?"];
    let lists = ["1. How many in May?\n2. How many in all?", "- How many in May?\n- How many in all?"];
    for list in lists {
        for (before, after, skipped) in [
            ("Sure! Here are the subquestions:\n\n", "", 1),
            ("To answer this question, we need to find out:\n", "", 1),
            ("Certainly.\n\n**Subquestions:**\n", "\n\nLet me know if you need anything else!", 3),
            ("## Decomposition\n\n", "\n\nThese lead to the final answer.", 2),
            ("Question: How many clips did she sell?\nSubquestions:\n", "", 2),
        ] {
            let reply = format!("{before}{list}{after}");
            check(&reply, &texts, &vec![Problem::SkippedLine; skipped]);
        }
    }
    check("Here is the JSON:\n{\"subquestions\": [\"How many in May?\", \"How many in all?\"]}\nDone.", &texts, &[]);
}

/// A list of thoughts is none of subquestions, whether the model began it or its chat template did.
#[test]
fn thoughts_before_a_reply_are_left_out() {
    let list = "1. How many in May?\n2. How many in all?";
    let texts = ["How many in May?", "How many in all?"];
    for thoughts in [
        "<think>\nThe question has two parts.\n</think>\n\n",
        "<think>\n1. What is asked? The sum.\n2. So add.\n</think>\n",
        "1. What is asked?\n2. [\"Who?\", \"When?\"]\n</think>",
        "\n<think></think><think>- Why?\n</think>",
        "<think>No decomposition</think>\n```\n",
    ] {
        check(&format!("{thoughts}{list}"), &texts, &[Problem::Thoughts]);
    }
    check("<think>Hm.</think>\n[\"How many in May?\", \"How many in all?\"]", &texts, &[Problem::Thoughts]);
    check("<think>Hm.</think>\nSure:\n1. Who?", &["Who?"], &[Problem::Thoughts, Problem::SkippedLine]);
    for finish in [Finish::Length, Finish::Stop] {
        let endless = parse("<think>\n1. What is asked?\n2. What is given?\n3. So", &finish, 10);
        assert_eq!((endless.decomposition, endless.problems[0]), (None, Problem::Thoughts));
        assert_eq!(endless.problems.last(), Some(&Problem::NoSubquestions));
    }
    let cut = parse("<think>Hm?</think>1. Who?\n2. How ma", &Finish::Length, 10);
    assert_eq!(cut.decomposition, Some(Decomposition::from_texts(["Who?"])));
    assert_eq!(cut.problems, [Problem::Thoughts, Problem::UnfinishedLine]);
}

/// The last line said twice, or not to its end, by a model that loops until it is stopped.
#[test]
fn a_last_line_that_is_doubled_or_unfinished() {
    let length = |reply: &str| parse(reply, &Finish::Length, 10);
    let doubled = length("1. Who?\n2. How many?\n3. How many?\n4. How many?\n5. How ma");
    assert_eq!(doubled.decomposition, Some(Decomposition::from_texts(["Who?", "How many?"])));
    assert_eq!(doubled.problems, [Problem::UnfinishedLine, Problem::Duplicate, Problem::Duplicate]);
    let labelled = length("Decomposed subquestion 1: Who?\nDecomposed subquestion 2: How ma");
    assert_eq!(labelled.decomposition, Some(Decomposition::from_texts(["Who?"])));
    let bulleted = length("- Who?\n- How many?\n-");
    assert_eq!(bulleted.decomposition, Some(Decomposition::from_texts(["Who?", "How many?"])));
    let declined = length("No decomposition\n\nThe question is");
    assert_eq!(declined.decomposition, Some(Decomposition::None));
    check("1. Who?\n2. How many?\n2. How many?\n", &["Who?", "How many?"], &[Problem::Duplicate]);
}

#[test]
fn answers_are_cut_off() {
    check("1. How many in May? 48/2 = 24", &["How many in May?"], &[Problem::TrailingText]);
    check("1. Who said \"who's there?\"", &["Who said \"who's there?\""], &[]);
}

#[test]
fn no_decomposition_is_a_value() {
    for reply in [
        "No decomposition",
        "No decomposition.",
        "no decomposition needed",
        "**No decomposition**",
        "1. No decomposition",
        "- No decomposition",
        "Decomposed subquestion 1: No decomposition.",
        "[\"No decomposition\"]",
        "\"No decomposition\"",
    ] {
        let parsed = parse(reply, &Finish::Stop, 10);
        assert_eq!(parsed, Parsed { decomposition: Some(Decomposition::None), problems: vec![] }, "{reply}");
    }
    let first = parse("No decomposition\n1. Who is he?", &Finish::Stop, 10);
    assert_eq!(first.decomposition, Some(Decomposition::None));
    assert_eq!(first.problems, [Problem::Contradiction]);
    check("1. Who is he?\n2. No decomposition", &["Who is he?"], &[Problem::Contradiction]);
}

#[test]
fn blank_replies() {
    check("", &[], &[Problem::Empty]);
    check(" \n\t ", &[], &[Problem::Empty]);
    check("1.\n2.", &[], &[Problem::SkippedLine, Problem::SkippedLine, Problem::NoSubquestions]);
}

#[test]
fn repetitions_are_left_out() {
    check(
        "1. How many?\n2. Who?\n3. How many?\n4. who",
        &["How many?", "Who?"],
        &[Problem::Duplicate, Problem::Duplicate],
    );
    check("1. Who?\n2. How many of the of the of the of the of the boxes?", &["Who?"], &[Problem::Loop]);
    check("1. Is 1 + 1 + 1 = 3?", &["Is 1 + 1 + 1 = 3?"], &[]);
}

#[test]
fn a_cut_reply_loses_its_last_line() {
    let parsed = parse("1. How many in May?\n2. How many in", &Finish::Length, 10);
    assert_eq!(parsed.decomposition.unwrap().steps().len(), 1);
    assert_eq!(parsed.problems, [Problem::UnfinishedLine]);
    let whole = parse("1. How many in May?\n2. How many in all?", &Finish::Length, 10);
    assert_eq!(whole.decomposition.unwrap().steps().len(), 2);
    let json = parse("[\"How many in May?\",\n\"How many in", &Finish::Length, 10);
    assert_eq!(json.decomposition, Some(Decomposition::from_texts(["How many in May?"])));
    let only = parse("1. How many in", &Finish::Length, 10);
    assert_eq!((only.decomposition, only.problems), (None, vec![Problem::UnfinishedLine, Problem::NoSubquestions]));
}

#[test]
fn the_cap_holds() {
    let reply: Vec<String> = (1..=30).map(|k| format!("{k}. What is {k} and {k}?")).collect();
    let parsed = parse(&reply.join("\n"), &Finish::Stop, 4);
    assert_eq!(parsed.decomposition.unwrap().steps().len(), 4);
    assert_eq!(parsed.problems, vec![Problem::OverCap; 26]);
}

#[test]
fn numbers_and_references_are_no_marks() {
    check("1. 1.5 times #1 is what?\n2. #1 plus 2?", &["1.5 times #1 is what?", "#1 plus 2?"], &[]);
}

/// A list that a subquestion quotes is a part of it; one that is the reply is the reply, also as a string.
#[test]
fn a_json_list_counts_where_it_stands_as_one() {
    check(
        "1. Which of [\"red\", \"blue\"] is it?\n2. How many?",
        &["Which of [\"red\", \"blue\"] is it?", "How many?"],
        &[],
    );
    check("1. What is [\"red\", \"blue\"]", &["What is [\"red\", \"blue\"]"], &[]);
    check("[\"red\", \"blue\"] are which?", &["[\"red\", \"blue\"] are which?"], &[]);
    check("Subquestions: [\"Who?\", \"When?\"]", &["Who?", "When?"], &[Problem::SkippedLine; 0]);
    check("[note] two:\n[\"Who?\", \"When?\"]", &["Who?", "When?"], &[]);
    check(r#""[\"Who?\", \"When?\"]""#, &["Who?", "When?"], &[]);
    check(r#""1. Who?\n2. When?""#, &["Who?", "When?"], &[]);
}

#[test]
fn a_second_label_is_left_out_too() {
    for reply in [
        "1. Subquestion 1: Step 1: How many?",
        "Subquestion 1: 1. How many?",
        "Subquestion 1: Question 1: How many?",
        "**Step 1:** Q1: How many?",
        "[\"Subquestion 1: How many?\"]",
        "1. \"Step 1: How many?\"",
    ] {
        check(reply, &["How many?"], &[]);
    }
    check("1. Question time: how long is it?", &["Question time: how long is it?"], &[]);
    check("1. \" Step 1: who?\"", &["who?"], &[]);
}

/// Subquestions as data sets hold them: words, one line, an end mark.
fn subquestion() -> impl Strategy<Value = String> {
    ("[A-Z][a-z]{1,8}", prop::collection::vec("[a-zé0-9$%'#,-]{1,7}", 1..8), "[?.]")
        .prop_map(|(first, words, end)| format!("{first} {}{end}", words.join(" ")))
        .prop_filter("a loop is no subquestion", |text| !is_loop(text))
}

proptest! {
    #[test]
    fn parse_undoes_completion(texts in prop::collection::vec(subquestion(), 0..12)) {
        let mut seen = HashSet::new();
        let texts: Vec<String> = texts.into_iter().filter(|text| seen.insert(letters_and_digits(text))).collect();
        let decomposition = Decomposition::from_texts(texts);
        for finish in [Finish::Stop, Finish::Other("x".into())] {
            let parsed = parse(&completion(&decomposition), &finish, 12);
            prop_assert_eq!(&parsed, &Parsed { decomposition: Some(decomposition.clone()), problems: vec![] });
        }
    }

    /// What was read is read again as it is, whatever labels, numbers and lists stood in it.
    #[test]
    fn what_is_read_is_stable(
        reply in "(<think>|</think>|Step 1: |Subquestion 2: |Q3: |question |\\[\"a\", \"b\"\\]|[0-9]{1,2}[.)] |who|when|\\?| |\"|\n){1,14}"
    ) {
        if let Some(read) = parse(&reply, &Finish::Stop, 8).decomposition {
            let again = parse(&completion(&read), &Finish::Stop, 8);
            let plain = again.problems.is_empty();
            prop_assert!(!plain || again.decomposition == Some(read.clone()), "{:?}: {:?}, then {:?}", reply, read, again);
        }
    }

    #[test]
    fn no_reply_panics(reply in any::<String>(), cap in 0_usize..4) {
        for finish in [Finish::Stop, Finish::Length] {
            let parsed = parse(&reply, &finish, cap);
            prop_assert!(parsed.decomposition.is_some() || !parsed.problems.is_empty());
        }
    }

    #[test]
    fn no_list_like_reply_panics(reply in "([-*#0-9.()\\[\\]{}\"?: \n]|Q|Step|no decomposition|é){0,60}") {
        let _ = parse(&reply, &Finish::Length, 3);
    }
}

/// Replies of every kind, cut, doubled and mixed at random places: whatever comes out is a decomposition.
#[test]
fn mutated_replies_are_read_or_refused() {
    const SEEDS: [&str; 9] = [
        "Sure! Here are the subquestions:\n\n1. How many in May?\n2. How many in all?",
        "**Subquestion 1:** How many in May?\n**Subquestion 2:** How many in all?\n",
        "Decomposed subquestion 1: Who?\nDecomposed subquestion 2: Wie viele sind's für #1?",
        "```json\n{\"subquestions\": [{\"question\": \"Who?\"}, \"How \\u00e9?\"]}\n```",
        "- Who? He is 7.\n* When?\n• Why?",
        "No decomposition needed.",
        "<think>\n1. What is asked?\n</think>\n1. How many?\n2. Who?",
        "### 1) Who?\n(2) When? 12.5\n3: Where is #1",
        "Q1: …?\nQ2: 何？\n\u{feff}Step 3: \u{1F600}?",
    ];
    let mut rng = crate::stats::rng::SplitMix64::new(11);
    for round in 0..20_000 {
        let mut reply: Vec<char> = SEEDS[rng.below(SEEDS.len())].chars().collect();
        for _ in 0..1 + rng.below(4) {
            let (at, to) = (rng.below(reply.len() + 1), rng.below(reply.len() + 1));
            let piece: Vec<char> = reply[at.min(to)..at.max(to)].to_vec();
            match rng.below(4) {
                0 => reply.truncate(at.max(1)),
                1 => drop(reply.splice(to..to, piece)),
                2 => drop(reply.drain(at.min(to)..at.max(to).min(at.min(to) + 9))),
                _ => {
                    let other: Vec<char> = SEEDS[rng.below(SEEDS.len())].chars().collect();
                    drop(reply.splice(at..at, other));
                }
            }
            reply.truncate(4000);
        }
        let reply: String = reply.into_iter().collect();
        let finish = if round % 2 == 0 { Finish::Stop } else { Finish::Length };
        let parsed = parse(&reply, &finish, 5);
        let Some(decomposition) = parsed.decomposition else {
            assert!(!parsed.problems.is_empty(), "{reply:?} is refused without a reason");
            continue;
        };
        let keys: Vec<String> = decomposition.steps().iter().map(|step| letters_and_digits(&step.text)).collect();
        let distinct: HashSet<&String> = keys.iter().collect();
        assert!(keys.len() <= 5 && distinct.len() == keys.len() && !distinct.contains(&String::new()), "{reply:?}");
        assert!(decomposition.steps().iter().all(|step| !step.text.contains('\n')), "{reply:?}");
    }
}
