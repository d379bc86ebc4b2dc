//! Questions in their order, however many: they are written down once and read again as they come up, in a [`Bodies`] that is
//! in memory or, as divvy-data has it, in a file. Those that lie one behind the other take next to no memory; a choice of
//! some takes eight bytes each, and looking for ids ten to sixteen more.
//!
//! A body is the question's canonical JSON, so that the digest of a million questions parses none of them.

mod index;
mod places;

use std::{
    fmt, io,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use serde::Deserialize;

use self::{index::Index, places::Places};
use crate::{
    canonical,
    digest::Digest,
    question::{Question, QuestionId},
};

/// Where bodies lie. They are never changed, and go when nobody refers to them.
pub trait Bodies: Send + Sync {
    /// Keeps a body and says where it lies: it begins where the one ends that was put before it.
    ///
    /// # Errors
    /// When there is no room for it.
    fn put(&self, body: &[u8]) -> io::Result<Range<u64>>;

    /// Fills `body` with what begins there, and says where it ends.
    ///
    /// # Errors
    /// When it cannot be read back.
    fn get(&self, place: u64, body: &mut Vec<u8>) -> io::Result<u64>;

    /// Where the body ends that begins there.
    ///
    /// # Errors
    /// When that cannot be read.
    fn behind(&self, place: u64) -> io::Result<u64>;

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
    fn put(&self, body: &[u8]) -> io::Result<Range<u64>> {
        let mut bodies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.push(body.into());
        let end = bodies.len() as u64;
        Ok(end - 1..end)
    }

    fn get(&self, place: u64, body: &mut Vec<u8>) -> io::Result<u64> {
        let bodies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = usize::try_from(place).ok().and_then(|place| bodies.get(place)).ok_or(io::ErrorKind::NotFound)?;
        body.clear();
        body.extend_from_slice(found);
        Ok(place + 1)
    }

    fn behind(&self, place: u64) -> io::Result<u64> {
        Ok(place + 1)
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
    places: Places,
    /// Made when an id is looked for that is not [`Questions::last`]'s.
    index: OnceLock<Index>,
    /// The one read last: it is mostly asked for once more, and the next one lies behind it.
    last: Mutex<Option<Last>>,
}

struct Last {
    position: usize,
    end: u64,
    question: Arc<Question>,
}

/// What has to be read of a question that is looked for.
#[derive(Deserialize)]
struct Named {
    id: QuestionId,
}

impl Questions {
    /// None yet; what is pushed lies in `bodies`.
    #[must_use]
    pub fn kept_in(bodies: Arc<dyn Bodies>) -> Self {
        Self::at_places(bodies, Places::default())
    }

    fn at_places(bodies: Arc<dyn Bodies>, places: Places) -> Self {
        Self { bodies, places, index: OnceLock::new(), last: Mutex::new(None) }
    }

    /// # Errors
    /// When there is no room for it.
    ///
    /// # Panics
    /// At four thousand million questions.
    pub fn push(&mut self, question: &Question) -> io::Result<()> {
        let body = canonical::to_vec(question).expect("a question is plain JSON");
        self.push_body(&body)?;
        if let Some(index) = self.index.get_mut() {
            index.add(index::hash(&question.id));
        }
        Ok(())
    }

    fn push_body(&mut self, body: &[u8]) -> io::Result<()> {
        self.places.push(self.bodies.put(body)?, &*self.bodies)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// # Panics
    /// Beyond the last one, or when it cannot be read back.
    #[must_use]
    pub fn at(&self, position: usize) -> Arc<Question> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.position == position) {
            return Arc::clone(&last.question);
        }
        let before = last.as_ref().filter(|last| last.position + 1 == position);
        let place = match before {
            Some(before) => self.places.after(before.end, position, &*self.bodies),
            None => self.places.at(position, &*self.bodies),
        };
        let mut body = Vec::new();
        let end = whole(place.and_then(|place| self.bodies.get(place, &mut body)));
        let question: Arc<Question> = Arc::new(serde_json::from_slice(&body).expect("what was put is a question"));
        *last = Some(Last { position, end, question: Arc::clone(&question) });
        question
    }

    /// The one that was read last, if that is its id.
    #[must_use]
    pub fn last(&self, id: &QuestionId) -> Option<Arc<Question>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|last| last.question.id == *id).map(|last| Arc::clone(&last.question))
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
        self.read_each(|body| String::from_utf8(body.to_vec()).expect("what was put is JSON"))
    }

    /// Where the question of that id is, the first of several.
    #[must_use]
    pub fn position(&self, id: &QuestionId) -> Option<usize> {
        let index = self.index.get_or_init(|| Index::of(self.ids().map(|id| index::hash(&id))));
        index.like(index::hash(id)).find(|position| self.at(*position).id == *id)
    }

    #[must_use]
    pub fn get(&self, id: &QuestionId) -> Option<Arc<Question>> {
        self.last(id).or_else(|| self.position(id).map(|position| self.at(position)))
    }

    #[must_use]
    pub fn contains(&self, id: &QuestionId) -> bool {
        self.position(id).is_some()
    }

    /// Those at these positions, in the order of the positions.
    ///
    /// # Panics
    /// When those before one of them cannot be read back.
    #[must_use]
    pub fn choose(&self, positions: impl IntoIterator<Item = usize>) -> Self {
        let all = whole(self.places.all(&*self.bodies));
        let chosen = positions.into_iter().map(|position| all[position]).collect();
        Self::at_places(Arc::clone(&self.bodies), Places::Anywhere(chosen))
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
        let mut draws: Vec<(K, u32)> = self.ids().map(|id| draw(&id)).zip(0..).collect();
        draws.sort_unstable();
        draws.into_iter().map(|(_, position)| position as usize)
    }

    /// Adds those of another, behind these.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn append(&mut self, other: &Self) -> io::Result<()> {
        self.index = OnceLock::new();
        other.read_each(|body| self.push_body(body)).collect()
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

    fn ids(&self) -> impl Iterator<Item = QuestionId> + '_ {
        self.read_each(|body| serde_json::from_slice::<Named>(body).expect("what was put is a question").id)
    }

    /// What is made of each body, from first to last.
    fn read_each<'q, T>(&'q self, mut make: impl FnMut(&[u8]) -> T + 'q) -> impl Iterator<Item = T> + 'q {
        let (bodies, mut body, mut end) = (&*self.bodies, Vec::new(), 0);
        (0..self.len()).map(move |position| {
            let place =
                if position == 0 { self.places.at(0, bodies) } else { self.places.after(end, position, bodies) };
            end = whole(place.and_then(|place| bodies.get(place, &mut body)));
            make(&body)
        })
    }
}

fn whole<T>(read: io::Result<T>) -> T {
    read.unwrap_or_else(|error| panic!("a question that was set aside cannot be read back: {error}"))
}

impl Default for Questions {
    /// None, and those to come lie in memory.
    fn default() -> Self {
        Self::kept_in(Arc::new(InMemory::default()))
    }
}

impl Clone for Questions {
    fn clone(&self) -> Self {
        Self::at_places(Arc::clone(&self.bodies), self.places.clone())
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
