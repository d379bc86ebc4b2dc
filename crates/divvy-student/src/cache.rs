//! Keys and values of the tokens a sequence has already been through, on pages that sequences with the same beginning share, and
//! the pool of finished sequences whose prefixes later ones may take instead of computing.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

pub use divvy_kernels::CacheFormat;
use divvy_kernels::Page;

use crate::adapter::Adapter;
use crate::config::ModelConfig;

/// A sequence's cache: all layers hold the same number of positions between forward passes. A full page is never written
/// again, and may belong to several sequences.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// Of each layer.
    pages: Vec<Vec<Arc<Page>>>,
    /// Positions held.
    pub len: usize,
    format: CacheFormat,
    heads: usize,
    dim: usize,
}

impl KvCache {
    #[must_use]
    pub fn new(config: &ModelConfig, format: CacheFormat) -> Self {
        Self { pages: vec![Vec::new(); config.layers], len: 0, format, heads: config.kv_heads, dim: config.head_dim }
    }

    /// Memory that a page of every layer takes, in bytes.
    #[must_use]
    pub(crate) fn page_bytes(config: &ModelConfig, format: CacheFormat) -> usize {
        config.layers * Page::new(format, config.kv_heads, config.head_dim).bytes()
    }

    /// A cache with the first `len` positions of this one: its full pages are shared, of the page that ends within one there is a
    /// copy.
    #[must_use]
    pub fn prefix(&self, len: usize) -> Self {
        let (full, rest) = (len / Page::POSITIONS, len % Page::POSITIONS);
        let begun = |pages: &Vec<Arc<Page>>| {
            let mut begun = pages[..full].to_vec();
            if rest > 0 {
                begun.push(Arc::new(pages[full].first(rest)));
            }
            begun
        };
        Self { pages: self.pages.iter().map(begun).collect(), len, ..*self }
    }

    #[must_use]
    pub fn pages(&self, layer: usize) -> &[Arc<Page>] {
        &self.pages[layer]
    }

    /// Writes the keys and values, `[kv·d]` each, of a position in one layer; `position` is the next or one behind it.
    ///
    /// # Panics
    /// When pages before the position are missing.
    pub fn put(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let pages = &mut self.pages[layer];
        let (page, at) = (position / Page::POSITIONS, position % Page::POSITIONS);
        if page == pages.len() {
            pages.push(Arc::new(Page::new(self.format, self.heads, self.dim)));
        }
        // No page with room left is shared, so that this copies nothing.
        Arc::make_mut(&mut pages[page]).put(at, keys, values);
    }
}

/// Tokens whose keys and values are at hand, under one adapter.
pub(crate) struct Finished {
    pub(crate) tokens: Vec<u32>,
    pub(crate) cache: KvCache,
    pub(crate) adapter: Option<Arc<Adapter>>,
}

/// Finished sequences, oldest first, up to a number of positions in all.
pub(crate) struct Pool {
    entries: VecDeque<Finished>,
    most: usize,
}

impl Pool {
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: VecDeque::new(), most }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Finished> {
        self.entries.iter()
    }

    /// Keeps a sequence; what is a prefix of it is dropped, and the oldest make room.
    pub(crate) fn keep(&mut self, finished: Finished) {
        self.entries.retain(|old| {
            !(same_adapter(old.adapter.as_ref(), finished.adapter.as_ref()) && finished.tokens.starts_with(&old.tokens))
        });
        self.entries.push_back(finished);
        self.shrink(self.most);
    }

    /// Drops the oldest until no more than so many positions are held.
    pub(crate) fn shrink(&mut self, most: usize) {
        while self.held() > most && self.entries.pop_front().is_some() {}
    }

    /// Positions held, those on shared pages once.
    pub(crate) fn held(&self) -> usize {
        let pages = self.entries.iter().flat_map(|entry| entry.cache.pages.first().into_iter().flatten());
        pages.map(Arc::as_ptr).collect::<HashSet<_>>().len() * Page::POSITIONS
    }
}

/// Whether two sequences run under the very same adapter (or both under none).
pub(crate) fn same_adapter(a: Option<&Arc<Adapter>>, b: Option<&Arc<Adapter>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// Length of the longest common prefix.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
