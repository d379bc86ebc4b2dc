//! Finds a question by its id: the hash of each, and a table of positions by hash, four bytes for each of its seats, two thirds
//! of which are taken at the most. Equal hashes of different ids do not matter, since whoever looks compares the ids.

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
    /// By position.
    hashes: Vec<u32>,
    /// A power of two; whoever finds its seat taken sits down on the next free one.
    seats: Vec<u32>,
}

impl Index {
    pub(super) fn of(hashes: impl Iterator<Item = u32>) -> Self {
        Self::seated(hashes.collect())
    }

    fn seated(hashes: Vec<u32>) -> Self {
        let seats = (hashes.len() * 3 / 2 + 1).next_power_of_two().max(FEWEST_SEATS);
        let mut index = Self { hashes, seats: vec![FREE; seats] };
        (0..index.hashes.len()).for_each(|position| index.seat(position));
        index
    }

    /// Takes in one more.
    ///
    /// # Panics
    /// At four thousand million of them.
    pub(super) fn add(&mut self, hash: u32) {
        self.hashes.push(hash);
        if self.hashes.len() * 3 > self.seats.len() * 2 {
            *self = Self::seated(std::mem::take(&mut self.hashes));
        } else {
            self.seat(self.hashes.len() - 1);
        }
    }

    fn seat(&mut self, position: usize) {
        let mut seat = self.first_seat(self.hashes[position]);
        while self.seats[seat] != FREE {
            seat = self.next(seat);
        }
        let position = u32::try_from(position).ok().filter(|position| *position != FREE);
        self.seats[seat] = position.expect("fewer than four thousand million questions");
    }

    /// Positions of that hash, the first one first.
    pub(super) fn like(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        let seats = std::iter::successors(Some(self.first_seat(hash)), |seat| Some(self.next(*seat)));
        let taken = seats.map(|seat| self.seats[seat]).take_while(|position| *position != FREE);
        taken.map(|position| position as usize).filter(move |position| self.hashes[*position] == hash)
    }

    fn first_seat(&self, hash: u32) -> usize {
        hash as usize & (self.seats.len() - 1)
    }

    fn next(&self, seat: usize) -> usize {
        (seat + 1) & (self.seats.len() - 1)
    }
}
