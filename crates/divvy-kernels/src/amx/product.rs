//! The loops around the kernel: tasks over row tiles and panels, blocks that stay in the second-level cache, and a
//! scratch square for the tiles that stick out of the result.

use super::kernel::{Call, Segment, Tiles, one_by_two, two_by_two};
use crate::Write;
use crate::dispatch::Block;
use crate::matmul::for_each_task;
use crate::operands::{TILE, Term};
use crate::packed::{DEPTH, PANEL};
use rayon::prelude::*;
use std::ops::Range;

/// Depth of one pass, in steps of 32, at most: 32 rows of it stay in the first-level cache while panels go by.
const STEPS: usize = 21;
/// Lines of right panels that stay in the second-level cache while rows go by: a megabyte.
const RESIDENT: usize = 1 << 14;
/// Row tiles of a task where there are many rows: 256 rows of 1,536 fill 0.8 MB, and the panels stream past them.
const STRIP: usize = 16;
/// Rows and columns of one kernel call.
const SQUARE: usize = 2 * TILE;
/// Products that one call sums up, at most.
const TERMS: usize = 2;

/// `y[m, n] (+)= sum of left · right`. The sum of an element runs over the terms and their `k` in rising order of tile
/// steps, whatever the cut.
///
/// # Panics
/// When `y` is not `m * n` long, the terms differ in these, or there are more than two.
pub(crate) fn product(terms: &[Term], y: &mut [f32], write: Write) {
    let (m, n) = (terms[0].left.m, terms[0].right.n);
    assert!(terms.iter().all(|term| (term.left.m, term.right.n) == (m, n)), "amx: every term is [m, n]");
    assert!(terms.len() <= TERMS && y.len() == m * n, "amx: y is [m, n], of at most {TERMS} terms");
    let work = terms.iter().map(|term| term.right.k).sum::<usize>() * PANEL;
    let job = Job { terms, n, passes: passes(terms), into: Block::whole(y, n) };
    let run = |tiles: Range<usize>, panels: Range<usize>| {
        // SAFETY: only reached where AMX is available or emulated; a task runs on one thread and starts no other.
        let state = unsafe { Tiles::configure() };
        job.run(&state, tiles, panels, write);
    };
    let (tiles, panels) = (m.div_ceil(TILE), n.div_ceil(PANEL));
    let threads = rayon::current_num_threads();
    if threads > 1 && tiles >= 2 * STRIP * threads {
        let strips = (0..tiles).into_par_iter().step_by(STRIP).with_max_len(1);
        return strips.for_each(|first| run(first..(first + STRIP).min(tiles), 0..panels));
    }
    // A row tile costs little more than reading its panels, so that it is counted as one row.
    for_each_task(tiles, panels, work, run);
}

/// `(+)= left · right` into a block of `y`, on the calling thread.
///
/// # Safety
/// No other task reads or writes this block.
pub(crate) unsafe fn product_here(term: Term, into: Block, write: Write) {
    let (tiles, panels) = (term.left.m.div_ceil(TILE), term.right.n.div_ceil(PANEL));
    let job = Job { terms: &[term], n: term.right.n, passes: passes(&[term]), into };
    // SAFETY: only reached where AMX is available or emulated.
    let state = unsafe { Tiles::configure() };
    job.run(&state, 0..tiles, 0..panels, write);
}

/// A stretch of one term's steps.
struct Part {
    term: usize,
    steps: Range<usize>,
}

/// Cuts the terms, one after another, into passes of as equal a depth as can be, at most [`STEPS`].
fn passes(terms: &[Term]) -> Vec<Vec<Part>> {
    let depths = || terms.iter().map(|term| term.right.k.div_ceil(DEPTH));
    let total: usize = depths().sum();
    let most = total.div_ceil(total.div_ceil(STEPS).max(1));
    let (mut passes, mut room) = (Vec::<Vec<Part>>::new(), 0);
    for (term, depth) in depths().enumerate() {
        let mut from = 0;
        while from < depth {
            if room == 0 {
                passes.push(Vec::new());
                room = most;
            }
            let steps = from..(from + room).min(depth);
            (from, room) = (steps.end, room - steps.len());
            passes.last_mut().expect("one was pushed").push(Part { term, steps });
        }
    }
    passes
}

