//! Causal grouped-query attention, computed block by block with a running softmax (Dao et al. 2022), so that memory is
//! linear in the number of tokens. Sequences packed into one batch never see each other. The blocks of keys are cut at
//! fixed positions: a query's result does not depend on which other queries share the call, so decoding from a cache
//! gives the same bits as the full pass.

mod backward;
mod block;
mod cached;
mod forward;
mod operand;
mod page;
#[cfg(test)]
mod tests;

pub use backward::attention_backward;
pub use cached::{CachedQuery, attend_cached};
pub use forward::attention;
pub use page::{CacheFormat, Page};

/// Positions in a block of keys or queries.
pub(crate) const BLOCK: usize = 64;

/// How a row of queries, keys and values is cut into heads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    pub query: usize,
    /// Key and value heads; query head `h` uses number `h / (query / kv)`.
    pub kv: usize,
    /// Values in a head.
    pub dim: usize,
    /// Positions that a query sees, its own among them; `None` for all up to its own.
    pub window: Option<usize>,
    /// What scores are multiplied by; `None` for `1 / sqrt(dim)`.
    pub scale: Option<f32>,
}

impl Heads {
    /// Heads that see everything before them.
    #[must_use]
    pub const fn new(query: usize, kv: usize, dim: usize) -> Heads {
        Heads { query, kv, dim, window: None, scale: None }
    }

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
        assert!(self.window != Some(0), "attention: a query sees at least itself");
    }

    fn scale(&self) -> f32 {
        self.scale.unwrap_or_else(|| 1.0 / (self.dim as f32).sqrt())
    }

    /// First position that the query at `position` sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Of `count` keys from position `from` on, those that the query at `position` sees.
    fn seen(&self, position: usize, from: usize, count: usize) -> std::ops::Range<usize> {
        let end = (position + 1).saturating_sub(from).min(count);
        self.first_seen(position).saturating_sub(from).min(end)..end
    }

    /// Of `count` queries from position `from` on, those that see the key at `position`.
    fn seeing(&self, position: usize, from: usize, count: usize) -> std::ops::Range<usize> {
        let end = self.window.map_or(count, |window| position.saturating_add(window).saturating_sub(from).min(count));
        position.saturating_sub(from).min(end)..end
    }
}

/// Asserts that `starts` is 0, …, `tokens`, never falling.
fn check_starts(starts: &[usize], tokens: usize) {
    let ends = starts.first() == Some(&0) && starts.last() == Some(&tokens);
    assert!(ends && starts.is_sorted(), "attention: sequence starts must rise from 0 to {tokens}, got {starts:?}");
}
