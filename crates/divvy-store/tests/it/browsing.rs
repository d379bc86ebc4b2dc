use std::collections::HashMap;

use divvy_core::{
    chat::Usage,
    question::{Question, QuestionId, ScorerKind, Split},
    records::{ItemState, Stage},
};
use divvy_store::{
    ArmMark, AttemptRecord, AttemptSum, CallRecord, ItemPage, ItemRow, KeptRecipe, RunId, RunStatus, SqliteStore, Store,
};

use crate::{both::on_both, json, key};

on_both! {
    items_are_read_a_page_at_a_time_as_they_stand_now,
    a_stage_is_walked_through_in_order,
    what_came_to_nothing_is_summed_by_its_call,
    the_recipe_of_a_run_and_its_questions_come_back,
}

fn item(question: u32, arm: &str, correct: bool) -> ItemRow {
    ItemRow {
        plan: key(1),
        stage: Stage::Evaluate,
        question: QuestionId(format!("q/{question}")),
        sample: 0,
        arm: arm.into(),
        state: ItemState::Done,
        payload_json: format!("{{\"grade\":{{\"correct\":{correct}}}}}"),
        calls: Vec::new(),
        updated_ms: i64::from(question),
    }
}

const CORRECT: &str = "$.grade.correct";

async fn items_are_read_a_page_at_a_time_as_they_stand_now(store: Store) {
    store.put_plan(&key(1), "{}").await.unwrap();
    for question in 0..5 {
        store.put_items(&[item(question, "a", true), item(question, "b", false)]).await.unwrap();
    }
    // What was said last counts: one is wrong now, one failed, one was put back.
    let now = |state, question| {
        let calls = vec![key(question)];
        ItemRow { state, payload_json: "null".into(), calls, ..item(question, "a", true) }
    };
    store.put_items(&[item(1, "a", false)]).await.unwrap();
    store.put_items(&[now(ItemState::Failed("timeout".into()), 2)]).await.unwrap();
    store.put_items(&[now(ItemState::Pending, 4)]).await.unwrap();
    let plan = key(1);
    let read = async |without, from| {
        let page = ItemPage { plan: &plan, stage: Stage::Evaluate, arm: "a", without, from, count: 2 };
        let rows = store.items_page(&page).await.unwrap();
        (store.items_matching(&page).await.unwrap(), rows.into_iter().map(|row| row.question.0).collect::<Vec<_>>())
    };
    assert_eq!(read(None, 0).await, (4, vec!["q/0".to_owned(), "q/1".to_owned()]));
    assert_eq!(read(None, 2).await, (4, vec!["q/2".to_owned(), "q/3".to_owned()]));
    assert_eq!(read(Some(CORRECT), 0).await, (2, vec!["q/1".to_owned(), "q/2".to_owned()]));
    assert_eq!(read(Some(""), 0).await, (1, vec!["q/2".to_owned()]));
    let mark = |arm: &str, items, marked| ArmMark { arm: arm.into(), items, marked };
    let marks = store.arm_marks(&plan, Stage::Evaluate, CORRECT).await.unwrap();
    assert_eq!(marks, [mark("a", 4, 2), mark("b", 5, 0)]);
    assert_eq!(store.arms(&plan, Stage::Evaluate).await.unwrap(), ["a", "b"]);
    let newest = store.newest_asked(&plan, 1, 9).await.unwrap();
    assert_eq!(
        (newest.len(), &newest[0].state),
        (1, &ItemState::Failed("timeout".into())),
        "the last but one with calls"
    );
    let last = store.last_item(&plan).await.unwrap();
    store.put_items(&[item(9, "a", true)]).await.unwrap();
    assert!(store.last_item(&plan).await.unwrap() > last);
}

/// More than a part has, put in another order, some of them again.
async fn a_stage_is_walked_through_in_order(store: Store) {
    store.put_plan(&key(1), "{}").await.unwrap();
    let rows: Vec<ItemRow> = (0..700).rev().map(|question| item(question, "a", true)).collect();
    store.put_items(&rows).await.unwrap();
    let again = ItemRow { state: ItemState::Rejected("wrong".into()), ..item(3, "a", true) };
    let screened = ItemRow { stage: Stage::Screen, ..item(3, "", true) };
    let more = [again.clone(), item(3, "b", true), ItemRow { sample: 1, ..item(3, "a", true) }, screened.clone()];
    store.put_items(&more).await.unwrap();
    let (mut walk, mut seen, mut parts) = (store.walk(&key(1), Stage::Evaluate).await.unwrap(), Vec::new(), Vec::new());
    while let Some(items) = walk.more().await.unwrap() {
        parts.push(items.len());
        seen.extend(items);
    }
    assert_eq!((parts, walk.more().await.unwrap()), (vec![512, 190], None));
    assert_eq!(seen, store.items(&key(1), Stage::Evaluate).await.unwrap());
    let of = [QuestionId("q/3".into()), QuestionId("q/9999".into())];
    let among = store.items_among(&key(1), Stage::Evaluate, &of).await.unwrap();
    assert_eq!(among, [again.clone(), item(3, "b", true), ItemRow { sample: 1, ..item(3, "a", true) }]);
    assert_eq!(store.items_among(&key(1), Stage::Screen, &of).await.unwrap(), [screened]);
    let mut settled = 0;
    store.each_settled(&key(1), Stage::Evaluate, |_, is_done| settled += u64::from(is_done)).await.unwrap();
    assert_eq!(settled, 701);
    assert_eq!(store.walk(&key(1), Stage::Judge).await.unwrap().more().await.unwrap(), None);
    let (mut history, mut outcomes) = (store.history(&key(1), Stage::Evaluate).await.unwrap(), Vec::new());
    while let Some(items) = history.more().await.unwrap() {
        outcomes.extend(items);
    }
    assert_eq!(outcomes.len(), 703, "what was replaced, too, and no other stage's");
    assert_eq!(outcomes.iter().filter(|row| **row == item(3, "a", true) || **row == again).count(), 2);
}

