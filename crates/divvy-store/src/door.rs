//! The door: a store in a file or on a server, the same to whoever reads and writes. What each method promises stands here;
//! how it is done, in the two kinds. Long, since it is the list of what a store does, and holds nothing else.

use std::path::Path;

use divvy_core::{
    digest::Digest,
    question::{Question, QuestionId, Split},
    records::{Stage, TrainPoint},
};

use crate::{
    browse::{ArmMark, ItemPage},
    bulk::Places,
    error::StoreError,
    postgres::{PostgresStore, Terms},
    recipes::KeptRecipe,
    rows::{
        ArtefactRow, AttemptRecord, AttemptTotal, BatchEvent, BatchRow, CallFilter, CallRecord, CallTotal, CallUsage,
        ItemCount, ItemRow, RawReply, RunId, RunRow, RunStatus, TestOpening,
    },
    store::SqliteStore,
};

/// A clone is another handle to the same store. A write has reached the disk when its future returns.
#[derive(Clone, Debug)]
pub enum Store {
    /// A file; one process writes.
    Sqlite(SqliteStore),
    /// A server; any number of workers write.
    Postgres(PostgresStore),
}

/// The same call, whatever kind it is.
macro_rules! either {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match $store {
            Self::Sqlite(store) => store.$method($($argument),*).await,
            // On the heap: a trip over the network is large, and most stores never make one.
            Self::Postgres(store) => Box::pin(store.$method($($argument),*)).await,
        }
    };
}

