//! Questions in their order, however many: what is kept of each in memory is where it lies and a hash of its id, 16 bytes
//! together. The rest is written down once and read again as it comes up; where it lies is a [`Bodies`], in memory or, as
//! divvy-data has it, in a file.
//!
//! A body is the question's canonical JSON, so that the digest of a million questions parses none of them.

mod index;

use std::{
    fmt, io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use serde::Deserialize;

use self::index::Index;
use crate::{
    canonical,
    digest::Digest,
    question::{Question, QuestionId},
};

/// Where bodies lie. They are never changed, and go when nobody refers to them.
pub trait Bodies: Send + Sync {
    /// Keeps a body and says where it lies.
    ///
    /// # Errors
    /// When there is no room for it.
    fn put(&self, body: &[u8]) -> io::Result<u64>;

    /// Fills `body` with what lies at a place that `put` has named.
    ///
    /// # Errors
    /// When it cannot be read back.
    fn get(&self, place: u64, body: &mut Vec<u8>) -> io::Result<()>;

    /// An empty one of its kind.
    ///
    /// # Errors
    /// When none can be made.
    fn another(&self) -> io::Result<Arc<dyn Bodies>>;
}

/// Bodies in memory.
#[derive(Default)]
pub struct InMemory(Mutex<Vec<Box<[u8]>>>);

impl Bodies for InMemory {
    fn put(&self, body: &[u8]) -> io::Result<u64> {
        let mut bodies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.push(body.into());
        Ok(bodies.len() as u64 - 1)
    }

    fn get(&self, place: u64, body: &mut Vec<u8>) -> io::Result<()> {
        let bodies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = usize::try_from(place).ok().and_then(|place| bodies.get(place)).ok_or(io::ErrorKind::NotFound)?;
        body.clear();
        body.extend_from_slice(found);
        Ok(())
    }

    fn another(&self) -> io::Result<Arc<dyn Bodies>> {
        Ok(Arc::new(Self::default()))
    }
}

/// Questions in their order. A clone, and a choice of some, refer to the same bodies.
///
/// A question that was put and cannot be read back ends the process with a panic: its disk is broken, and what is committed
/// to the store is safe.
pub struct Questions {
    bodies: Arc<dyn Bodies>,
    places: Vec<u64>,
    /// Of each id, for the index.
    hashes: Vec<u32>,
    index: OnceLock<Index>,
    /// The one read last: it is mostly asked for once more.
    last: Mutex<Option<(usize, Arc<Question>)>>,
}

impl Questions {
    /// None yet; what is pushed lies in `bodies`.
    #[must_use]
    pub fn kept_in(bodies: Arc<dyn Bodies>) -> Self {
        Self { bodies, places: Vec::new(), hashes: Vec::new(), index: OnceLock::new(), last: Mutex::new(None) }
    }

    /// # Errors
    /// When there is no room for it.
    ///
    /// # Panics
    /// At four thousand million questions.
    pub fn push(&mut self, question: &Question) -> io::Result<()> {
        let body = canonical::to_vec(question).expect("a question is plain JSON");
        let hash = index::hash(&question.id);
        self.places.push(self.bodies.put(&body)?);
        self.hashes.push(hash);
        if let Some(index) = self.index.get_mut() {
            index.add(&self.hashes);
        }
        Ok(())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// # Panics
    /// Beyond the last one, or when it cannot be read back.
    #[must_use]
    pub fn at(&self, position: usize) -> Arc<Question> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, question)) = last().as_ref().filter(|(last, _)| *last == position) {
            return Arc::clone(question);
        }
        let mut body = Vec::new();
        self.read(position, &mut body);
        let question: Arc<Question> = Arc::new(serde_json::from_slice(&body).expect("what was put is a question"));
        *last() = Some((position, Arc::clone(&question)));
        question
    }

    #[must_use]
    pub fn first(&self) -> Option<Arc<Question>> {
        self.iter().next()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Arc<Question>> + Clone + '_ {
        (0..self.len()).map(|position| self.at(position))
    }

    /// Each as its JSON, as it lies.
    ///
    /// # Panics
    /// When one cannot be read back.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.len()).map(|position| {
            let mut body = Vec::new();
            self.read(position, &mut body);
            String::from_utf8(body).expect("what was put is JSON")
        })
    }

    /// Where the question of that id is, the first of several.
    #[must_use]
    pub fn position(&self, id: &QuestionId) -> Option<usize> {
        let index = self.index.get_or_init(|| Index::of(&self.hashes));
        index.like(&self.hashes, index::hash(id)).find(|position| self.at(*position).id == *id)
    }

    #[must_use]
    pub fn get(&self, id: &QuestionId) -> Option<Arc<Question>> {
        self.position(id).map(|position| self.at(position))
    }

    #[must_use]
    pub fn contains(&self, id: &QuestionId) -> bool {
        self.position(id).is_some()
    }

    /// Those at these positions, in the order of the positions.
    #[must_use]
    pub fn choose(&self, positions: impl IntoIterator<Item = usize>) -> Self {
        let (mut chosen, positions) = (Self::kept_in(Arc::clone(&self.bodies)), positions.into_iter());
        chosen.places.reserve_exact(positions.size_hint().0);
        chosen.hashes.reserve_exact(positions.size_hint().0);
        for position in positions {
            chosen.places.push(self.places[position]);
            chosen.hashes.push(self.hashes[position]);
        }
        chosen
    }

    /// The first so many of them, or all.
    #[must_use]
    pub fn take(&self, most: usize) -> Self {
        self.choose(0..most.min(self.len()))
    }

    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&Question) -> bool) -> Self {
        self.choose((0..self.len()).filter(|position| keep(&self.at(*position))))
    }

    /// Positions by what is drawn for each id, equal ones in their old order.
    pub fn order_by<K: Ord>(&self, mut draw: impl FnMut(&QuestionId) -> K) -> impl ExactSizeIterator<Item = usize> {
        /// What has to be read of a question.
        #[derive(Deserialize)]
        struct Named {
            id: QuestionId,
        }
        let mut body = Vec::new();
        let drawn = (0..self.len()).map(|position| {
            self.read(position, &mut body);
            let Named { id } = serde_json::from_slice(&body).expect("what was put is a question");
            draw(&id)
        });
        let mut draws: Vec<(K, u32)> = drawn.zip(0..).collect();
        draws.sort_unstable();
        draws.into_iter().map(|(_, position)| position as usize)
    }

    /// Adds those of another, behind these.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn append(&mut self, other: &Self) -> io::Result<()> {
        self.index = OnceLock::new();
        self.places.reserve_exact(other.len());
        self.hashes.reserve_exact(other.len());
        let same = Arc::ptr_eq(&self.bodies, &other.bodies);
        let mut body = Vec::new();
        for (position, place) in other.places.iter().enumerate() {
            let place = if same {
                *place
            } else {
                other.read(position, &mut body);
                self.bodies.put(&body)?
            };
            self.places.push(place);
            self.hashes.push(other.hashes[position]);
        }
        Ok(())
    }

    /// The same, lying in their order: what is read from first to last is then read fast.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn laid_out(&self) -> io::Result<Self> {
        let mut laid_out = self.none_yet()?;
        laid_out.append(self)?;
        Ok(laid_out)
    }

    /// None, to be kept as these are.
    ///
    /// # Errors
    /// When there is no room for any.
    pub fn none_yet(&self) -> io::Result<Self> {
        Ok(Self::kept_in(self.bodies.another()?))
    }

    /// [`Digest::of`] the list of them.
    #[must_use]
    pub fn digest(&self, schema: &str) -> Digest {
        Digest::of_texts(schema, self.texts())
    }

    fn read(&self, position: usize, body: &mut Vec<u8>) {
        let read = self.bodies.get(self.places[position], body);
        read.unwrap_or_else(|error| panic!("a question that was set aside cannot be read back: {error}"));
    }
}

impl Default for Questions {
    /// None, and those to come lie in memory.
    fn default() -> Self {
        Self::kept_in(Arc::new(InMemory::default()))
    }
}

impl Clone for Questions {
    fn clone(&self) -> Self {
        self.choose(0..self.len())
    }
}

impl FromIterator<Question> for Questions {
    /// In memory.
    fn from_iter<I: IntoIterator<Item = Question>>(all: I) -> Self {
        let mut questions = Self::default();
        all.into_iter().for_each(|question| questions.push(&question).expect("memory refuses nothing"));
        questions
    }
}

impl PartialEq for Questions {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(one, other)| one == other)
    }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|question| question.id.clone())).finish()
    }
}

#[cfg(test)]
mod tests;
