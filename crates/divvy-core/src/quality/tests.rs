use super::*;
use crate::{
    datasets::{RowContext, gsm8k},
    prompts::tests::question,
    question::{Gold, ScorerKind, Split, Worked},
};

fn two_hop() -> Question {
    let mut question = question(None, "Who rules the land of Mount X?", ScorerKind::Exact);
    let worked = |answer: &str| Worked { text: String::new(), answer: Some(answer.to_owned()) };
    question.golds = vec![Gold::single("Queen Ann")];
    question.worked = vec![worked("New Samplia"), worked("Queen Ann")];
    (question.steps, question.recorded) = (Some(2), None);
    question
}

fn story() -> Question {
    let text = "Ann has 3 pens and buys twice as many. How many has she, if she gives 1,000 away in a week?";
    let mut question = question(None, text, ScorerKind::Numeric);
    let worked = |answer: &str| Worked { text: String::new(), answer: Some(answer.to_owned()) };
    question.worked = vec![worked("6"), worked("2"), worked("7")];
    question.golds = vec![Gold::single("9.50")];
    question
}

fn leaking(question: &Question, texts: &[&str], heard: &[Option<String>]) -> Option<bool> {
    leaks(question, Decomposition::from_texts(texts.iter().copied()).steps(), heard)
}

#[test]
fn an_answer_that_nobody_can_know_yet_leaks() {
    let (hop, story) = (two_hop(), story());
    for (question, second, leaks) in [
        (&hop, "Who rules new samplia?", true),
        (&hop, "Who rules #1?", false),
        (&hop, "Who rules the New Samplians?", false),
        (&hop, "Was queen Ann's land large?", true),
        (&hop, "Who rules the land of Mount X?", false),
        (&story, "What is 3 plus 6?", true),
        (&story, "What is 3 plus six?", true),
        (&story, "What is $9.5, all told?", true),
        (&story, "What is 3 plus #6?", false),
        (&story, "What is 2 times 3, in 7 days?", false),
        (&story, "How many of 1000 in B6 or 6.5?", false),
    ] {
        assert_eq!(leaking(question, &["How much?", second], &[]), Some(leaks), "{second}");
    }
}

#[test]
fn what_was_heard_before_is_no_leak() {
    let heard = [Some("It is New Samplia.".to_owned()), None];
    let asked = ["Where is Mount X?", "Who rules New Samplia?"];
    assert_eq!(leaking(&two_hop(), &asked, &heard), Some(false));
    assert_eq!(leaking(&two_hop(), &["Who rules New Samplia?", "And who?"], &heard), Some(true), "not heard yet");
}

#[test]
fn where_no_answer_is_known_or_asked_for_nothing_can_leak() {
    assert_eq!(leaking(&two_hop(), &[], &[]), None);
    let mut yes = question(None, "Is it?", ScorerKind::Exact);
    assert_eq!(leaking(&yes, &["Is it so?"], &[]), None);
    yes.golds = vec![Gold::single("yes")];
    assert_eq!(leaking(&yes, &["Yes?"], &[]), None);
}

#[test]
fn every_figure_has_its_denominator() {
    let (hop, story) = (two_hop(), story());
    let referring = Decomposition::from_texts(["Where is Mount X?", "Who rules #1?"]);
    let leaking = Decomposition::from_texts(["Which?", "Who rules New Samplia?", "Who?"]);
    let [of_hop, of_story] = [&hop, &story].map(Secrets::of);
    let observed =
        |decomposition| Observed { question: &hop, secrets: &of_hop, decomposition, repeats: false, heard: &[] };
    let mut quality = Quality::default();
    quality.add(observed(Some(&referring)));
    quality.add(observed(Some(&leaking)));
    quality.add(observed(Some(&Decomposition::None)));
    quality.add(Observed { question: &story, secrets: &of_story, repeats: true, ..observed(None) });
    quality.add_unanswered();
    let expect = Quality {
        n: 5,
        well_formed: 3,
        declined: 1,
        subquestions: 5,
        repeating: 1,
        steps: StepCount { of: 3, equal: 1, difference: 0 },
        leaking: Share { of: 2, count: 1 },
        referring: Share { of: 2, count: 1 },
    };
    assert_eq!(quality, expect);
    assert_eq!((quality.mean_subquestions(), quality.steps.mean_difference()), (Some(2.5), Some(0.0)));
    assert_eq!((Quality::default().mean_subquestions(), Share::default().value()), (None, None));
}

#[test]
fn a_data_sets_own_decomposition_is_equal_to_itself() {
    let answer = "How many in all? ** First 2+1 = <<2+1=3>>3.\nHow many in all? ** Then 3+1 = <<3+1=4>>4.\n#### 4";
    let row = serde_json::json!({"question": "Ann has 2, 1 and 1. How many?", "answer": answer});
    let context = RowContext { dataset: "gsm8k", split: Split::Train, row: 0 };
    let question = gsm8k::parse(&row, &context).unwrap();
    let secrets = Secrets::of(&question);
    let of = |decomposition| {
        let mut quality = Quality::default();
        quality.add(Observed { question: &question, secrets: &secrets, decomposition, repeats: false, heard: &[] });
        quality.steps
    };
    assert_eq!(question.steps, Some(2), "two lines of one subquestion");
    assert_eq!(of(question.recorded.as_ref()), StepCount { of: 1, equal: 1, difference: 0 });
    let two = Decomposition::from_texts(["How many at first?", "And then?"]);
    assert_eq!(of(Some(&two)), StepCount { of: 1, equal: 0, difference: 1 });
}

#[test]
fn repetitions_are_found_whatever_the_form() {
    assert!(repeats("1. Who?\n2. How many?\n3. who"));
    assert!(repeats("1. How many of the of the of the of the of the boxes?"));
    assert!(repeats("Who?\nWho?\nEnough"));
    assert!(!repeats("1. Who?\n2. How many?"));
    assert!(!repeats("{\"subquestions\": [\"Who?\", \"When?\"]}"));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "([#$%,.0-9éİ' -]|six|Ann|\\PC){0,30}") {
        let mut question = story();
        question.golds.push(Gold::single(text.clone()));
        let _ = leaking(&question, &[&text, "Who?"], &[Some(text.clone())]);
        question.text = text;
        let _ = leaking(&question, &["Is it 6?"], &[]);
    }
}
