//! Every table there and back, in a file and on a server.

use divvy_core::{
    chat::Usage,
    question::{Gold, Question, QuestionId, ScorerKind, Split},
    records::{ItemState, Stage, TrainPoint},
};
use divvy_store::{
    AttemptRecord, AttemptSum, CallFilter, ItemRow, MOST_TOKENS, RawReply, RunStatus, Store, StoreError, Unit,
};

use crate::{both::on_both, call, json, key};

on_both! {
    the_first_record_of_a_call_wins,
    a_call_comes_back_as_it_was_even_with_nothing_known,
    calls_are_listed_and_summed,
    attempts_and_raw_replies_pile_up,
    counts_that_cannot_be_are_unknown_and_spoil_no_sum,
    plans_runs_and_times,
    an_item_has_the_state_it_was_given_last,
    a_stage_is_read_part_by_part,
    artefacts_metrics_and_questions,
}

/// In a file, for what is so there alone.
async fn fresh() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store.db")).await.unwrap();
    (directory, store)
}

async fn the_first_record_of_a_call_wins(store: Store) {
    assert_eq!(store.call(&key(1)).await.unwrap(), None);
    store.record_call(call(1)).await.unwrap();
    let mut other = call(2);
    other.key = key(1);
    store.record_call(other).await.unwrap();
    assert_eq!(store.call(&key(1)).await.unwrap(), Some(call(1)));
}

async fn a_call_comes_back_as_it_was_even_with_nothing_known(store: Store) {
    let mut bare = call(1);
    bare.reply.text = String::new();
    bare.reply.finish = divvy_core::chat::Finish::Other("content_filter".into());
    bare.reply.usage = Usage::default();
    (bare.raw_reply, bare.price_nanos, bare.endpoint, bare.worked_us) = (Vec::new(), None, None, None);
    store.record_call(bare.clone()).await.unwrap();
    assert_eq!(store.call(&key(1)).await.unwrap(), Some(bare));
}

async fn calls_are_listed_and_summed(store: Store) {
    for number in 1..=3 {
        store.record_call(call(number)).await.unwrap();
    }
    let mut unknown = call(4);
    unknown.model_name = "other".into();
    (unknown.reply.usage, unknown.reply.finish, unknown.price_nanos) =
        (Usage::default(), divvy_core::chat::Finish::Other("content_filter".into()), None);
    store.record_call(unknown).await.unwrap();
    let filter = async |filter: CallFilter| {
        let calls = store.calls(&filter).await.unwrap();
        calls.into_iter().map(|call| call.created_ms).collect::<Vec<_>>()
    };
    assert_eq!(filter(CallFilter::default()).await, [1, 2, 3, 4]);
    assert_eq!(filter(CallFilter { model_name: Some("teacher".into()), ..CallFilter::default() }).await, [1, 2, 3]);
    assert_eq!(filter(CallFilter { since_ms: Some(2), limit: Some(2), ..CallFilter::default() }).await, [2, 3]);
    let ended = |reason: &str| filter(CallFilter { finish: Some(reason.into()), ..CallFilter::default() });
    assert_eq!((ended("content_filter").await, ended("stop").await), (vec![4], vec![1, 2, 3]));
    let totals = store.call_totals().await.unwrap();
    assert_eq!((totals[1].model_name.as_str(), totals[1].calls, totals[1].tokens_out), ("teacher", 3, 6));
    assert_eq!((totals[1].price_nanos, totals[1].unknown_usage), (Some(4_500), 0));
    assert_eq!((totals[0].price_nanos, totals[0].unknown_usage), (None, 1));
    let usages = store.call_usages(&[key(3), key(99), key(1)]).await.unwrap();
    assert_eq!(usages.iter().map(|u| u.usage.tokens_out).collect::<Vec<_>>(), [Some(3), Some(1)]);
    let (first, kept) = (&usages[0], call(3));
    assert_eq!((&first.model_id, &first.endpoint, first.worked_us), (&kept.model_id, &kept.endpoint, kept.worked_us));
}

