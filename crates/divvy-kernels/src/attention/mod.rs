//! Causal grouped-query attention, computed block by block with a running softmax (Dao et al. 2022), so that memory is
//! linear in the number of tokens. Sequences packed into one batch never see each other. The blocks of keys are cut at
//! fixed positions: a query's result does not depend on which other queries share the call, so decoding from a cache
//! gives the same bits as the full pass.

mod backward;
mod block;
mod cached;
mod forward;
#[cfg(test)]
mod tests;

pub use backward::attention_backward;
pub use cached::{CachedQuery, attend_cached, attend_cached_batch};
pub use forward::attention;

/// Positions in a block of keys or queries.
pub(crate) const BLOCK: usize = 64;

/// How a row of queries, keys and values is cut into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    pub query: usize,
    /// Key and value heads; query head `h` uses number `h / (query / kv)`.
    pub kv: usize,
    /// Values in a head.
    pub dim: usize,
}

impl Heads {
    /// Width of a joint row: queries, keys, values.
    fn joint(&self) -> usize {
        (self.query + 2 * self.kv) * self.dim
    }

    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.query / self.kv
    }

    fn check(&self) {
        let whole = self.kv > 0 && self.dim > 0 && self.query > 0 && self.query.is_multiple_of(self.kv);
        assert!(whole, "attention: {} query heads cannot share {} key heads of {}", self.query, self.kv, self.dim);
    }

    /// Scores are multiplied by this: `1 / sqrt(dim)`.
    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// Asserts that `starts` is 0, …, `tokens`, never falling.
fn check_starts(starts: &[usize], tokens: usize) {
    let ends = starts.first() == Some(&0) && starts.last() == Some(&tokens);
    assert!(ends && starts.is_sorted(), "attention: sequence starts must rise from 0 to {tokens}, got {starts:?}");
}
