//! `y (+)= x · Wᵀ` with packed bf16 weights. Work is cut into tasks of output columns (and of rows, when columns are
//! few); within a task `k` is cut into parts that are summed by themselves, so that a long sum stays close and the rows in use
//! stay in the second-level cache while panels stream past.

use crate::Write;
use crate::dispatch::Shared;
use crate::operands::{self, LeftTiles, RightPanels, Term};
use crate::packed::{Line, PANEL, Packed};
use crate::tile::{Dest, Left, ROWS, Right, panels_for, strips, tile, tile_apart, tile_edge};
use rayon::prelude::*;
use std::ops::Range;

/// Multiply-adds below which a product runs on the calling thread.
const SERIAL: usize = 1 << 18;
/// Most of `k` in one part.
const DEPTH: usize = 384;
/// Rows of `x` that a task walks again and again: a quarter of a megabyte.
const RESIDENT: usize = 160;

/// `y[m, n] = x[m, k] · W[n, k]ᵀ` (or `+=`), on the instruction set for which `w` was packed.
///
/// Row `i` of `y` has the same bits whatever `m` and the number of threads. Where the instruction set
/// [rounds](crate::Isa::rounds), `x` is rounded to bf16 and products are summed in f32; otherwise `x` is used as it is.
///
/// # Panics
/// When `x` is not `m * w.k()` or `y` not `m * w.n()` long.
pub fn matmul(x: &[f32], w: &Packed, y: &mut [f32], m: usize, write: Write) {
    assert_eq!(x.len(), m * w.k(), "matmul: x is [m, k] = [{m}, {}]", w.k());
    assert_eq!(y.len(), m * w.n(), "matmul: y is [m, n] = [{m}, {}]", w.n());
    if m == 0 {
        return;
    }
    if w.isa.rounds() {
        let left = LeftTiles::from_rows(x, m, w.k());
        let right = RightPanels { lines: &w.lines, n: w.n(), k: w.k() };
        return operands::product(w.isa, &[Term { left: left.rows(), right }], y, write);
    }
    if w.k().is_multiple_of(2) {
        return product(x, w.k(), w, y, m, write);
    }
    let padded = pad_rows(x, w.k());
    product(&padded, w.k() + 1, w, y, m, write);
}

/// Appends a zero to each row, because the kernels read `k` in pairs.
fn pad_rows(x: &[f32], k: usize) -> Vec<f32> {
    x.chunks_exact(k).flat_map(|row| row.iter().copied().chain([0.0])).collect()
}

fn product(x: &[f32], k: usize, w: &Packed, y: &mut [f32], m: usize, write: Write) {
    let y = Shared::new(y);
    for_each_task(m, w.panels(), k * PANEL, |rows, panels| {
        // SAFETY: tasks have disjoint rows × panels, and the borrow of y outlives them.
        unsafe { run(x, k, w, y, rows, panels, write) }
    });
}

/// Cuts `rows × panels` into tasks; `work` is the cost of one row of one panel.
pub(crate) fn for_each_task(
    rows: usize,
    panels: usize,
    work: usize,
    task: impl Fn(Range<usize>, Range<usize>) + Sync + Send,
) {
    let threads = rayon::current_num_threads();
    let total = rows * panels * work;
    if threads == 1 || total < SERIAL {
        return task(0..rows, 0..panels);
    }
    let wanted = (threads * 4).min(total.div_ceil(SERIAL / 2));
    let across = wanted.min(panels.div_ceil(4));
    let down = wanted.div_ceil(across).min(rows.div_ceil(8));
    (0..across * down).into_par_iter().with_max_len(1).for_each(|i| {
        let (row, column) = (i / across, i % across);
        task(part(rows, row, down, 1), part(panels, column, across, 4));
    });
}

/// The `index`th of `count` parts of `0..len`, cut at multiples of `unit`.
fn part(len: usize, index: usize, count: usize, unit: usize) -> Range<usize> {
    let units = len.div_ceil(unit);
    let at = |i: usize| (i * units / count * unit).min(len);
    at(index)..at(index + 1)
}

/// # Safety
/// No other task writes these rows × panels of `y`.
unsafe fn run(x: &[f32], k: usize, w: &Packed, y: Shared, rows: Range<usize>, panels: Range<usize>, write: Write) {
    let depth = depth(k);
    for start in rows.clone().step_by(RESIDENT) {
        let rows = start..(start + RESIDENT).min(rows.end);
        for from in (0..k).step_by(depth) {
            let depth = depth.min(k - from);
            // SAFETY: passed on.
            unsafe { sweep(x, k, w, y, rows.clone(), panels.clone(), from, depth, write) };
        }
    }
}

/// Parts of `k`, as equal as can be: a row's bits must not hang on anything else.
fn depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH).max(1)).next_multiple_of(32).max(32)
}