/// As earlier versions kept them.
async fn counts_that_cannot_be_are_unknown_and_spoil_no_sum(store: Store) {
    let absurd = Usage { tokens_in: Some(u64::MAX), tokens_cached: Some(1 << 41), tokens_out: Some(MOST_TOKENS) };
    for number in 1..=3 {
        let mut call = call(number);
        call.reply.usage = if number < 3 { absurd } else { call.reply.usage };
        let attempt = AttemptRecord {
            key: call.key.clone(),
            number,
            outcome: "unreadable".into(),
            http_status: None,
            message: String::new(),
            usage: call.reply.usage,
            price_nanos: None,
            started_ms: i64::from(number),
            latency_ms: 1,
        };
        store.record_attempt(&attempt).await.unwrap();
        store.record_call(call).await.unwrap();
    }
    let readable = Usage { tokens_in: None, tokens_cached: None, ..absurd };
    assert_eq!(store.call(&key(1)).await.unwrap().unwrap().reply.usage, readable);
    assert_eq!(store.call_usages(&[key(2)]).await.unwrap()[0].usage, readable);
    assert_eq!(store.attempts(&key(2)).await.unwrap()[0].usage, readable);
    let total = &store.call_totals().await.unwrap()[0];
    assert_eq!((total.calls, total.tokens_in, total.tokens_out), (3, 10, 2 * MOST_TOKENS + 3));
    assert_eq!(total.unknown_usage, 2);
    let tried = store.attempt_totals().await.unwrap();
    let tried = tried.iter().find(|total| total.outcome == "unreadable").unwrap().sum;
    assert_eq!((tried.tokens_in, tried.tokens_out, tried.unpriced), (10, 2 * MOST_TOKENS + 3, 3));
    if let Store::Sqlite(file) = &store {
        let sent = file.sent_since("http://localhost/v1", 0).await.unwrap();
        assert!(sent.iter().map(|(_, tokens)| *tokens).max() == Some(1 << 40), "{sent:?}");
    }
}

async fn attempts_and_raw_replies_pile_up(store: Store) {
    let attempt = |number, outcome: &str| AttemptRecord {
        key: key(1),
        number,
        outcome: outcome.into(),
        http_status: Some(429),
        message: "wait".into(),
        usage: Usage::default(),
        price_nanos: None,
        started_ms: 5,
        latency_ms: 6,
    };
    let charged = Usage { tokens_in: Some(7), tokens_cached: None, tokens_out: Some(0) };
    let (first, second) =
        (AttemptRecord { usage: charged, price_nanos: Some(9), ..attempt(1, "empty-completion") }, attempt(2, "ok"));
    store.record_attempt(&first).await.unwrap();
    // Its raw reply was not kept before: it is now.
    store.record_call_with_attempt(&call(1), &second).await.unwrap();
    assert_eq!(store.attempts(&key(1)).await.unwrap(), [first.clone(), second]);
    let totals = store.attempt_totals().await.unwrap();
    let totals: Vec<_> = totals.iter().map(|total| (total.outcome.as_str(), total.sum)).collect();
    let paid = AttemptSum { attempts: 1, tokens_in: 7, price_nanos: Some(9), ..AttemptSum::default() };
    assert_eq!(totals, [("empty-completion", paid), ("ok", AttemptSum { attempts: 1, ..AttemptSum::default() })]);
    let raw = |number, bytes: &[u8]| RawReply {
        key: key(1),
        number,
        bytes: bytes.to_vec(),
        endpoint: None,
        received_ms: 7,
        latency_ms: Some(5),
    };
    let raws = [raw(1, b"\xff\x00 no text"), raw(2, b"")];
    for raw in &raws {
        store.record_raw(raw).await.unwrap();
    }
    let kept = store.raw_replies(&key(1)).await.unwrap();
    assert_eq!((&kept[0].bytes, &kept[1..]), (&call(1).raw_reply, &raws[..]));
    assert!(store.raw_replies(&key(2)).await.unwrap().is_empty());
    let later = AttemptRecord { key: key(2), ..attempt(1, "timed-out") };
    store.record_attempt(&later).await.unwrap();
    let failed = async |prefix: Option<&str>, limit| store.failed_attempts(prefix, None, limit).await.unwrap();
    assert_eq!(failed(None, 9).await, [later.clone(), first.clone()], "newest first");
    assert_eq!(failed(None, 1).await, [later]);
    assert_eq!(failed(Some(&key(1).hex()[..12]), 9).await, [first]);
    assert_eq!(failed(Some("0123456789"), 9).await, []);

    let unread = async || store.unread_replies().await.unwrap();
    let before = unread().await;
    store.record_raw(&RawReply { key: key(3), ..raw(1, b"half a sentence") }).await.unwrap();
    assert_eq!(unread().await, before + 1, "a command died before it was read");
    let refused = AttemptRecord { key: key(3), ..attempt(1, "unreadable") };
    store.record_attempt(&AttemptRecord { started_ms: -9, ..refused.clone() }).await.unwrap();
    assert_eq!(unread().await, before + 1, "the first try of an earlier command");
    store.record_attempt(&refused).await.unwrap();
    assert_eq!(unread().await, before, "it was read, and refused");
}

