//! Finds a question by its id: a table of positions by hash, four bytes for each of its seats, two thirds of which are taken
//! at the most. Equal hashes of different ids do not matter, since whoever looks compares the ids.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::question::QuestionId;

/// No position: a seat that is free.
const FREE: u32 = u32::MAX;
const FEWEST_SEATS: usize = 16;

/// Half of SipHash with fixed keys.
pub(super) fn hash(id: &QuestionId) -> u32 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

pub(super) struct Index {
    /// A power of two; whoever finds its seat taken sits down on the next free one.
    seats: Vec<u32>,
    len: usize,
}

impl Index {
    pub(super) fn of(hashes: &[u32]) -> Self {
        let seats = (hashes.len() * 3 / 2 + 1).next_power_of_two().max(FEWEST_SEATS);
        let mut index = Self { seats: vec![FREE; seats], len: 0 };
        (0..hashes.len()).for_each(|_| index.seat(hashes));
        index
    }

    /// Takes in the last of `hashes`.
    ///
    /// # Panics
    /// At four thousand million of them.
    pub(super) fn add(&mut self, hashes: &[u32]) {
        if hashes.len() * 3 > self.seats.len() * 2 {
            *self = Self::of(hashes);
        } else {
            self.seat(hashes);
        }
    }

    fn seat(&mut self, hashes: &[u32]) {
        let position = u32::try_from(self.len).ok().filter(|position| *position != FREE);
        let position = position.expect("fewer than four thousand million questions");
        let mut seat = self.first_seat(hashes[self.len]);
        while self.seats[seat] != FREE {
            seat = self.next(seat);
        }
        self.seats[seat] = position;
        self.len += 1;
    }

    /// Positions of that hash, the first one first.
    pub(super) fn like<'h>(&'h self, hashes: &'h [u32], hash: u32) -> impl Iterator<Item = usize> + 'h {
        let seats = std::iter::successors(Some(self.first_seat(hash)), |seat| Some(self.next(*seat)));
        let taken = seats.map(|seat| self.seats[seat]).take_while(|position| *position != FREE);
        taken.map(|position| position as usize).filter(move |position| hashes[*position] == hash)
    }

    fn first_seat(&self, hash: u32) -> usize {
        hash as usize & (self.seats.len() - 1)
    }

    fn next(&self, seat: usize) -> usize {
        (seat + 1) & (self.seats.len() - 1)
    }
}
