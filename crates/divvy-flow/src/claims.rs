//! Where the items of a stage come from. In a store of its own a process takes them one after another; on a server it
//! claims a few at a time, beside other workers, and waits in the end for what these have in work: a worker that dies gives
//! its items back.

use std::{
    collections::VecDeque,
    iter::Peekable,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use divvy_core::records::Stage;
use divvy_store::{PostgresStore, StoreError, Token, Unit};
use futures::{StreamExt, stream, stream::LocalBoxStream};

use crate::{context::Context, items::ItemKey, progress::Tick};

/// Items that the server is asked about at once.
const WINDOW: usize = 1024;
/// Most that are claimed at once: what waits here for its turn is nobody else's.
const MOST: usize = 64;
const LONGEST_POLL: Duration = Duration::from_secs(1);

/// An item in this worker's work.
pub(crate) struct Taken {
    pub(crate) key: ItemKey,
    /// Under which its outcome is put; `None` where nobody else could have it.
    pub(crate) token: Option<Token>,
}

/// The items of `todo` as they can be worked on, `at_once` together. Ends when all are over, or at `stop`.
///
/// # Errors
/// The store's, also in the stream.
pub(crate) async fn of_stage<'c>(
    context: &'c Context,
    stage: Stage,
    todo: impl Iterator<Item = ItemKey> + 'c,
    at_once: usize,
    stop: &'c AtomicBool,
) -> Result<LocalBoxStream<'c, Result<Taken, StoreError>>, StoreError> {
    let Some(store) = context.store.shared() else {
        let own = stream::iter(todo).take_while(|_| std::future::ready(!stop.load(Ordering::Relaxed)));
        return Ok(own.map(|key| Ok(Taken { key, token: None })).boxed_local());
    };
    let since = store.moment(&context.digest, stage).await?;
    let most = (at_once / 4).clamp(1, MOST);
    let queue = Queue {
        context,
        store,
        stage,
        since,
        most,
        stop,
        coming: (Box::new(todo) as Box<dyn Iterator<Item = ItemKey> + 'c>).peekable(),
        open: VecDeque::new(),
        ready: VecDeque::new(),
        busy: 0,
        told: false,
    };
    Ok(stream::try_unfold(queue, Queue::next).boxed_local())
}

/// Gives back what was claimed and is not settled, however the stage ended.
///
/// # Errors
/// The store's.
pub(crate) async fn give_back(context: &Context, stage: Stage) -> Result<(), StoreError> {
    match context.store.shared() {
        Some(store) => store.give_back(&context.digest, stage).await,
        None => Ok(()),
    }
}

/// How long to wait before asking again what others have in work.
pub(crate) fn poll(store: &PostgresStore) -> Result<Duration, StoreError> {
    Ok((store.lease()? / 6).min(LONGEST_POLL))
}

struct Queue<'c> {
    context: &'c Context,
    store: &'c PostgresStore,
    stage: Stage,
    /// What failed later was tried by somebody since this stage began.
    since: i64,
    most: usize,
    stop: &'c AtomicBool,
    /// Not looked at yet: named one by one, since there may be millions.
    coming: Peekable<Box<dyn Iterator<Item = ItemKey> + 'c>>,
    /// Looked at, and not over as far as is known here.
    open: VecDeque<ItemKey>,
    /// Of those, how many were in work elsewhere when they were last asked about.
    busy: usize,
    /// Claimed.
    ready: VecDeque<Taken>,
    /// It was said that others are waited for.
    told: bool,
}

impl Queue<'_> {
    fn is_over(&mut self) -> bool {
        self.ready.is_empty() && self.open.is_empty() && self.coming.peek().is_none()
    }

    async fn next(mut self) -> Result<Option<(Taken, Self)>, StoreError> {
        loop {
            let stops = self.stop.load(Ordering::Relaxed) || self.context.cancel.is_cancelled();
            if stops || self.is_over() {
                return Ok(None);
            }
            if let Some(taken) = self.ready.pop_front() {
                return Ok(Some((taken, self)));
            }
            self.claim().await?;
            if self.ready.is_empty() && self.busy == self.open.len() {
                self.wait().await?;
            }
        }
    }

    /// Goes through what is open until something of it is free.
    async fn claim(&mut self) -> Result<(), StoreError> {
        let mut unseen = self.open.len();
        self.busy = 0;
        while self.ready.is_empty() {
            let mut window: Vec<ItemKey> = self.open.drain(..unseen.min(WINDOW)).collect();
            unseen -= window.len();
            let room = WINDOW - window.len();
            window.extend(self.coming.by_ref().take(room));
            if window.is_empty() {
                break;
            }
            self.claim_of(window).await?;
        }
        Ok(())
    }

    async fn claim_of(&mut self, window: Vec<ItemKey>) -> Result<(), StoreError> {
        let units: Vec<Unit> = window.iter().map(unit).collect();
        let claims = self.store.claim(&self.context.digest, self.stage, &units, self.most, self.since).await?;
        self.busy += claims.busy;
        let over = window.len() - claims.mine.len() - claims.open.len();
        // Done by others, or failed: this worker's bar moves all the same.
        (0..over).for_each(|_| self.context.progress.tick(Tick::default()));
        let mut window: Vec<Option<ItemKey>> = window.into_iter().map(Some).collect();
        let mut take = |place: usize| window.get_mut(place).and_then(Option::take);
        let mine = claims.mine.into_iter();
        self.ready.extend(mine.filter_map(|(place, token)| Some(Taken { key: take(place)?, token: Some(token) })));
        let open: Vec<ItemKey> = claims.open.into_iter().filter_map(take).collect();
        if self.ready.is_empty() {
            self.open.extend(open);
        } else {
            // Their order is kept: neighbours have prompts that begin alike.
            open.into_iter().rev().for_each(|key| self.open.push_front(key));
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), StoreError> {
        if self.open.is_empty() {
            return Ok(());
        }
        if !self.told {
            self.told = true;
            let (stage, items) = (self.stage.name(), self.busy);
            self.context.progress.note(&format!("{stage}: waiting for {items} items that other workers have in work"));
        }
        let poll = poll(self.store)?;
        self.context.cancel.run_until_cancelled(tokio::time::sleep(poll)).await;
        Ok(())
    }
}

fn unit(key: &ItemKey) -> Unit {
    Unit { question: key.question.clone(), sample: key.sample, arm: key.arm.clone() }
}