impl Store {
    /// Opens or creates the store in the file `path`, with its directories, for writing. One process at a time may do so.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process writes; a file that is no store, or one of a newer divvy.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        SqliteStore::open(path).await.map(Self::Sqlite)
    }

    /// Opens an existing store in a file for reading, also while a run writes to it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none; a file that is no store, or of another version.
    pub async fn open_read(path: &Path) -> Result<Self, StoreError> {
        SqliteStore::open_read(path).await.map(Self::Sqlite)
    }

    /// Opens the store on a server for writing, beside others, and makes it where there is none.
    ///
    /// # Errors
    /// A URL that is none; a server that is not there or refuses; tables of a newer divvy.
    pub async fn connect(url: &str, terms: Terms) -> Result<Self, StoreError> {
        PostgresStore::open(url, terms).await.map(Self::Postgres)
    }

    /// Opens an existing store on a server for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when the database holds none; else as [`Store::connect`].
    pub async fn connect_read(url: &str) -> Result<Self, StoreError> {
        PostgresStore::open_read(url).await.map(Self::Postgres)
    }

    /// What workers on several machines need of a store; `None` for one in a file, where nobody else writes.
    #[must_use]
    pub fn shared(&self) -> Option<&PostgresStore> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store),
        }
    }

    /// Where it is, for people; without a password.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(store) => store.path().display().to_string(),
            Self::Postgres(store) => store.name().to_owned(),
        }
    }

    /// Waits for every write sent so far, then closes. Later writes fail with [`StoreError::Closed`]. Dropping the last
    /// handle does the same without waiting.
    ///
    /// # Errors
    /// When closing fails; what was acknowledged before is safe all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        either!(self, close())
    }

    /// Keeps the bytes of a reply. On disk when this returns, and so before any parser sees them.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_raw(&self, raw: &RawReply) -> Result<(), StoreError> {
        either!(self, record_raw(raw))
    }

    /// Every raw reply kept for a call, oldest first: what can be read again without paying again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn raw_replies(&self, key: &Digest) -> Result<Vec<RawReply>, StoreError> {
        either!(self, raw_replies(key))
    }

    /// Keeps a finished call. The same key again changes nothing: the first record wins.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call(&self, call: CallRecord) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.record_call(call).await,
            Self::Postgres(store) => store.record_call(&call).await,
        }
    }

    /// [`Store::record_call`] and [`Store::record_attempt`] in one transaction. A raw reply of the call must have been
    /// recorded before.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call_with_attempt(&self, call: &CallRecord, attempt: &AttemptRecord) -> Result<(), StoreError> {
        either!(self, record_call_with_attempt(call, attempt))
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn record_attempt(&self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        either!(self, record_attempt(attempt))
    }

    /// The call of this key, if it was ever made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call(&self, key: &Digest) -> Result<Option<CallRecord>, StoreError> {
        either!(self, call(key))
    }

    /// Calls with their bodies.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls(&self, filter: &CallFilter) -> Result<Vec<CallRecord>, StoreError> {
        either!(self, calls(filter))
    }

    /// Tokens, price and latency of the given calls, in their order; a call that is not there is left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_usages(&self, keys: &[Digest]) -> Result<Vec<CallUsage>, StoreError> {
        either!(self, call_usages(keys))
    }

    /// Sums by model, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_totals(&self) -> Result<Vec<CallTotal>, StoreError> {
        either!(self, call_totals())
    }

    /// The attempts at one call, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempts(&self, key: &Digest) -> Result<Vec<AttemptRecord>, StoreError> {
        either!(self, attempts(key))
    }

    /// The last attempts that brought no reply, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failed_attempts(&self, limit: u32) -> Result<Vec<AttemptRecord>, StoreError> {
        either!(self, failed_attempts(limit))
    }

    /// How attempts ended, most frequent first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempt_totals(&self) -> Result<Vec<AttemptTotal>, StoreError> {
        either!(self, attempt_totals())
    }

    /// Sets the state of an item. Its plan must have been put before.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_item(&self, item: &ItemRow) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.put_item(item).await,
            Self::Postgres(store) => store.put_items(std::slice::from_ref(item)).await,
        }
    }

    /// Several items in one transaction: all or none.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_items(&self, items: &[ItemRow]) -> Result<(), StoreError> {
        either!(self, put_items(items))
    }

    /// The items of a stage as they stand, by question, sample and arm.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items(&self, plan: &Digest, stage: Stage) -> Result<Vec<ItemRow>, StoreError> {
        either!(self, items(plan, stage))
    }

    /// What [`Store::items_of`] needs to find a stage's items as they stand now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn places(&self, plan: &Digest, stage: Stage) -> Result<Places, StoreError> {
        match self {
            Self::Sqlite(store) => store.places(plan, stage).await,
            Self::Postgres(_) => Ok(Places::default()),
        }
    }

    /// The items of some questions, by question, sample and arm: a stage that is too large to be read at once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_of(
        &self,
        places: &Places,
        plan: &Digest,
        stage: Stage,
        questions: &[QuestionId],
    ) -> Result<Vec<ItemRow>, StoreError> {
        match self {
            Self::Sqlite(store) => store.items_of(places, plan, stage, questions).await,
            Self::Postgres(store) => store.items_of(plan, stage, questions).await,
        }
    }

    /// Looks up once where all calls stand, which [`Store::calls_of`] does otherwise when it meets one that it does not know.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn learn_calls(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.learn_calls().await,
            Self::Postgres(_) => Ok(()),
        }
    }

    /// The calls of these keys, each once, in no order, without the body as it was received; one that was never made is left
    /// out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls_of(&self, keys: &[Digest]) -> Result<Vec<CallRecord>, StoreError> {
        either!(self, calls_of(keys))
    }

    /// Tells of each item of a stage that is done or rejected, in no order; in an embedded store one after another, so that
    /// there may be any number of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_settled(
        &self,
        plan: &Digest,
        stage: Stage,
        each: impl FnMut(&QuestionId, u32, &str),
    ) -> Result<(), StoreError> {
        either!(self, each_settled(plan, stage, each))
    }

    /// Items of a stage settled since a moment, and when the first of them was; `None` when none was.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_since(
        &self,
        plan: &Digest,
        stage: Stage,
        since_ms: i64,
    ) -> Result<Option<(u64, i64)>, StoreError> {
        either!(self, items_since(plan, stage, since_ms))
    }

    /// How often items of a stage were put back to pending, for those that ever were.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_put_back(&self, plan: &Digest, stage: Stage) -> Result<Vec<(QuestionId, u32, u32)>, StoreError> {
        either!(self, items_put_back(plan, stage))
    }

    /// How many items of a plan stand in which state, by stage, arm, state and reason.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn item_counts(&self, plan: &Digest) -> Result<Vec<ItemCount>, StoreError> {
        either!(self, item_counts(plan))
    }

    /// Keeps a plan's questions under their ids, each as JSON, so that a store can be read without its data files. A plan's
    /// digest covers their text, so that what is there already is the same.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_questions(
        &self,
        plan: &Digest,
        questions: impl IntoIterator<Item = String>,
    ) -> Result<(), StoreError> {
        either!(self, put_questions(plan, questions))
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn question(&self, plan: &Digest, id: &QuestionId) -> Result<Option<Question>, StoreError> {
        either!(self, question(plan, id))
    }

    /// Keeps a resolved plan; the same again changes nothing. Everything else refers to a plan that is kept.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_plan(&self, plan: &Digest, json: &str) -> Result<(), StoreError> {
        either!(self, put_plan(plan, json))
    }

    /// The plan's JSON.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn plan(&self, plan: &Digest) -> Result<Option<String>, StoreError> {
        either!(self, plan(plan))
    }

    /// `plan` must have been put before.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn begin_run(&self, plan: &Digest, name: &str, version: &str, now_ms: i64) -> Result<RunId, StoreError> {
        either!(self, begin_run(plan, name, version, now_ms))
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn end_run(&self, run: RunId, status: RunStatus, now_ms: i64) -> Result<(), StoreError> {
        either!(self, end_run(run, status, now_ms))
    }

    /// Every run, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(&self) -> Result<Vec<RunRow>, StoreError> {
        either!(self, runs())
    }

    /// The newest run of the recipe called `name`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn latest_run(&self, name: &str) -> Result<Option<RunRow>, StoreError> {
        either!(self, latest_run(name))
    }

    /// Adds the time that a stage of this plan ran; an interrupted and resumed stage adds several.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn add_stage_time(&self, plan: &Digest, stage: Stage, wall_ms: i64) -> Result<(), StoreError> {
        either!(self, add_stage_time(plan, stage, wall_ms))
    }

    /// Milliseconds of each stage that ran, summed, in the order they first ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stage_times(&self, plan: &Digest) -> Result<Vec<(Stage, i64)>, StoreError> {
        either!(self, stage_times(plan))
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn record_test_opening(
        &self,
        plan: &Digest,
        dataset: &str,
        rows: u64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        either!(self, record_test_opening(plan, dataset, rows, now_ms))
    }

    /// Every look at a test set, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn test_openings(&self) -> Result<Vec<TestOpening>, StoreError> {
        either!(self, test_openings())
    }

    /// The newest artefact of a key counts.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_artefact(
        &self,
        key: &Digest,
        kind: &str,
        path: &str,
        meta_json: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        either!(self, put_artefact(key, kind, path, meta_json, now_ms))
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn artefact(&self, key: &Digest) -> Result<Option<ArtefactRow>, StoreError> {
        either!(self, artefact(key))
    }

    /// Adds points of a training log. A step that was trained again after a resume replaces its point.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_metrics(&self, key: &Digest, points: &[TrainPoint]) -> Result<(), StoreError> {
        either!(self, put_metrics(key, points))
    }

    /// A training log by step.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn metrics(&self, key: &Digest) -> Result<Vec<TrainPoint>, StoreError> {
        either!(self, metrics(key))
    }

    /// One page of settled items.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_page(&self, page: &ItemPage<'_>) -> Result<Vec<ItemRow>, StoreError> {
        either!(self, items_page(page))
    }

    /// How many items all pages have.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_matching(&self, page: &ItemPage<'_>) -> Result<u64, StoreError> {
        either!(self, items_matching(page))
    }

    /// The arms that a stage has items of.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn arms(&self, plan: &Digest, stage: Stage) -> Result<Vec<String>, StoreError> {
        either!(self, arms(plan, stage))
    }

    /// The arms of a stage with how many of their items say yes at `field`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn arm_marks(&self, plan: &Digest, stage: Stage, field: &str) -> Result<Vec<ArmMark>, StoreError> {
        either!(self, arm_marks(plan, stage, field))
    }

    /// The last items of a plan that took calls, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn newest_asked(&self, plan: &Digest, from: u32, count: u32) -> Result<Vec<ItemRow>, StoreError> {
        either!(self, newest_asked(plan, from, count))
    }

    /// A number that grows with every item of a plan: while it stands still, so do figures made of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last_item(&self, plan: &Digest) -> Result<Option<i64>, StoreError> {
        either!(self, last_item(plan))
    }

    /// Tells of each question of a plan, in no order and one after another, so that there may be any number of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_question(&self, plan: &Digest, each: impl FnMut(Question)) -> Result<(), StoreError> {
        either!(self, each_question(plan, each))
    }

    /// How many questions of a plan are in a split.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn question_count(&self, plan: &Digest, split: Split) -> Result<u64, StoreError> {
        either!(self, question_count(plan, split))
    }

    /// Whether a process writes to the store now: what tells a run that is at work from one that was killed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_being_written(&self) -> Result<bool, StoreError> {
        either!(self, is_being_written())
    }

    /// Keeps the recipe of a run that has begun. The caller answers for it that no secret stands in the text.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn keep_recipe(&self, run: RunId, recipe: &KeptRecipe) -> Result<(), StoreError> {
        either!(self, keep_recipe(run, recipe))
    }

    /// The recipe of a run, where it was kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kept_recipe(&self, run: RunId) -> Result<Option<KeptRecipe>, StoreError> {
        either!(self, kept_recipe(run))
    }

    /// Replies on disk that no call was made of yet: they are read again for nothing when their call is asked for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unread_replies(&self) -> Result<u64, StoreError> {
        either!(self, unread_replies())
    }

    /// Keeps what is about to be handed to a Batch API. Nothing may be sent before this returns.
    ///
    /// # Errors
    /// When the store cannot write; always on a server.
    pub async fn intend_batch(&self, batch: &BatchRow) -> Result<(), StoreError> {
        self.own()?.intend_batch(batch).await
    }

    /// Keeps a step of a batch that was intended.
    ///
    /// # Errors
    /// When the store cannot write; always on a server.
    pub async fn record_batch_event(&self, event: &BatchEvent) -> Result<(), StoreError> {
        self.own()?.record_batch_event(event).await
    }

    /// Batches that are not settled, oldest first, of every endpoint; none on a server.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_batches(&self) -> Result<Vec<BatchRow>, StoreError> {
        match self {
            Self::Sqlite(store) => store.open_batches().await,
            Self::Postgres(_) => Ok(Vec::new()),
        }
    }

    /// The store in a file: one process follows its batches.
    fn own(&self) -> Result<&SqliteStore, StoreError> {
        match self {
            Self::Sqlite(store) => Ok(store),
            Self::Postgres(store) => Err(StoreError::Refused {
                path: store.name().into(),
                action: "keep batches",
                detail: "workers cannot share them; ask online, or take a store in a folder".to_owned(),
            }),
        }
    }
}
