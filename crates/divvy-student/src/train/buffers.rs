//! Scratch memory that is used again: a training step needs the same dozens of large buffers for every layer, and
//! fresh pages from the system cost more than the arithmetic of a norm.

use divvy_kernels::Packed;

#[derive(Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<f32>>,
    /// For a stored matrix of the base, unpacked, and for its transpose.
    pub(crate) rooms: Rooms,
}

pub(crate) struct Rooms {
    pub(crate) packed: Packed,
    pub(crate) turned: Packed,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { packed: Packed::empty(), turned: Packed::empty() }
    }
}

impl Buffers {
    /// A buffer of `len` values of unspecified content: to be overwritten, never added to.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let fitting = |buffer: &Vec<f32>| buffer.capacity() >= len && buffer.capacity() / 2 <= len;
        let found = (0..self.free.len()).filter(|&i| fitting(&self.free[i])).min_by_key(|&i| self.free[i].capacity());
        match found {
            Some(index) => {
                let mut buffer = self.free.swap_remove(index);
                buffer.resize(len, 0.0);
                buffer
            }
            None => vec![0.0; len],
        }
    }

    /// A buffer that holds `values`.
    pub(crate) fn copy_of(&mut self, values: &[f32]) -> Vec<f32> {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    pub(crate) fn give(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            self.free.push(buffer);
        }
    }

    pub(crate) fn give_all(&mut self, buffers: impl IntoIterator<Item = Vec<f32>>) {
        buffers.into_iter().for_each(|buffer| self.give(buffer));
    }
}