/// One depth block of all panels of a task.
///
/// # Safety
/// As for `run`.
unsafe fn sweep(
    x: &[f32],
    k: usize,
    w: &Packed,
    y: Shared,
    rows: Range<usize>,
    panels: Range<usize>,
    from: usize,
    depth: usize,
    write: Write,
) {
    let (group, n, per_panel) = (panels_for(w.isa, rows.len()), w.n(), w.lines_per_panel());
    let mut panel = panels.start;
    while panel < panels.end {
        let full = (n / PANEL).min(panels.end).saturating_sub(panel);
        let count = if full >= group { group } else { 1 };
        let lines: &[Line] =
            &w.lines[panel * per_panel + from / 2..(panel + count - 1) * per_panel + (from + depth) / 2];
        let right = Right::Pairs { at: lines.as_ptr().cast(), panel: per_panel * 2 * PANEL };
        for strip in strips(rows.clone(), ROWS) {
            let left = Left { at: x[strip.start * k + from..].as_ptr(), row: k, step: 1 };
            // SAFETY: the strip lies in x and in this task's rows of y, the lines cover the depth of these panels, and a
            // panel that sticks out of n goes through the edge version.
            unsafe {
                let dest = Dest { at: y.pointer(strip.start * n + panel * PANEL), row: n };
                if from > 0 {
                    let width = (count * PANEL).min(n - panel * PANEL);
                    tile_apart(w.isa, strip.len(), width, depth, left, right, dest);
                } else if full == 0 {
                    tile_edge(w.isa, strip.len(), n - panel * PANEL, depth, left, right, dest, write);
                } else {
                    tile(w.isa, strip.len(), count, depth, left, right, dest, write);
                }
            }
        }
        panel += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::{assert_close, isas, product as naive, random, widen};

    const SHAPES: [(usize, usize, usize); 8] =
        [(1, 1, 1), (1, 64, 96), (2, 33, 7), (3, 100, 65), (5, 17, 300), (33, 70, 130), (7, 576, 2050), (200, 48, 64)];

    #[test]
    fn agrees_with_a_naive_product_on_any_shape() {
        for isa in isas() {
            for (m, n, k) in SHAPES {
                let (x, w) = (random(m * k, 1), random(n * k, 2));
                let packed = Packed::from_rows_for(isa, n, k, |row, out| out.copy_from_slice(&w[row * k..][..k]));
                let mut y = random(m * n, 3);
                let before = y.clone();
                matmul(&x, &packed, &mut y, m, Write::Add);
                let x = if isa.rounds() { widen(&x) } else { x };
                let expected = naive(&x, &widen(&w), m, n, k);
                let expected: Vec<f64> = expected.iter().zip(&before).map(|(a, b)| a + f64::from(*b)).collect();
                assert_close(&y, &expected, 2e-6 * (k as f64).sqrt() * 4.0, &format!("{isa:?} {m}x{n}x{k}"));
            }
        }
    }

    #[test]
    fn set_ignores_what_was_there() {
        for isa in isas() {
            let packed = Packed::from_rows_for(isa, 3, 5, |_, out| out.fill(1.0));
            let mut y = [f32::NAN; 6];
            matmul(&[1.0; 10], &packed, &mut y, 2, Write::Set);
            assert_eq!(y, [5.0; 6]);
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_a_batch() {
        for isa in isas() {
            for write in [Write::Set, Write::Add] {
                let (m, n, k) = (33, 100, 1031);
                let (x, w) = (random(m * k, 4), random(n * k, 5));
                let packed = Packed::from_rows_for(isa, n, k, |row, out| out.copy_from_slice(&w[row * k..][..k]));
                let start = random(m * n, 6);
                let mut all = start.clone();
                matmul(&x, &packed, &mut all, m, write);
                for size in [1, 2, 3, 4, 5, 16] {
                    let mut some = start[..size * n].to_vec();
                    matmul(&x[..size * k], &packed, &mut some, size, write);
                    assert_eq!(some, all[..size * n], "{isa:?} batch of {size}");
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for isa in isas() {
            let (m, n, k) = (65, 530, 400);
            let (x, w) = (random(m * k, 7), random(n * k, 8));
            let packed = Packed::from_rows_for(isa, n, k, |row, out| out.copy_from_slice(&w[row * k..][..k]));
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut y = vec![0.0; m * n];
                pool.install(|| matmul(&x, &packed, &mut y, m, Write::Set));
                y
            };
            assert_eq!(run(1), run(2));
            assert_eq!(run(1), run(5));
        }
    }

    #[test]
    #[should_panic(expected = "matmul: x is [m, k] = [2, 4]")]
    fn a_wrong_shape_panics_with_the_expected_one() {
        matmul(&[0.0; 7], &Packed::from_rows_for(Isa::Portable, 3, 4, |_, _| ()), &mut [0.0; 6], 2, Write::Set);
    }

    #[test]
    fn parts_cover_everything_once() {
        for (len, count, unit) in [(10, 3, 4), (1, 1, 4), (100, 8, 1), (17, 5, 4)] {
            let mut next = 0;
            for index in 0..count {
                let part = part(len, index, count, unit);
                assert_eq!(part.start, next);
                next = part.end;
            }
            assert_eq!(next, len);
        }
    }
}
