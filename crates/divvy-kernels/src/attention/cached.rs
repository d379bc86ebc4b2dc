//! Attention for generation: a few new queries of a sequence over a cache that already holds their keys and values.

use super::block::Rows;
use super::forward::attend;
use super::{BLOCK, Heads};
use crate::Isa;
use crate::dispatch::Shared;
use rayon::prelude::*;

/// New queries of one sequence and its cache.
pub struct CachedQuery<'a> {
    /// `[new, query·dim]`, rows `q_stride` apart.
    pub q: &'a [f32],
    pub q_stride: usize,
    /// `[len, kv·dim]`, with at least `first_position + new` rows; later rows are not read.
    pub keys: &'a [f32],
    /// As `keys`.
    pub values: &'a [f32],
    /// Position of the first new query.
    pub first_position: usize,
    /// `[new, query·dim]`, dense: its length says how many queries are new.
    pub out: &'a mut [f32],
}

/// Attends for one sequence, on the calling thread's pool; see [`CachedQuery`] for the shapes.
///
/// # Panics
/// When shapes do not fit.
pub fn attend_cached(
    q: &[f32],
    q_stride: usize,
    heads: &Heads,
    keys: &[f32],
    values: &[f32],
    first_position: usize,
    out: &mut [f32],
) {
    attend_cached_batch(&mut [CachedQuery { q, q_stride, keys, values, first_position, out }], heads);
}

/// Attends for several sequences at once, in parallel over sequences, key heads and blocks of queries. A sequence's
/// result does not depend on the others.
///
/// # Panics
/// When a job's shapes do not fit.
pub fn attend_cached_batch(jobs: &mut [CachedQuery], heads: &Heads) {
    heads.check();
    let isa = Isa::current();
    let mut tasks = Vec::new();
    for job in jobs.iter_mut() {
        let new = check(job, heads);
        let out = Shared::new(job.out);
        for start in (0..new).step_by(BLOCK) {
            let count = BLOCK.min(new - start);
            tasks.extend((0..heads.kv).map(|kv| {
                let rows = |values, head: usize, stride| Rows { values, offset: head * heads.dim, stride };
                let cache = heads.kv * heads.dim;
                let pair = [rows(job.keys, kv, cache), rows(job.values, kv, cache)];
                let (q, stride) = (job.q, job.q_stride);
                (
                    move |head: usize| Rows { values: q, offset: head * heads.dim, stride },
                    pair,
                    kv,
                    start,
                    count,
                    job.first_position,
                    out,
                )
            }));
        }
    }
    tasks.into_par_iter().with_max_len(1).for_each(|(queries, pair, kv, start, count, position, out)| {
        let group = kv * heads.group()..(kv + 1) * heads.group();
        let positions = position + start..position + start + count;
        let queries: Vec<Rows> = group.clone().map(queries).collect();
        let result = attend(isa, &queries, pair, heads, positions, start);
        for (head, first) in group.zip((0..).step_by(count)) {
            for row in 0..count {
                // SAFETY: each (query, head) belongs to one task, and the jobs' borrows outlive the tasks.
                let to = unsafe { out.slice(((start + row) * heads.query + head) * heads.dim, heads.dim) };
                to.copy_from_slice(&result.out.row(first + row)[..heads.dim]);
            }
        }
    });
}

/// Asserts the shapes; returns the number of new queries.
fn check(job: &CachedQuery, heads: &Heads) -> usize {
    let (width, cache) = (heads.query * heads.dim, heads.kv * heads.dim);
    let new = job.out.len() / width;
    assert_eq!(job.out.len(), new * width, "attend_cached: out is [new, query · dim]");
    assert!(
        new == 0 || job.q_stride >= width && (new - 1) * job.q_stride + width <= job.q.len(),
        "attend_cached: q is [{new}, {width}]"
    );
    let needed = (job.first_position + new) * cache;
    assert!(job.keys.len() >= needed && job.values.len() >= needed, "attend_cached: the cache ends before the queries");
    new
}