struct Job<'a> {
    terms: &'a [Term<'a>],
    n: usize,
    passes: Vec<Vec<Part>>,
    into: Block,
}

impl Job<'_> {
    /// A pass of some panels stays in the second-level cache for all rows, and of two row tiles in the first for all panels.
    fn run(&self, state: &Tiles, tiles: Range<usize>, panels: Range<usize>, mut write: Write) {
        for pass in &self.passes {
            let steps: usize = pass.iter().map(|part| part.steps.len()).sum();
            let group = (RESIDENT / (steps * DEPTH / 2)).max(2) & !1;
            for first in panels.clone().step_by(group) {
                let panels = first..(first + group).min(panels.end);
                for tile in tiles.clone().step_by(2) {
                    for panel in panels.clone().step_by(2) {
                        let count = [2.min(tiles.end - tile), 2.min(panels.end - panel)];
                        self.square(state, pass, [tile, panel], count, write);
                    }
                }
            }
            write = Write::Add;
        }
    }

    /// Up to two row tiles by two panels.
    fn square(&self, state: &Tiles, pass: &[Part], [tile, panel]: [usize; 2], count: [usize; 2], write: Write) {
        let mut segments = [Segment::NONE; TERMS];
        segments.iter_mut().zip(pass).for_each(|(to, part)| *to = self.segment(part, [tile, panel], count));
        let rows = (self.terms[0].left.m - tile * TILE).min(count[0] * TILE);
        let columns = (self.n - panel * PANEL).min(count[1] * PANEL);
        let (dest_stride, add) = (4 * self.into.row, usize::from(write == Write::Add));
        // SAFETY: this task owns these rows × panels; the segments bound what the kernel reads; a square that is not whole
        // is computed in a scratch.
        unsafe {
            let dest = self.into.pointer(tile * TILE, panel * PANEL);
            let call = Call { segments: &segments[..pass.len()], dest, dest_stride, add };
            if rows == count[0] * TILE && columns == SQUARE {
                multiply(state, count[0], call);
            } else {
                sticking_out(state, count[0], call, [rows, columns]);
            }
        }
    }

    fn segment(&self, part: &Part, [tile, panel]: [usize; 2], count: [usize; 2]) -> Segment {
        let Term { left, right } = self.terms[part.term];
        let depth = right.k.next_multiple_of(DEPTH) / 2;
        let lines =
            |panel: usize| &right.lines[panel * depth..][part.steps.start * DEPTH / 2..part.steps.end * DEPTH / 2];
        let start = tile * TILE * left.stride + part.steps.start;
        let rows = &left.lines[start..start + (count[0] * TILE - 1) * left.stride + part.steps.len()];
        Segment {
            left: rows.as_ptr().cast(),
            left_stride: left.stride * 64,
            // A missing second panel is played by the first; its columns are not kept.
            right: [panel, panel + count[1] - 1].map(|panel| lines(panel).as_ptr().cast()),
            steps: part.steps.len(),
        }
    }
}

/// # Safety
/// As for the kernels.
unsafe fn multiply(state: &Tiles, tiles: usize, call: Call) {
    // SAFETY: passed on.
    unsafe { if tiles == 2 { two_by_two(state, call) } else { one_by_two(state, call) } }
}

/// The same when only `rows` by `columns` exist in the destination.
///
/// # Safety
/// As for the kernels, of what exists.
unsafe fn sticking_out(state: &Tiles, tiles: usize, call: Call, [rows, columns]: [usize; 2]) {
    let mut scratch = [0f32; SQUARE * SQUARE];
    let row = |row: usize| call.dest.cast::<u8>().wrapping_add(row * call.dest_stride).cast::<f32>();
    // SAFETY: rows and columns bound what is copied; the scratch holds a whole square.
    unsafe {
        if call.add == 1 {
            (0..rows).for_each(|r| row(r).copy_to_nonoverlapping(scratch[r * SQUARE..].as_mut_ptr(), columns));
        }
        let inner = Call { dest: scratch.as_mut_ptr(), dest_stride: 4 * SQUARE, ..call };
        multiply(state, tiles, inner);
        (0..rows).for_each(|r| row(r).copy_from_nonoverlapping(scratch[r * SQUARE..].as_ptr(), columns));
    }
}
