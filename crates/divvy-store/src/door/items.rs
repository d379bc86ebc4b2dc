//! Items: what became of each question in each stage.

use divvy_core::{digest::Digest, question::QuestionId, records::Stage};

use super::{Store, Walk, either};
use crate::{
    browse::{ArmMark, ItemPage},
    bulk::Places,
    error::StoreError,
    rows::{ItemCount, ItemRow, PutBack, Unit},
};

impl Store {
    /// Sets the state of items, in one transaction: all or none. Their plan must have been put before.
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

    /// [`Store::items_of`] for a few questions and once: in a file it takes a look at all rows of the stage.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_among(
        &self,
        plan: &Digest,
        stage: Stage,
        questions: &[QuestionId],
    ) -> Result<Vec<ItemRow>, StoreError> {
        match self {
            Self::Sqlite(store) => store.items_among(plan, stage, questions).await,
            Self::Postgres(store) => store.items_of(plan, stage, questions).await,
        }
    }

    /// The items of a stage in the order of [`Store::items`], part by part.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn walk(&self, plan: &Digest, stage: Stage) -> Result<Walk, StoreError> {
        Walk::begin(self, plan, stage).await
    }

    /// Every outcome that items of a stage ever had, what was replaced included, part by part.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn history(&self, plan: &Digest, stage: Stage) -> Result<Walk, StoreError> {
        Walk::begin_history(self, plan, stage).await
    }

    /// Tells of each item of a stage that is done or rejected, and whether it is done, in no order and one after another, so
    /// that there may be any number of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_settled(
        &self,
        plan: &Digest,
        stage: Stage,
        each: impl FnMut(Unit, bool),
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
    pub async fn items_put_back(&self, plan: &Digest, stage: Stage) -> Result<Vec<PutBack>, StoreError> {
        either!(self, items_put_back(plan, stage))
    }

    /// How many items of a plan stand in which state, by stage, arm, state and reason.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn item_counts(&self, plan: &Digest) -> Result<Vec<ItemCount>, StoreError> {
        either!(self, item_counts(plan))
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
}
