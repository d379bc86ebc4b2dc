//! What the block formats have in common: `value = d · scale · (code − zero) − dmin · min`, where a code is a small whole
//! number, 16 or 32 of them have a scale and a minimum (16 where a code has 2, 3 or 6 bits), and 32 or 256 a `d` and a `dmin` in f16.

/// One of the formats. Where `step` is 32, a group's scale and minimum are one, and are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFormat {
    /// Bits of a code: 2, 3, 4, 5, 6 or 8.
    pub bits: usize,
    /// Values that share `d` and `dmin`: 32 or 256.
    pub step: usize,
    /// Taken off every code, or off what a code stands for.
    pub zero: u8,
    /// Whether there are minima.
    pub has_min: bool,
    /// What codes stand for, where that is not themselves.
    pub table: Option<[u8; 16]>,
}

/// Whole scale and minimum of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    pub scale: i8,
    pub min: u8,
}

/// One row, taken apart.
#[derive(Clone, Debug, Default)]
pub struct BlockRow {
    /// One a value.
    pub codes: Vec<u8>,
    /// One a group, where `step` is more than a group.
    pub sides: Vec<Side>,
    /// `[d, dmin]` of each step, bits of f16.
    pub halves: Vec<[u16; 2]>,
}

impl BlockFormat {
    /// Values that share a whole scale and a minimum.
    #[must_use]
    pub fn group(&self) -> usize {
        if matches!(self.bits, 2 | 3 | 6) { 16 } else { 32 }
    }

    /// Bits of the two planes that codes lie in, the low ones first.
    pub(super) fn planes(&self) -> [usize; 2] {
        match self.bits {
            3 => [2, 1],
            5 => [4, 1],
            6 => [4, 2],
            whole => [whole, 0],
        }
    }

    /// Whether groups have scales of their own.
    pub(super) fn has_sides(&self) -> bool {
        self.step > 32
    }

    pub(super) fn check(&self) {
        assert!([2, 3, 4, 5, 6, 8].contains(&self.bits), "codes of {} bits", self.bits);
        assert!(self.step == 256 || self.step == 32 && self.group() == 32, "steps of {} values", self.step);
        assert!(
            self.table.is_none() || self.bits == 4 && !self.has_min,
            "a table is for codes of 4 bits without minima"
        );
    }
}

impl BlockRow {
    /// Room for a row of `k` values, a multiple of the format's step.
    #[must_use]
    pub fn of(format: &BlockFormat, k: usize) -> Self {
        let sides = if format.has_sides() { k / format.group() } else { 0 };
        Self { codes: vec![0; k], sides: vec![Side::default(); sides], halves: vec![[0; 2]; k / format.step] }
    }
}