async fn what_came_to_nothing_is_summed_by_its_call(store: Store) {
    let attempt = |of: u32, number, outcome: &str, tokens_in, price_nanos| AttemptRecord {
        key: key(of),
        number,
        outcome: outcome.into(),
        http_status: None,
        message: String::new(),
        usage: Usage { tokens_in, tokens_cached: None, tokens_out: None },
        price_nanos,
        started_ms: 1,
        latency_ms: 1,
    };
    for attempt in [
        attempt(1, 1, "server-error", None, None),
        attempt(1, 2, "empty-completion", Some(7), Some(9)),
        attempt(1, 3, "empty-completion", Some(5), None),
        attempt(1, 4, "ok", Some(3), None),
        attempt(2, 1, "timed-out", None, None),
    ] {
        store.record_attempt(&attempt).await.unwrap();
    }
    let first = AttemptSum { attempts: 3, tokens_in: 12, tokens_out: 0, price_nanos: Some(9), unpriced: 1 };
    let second = AttemptSum { attempts: 1, ..AttemptSum::default() };
    assert_eq!(store.failed_by_key(0).await.unwrap(), HashMap::from([(key(1), first), (key(2), second)]));
    assert_eq!(store.failed_by_key(i64::MAX).await.unwrap(), HashMap::new(), "all of them began before");
    let totals = store.attempt_totals().await.unwrap();
    let empty = totals.iter().find(|total| total.outcome == "empty-completion").unwrap().sum;
    assert_eq!(empty, AttemptSum { attempts: 2, ..first });
}

async fn the_recipe_of_a_run_and_its_questions_come_back(store: Store) {
    store.put_plan(&key(1), "{}").await.unwrap();
    let question = |row: usize, split| Question {
        id: QuestionId::new("d", split, row),
        dataset: "d".into(),
        split,
        premise: None,
        text: "How many?".into(),
        golds: Vec::new(),
        scorer: ScorerKind::Exact,
        steps: None,
        recorded: None,
        cluster: None,
        worked: Vec::new(),
    };
    let questions = [question(0, Split::Test), question(0, Split::Train), question(1, Split::Train)];
    store.put_questions(&key(1), questions.iter().map(json)).await.unwrap();
    let mut kept = Vec::new();
    store.each_question(&key(1), |question| kept.push(question)).await.unwrap();
    kept.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(kept, questions);
    assert_eq!(store.question_count(&key(1), Split::Train).await.unwrap(), 2);
    let run = store.begin_run(&key(1), "r", "0", 1).await.unwrap();
    assert_eq!(store.kept_recipe(run).await.unwrap(), None);
    let recipe = KeptRecipe { text: "name = \"r\"".into(), folder: "/there".into() };
    store.keep_recipe(run, &recipe).await.unwrap();
    assert_eq!(store.kept_recipe(run).await.unwrap(), Some(recipe.clone()));
    assert!(store.keep_recipe(RunId(99), &recipe).await.is_err(), "of a run that there is");
    store.end_run(run, RunStatus::Done, 2).await.unwrap();
}

#[tokio::test]
async fn a_store_tells_whether_somebody_writes_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store.db")).await.unwrap();
    let reading = Store::open_read(&directory.path().join("store.db")).await.unwrap();
    assert!(reading.is_being_written().await.unwrap());
    store.close().await.unwrap();
    assert!(!reading.is_being_written().await.unwrap());
}

#[tokio::test]
async fn what_went_to_an_endpoint_is_found_by_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.db")).await.unwrap();
    for number in [1, 2, 3] {
        let elsewhere = (number == 2).then(|| "http://elsewhere/v1".to_owned());
        let call = crate::call(number);
        store.record_call(CallRecord { endpoint: elsewhere.or(call.endpoint.clone()), ..call }).await.unwrap();
    }
    let failed = AttemptRecord {
        key: key(4),
        number: 1,
        outcome: "rate-limited".into(),
        http_status: Some(429),
        message: String::new(),
        usage: Usage::default(),
        price_nanos: None,
        started_ms: 2,
        latency_ms: 6,
    };
    store.record_attempt(&failed).await.unwrap();
    let sent = |since_ms| store.sent_since("http://localhost/v1", since_ms);
    assert_eq!(sent(0).await.unwrap(), [(1, 11), (2, 0), (3, 13)]);
    // A call is found by when its reply came.
    assert_eq!(sent(22).await.unwrap(), [(3, 13)]);
    assert_eq!(store.sent_since("http://nowhere/v1", 3).await.unwrap(), []);
}
