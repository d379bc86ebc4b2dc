//! The random numbers of training: SplitMix64 (Steele, Lea, Flood 2014), chosen because its whole state is one word
//! and its stream is fixed for ever. Same seed, same shuffles, same initial factors, on every machine.

pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for every (seed, purpose), so that one more draw here never shifts another there.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut random = Self(seed ^ purpose.wrapping_mul(0xA076_1D64_78BD_642F));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`, by multiply-shift; the bias is below 2⁻³² for any list that fits in memory.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Uniform in `[-bound, bound)`, 24 random bits.
    pub(crate) fn symmetric(&mut self, bound: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1 << 24) as f32;
        bound * (2.0 * unit - 1.0)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, purpose| {
            (0..4)
                .map({
                    let mut r = Random::new(seed, purpose);
                    move |_| r.next()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Random::new(7, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn symmetric_stays_in_bounds_and_centres() {
        let mut random = Random::new(3, 0);
        let draws: Vec<f32> = (0..10_000).map(|_| random.symmetric(0.5)).collect();
        assert!(draws.iter().all(|x| (-0.5..0.5).contains(x)));
        assert!(draws.iter().sum::<f32>().abs() / 10_000.0 < 0.02);
    }
}
