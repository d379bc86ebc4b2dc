use divvy_core::{
    plan::Tuning,
    prompts::decompose::Style,
    question::{QuestionId, Split},
    recipe::{Method, Target},
};

use super::{super::Row, *};
use crate::items::ItemKey;

/// So many rows of each set, one a question.
fn rows(sets: &[(&str, usize)]) -> Vec<Taught> {
    let taught = |set: &str, row: usize| {
        let question = QuestionId::new(set, Split::Train, row);
        let row = Row {
            id: question.0.clone(),
            prompt: Vec::new(),
            completion: "text".to_owned(),
            weight: 1.0,
            decomposes: false,
        };
        Taught { from: ItemKey { question, sample: 0, arm: String::new() }, row }
    };
    sets.iter().flat_map(|(set, count)| (0..*count).map(|row| taught(set, row))).collect()
}

fn student(mix: &[(&str, f64)], rows: Option<usize>) -> StudentPlan {
    StudentPlan {
        base: "small".to_owned(),
        target: Target::SdT,
        style: Style::default(),
        shots: 0,
        method: Method::Lora,
        rank: 4,
        alpha: 8.0,
        epochs: 1,
        learning_rate: 1e-3,
        batch_rows: 4,
        warmup_ratio: 0.0,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
        max_row_tokens: 100,
        checkpoint_every: 1,
        eval_every: 1,
        mix: mix.iter().map(|(set, weight)| ((*set).to_owned(), *weight)).collect(),
        rows,
        seed: None,
        sweep: Vec::new(),
        torch: None,
        tuning: Tuning::default(),
    }
}

fn ids(rows: &[Taught]) -> Vec<String> {
    rows.iter().map(|taught| taught.row.id.clone()).collect()
}

fn count(rows: &[Taught], set: &str) -> usize {
    rows.iter().filter(|taught| taught.from.question.set() == set).count()
}

#[test]
fn a_weight_repeats_or_leaves_out_rows_of_its_set() {
    let all = rows(&[("a", 40), ("b", 10), ("c", 7)]);
    let mixed = mixed(all.clone(), &student(&[("a", 0.25), ("b", 2.5)], None), 1);
    assert_eq!([count(&mixed, "a"), count(&mixed, "b"), count(&mixed, "c")], [10, 25, 0]);
    for row in 0..10 {
        let times = mixed.iter().filter(|taught| taught.row.id == format!("b/train/{row}")).count();
        assert!((2..=3).contains(&times), "row {row}: {times}");
    }
    let order: Vec<usize> =
        ids(&mixed).iter().map(|id| ids(&all).iter().position(|other| other == id).unwrap()).collect();
    assert!(order.is_sorted(), "the old order");
}

#[test]
fn one_set_learnt_once_is_left_as_it_is() {
    let all = rows(&[("a", 5)]);
    assert_eq!(mixed(all.clone(), &student(&[], None), 1), all);
    assert_eq!(mixed(all.clone(), &student(&[], Some(9)), 1), all, "there are no more");
}

#[test]
fn the_smaller_of_two_sizes_is_a_part_of_the_larger() {
    let all = rows(&[("a", 200), ("b", 100)]);
    for mix in [&[][..], &[("a", 1.0), ("b", 2.0)]] {
        let sizes = [10, 60, 200].map(|size| ids(&mixed(all.clone(), &student(mix, Some(size)), 3)));
        assert_eq!([sizes[0].len(), sizes[1].len(), sizes[2].len()], [10, 60, 200]);
        for pair in sizes.windows(2) {
            assert!(pair[0].iter().all(|id| pair[1].contains(id)), "{pair:?}");
        }
        let other = ids(&mixed(all.clone(), &student(mix, Some(10)), 4));
        assert_ne!(sizes[0], other, "another seed, another choice");
    }
    let shares = mixed(all, &student(&[("a", 1.0), ("b", 2.0)], Some(100)), 3);
    assert!((35..=65).contains(&count(&shares, "b")), "half of them, as of the whole: {}", count(&shares, "b"));
}

/// A row of another target is made of the same item.
#[test]
fn students_of_two_targets_learn_from_the_same_questions() {
    let decomposing = rows(&[("a", 100)]);
    let mut solving = decomposing.clone();
    solving.iter_mut().for_each(|taught| taught.row.completion = format!("The answer is: {}", taught.row.id));
    let plan = student(&[], Some(20));
    assert_eq!(ids(&mixed(decomposing, &plan, 1)), ids(&mixed(solving, &plan, 1)));
}
