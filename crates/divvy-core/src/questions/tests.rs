use super::*;
use crate::{
    digest::derive_seed,
    question::{Gold, Split},
    synth,
};

fn some(count: usize) -> Vec<Question> {
    synth::generate(Split::Train, count, 7)
}

fn held(all: &[Question]) -> Questions {
    all.iter().cloned().collect()
}

fn ids(questions: &Questions) -> Vec<String> {
    questions.iter().map(|question| question.id.0.clone()).collect()
}

#[test]
fn what_is_put_comes_back_and_has_the_digest_of_the_list() {
    let mut all = some(50);
    all[3].golds = vec![Gold(vec!["ä".into(), "\"b\"\n".into()]), Gold::single("")];
    all[4].recorded = None;
    let questions = held(&all);
    assert_eq!(questions.len(), 50);
    assert!(questions.iter().zip(&all).all(|(read, put)| *read == *put));
    assert_eq!(questions.digest("questions/1"), Digest::of_list("questions/1", &all));
    assert!(questions.texts().zip(&all).all(|(text, put)| serde_json::from_str::<Question>(&text).unwrap() == *put));
    assert_eq!(Questions::default().digest("x/1"), Digest::of_list::<Question>("x/1", []));
}

#[test]
fn every_id_is_found_while_more_are_pushed() {
    let all = some(300);
    let mut questions = Questions::default();
    for (position, question) in all.iter().enumerate() {
        assert_eq!(questions.position(&question.id), None);
        questions.push(question).unwrap();
        assert_eq!(questions.position(&question.id), Some(position));
    }
    assert!(all.iter().enumerate().all(|(position, question)| questions.position(&question.id) == Some(position)));
    questions.push(&all[7]).unwrap();
    assert_eq!((questions.position(&all[7].id), questions.len()), (Some(7), 301), "the first of several");
}

#[test]
fn ids_of_one_hash_are_told_apart() {
    let hashes = [5, 21, 5, 37, 5];
    let index = Index::of(hashes.into_iter());
    assert_eq!(index.like(5).collect::<Vec<_>>(), [0, 2, 4], "21 and 37 have the same first seat");
    assert_eq!(index.like(37).collect::<Vec<_>>(), [3]);
    assert_eq!(index.like(53).count(), 0);
}

#[test]
fn a_choice_is_what_a_list_would_have_chosen() {
    let all = some(40);
    let questions = held(&all);
    let mut sorted = all.clone();
    sorted.sort_by_cached_key(|question| derive_seed(3, &question.id.0));
    let chosen = questions.choose(questions.order_by(|id| derive_seed(3, &id.0)));
    let expected: Vec<String> = sorted.iter().map(|question| question.id.0.clone()).collect();
    assert_eq!(ids(&chosen), expected);
    assert_eq!(chosen.digest("questions/1"), Digest::of_list("questions/1", &sorted));
    assert_eq!(chosen.position(&sorted[11].id), Some(11));
    let laid_out = chosen.laid_out().unwrap();
    assert_eq!((&laid_out, laid_out.digest("x/1")), (&chosen, chosen.digest("x/1")));
    assert_eq!(ids(&chosen.take(5)), expected[..5]);
    let even = |question: &Question| question.steps.is_some_and(|steps| steps % 2 == 0);
    assert_eq!(questions.filter(even).len(), all.iter().filter(|question| even(question)).count());
    assert!(!questions.take(3).contains(&all[3].id));
}

#[test]
fn sets_are_joined_wherever_their_bodies_lie() {
    let (all, more) = (some(9), synth::generate(Split::Test, 6, 7));
    let (mut joined, other) = (held(&all), held(&more));
    assert!(!joined.contains(&more[2].id));
    joined.append(&other).unwrap();
    joined.append(&joined.take(2)).unwrap();
    let expected: Vec<Question> = all.iter().chain(&more).chain(&all[..2]).cloned().collect();
    assert_eq!(joined, held(&expected));
    assert_eq!(joined.position(&more[2].id), Some(11));
}

#[test]
fn sets_that_lie_together_do_not_disturb_each_other() {
    let (all, bodies) = (some(140), Arc::new(InMemory::default()));
    let set = || Questions::kept_in(Arc::clone(&bodies) as Arc<dyn Bodies>);
    // One lies in a row until another comes between.
    let (mut one, mut other) = (set(), set());
    all[..70].iter().for_each(|question| one.push(question).unwrap());
    let before = one.clone();
    for question in &all[70..] {
        other.push(question).unwrap();
        one.push(question).unwrap();
    }
    assert_eq!((&one, &other, &before), (&held(&all), &held(&all[70..]), &held(&all[..70])));
    for questions in [one, other] {
        let backwards = questions.choose((0..questions.len()).rev());
        assert!((0..questions.len()).all(|at| questions.at(at) == backwards.at(questions.len() - 1 - at)));
    }
}

#[test]
fn the_one_read_last_is_known_without_looking() {
    let all = some(3);
    let questions = held(&all);
    assert_eq!(questions.last(&all[1].id), None);
    assert_eq!((*questions.at(1)).clone(), all[1]);
    assert_eq!(questions.last(&all[1].id).as_deref(), Some(&all[1]));
    assert_eq!(questions.get(&all[2].id).as_deref(), Some(&all[2]));
    assert_eq!(questions.last(&all[1].id), None);
}