/// The try that brought a call, as its ledger writes it down.
fn plain_attempt(number: u32) -> AttemptRecord {
    let call = call(number);
    AttemptRecord {
        key: call.key,
        number: 2,
        outcome: "ok".into(),
        http_status: None,
        message: String::new(),
        usage: call.reply.usage,
        price_nanos: None,
        started_ms: call.created_ms,
        latency_ms: call.latency_ms,
    }
}

#[tokio::test]
async fn a_call_that_is_not_waited_for_is_seen_and_kept_all_the_same() {
    let (directory, store) = fresh().await;
    let raw = RawReply {
        key: key(1),
        number: 2,
        bytes: call(1).raw_reply,
        endpoint: call(1).endpoint,
        received_ms: 21,
        latency_ms: Some(5),
    };
    store.record_raw(&raw).await.unwrap();
    assert_eq!(store.call(&key(1)).await.unwrap(), None);
    assert_eq!(store.unread_replies().await.unwrap(), 1);
    store.record_call_with_attempt(&call(1), &plain_attempt(1)).await.unwrap();
    assert_eq!(store.unread_replies().await.unwrap(), 0);
    assert_eq!(store.call(&key(1)).await.unwrap(), Some(call(1)));
    store.record_call_with_attempt(&call(1), &plain_attempt(1)).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&directory.path().join("store.db")).await.unwrap();
    assert_eq!(store.calls(&CallFilter::default()).await.unwrap(), [call(1)]);
    assert_eq!(store.raw_replies(&key(1)).await.unwrap(), [raw]);
    assert_eq!(store.attempts(&key(1)).await.unwrap(), [plain_attempt(1)]);
    let totals = store.attempt_totals().await.unwrap();
    let sum = totals[0].sum;
    assert_eq!((totals[0].outcome.as_str(), sum.attempts, sum.tokens_in, sum.unpriced), ("ok", 1, 10, 0));
}

