//! Keys and values of the tokens a sequence has already been through, and the pool of finished sequences whose
//! prefixes later ones may copy instead of computing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::config::ModelConfig;

/// One layer's `[len, kv·d]` keys and values.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

/// A sequence's cache: all layers hold the same number of positions between forward passes.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub layers: Vec<LayerCache>,
    /// Positions held.
    pub len: usize,
    width: usize,
}

impl KvCache {
    #[must_use]
    pub fn new(config: &ModelConfig) -> Self {
        Self { layers: vec![LayerCache::default(); config.layers], len: 0, width: config.kv_width() }
    }

    /// A new cache with the first `len` positions of this one; room for `capacity` positions.
    #[must_use]
    pub fn prefix(&self, len: usize, capacity: usize) -> Self {
        let copy = |values: &[f32]| {
            let mut copied = Vec::with_capacity(capacity.max(len) * self.width);
            copied.extend_from_slice(&values[..len * self.width]);
            copied
        };
        let layers =
            self.layers.iter().map(|layer| LayerCache { keys: copy(&layer.keys), values: copy(&layer.values) });
        Self { layers: layers.collect(), len, width: self.width }
    }
}

/// Tokens whose keys and values are at hand, under one adapter.
pub(crate) struct Finished {
    pub(crate) tokens: Vec<u32>,
    pub(crate) cache: KvCache,
    pub(crate) adapter: Option<Arc<Adapter>>,
}

/// Finished sequences, oldest first, up to a number of tokens in all.
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
        let mut held: usize = self.entries.iter().map(|entry| entry.cache.len).sum();
        while held > self.most {
            let Some(oldest) = self.entries.pop_front() else { break };
            held -= oldest.cache.len;
        }
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
