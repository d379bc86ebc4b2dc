//! AMX in 8 bits: two row tiles by two panels of bytes at a time, twice the rate of bf16. Their 32-bit sums of a block are
//! exact, and are scaled and added as the other kernels do it, so the bits are the same. Rows that are missing in the last
//! tile are computed and dropped: weights that stream past once for all rows are what such a product waits for. Few
//! rows, and columns that do not fill two panels, are left to VNNI.

use super::packed::PANEL;
use super::{Job, Kernel, Write, vnni};
use crate::Isa;
use crate::amx::{Segment, Tiles, bytes_two_by_two, has_bytes};
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows of a tile.
const TILE: usize = 16;
/// Rows and columns of one kernel call.
pub(super) const SQUARE: usize = 2 * TILE;
/// Rows from which tiles are faster than VNNI.
pub(super) const FEWEST: usize = 7;
/// Groups of four `k` in a step.
const STEP: usize = 16;

/// Whether this process may use it, and it computes here what it should.
pub(super) fn available() -> bool {
    static PROVEN: OnceLock<bool> = OnceLock::new();
    // The emulator of the tests knows the instructions whatever the processor says of itself.
    let there = || vnni::available() && (crate::amx::emulated() || Isa::detect() == Isa::Amx && has_bytes());
    *PROVEN.get_or_init(|| there() && super::agrees(Kernel::Amx))
}

/// The left operand has room for whole squares.
pub(super) fn run(job: &Job, rows: Range<usize>, panels: Range<usize>) {
    let pairs = panels.start..panels.start + panels.len() / 2 * 2;
    let fits = job.blocks().all(|(_, groups)| groups.len().is_multiple_of(STEP));
    if !fits || rows.len() < FEWEST || pairs.is_empty() {
        return vnni::run(job, rows, panels);
    }
    {
        // SAFETY: only reached where AMX is available or emulated; nothing below uses other tiles.
        let state = unsafe { Tiles::configure() };
        let mut at = Square { sums: [[0; SQUARE]; SQUARE], totals: [[0.0; SQUARE]; SQUARE] };
        for panel in pairs.clone().step_by(2) {
            for row in rows.clone().step_by(SQUARE) {
                square(&state, job, row..(row + SQUARE).min(rows.end), panel, &mut at);
            }
        }
    }
    if pairs.end < panels.end {
        vnni::run(job, rows, pairs.end..panels.end);
    }
}

/// What a task keeps in the first-level cache of the square at hand, row by row.
struct Square {
    /// Of one block.
    sums: [[i32; SQUARE]; SQUARE],
    totals: [[f32; SQUARE]; SQUARE],
}

/// One or two row tiles by two panels, block after block.
fn square(state: &Tiles, job: &Job, rows: Range<usize>, panel: usize, at: &mut Square) {
    let (n, width) = (job.right.n(), job.width(panel) + job.width(panel + 1));
    // SAFETY: this task owns these rows × panels.
    let line = |row: usize| unsafe { job.y.slice(row * n + panel * PANEL, width) };
    for (total, row) in at.totals.iter_mut().zip(rows.clone()) {
        match job.write {
            Write::Set => total.fill(0.0),
            Write::Add => total[..width].copy_from_slice(line(row)),
        }
    }
    for (block, groups) in job.blocks() {
        multiply(state, job, &rows, panel, groups, &mut at.sums);
        // SAFETY: only reached where the instructions are.
        unsafe { add_scaled(job, rows.clone(), panel, block, at) };
    }
    for (total, row) in at.totals.iter().zip(rows) {
        let line = line(row);
        // A copy of known length is two instructions, any other a call.
        match <&mut [f32; SQUARE]>::try_from(&mut *line) {
            Ok(whole) => *whole = *total,
            Err(_) => line.copy_from_slice(&total[..width]),
        }
    }
}

fn multiply(
    state: &Tiles,
    job: &Job,
    rows: &Range<usize>,
    panel: usize,
    groups: Range<usize>,
    sums: &mut [[i32; SQUARE]; SQUARE],
) {
    let (per_panel, stride) = (job.right.groups(), job.left.stride);
    let lines = |panel: usize| &job.right.lines[panel * per_panel..][groups.clone()];
    // A missing second tile is played by the first; its rows are not kept.
    let second = if rows.len() > TILE { TILE } else { 0 };
    let left =
        &job.left.values[rows.start * stride + 4 * groups.start..][..(second + TILE - 1) * stride + 4 * groups.len()];
    let under = left[second * stride..].as_ptr();
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
unsafe fn add_scaled(job: &Job, rows: Range<usize>, panel: usize, block: usize, at: &mut Square) {
    let blocks = job.right.blocks();
    for next in 0..2 {
        let beside = &job.right.beside[(panel + next) * blocks + block];
        let columns = next * PANEL..(next + 1) * PANEL;
        // SAFETY: the slices that are read and written hold 16 numbers each.
        unsafe {
            let shift = _mm512_load_si512(beside.shift.as_ptr().cast());
            let scale = _mm512_load_ps(beside.scale.as_ptr());
            for ((total, sums), row) in at.totals.iter_mut().zip(&at.sums).zip(rows.clone()) {
                let (total, sums) = (&mut total[columns.clone()], &sums[columns.clone()]);
                let whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sums.as_ptr().cast()), shift));
                let row = _mm512_set1_ps(job.left.scales[row * blocks + block]);
                let share = _mm512_mul_ps(_mm512_mul_ps(whole, scale), row);
                _mm512_storeu_ps(total.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(total.as_ptr()), share));
            }
        }
    }
}
