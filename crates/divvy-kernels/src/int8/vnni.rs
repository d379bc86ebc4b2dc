//! AVX-512 VNNI: one instruction multiplies four bytes in each of 16 lanes and adds them to a 32-bit sum. Up to 6 rows ×
//! 4 panels have their sums of a block in registers; the f32 results stay in the first-level cache between blocks.

use super::packed::{Beside, Line, PANEL};
use super::{Job, Write};
use crate::dispatch::by_shape;
use crate::tile::strips;
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of one kernel call: 6 × 4 sums, 4 panels and four bytes of the left fit the 32 registers.
const ROWS: usize = 6;
/// Panels of one kernel call.
const GROUP: usize = 4;

/// Whether the processor has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn run(job: &Job, rows: Range<usize>, panels: Range<usize>) {
    let mut panel = panels.start;
    while panel < panels.end {
        let count = if panels.end - panel >= GROUP { GROUP } else { 1 };
        for strip in strips(rows.clone(), ROWS) {
            for (block, groups) in job.blocks() {
                one_block(job, &strip, panel, count, block, groups);
            }
        }
        panel += count;
    }
}

fn one_block(job: &Job, rows: &Range<usize>, panel: usize, count: usize, block: usize, groups: Range<usize>) {
    let (per_panel, blocks, n) = (job.right.groups(), job.right.blocks(), job.right.n());
    let last = panel + count - 1;
    let lines = &job.right.lines[panel * per_panel + groups.start..last * per_panel + groups.end];
    let left = &job.left.values[rows.start * job.left.stride + 4 * groups.start..]
        [..(rows.len() - 1) * job.left.stride + 4 * groups.len()];
    let call = Call {
        left: left.as_ptr(),
        left_row: job.left.stride,
        right: lines.as_ptr(),
        right_panel: per_panel,
        groups: groups.len(),
        beside: job.right.beside[panel * blocks + block..=last * blocks + block].as_ptr(),
        scales: job.left.scales[rows.start * blocks + block..=(rows.end - 1) * blocks + block].as_ptr(),
        blocks,
        // SAFETY: within y, because the rows and the first column of the panel are.
        y: unsafe { job.y.pointer(rows.start * n + panel * PANEL) },
        n,
        last: job.width(last),
        add: job.write == Write::Add || block > 0,
    };
    // SAFETY: only reached where the instructions are; the slices bound what is read, the mask of the last panel what is
    // written, and this task owns these rows × panels.
    unsafe { call.run(rows.len(), count) }
}

/// Operands of one kernel call: one block of up to 6 rows × 4 panels.
struct Call {
    left: *const u8,
    left_row: usize,
    right: *const Line,
    right_panel: usize,
    /// Groups of four `k`.
    groups: usize,
    /// Of the first panel; the next one's lies `blocks` further.
    beside: *const Beside,
    /// Of the first row; the next one's lies `blocks` further.
    scales: *const f32,
    blocks: usize,
    y: *mut f32,
    n: usize,
    /// Columns that exist in the last panel.
    last: usize,
    add: bool,
}

impl Call {
    /// # Safety
    /// All elements named by the shapes are valid and `y` is not shared.
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn run(&self, rows: usize, panels: usize) {
        // SAFETY: passed on.
        unsafe { by_shape!(self, rows, panels) }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn shape<const R: usize, const C: usize>(&self) {
        let mut sums = [[_mm512_setzero_si512(); C]; R];
        // SAFETY: the caller's shapes bound every access.
        unsafe {
            for group in 0..self.groups {
                let mut columns = [_mm512_setzero_si512(); C];
                for (c, column) in columns.iter_mut().enumerate() {
                    *column = _mm512_load_si512(self.right.add(c * self.right_panel + group).cast());
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let four = self.left.add(r * self.left_row + 4 * group).cast::<i32>().read_unaligned();
                    let row = _mm512_set1_epi32(four);
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_dpbusd_epi32(*sum, row, column);
                    }
                }
            }
            for c in 0..C {
                self.finish(c, if c + 1 == C { self.last } else { PANEL }, sums.map(|row| row[c]));
            }
        }
    }

    /// Scales the sums of one panel and adds them to `y`, operation by operation as the portable kernel does.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn finish<const R: usize>(&self, panel: usize, width: usize, sums: [__m512i; R]) {
        let mask = (0xffff_u32 >> (PANEL - width)) as __mmask16;
        // SAFETY: the caller's shapes bound every access, the mask those behind the last column.
        unsafe {
            let beside = &*self.beside.add(panel * self.blocks);
            let shift = _mm512_load_si512(beside.shift.as_ptr().cast());
            let scale = _mm512_load_ps(beside.scale.as_ptr());
            for (r, sum) in sums.into_iter().enumerate() {
                let at = self.y.wrapping_add(r * self.n + panel * PANEL);
                let before = if self.add { _mm512_maskz_loadu_ps(mask, at) } else { _mm512_setzero_ps() };
                let whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, shift));
                let row = _mm512_set1_ps(*self.scales.add(r * self.blocks));
                let share = _mm512_mul_ps(_mm512_mul_ps(whole, scale), row);
                _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(before, share));
            }
        }
    }
}
