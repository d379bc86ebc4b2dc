use std::{collections::HashSet, fs, path::Path};

use super::*;
use crate::{
    question::{Gold, ScorerKind, Split},
    synth,
};

fn question(split: Split, row: usize, premise: Option<&str>, text: &str) -> Question {
    Question {
        id: QuestionId::new("t", split, row),
        dataset: "t".into(),
        split,
        premise: premise.map(str::to_owned),
        text: text.into(),
        golds: vec![Gold::single("1")],
        scorer: ScorerKind::Numeric,
        steps: None,
        recorded: None,
        cluster: None,
        worked: Vec::new(),
    }
}

fn kind_of(left: (Option<&str>, &str), right: (Option<&str>, &str)) -> Option<(LeakKind, f64)> {
    let train = [question(Split::Train, 0, left.0, left.1)].into_iter().collect();
    let test = [question(Split::Test, 0, right.0, right.1)].into_iter().collect();
    let found = check(&[("train", &train), ("test", &test)], &Rule::default());
    assert_eq!(found.leaking, [[!found.leaks.is_empty()], [false]]);
    found.leaks.first().map(|leak| (leak.kind, leak.overlap))
}

const STORY: &str = "Ada plants twelve rows of tomatoes in spring and waters every row each morning until the heat of \
    summer comes. In autumn she gives half of her harvest to the school kitchen and sells the other half at the \
    market for 3 dollars a basket. How much does she earn?";

#[test]
fn equal_words_are_exact_whatever_case_and_commas() {
    let found = kind_of((None, "Tom has 1,200 apples. How many?"), (None, "tom has  1200 apples -- how many"));
    assert_eq!(found, None, "a minus sign is a word");
    let found = kind_of((None, "Tom has 1,200 'red' apples. How many?"), (None, "tom has  1200 red apples; how many"));
    assert_eq!(found, Some((LeakKind::Exact, 1.0)));
}

#[test]
fn signs_and_digits_count() {
    assert_eq!(kind_of((None, "What is 3 + 4 * 2?"), (None, "What is 3 * 4 + 2?")), None);
    assert_eq!(kind_of((None, "What is 3 + 4?"), (None, "What is 3 - 4?")), None);
    assert_eq!(kind_of((None, "What is 3.5 + 4?"), (None, "What is 35 + 4?")), None);
}

#[test]
fn a_long_text_with_one_word_changed_is_near() {
    let changed = STORY.replace("3 dollars", "4 dollars");
    let (kind, overlap) = kind_of((None, STORY), (None, &changed)).unwrap();
    assert_eq!(kind, LeakKind::NearDuplicate);
    assert!((0.7..1.0).contains(&overlap), "{overlap}");
}

#[test]
fn a_text_inside_a_longer_one_is_near() {
    let longer =
        format!("{STORY} Then think about what her neighbour would have done with twice as many rows of beans.");
    assert_eq!(kind_of((None, &longer), (None, STORY)), Some((LeakKind::NearDuplicate, 1.0)));
}

#[test]
fn short_questions_go_by_their_content_words() {
    let ask = |country: &str| format!("What is the capital of {country}?");
    assert_eq!(kind_of((None, &ask("France")), (None, &ask("Spain"))), None);
    let found = kind_of((None, &ask("France")), (None, "The capital of France is what?"));
    assert_eq!(found, Some((LeakKind::NearDuplicate, 1.0)));
}

#[test]
fn a_shared_passage_is_a_leak() {
    let passage = "The Tarn is 40 km long and the Vere is 60 km long.";
    let found = kind_of((Some(passage), "Which is longer?"), (Some(passage), "How long is the Tarn?"));
    assert_eq!(found, Some((LeakKind::SamePassage, 1.0)));
}

#[test]
fn every_pair_of_sets_is_compared_and_rows_are_named() {
    let train = ["one two", "three four", "three four"];
    let train = (0..).zip(train).map(|(row, text)| question(Split::Train, row, None, text)).collect();
    let dev = [question(Split::Dev, 0, None, "three four")].into_iter().collect();
    let test =
        (7..).zip(["three four", "five", "three four"]).map(|(row, text)| question(Split::Test, row, None, text));
    let test = test.collect();
    let found = check(&[("train", &train), ("dev", &dev), ("test", &test)], &Rule::default());
    let named: Vec<String> =
        found.leaks.iter().map(|l| format!("{}:{} {}:{}", l.left_set, l.left, l.right_set, l.right)).collect();
    assert_eq!(
        named,
        [
            "train:t/train/1 dev:t/dev/0",
            "train:t/train/1 test:t/test/7",
            "train:t/train/1 test:t/test/9",
            "dev:t/dev/0 test:t/test/7",
            "dev:t/dev/0 test:t/test/9",
        ]
    );
    assert_eq!(found.leaking, [vec![false, true, true], vec![true], vec![false; 3]], "the twin, too");
}

