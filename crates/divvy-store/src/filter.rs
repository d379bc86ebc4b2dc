//! A Bloom filter: "no" is certain, "perhaps" is wrong once in some four hundred times. It is kept on disk, so its bits never
//! change their meaning.

/// Bits for each number, and how many of them it sets.
const BITS: usize = 16;
const PROBES: u64 = 4;

#[derive(Debug)]
pub(crate) struct Filter(Vec<u8>);

impl Filter {
    pub(crate) fn of(numbers: impl ExactSizeIterator<Item = u32>) -> Self {
        let mut filter = Self(vec![0; (numbers.len() * BITS).div_ceil(8).max(8)]);
        for number in numbers {
            for probe in 0..PROBES {
                let bit = filter.bit(number, probe);
                filter.0[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    /// From what [`Filter::bytes`] gave. One without bits knows nothing of anything.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many numbers it was made of.
    pub(crate) fn count(&self) -> usize {
        self.0.len() * 8 / BITS
    }

    pub(crate) fn may_have(&self, number: u32) -> bool {
        let set = |probe| {
            let bit = self.bit(number, probe);
            self.0[bit / 8] & (1 << (bit % 8)) != 0
        };
        self.0.is_empty() || (0..PROBES).all(set)
    }

    /// Two hashes make all of them (Kirsch and Mitzenmacher, "Less hashing, same performance", 2006).
    fn bit(&self, number: u32, probe: u64) -> usize {
        let mixed = mix(u64::from(number));
        let (first, step) = (mixed >> 32, mixed | 1);
        (first.wrapping_add(probe.wrapping_mul(step & 0xffff_ffff)) % (8 * self.0.len() as u64)) as usize
    }
}

/// The finaliser of SplitMix64.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_is_found_and_little_else() {
        const COUNT: u32 = 20_000;
        let number = |at: u32| at.wrapping_mul(2_654_435_761);
        let made = Filter::of((0..COUNT as usize).map(|at| number(at as u32)));
        let filter = Filter::from_bytes(made.bytes().to_vec());
        assert_eq!(filter.count(), COUNT as usize);
        assert!((0..COUNT).all(|at| filter.may_have(number(at))));
        let wrong = (COUNT..2 * COUNT).filter(|at| filter.may_have(number(*at))).count();
        assert!(wrong < COUNT as usize / 200, "{wrong} of {COUNT}");
    }

    #[test]
    fn one_of_nothing_has_nothing() {
        assert!(!Filter::of([].into_iter()).may_have(7));
    }
}
