//! The loops around the kernel: tasks over row tiles and panels, blocks that stay in the second-level cache, and a
//! scratch square for the tiles that stick out of the result.

use super::kernel::{Call, Tiles, one_by_two, two_by_two};
use crate::Write;
use crate::dispatch::Shared;
use crate::matmul::for_each_task;
use crate::operands::{LeftTiles, RightPanels, TILE};
use crate::packed::{DEPTH, PANEL};
use std::ops::Range;

/// Depth of one pass, in steps of 32: 32 rows and 32 columns of 4,096 fill half a megabyte.
const STEPS: usize = 128;
/// Lines of right panels that stay in the cache while rows go by: half a megabyte.
const RESIDENT: usize = 1 << 13;
/// Rows and columns of one kernel call.
const SQUARE: usize = 2 * TILE;

/// `y[m, n] (+)= left · right`. The sum of an element runs over `k` in rising order of tile steps, whatever the cut.
pub(crate) fn product(left: &LeftTiles, right: RightPanels, y: &mut [f32], write: Write) {
    assert_eq!(y.len(), left.m * right.n, "amx: y is [m, n]");
    let job = Job { left, right, y: Shared::new(y) };
    // A row tile costs little more than reading its panels, so that it is counted as one row.
    for_each_task(left.m.div_ceil(TILE), right.n.div_ceil(PANEL), right.k * PANEL, |tiles, panels| {
        // SAFETY: only reached where AMX is available or emulated; a task runs on one thread and starts no other.
        let state = unsafe { Tiles::configure() };
        job.run(&state, tiles, panels, write);
    });
}

struct Job<'a> {
    left: &'a LeftTiles,
    right: RightPanels<'a>,
    y: Shared,
}

impl Job<'_> {
    fn run(&self, state: &Tiles, tiles: Range<usize>, panels: Range<usize>, write: Write) {
        let total = self.right.k.div_ceil(DEPTH);
        for from in (0..total).step_by(STEPS) {
            let steps = STEPS.min(total - from);
            let write = if from == 0 { write } else { Write::Add };
            let group = (RESIDENT / (steps * DEPTH / 2)).max(2) & !1;
            for first in panels.clone().step_by(group) {
                let panels = first..(first + group).min(panels.end);
                for tile in tiles.clone().step_by(2) {
                    for panel in panels.clone().step_by(2) {
                        let count = [2.min(tiles.end - tile), 2.min(panels.end - panel)];
                        self.square(state, [tile, panel], count, from..from + steps, write);
                    }
                }
            }
        }
    }

    /// Up to two row tiles by two panels.
    fn square(&self, state: &Tiles, [tile, panel]: [usize; 2], count: [usize; 2], steps: Range<usize>, write: Write) {
        let (n, depth) = (self.right.n, self.right.k.next_multiple_of(DEPTH) / 2);
        let rows = (self.left.m - tile * TILE).min(count[0] * TILE);
        let columns = (n - panel * PANEL).min(count[1] * PANEL);
        let part = |panel: usize| &self.right.lines[panel * depth..][steps.start * DEPTH / 2..steps.end * DEPTH / 2];
        let start = tile * TILE * self.left.stride + steps.start;
        let left = &self.left.lines[start..start + (count[0] * TILE - 1) * self.left.stride + steps.len()];
        // A missing second panel is played by the first; its columns are not kept.
        let right = [part(panel), part(panel + count[1] - 1)].map(|lines| lines.as_ptr().cast::<u8>());
        let whole = rows == count[0] * TILE && columns == SQUARE;
        let mut scratch = [0f32; SQUARE * SQUARE];
        let place = |row: usize| (tile * TILE + row) * n + panel * PANEL;
        // SAFETY: this task owns these rows × panels; the slices above bound what the kernel reads; a square that is not
        // whole is computed in the scratch.
        unsafe {
            if !whole && write == Write::Add {
                (0..rows)
                    .for_each(|r| scratch[r * SQUARE..][..columns].copy_from_slice(self.y.slice(place(r), columns)));
            }
            let (dest, dest_stride) =
                if whole { (self.y.pointer(place(0)), n) } else { (scratch.as_mut_ptr(), SQUARE) };
            let call = Call {
                left: left.as_ptr().cast(),
                left_stride: self.left.stride * 64,
                right,
                dest,
                dest_stride: dest_stride * 4,
                steps: steps.len(),
                add: usize::from(write == Write::Add),
            };
            if count[0] == 2 {
                two_by_two(state, call)
            } else {
                one_by_two(state, call)
            }
            if !whole {
                (0..rows)
                    .for_each(|r| self.y.slice(place(r), columns).copy_from_slice(&scratch[r * SQUARE..][..columns]));
            }
        }
    }
}