/// Each of them gives something of the test away, and one of them is the worst.
#[test]
fn every_row_that_matches_is_marked_whatever_set_is_empty() {
    let passage = "The Tarn is 40 km long and the Vere is 60 km long.";
    let premise = |row: usize| row.is_multiple_of(2).then_some(passage);
    let train = (0..9).map(|row| question(Split::Train, row, premise(row), &format!("Question {row}?"))).collect();
    let test = [question(Split::Test, 0, Some(passage), "How long is the Tarn?")].into_iter().collect();
    let found = check(&[("train", &train), ("dev", &Questions::default()), ("test", &test)], &Rule::default());
    assert_eq!(found.leaks.len(), 1, "{:?}", found.leaks);
    assert_eq!(found.leaks[0].left, QuestionId::new("t", Split::Train, 0));
    let even: Vec<bool> = (0..9).map(|row| premise(row).is_some()).collect();
    assert_eq!(found.leaking, [even, Vec::new(), vec![false]]);
}

#[test]
fn the_index_finds_what_comparing_all_pairs_finds() {
    let rule = Rule { words: 3, overlap: 0.5, short: 3 };
    let words = ["red", "fox", "ran", "far", "dog"];
    let text = |n: usize| {
        let mut state = n as u64;
        let mut word = || {
            state = hash(&state);
            words[(state >> 40) as usize % words.len()]
        };
        (0..9).map(|_| word()).collect::<Vec<_>>().join(" ")
    };
    let set = |split, from: usize| (0..60).map(|n| question(split, n, None, &text(n + from))).collect::<Questions>();
    let (train, test) = (set(Split::Train, 0), set(Split::Test, 500));
    let grams = |q: &Question| -> HashSet<Vec<String>> { tokens(&q.text).windows(3).map(<[String]>::to_vec).collect() };
    let share = |a: &Question, b: &Question| {
        let (a, b) = (grams(a), grams(b));
        a.intersection(&b).count() as f64 / a.len().min(b.len()) as f64
    };
    let Found { leaks, leaking } = check(&[("train", &train), ("test", &test)], &rule);
    for (a, marked) in train.iter().zip(&leaking[0]) {
        assert_eq!(test.iter().any(|b| share(&a, &b) >= rule.overlap), *marked, "{}", a.text);
    }
    let mut near = 0;
    for b in test.iter() {
        let best = train.iter().map(|a| share(&a, &b)).fold(0.0, f64::max);
        let found = leaks.iter().find(|leak| leak.right == b.id);
        match found {
            Some(leak) if leak.kind == LeakKind::Exact => assert!(train.iter().any(|a| a.text == b.text)),
            Some(leak) => {
                near += 1;
                assert_eq!(leak.overlap, best, "{}", b.text);
            }
            None => assert!(best < rule.overlap, "{}", b.text),
        }
    }
    assert!(near > 0 && leaks.len() < test.len(), "{near} near of {} leaks", leaks.len());
}

#[test]
fn synth_splits_do_not_leak() {
    for seed in [1, 2] {
        let sets = [(Split::Train, 3000), (Split::Dev, 300), (Split::Test, 500)];
        let [train, dev, test] = sets.map(|(split, rows)| synth::generate(split, rows, seed).into_iter().collect());
        let found = check(&[("train", &train), ("dev", &dev), ("test", &test)], &Rule::default());
        assert!(found.leaks.is_empty(), "seed {seed}: {:#?}", found.leaks);
        assert!(found.leaking.iter().flatten().all(|marked| !marked), "seed {seed}");
    }
}

#[test]
fn element_symbols_are_not_function_words() {
    let ask = |pair: &str| format!("Which element has the higher atomic number, {pair}?");
    assert_eq!(kind_of((None, &ask("Pb or S")), (None, &ask("Be or Pb"))), None);
}

#[test]
fn gsm8k_train_and_test_share_few_rows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/gsm8k");
    let read = |split, name: &str| -> Option<Questions> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let row = |(row, line)| {
            let row_value: serde_json::Value = serde_json::from_str(line).unwrap();
            question(split, row, None, row_value["question"].as_str().unwrap())
        };
        Some(text.lines().enumerate().map(row).collect())
    };
    let (Some(train), Some(test)) = (read(Split::Train, "train.jsonl"), read(Split::Test, "test.jsonl")) else {
        println!("SKIPPED: ../shared/data/gsm8k not found");
        return;
    };
    let Found { leaks, .. } = check(&[("train", &train), ("test", &test)], &Rule::default());
    println!(
        "gsm8k: {} of {} test questions have a near duplicate among {} of train",
        leaks.len(),
        test.len(),
        train.len()
    );
    for leak in &leaks {
        println!("  {} {} {:?} {:.2}", leak.left, leak.right, leak.kind, leak.overlap);
    }
    assert!(leaks.len() < test.len() / 100, "{}", leaks.len());
}
