//! Attention for generation: a few new queries of a sequence over pages that already hold their keys and values.

use super::block::Rows;
use super::forward::attend;
use super::operand::Numerics;
use super::page::{Page, Paged};
use super::{BLOCK, Heads};
use crate::Isa;
use crate::dispatch::Shared;
use rayon::prelude::*;
use std::sync::Arc;

/// New queries of one sequence and its cache.
pub struct CachedQuery<'a> {
    /// `[new, query·dim]`, rows `q_stride` apart.
    pub q: &'a [f32],
    pub q_stride: usize,
    /// With at least `first_position + new` positions; later ones are not looked at.
    pub pages: &'a [Arc<Page>],
    /// Position of the first new query.
    pub first_position: usize,
    /// `[new, query·dim]`, dense: its length says how many queries are new.
    pub out: &'a mut [f32],
}

/// Attends for several sequences at once, in parallel over sequences, key heads and blocks of queries. A sequence's
/// result does not depend on the others.
///
/// # Panics
/// When a job's shapes do not fit.
pub fn attend_cached(jobs: &mut [CachedQuery], heads: &Heads) {
    heads.check();
    let numerics = Numerics::generation(Isa::current());
    let mut tasks = Vec::new();
    for job in jobs.iter_mut() {
        let new = check(job, heads);
        let out = Shared::new(job.out);
        for start in (0..new).step_by(BLOCK) {
            let count = BLOCK.min(new - start);
            tasks.extend((0..heads.kv).map(|kv| {
                let (values, stride) = (job.q, job.q_stride);
                let queries = move |head: usize| Rows { values, offset: head * heads.dim, stride };
                (queries, Paged { pages: job.pages, head: kv }, start, count, job.first_position, out)
            }));
        }
    }
    tasks.into_par_iter().with_max_len(1).for_each(|(queries, cache, start, count, position, out)| {
        let group = cache.head * heads.group()..(cache.head + 1) * heads.group();
        let positions = position + start..position + start + count;
        let queries: Vec<Rows> = group.clone().map(queries).collect();
        let result = attend(numerics, &queries, &cache, heads, positions, start);
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
    let width = heads.query * heads.dim;
    let new = job.out.len() / width;
    assert_eq!(job.out.len(), new * width, "attend_cached: out is [new, query · dim]");
    assert!(
        new == 0 || job.q_stride >= width && (new - 1) * job.q_stride + width <= job.q.len(),
        "attend_cached: q is [{new}, {width}]"
    );
    let held = job.pages.len() * Page::POSITIONS;
    assert!(held >= job.first_position + new, "attend_cached: the cache ends before the queries");
    let fit = job.pages.iter().all(|page| page.fits(heads));
    assert!(fit, "attend_cached: pages of {} heads of {}", heads.kv, heads.dim);
    new
}
