//! AMX in 8 bits: two row tiles by two panels of bytes at a time, twice the rate of bf16. Their 32-bit sums of a block are
//! exact, and are scaled and added as the other kernels do it, so the bits are the same; what does not fill tiles is left
//! to VNNI.

use super::packed::{Beside, PANEL};
use super::{Job, Kernel, Write, vnni};
use crate::Isa;
use crate::amx::{Segment, Tiles, bytes_two_by_two, has_bytes};
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows of a tile.
const TILE: usize = 16;
/// Rows and columns of one kernel call.
const SQUARE: usize = 2 * TILE;
/// Groups of four `k` in a step.
const STEP: usize = 16;

/// Whether this process may use it, and it computes here what it should.
pub(super) fn available() -> bool {
    static PROVEN: OnceLock<bool> = OnceLock::new();
    // The emulator of the tests knows the instructions whatever the processor says of itself.
    let there = || vnni::available() && (crate::amx::emulated() || Isa::detect() == Isa::Amx && has_bytes());
    *PROVEN.get_or_init(|| there() && super::agrees(Kernel::Amx))
}

pub(super) fn run(job: &Job, rows: Range<usize>, panels: Range<usize>) {
    let whole = rows.start..rows.start + rows.len() / TILE * TILE;
    let pairs = panels.start..panels.start + panels.len() / 2 * 2;
    let fits = job.blocks().all(|(_, groups)| groups.len().is_multiple_of(STEP));
    if !fits || whole.is_empty() || pairs.is_empty() {
        return vnni::run(job, rows, panels);
    }
    {
        // SAFETY: only reached where AMX is available or emulated; nothing below uses other tiles.
        let state = unsafe { Tiles::configure() };
        for panel in pairs.clone().step_by(2) {
            for row in whole.clone().step_by(SQUARE) {
                square(&state, job, row..(row + SQUARE).min(whole.end), panel);
            }
        }
    }
    if pairs.end < panels.end {
        vnni::run(job, whole.clone(), pairs.end..panels.end);
    }
    if whole.end < rows.end {
        vnni::run(job, whole.end..rows.end, panels);
    }
}

/// One or two row tiles by two panels, block after block.
fn square(state: &Tiles, job: &Job, rows: Range<usize>, panel: usize) {
    let (n, widths) = (job.right.n(), [job.width(panel), job.width(panel + 1)]);
    let mut sums = [0i32; SQUARE * SQUARE];
    let mut totals = [[[0f32; PANEL]; 2]; SQUARE];
    let parts = |row: usize| {
        // SAFETY: this task owns these rows × panels.
        let line = unsafe { job.y.slice(row * n + panel * PANEL, widths[0] + widths[1]) };
        line.split_at_mut(widths[0])
    };
    if job.write == Write::Add {
        for (total, row) in totals.iter_mut().zip(rows.clone()) {
            let (low, high) = parts(row);
            total[0][..low.len()].copy_from_slice(low);
            total[1][..high.len()].copy_from_slice(high);
        }
    }
    for (block, groups) in job.blocks() {
        multiply(state, job, &rows, panel, groups, &mut sums);
        let blocks = job.right.blocks();
        let beside = [0, 1].map(|next| &job.right.beside[(panel + next) * blocks + block]);
        for ((total, sums), row) in totals.iter_mut().zip(sums.as_chunks::<SQUARE>().0).zip(rows.clone()) {
            // SAFETY: only reached where the instructions are.
            unsafe { add_scaled(total, sums, beside, job.left.scales[row * blocks + block]) };
        }
    }
    for (total, row) in totals.iter().zip(rows) {
        let (low, high) = parts(row);
        low.copy_from_slice(&total[0][..low.len()]);
        high.copy_from_slice(&total[1][..high.len()]);
    }
}

fn multiply(
    state: &Tiles,
    job: &Job,
    rows: &Range<usize>,
    panel: usize,
    groups: Range<usize>,
    sums: &mut [i32; SQUARE * SQUARE],
) {
    let (per_panel, stride) = (job.right.groups(), job.left.stride);
    let lines = |panel: usize| &job.right.lines[panel * per_panel..][groups.clone()];
    let left =
        &job.left.values[rows.start * stride + 4 * groups.start..][..(rows.len() - 1) * stride + 4 * groups.len()];
    // A missing second tile is played by the first; its rows are not kept.
    let under = left[(rows.len() - TILE) * stride..].as_ptr();
    let segment = Segment {
        left: left.as_ptr(),
        left_stride: stride,
        right: [lines(panel).as_ptr().cast(), lines(panel + 1).as_ptr().cast()],
        steps: groups.len() / STEP,
    };
    // SAFETY: the slices bound what is read; the tiles are configured.
    unsafe { bytes_two_by_two(state, segment, under, sums) }
}

/// As `vnni` does it, operation by operation.
#[target_feature(enable = "avx512f")]
unsafe fn add_scaled(totals: &mut [[f32; PANEL]; 2], sums: &[i32; SQUARE], beside: [&Beside; 2], row: f32) {
    for ((total, sums), beside) in totals.iter_mut().zip(sums.as_chunks::<PANEL>().0).zip(beside) {
        // SAFETY: each array holds 16 numbers.
        unsafe {
            let whole = _mm512_sub_epi32(
                _mm512_loadu_si512(sums.as_ptr().cast()),
                _mm512_load_si512(beside.shift.as_ptr().cast()),
            );
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_load_ps(beside.scale.as_ptr()));
            let share = _mm512_mul_ps(scaled, _mm512_set1_ps(row));
            _mm512_storeu_ps(total.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(total.as_ptr()), share));
        }
    }
}