#[tokio::test]
async fn of_two_records_under_way_at_once_the_first_wins() {
    let (_directory, store) = fresh().await;
    let other = divvy_store::CallRecord { key: key(1), ..call(2) };
    let (first, second) = tokio::join!(store.record_call(call(1)), store.record_call(other));
    first.unwrap();
    second.unwrap();
    assert_eq!(store.calls(&CallFilter::default()).await.unwrap(), [call(1)]);
    assert_eq!(store.raw_replies(&key(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_reply_that_is_read_again_later_is_not_kept_twice() {
    let (directory, store) = fresh().await;
    let raw = RawReply {
        key: key(1),
        number: 1,
        bytes: call(1).raw_reply,
        endpoint: None,
        received_ms: 7,
        latency_ms: Some(5),
    };
    store.record_raw(&raw).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&directory.path().join("store.db")).await.unwrap();
    store.record_call(call(1)).await.unwrap();
    assert_eq!(store.raw_replies(&key(1)).await.unwrap(), [raw]);
    assert_eq!(store.call(&key(1)).await.unwrap(), Some(call(1)));
}

async fn plans_runs_and_times(store: Store) {
    let plan = key(1);
    store.put_plan(&plan, "{}").await.unwrap();
    store.put_plan(&plan, "{}").await.unwrap();
    assert_eq!(store.plan(&plan).await.unwrap().as_deref(), Some("{}"));
    let first = store.begin_run(&plan, "quickstart", "0.0.0", 10).await.unwrap();
    let second = store.begin_run(&plan, "quickstart", "0.0.0", 20).await.unwrap();
    store.end_run(first, RunStatus::Interrupted, 15).await.unwrap();
    let runs = store.runs().await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [second, first]);
    assert_eq!((runs[1].status, runs[1].ended_ms), (RunStatus::Interrupted, Some(15)));
    assert_eq!(store.latest_run("quickstart").await.unwrap(), Some(runs[0].clone()));
    assert_eq!(store.latest_run("other").await.unwrap(), None);
    for (stage, ms) in [(Stage::Screen, 5), (Stage::Collect, 7), (Stage::Screen, 6)] {
        store.add_stage_time(&plan, stage, ms).await.unwrap();
    }
    assert_eq!(store.stage_times(&plan).await.unwrap(), [(Stage::Screen, 11), (Stage::Collect, 7)]);
    store.record_test_opening(&plan, "gsm8k", 200, 30).await.unwrap();
    let openings = store.test_openings().await.unwrap();
    assert_eq!((openings[0].dataset.as_str(), openings[0].rows, openings[0].opened_ms), ("gsm8k", 200, 30));
}

fn item(question: &str, state: ItemState) -> ItemRow {
    ItemRow {
        plan: key(1),
        stage: Stage::Evaluate,
        question: QuestionId(question.into()),
        sample: 0,
        arm: "cot/solver".into(),
        state,
        payload_json: r#"{"correct":true}"#.into(),
        calls: vec![key(5), key(6)],
        updated_ms: 9,
    }
}

async fn an_item_has_the_state_it_was_given_last(store: Store) {
    store.put_plan(&key(1), "{}").await.unwrap();
    store.put_items(&[item("q/test/2", ItemState::Pending)]).await.unwrap();
    store
        .put_items(&[item("q/test/1", ItemState::Rejected("truncated".into())), item("q/test/2", ItemState::Done)])
        .await
        .unwrap();
    let other_sample = ItemRow { sample: 1, ..item("q/test/2", ItemState::Failed("timed-out".into())) };
    store.put_items(std::slice::from_ref(&other_sample)).await.unwrap();
    let expected =
        [item("q/test/1", ItemState::Rejected("truncated".into())), item("q/test/2", ItemState::Done), other_sample];
    assert_eq!(store.items(&key(1), Stage::Evaluate).await.unwrap(), expected);
    assert!(store.items(&key(1), Stage::Collect).await.unwrap().is_empty());
    assert!(store.items(&key(2), Stage::Evaluate).await.unwrap().is_empty());
    let mut settled = Vec::new();
    let tell = |unit: Unit, is_done| settled.push((unit.question.0, unit.sample, unit.arm, is_done));
    store.each_settled(&key(1), Stage::Evaluate, tell).await.unwrap();
    settled.sort();
    let arm = "cot/solver".to_owned();
    assert_eq!(settled, [("q/test/1".to_owned(), 0, arm.clone(), false), ("q/test/2".to_owned(), 0, arm, true)]);
    let counts = store.item_counts(&key(1)).await.unwrap();
    let counts: Vec<_> = counts.into_iter().map(|count| (count.state, count.items)).collect();
    let expected = [
        (ItemState::Done, 1),
        (ItemState::Failed("timed-out".into()), 1),
        (ItemState::Rejected("truncated".into()), 1),
    ];
    assert_eq!(counts, expected);
    let no_plan = ItemRow { plan: key(2), ..item("q", ItemState::Done) };
    assert!(matches!(store.put_items(&[no_plan]).await, Err(StoreError::Refused { .. })));
}

async fn a_stage_is_read_part_by_part(store: Store) {
    store.put_plan(&key(1), "{}").await.unwrap();
    let arm = |question: &str, arm: &str, state| ItemRow { arm: arm.into(), ..item(question, state) };
    let first = [arm("q/test/2", "cot", ItemState::Pending), arm("q/test/1", "cot", ItemState::Done)];
    let last = [
        arm("q/test/2", "direct", ItemState::Done),
        arm("q/test/2", "cot", ItemState::Failed("timed-out".into())),
        arm("q/test/3", "cot", ItemState::Done),
    ];
    store.put_items(&first).await.unwrap();
    store.put_items(&last).await.unwrap();
    let places = store.places(&key(1), Stage::Evaluate).await.unwrap();
    let part = async |ids: &[&str], stage| {
        let ids: Vec<_> = ids.iter().map(|id| QuestionId((*id).into())).collect();
        store.items_of(&places, &key(1), stage, &ids).await.unwrap()
    };
    assert_eq!(part(&["q/test/2", "q/test/9"], Stage::Evaluate).await, [last[1].clone(), last[0].clone()]);
    assert_eq!(part(&["q/test/3", "q/test/1"], Stage::Evaluate).await, [first[1].clone(), last[2].clone()]);
    assert!(part(&[], Stage::Evaluate).await.is_empty());
    for number in 1..=3 {
        store.record_call(call(number)).await.unwrap();
    }
    let mut calls = store.calls_of(&[key(3), key(99), key(1), key(3)]).await.unwrap();
    calls.sort_by_key(|call| call.created_ms);
    let bare = |number| divvy_store::CallRecord { raw_reply: Vec::new(), ..call(number) };
    assert_eq!(calls, [bare(1), bare(3)]);
}

async fn artefacts_metrics_and_questions(store: Store) {
    store.put_artefact(&key(1), "student", "a/old", "{}", 1).await.unwrap();
    store.put_artefact(&key(1), "student", "a/new", r#"{"rows":3}"#, 2).await.unwrap();
    let artefact = store.artefact(&key(1)).await.unwrap().unwrap();
    assert_eq!((artefact.path.as_str(), artefact.meta_json.as_str()), ("a/new", r#"{"rows":3}"#));
    assert_eq!(store.artefact(&key(2)).await.unwrap(), None);
    let point = |step, loss| TrainPoint {
        step,
        loss,
        learning_rate: 1e-4,
        grad_norm: 0.1 + 0.2,
        tokens: 512,
        tokens_per_second: 1.0 / 3.0,
        dev_loss: None,
        dev_quality: None,
    };
    store.put_metrics(&key(1), &[point(2, 1.5), point(1, 2.0)]).await.unwrap();
    store.put_metrics(&key(1), &[point(2, 1.25)]).await.unwrap();
    assert_eq!(store.metrics(&key(1)).await.unwrap(), [point(1, 2.0), point(2, 1.25)]);
    let question = Question {
        id: QuestionId::new("synth", Split::Dev, 3),
        dataset: "synth".into(),
        split: Split::Dev,
        premise: None,
        text: "How many?".into(),
        golds: vec![Gold::single("3")],
        scorer: ScorerKind::Numeric,
        steps: Some(2),
        recorded: None,
        cluster: None,
        worked: Vec::new(),
    };
    let (one, other) = (key(7), key(8));
    for plan in [&one, &other] {
        store.put_plan(plan, "{}").await.unwrap();
    }
    let changed = Question { text: "How few?".into(), ..question.clone() };
    store.put_questions(&one, [json(&question)]).await.unwrap();
    store.put_questions(&one, [json(&question)]).await.unwrap();
    store.put_questions(&other, [json(&changed)]).await.unwrap();
    assert_eq!(store.question(&one, &question.id).await.unwrap(), Some(question));
    assert_eq!(store.question(&other, &changed.id).await.unwrap(), Some(changed));
    assert_eq!(store.question(&one, &QuestionId("none".into())).await.unwrap(), None);
}
