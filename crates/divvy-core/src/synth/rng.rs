//! A seeded generator of our own, so that the questions of a seed are the same bytes on every machine and with every
//! version of every crate. SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).

pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n` (the high half of a 128-bit product; its bias is below n / 2^64).
    pub(super) fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "nothing to choose from");
        usize::try_from((u128::from(self.next()) * n as u128) >> 64).expect("below n")
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
