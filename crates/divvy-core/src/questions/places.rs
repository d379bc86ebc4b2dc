//! Where each of many bodies lies. Those that lie one behind the other, as they do when they were just put, need next to
//! nothing: where every 32nd of them begins is known, and the way from there is short.

use std::{borrow::Cow, io, ops::Range};

use super::Bodies;

const STRIDE: usize = 32;

#[derive(Clone, Debug)]
pub(super) enum Places {
    Row {
        /// Of the first, and of each [`STRIDE`]-th behind it.
        marks: Vec<u64>,
        len: usize,
        /// Behind the last one.
        end: u64,
    },
    Anywhere(Vec<u64>),
}

impl Places {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Row { len, .. } => *len,
            Self::Anywhere(places) => places.len(),
        }
    }

    /// Adds what has just been put.
    ///
    /// # Errors
    /// When those before it cannot be read.
    pub(super) fn push(&mut self, put: Range<u64>, bodies: &dyn Bodies) -> io::Result<()> {
        match self {
            Self::Row { marks, len, end } if *len == 0 || *end == put.start => {
                if len.is_multiple_of(STRIDE) {
                    marks.push(put.start);
                }
                (*len, *end) = (*len + 1, put.end);
            }
            Self::Row { .. } => {
                let mut places = self.all(bodies)?.into_owned();
                places.push(put.start);
                *self = Self::Anywhere(places);
            }
            Self::Anywhere(places) => places.push(put.start),
        }
        Ok(())
    }

    /// # Errors
    /// When those before it cannot be read.
    pub(super) fn at(&self, position: usize, bodies: &dyn Bodies) -> io::Result<u64> {
        match self {
            Self::Row { marks, .. } => {
                (0..position % STRIDE).try_fold(marks[position / STRIDE], |place, _| bodies.behind(place))
            }
            Self::Anywhere(places) => Ok(places[position]),
        }
    }

    /// Of the one at `position`, after one that ends there.
    ///
    /// # Errors
    /// When others cannot be read.
    pub(super) fn after(&self, end: u64, position: usize, bodies: &dyn Bodies) -> io::Result<u64> {
        if matches!(self, Self::Row { .. }) { Ok(end) } else { self.at(position, bodies) }
    }

    /// # Errors
    /// When they cannot be read.
    pub(super) fn all(&self, bodies: &dyn Bodies) -> io::Result<Cow<'_, [u64]>> {
        let (marks, len) = match self {
            Self::Row { marks, len, .. } => (marks, *len),
            Self::Anywhere(places) => return Ok(Cow::Borrowed(places)),
        };
        let mut all = Vec::with_capacity(len);
        for position in 0..len {
            let before = all.last().filter(|_| !position.is_multiple_of(STRIDE));
            all.push(before.map_or(Ok(marks[position / STRIDE]), |place| bodies.behind(*place))?);
        }
        Ok(Cow::Owned(all))
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::Row { marks: Vec::new(), len: 0, end: 0 }
    }
}
