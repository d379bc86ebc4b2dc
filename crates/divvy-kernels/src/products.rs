//! Products of f32 matrices: LoRA factors, full fine-tuning, weight gradients. The right operand is packed into panels
//! block by block, scaled by `alpha` on the way, so all three forms share one loop. On AMX both operands are
//! rounded to bf16 first, whatever the shape, so that a row's bits do not depend on its batch; AVX-512 stays with f32,
//! because rounding wide rows for one narrow factor costs more than it saves (a fifth of the speed, measured), but for the
//! weight gradient of a whole matrix. Where the rows are rounded anyway, as beside a matrix, see `input`.

use crate::dispatch::Shared;
use crate::matmul::for_each_task;
use crate::operands::{self, LeftTiles, RightPanels, Term};
use crate::packed::{Line, PANEL};
use crate::rounding::Source;
use crate::tile::{Dest, Left, ROWS, Right, panels_for, strips, tile, tile_apart, tile_edge};
use crate::{Isa, Write};
use std::ops::Range;

/// Depth of one packed block of a panel: 24 KB. Each is summed by itself.
const BLOCK: usize = 384;

/// A strided matrix: element `(i, j)` lies at `values[i * row + j * column]`.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

/// `y[m, n] (+)= alpha · x[m, k] · w[n, k]ᵀ`. Row `i` has the same bits whatever `m` and the number of threads.
///
/// # Panics
/// When a slice does not have its shape's length.
pub(crate) fn mm_nt(
    isa: Isa,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    write: Write,
) {
    assert_eq!(x.len(), m * k, "mm_nt: x is [m, k] = [{m}, {k}]");
    assert_eq!(w.len(), n * k, "mm_nt: w is [n, k] = [{n}, {k}]");
    assert_eq!(y.len(), m * n, "mm_nt: y is [m, n] = [{m}, {n}]");
    let (left, right) = (View { values: x, row: k, column: 1 }, View { values: w, row: 1, column: k });
    product(isa, left, right, y, [m, n, k], alpha, write);
}

/// `y[m, n] (+)= alpha · x[m, k] · w[k, n]`. Row `i` has the same bits whatever `m` and the number of threads.
///
/// # Panics
/// When a slice does not have its shape's length.
pub(crate) fn mm_nn(
    isa: Isa,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    write: Write,
) {
    assert_eq!(x.len(), m * k, "mm_nn: x is [m, k] = [{m}, {k}]");
    assert_eq!(w.len(), k * n, "mm_nn: w is [k, n] = [{k}, {n}]");
    assert_eq!(y.len(), m * n, "mm_nn: y is [m, n] = [{m}, {n}]");
    let (left, right) = (View { values: x, row: k, column: 1 }, View { values: w, row: n, column: 1 });
    product(isa, left, right, y, [m, n, k], alpha, write);
}

/// Rows and columns from which a weight gradient is worth rounding for, where the instruction set rounds.
const WIDE: usize = 256;

/// `c[n, k] (+)= alpha · a[m, n]ᵀ · b[m, k]`: a weight gradient, summed over the `m` rows in order, part by part. Of a whole matrix, as in
/// full fine-tuning, it is a product in bf16 with f32 sums, as PyTorch's autocast has it.
///
/// # Panics
/// When a slice does not have its shape's length.
pub fn mm_tn(a: &[f32], b: &[f32], c: &mut [f32], m: usize, n: usize, k: usize, alpha: f32, write: Write) {
    mm_tn_for(Isa::current(), a, b, c, m, n, k, alpha, write);
}

pub(crate) fn mm_tn_for(
    isa: Isa,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    write: Write,
) {
    assert_eq!(a.len(), m * n, "mm_tn: a is [m, n] = [{m}, {n}]");
    assert_eq!(b.len(), m * k, "mm_tn: b is [m, k] = [{m}, {k}]");
    assert_eq!(c.len(), n * k, "mm_tn: c is [n, k] = [{n}, {k}]");
    let (left, right) = (View { values: a, row: 1, column: n }, View { values: b, row: k, column: 1 });
    weight_gradient(isa, left, right, c, [n, k, m], alpha, write);
}

fn weight_gradient(isa: Isa, left: View, right: View, c: &mut [f32], shape: [usize; 3], alpha: f32, write: Write) {
    let [n, k, m] = shape;
    if isa.rounds() && n >= WIDE && k >= WIDE && m > 0 {
        return rounded(isa, left, right, c, shape, alpha, write);
    }
    product(isa, left, right, c, shape, alpha, write);
}

/// `y[m, n] (+)= alpha · left[m, k] · right[k, n]`.
fn product(isa: Isa, left: View, right: View, y: &mut [f32], [m, n, k]: [usize; 3], alpha: f32, write: Write) {
    if k == 0 && write == Write::Set {
        y.fill(0.0);
    }
    if m * n * k == 0 {
        return;
    }
    if isa == Isa::Amx {
        return rounded(isa, left, right, y, [m, n, k], alpha, write);
    }
    let (y, group) = (Shared::new(y), panels_for(isa, ROWS));
    for_each_task(m, n.div_ceil(PANEL), k * PANEL, |rows, panels| {
        let mut packed = vec![0f32; BLOCK.min(k) * PANEL * group];
        for from in (0..k).step_by(BLOCK) {
            let depth = BLOCK.min(k - from);
            for first in panels.clone().step_by(group) {
                let panels = first..(first + group).min(panels.end);
                for (panel, packed) in panels.clone().zip(packed.chunks_exact_mut(depth * PANEL)) {
                    pack(right, panel, n, from, packed, alpha);
                }
                let part = Part { packed: &packed, depth, from, panels };
                // SAFETY: tasks have disjoint rows × panels, and the borrow of y outlives them.
                unsafe { sweep(isa, left, &part, y, rows.clone(), n, write) };
            }
        }
    });
}

/// One block of the right operand, packed.
struct Part<'a> {
    /// Panel by panel, each `[depth, 16]`.
    packed: &'a [f32],
    depth: usize,
    /// First `k`.
    from: usize,
    panels: Range<usize>,
}

/// A right operand `w[n, k]`, packed once and kept in f32: LoRA's factors at inference where nothing is rounded in training either.
#[derive(Clone)]
pub struct Packed32 {
    n: usize,
    k: usize,
    /// Block by block of [`BLOCK`] depth, in each panel by panel.
    values: Vec<f32>,
}

impl Packed32 {
    /// # Panics
    /// When `w` is not `[n, k]`.
    #[must_use]
    pub fn new(w: &[f32], n: usize, k: usize) -> Self {
        assert_eq!(w.len(), n * k, "packing in f32: w is [n, k] = [{n}, {k}]");
        let (view, panels) = (View { values: w, row: 1, column: k }, n.div_ceil(PANEL));
        let mut values = vec![0.0; k * panels * PANEL];
        for from in (0..k).step_by(BLOCK) {
            let depth = BLOCK.min(k - from);
            let block = &mut values[from * panels * PANEL..][..depth * panels * PANEL];
            for (panel, packed) in block.chunks_exact_mut(depth * PANEL).enumerate() {
                pack(view, panel, n, from, packed, 1.0);
            }
        }
        Self { n, k, values }
    }

    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// `y[m, n] (+)= x[m, k] · wᵀ`. A row has the same bits whatever `m` and the number of threads.
    ///
    /// # Panics
    /// When a slice does not have its shape's length.
    pub fn matmul(&self, x: &[f32], y: &mut [f32], m: usize, write: Write) {
        self.matmul_for(Isa::current(), x, y, m, write);
    }

    fn matmul_for(&self, isa: Isa, x: &[f32], y: &mut [f32], m: usize, write: Write) {
        let Self { n, k, ref values } = *self;
        assert_eq!(x.len(), m * k, "product in f32: x is [m, k] = [{m}, {k}]");
        assert_eq!(y.len(), m * n, "product in f32: y is [m, n] = [{m}, {n}]");
        if k == 0 && write == Write::Set {
            y.fill(0.0);
        }
        if m * n * k == 0 {
            return;
        }
        let left = View { values: x, row: k, column: 1 };
        let (y, group, all) = (Shared::new(y), panels_for(isa, ROWS), n.div_ceil(PANEL));
        for_each_task(m, all, k * PANEL, |rows, panels| {
            for from in (0..k).step_by(BLOCK) {
                let depth = BLOCK.min(k - from);
                for first in panels.clone().step_by(group) {
                    let packed = &values[(from * all + first * depth) * PANEL..];
                    let part = Part { packed, depth, from, panels: first..(first + group).min(panels.end) };
                    // SAFETY: tasks have disjoint rows × panels, and the borrow of y outlives them.
                    unsafe { sweep(isa, left, &part, y, rows.clone(), n, write) };
                }
            }
        });
    }
}

/// [`product`] with both operands rounded to bf16, the right one after the factor `alpha`; sums are f32.
fn rounded(isa: Isa, left: View, right: View, y: &mut [f32], [m, n, k]: [usize; 3], alpha: f32, write: Write) {
    let left = if left.column == 1 {
        LeftTiles::from_rows(left.values, m, k)
    } else {
        LeftTiles::from_columns(left.values, m, k, 1.0)
    };
    if right.column == 1 {
        let pack = |depth: Range<usize>, columns: Range<usize>, lines: &mut Vec<Line>| {
            let values = &right.values[depth.start * n + columns.start..];
            let part = Source { values, step: n, rows: depth.len(), columns: columns.len(), factor: alpha };
            operands::pack_here(part, lines);
        };
        return operands::product_of_rows(isa, &left, pack, [n, k], y, write);
    }
    let lines = operands::pack_turned(right.values, k, alpha);
    let term = Term { left: left.rows(), right: RightPanels { lines: &lines, n, k } };
    operands::product(isa, &[term], y, write);
}

/// Copies rows `from..` of one panel of 16 columns, zeros behind column `n`.
fn pack(right: View, panel: usize, n: usize, from: usize, packed: &mut [f32], alpha: f32) {
    let (first, width) = (panel * PANEL, PANEL.min(n - panel * PANEL));
    if right.column == 1 {
        for (k, line) in packed.chunks_exact_mut(PANEL).enumerate() {
            let source = &right.values[(from + k) * right.row + first..][..width];
            for (to, value) in line.iter_mut().zip(source) {
                *to = alpha * value;
            }
            line[width..].fill(0.0);
        }
        return;
    }
    for column in 0..PANEL {
        let depth = packed.len() / PANEL;
        if column >= width {
            (0..depth).for_each(|k| packed[k * PANEL + column] = 0.0);
            continue;
        }
        let source = &right.values[(first + column) * right.column + from..][..depth];
        for (k, value) in source.iter().enumerate() {
            packed[k * PANEL + column] = alpha * value;
        }
    }
}

/// All rows of a task against one packed block.
///
/// # Safety
/// No other task writes these rows × panels of `y`.
unsafe fn sweep(isa: Isa, left: View, part: &Part, y: Shared, rows: Range<usize>, n: usize, write: Write) {
    let Part { packed, depth, from, ref panels } = *part;
    let whole = (n / PANEL).min(panels.end).saturating_sub(panels.start);
    for strip in strips(rows, ROWS) {
        let at = left.values[strip.start * left.row + from * left.column..].as_ptr();
        let left = Left { at, row: left.row, step: left.column };
        let right = Right::Rows { at: packed.as_ptr(), panel: depth * PANEL, row: PANEL };
        // SAFETY: the strip lies in the left matrix and in this task's part of y; a narrow panel takes the edge version.
        unsafe {
            let dest = Dest { at: y.pointer(strip.start * n + panels.start * PANEL), row: n };
            if from > 0 {
                let width = (panels.len() * PANEL).min(n - panels.start * PANEL);
                tile_apart(isa, strip.len(), width, depth, left, right, dest);
                continue;
            }
            tile(isa, strip.len(), whole, depth, left, right, dest, write);
            if whole < panels.len() {
                let (right, dest) = (right.skip(whole), dest.skip(whole));
                tile_edge(isa, strip.len(), n % PANEL, depth, left, right, dest, write);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, isas, product as naive, random, widen};

    fn turn(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
    }

    /// Checks one form: `layout` gives the operands as the form wants them, from `x[m, k]` and `w[n, k]`.
    fn check(name: &str, run: impl Fn(Isa, &[f32], &[f32], &mut [f32], [usize; 3])) {
        for isa in isas() {
            for [m, n, k] in [[1, 1, 1], [3, 16, 64], [5, 17, 33], [40, 16, 576], [130, 70, 1100], [6, 64, 9]] {
                let (x, w) = (random(m * k, 1), random(n * k, 2));
                let mut y = random(m * n, 3);
                let rounded = if isa == Isa::Amx { [widen(&x), widen(&w)] } else { [x.clone(), w.clone()] };
                let products = naive(&rounded[0], &rounded[1], m, n, k);
                let expected: Vec<f64> = products.iter().zip(&y).map(|(a, b)| 0.5 * a + f64::from(*b)).collect();
                run(isa, &x, &w, &mut y, [m, n, k]);
                let tolerance = 8e-6 * (k as f64).sqrt();
                assert_close(&y, &expected, tolerance, &format!("{name} {isa:?} {m} {n} {k}"));
            }
        }
    }

    #[test]
    fn nt_agrees_with_a_naive_product() {
        check("nt", |isa, x, w, y, [m, n, k]| {
            let (left, right) = (View { values: x, row: k, column: 1 }, View { values: w, row: 1, column: k });
            product(isa, left, right, y, [m, n, k], 0.5, Write::Add);
        });
    }

    #[test]
    fn nn_agrees_with_a_naive_product() {
        check("nn", |isa, x, w, y, [m, n, k]| {
            let w = turn(w, n, k);
            let (left, right) = (View { values: x, row: k, column: 1 }, View { values: &w, row: n, column: 1 });
            product(isa, left, right, y, [m, n, k], 0.5, Write::Add);
        });
    }

    #[test]
    fn tn_agrees_with_a_naive_product() {
        check("tn", |isa, x, w, y, [m, n, k]| {
            let (x, w) = (turn(x, m, k), turn(w, n, k));
            let (left, right) = (View { values: &x, row: 1, column: m }, View { values: &w, row: n, column: 1 });
            product(isa, left, right, y, [m, n, k], 0.5, Write::Add);
        });
    }

    #[test]
    fn packed_once_in_f32_is_the_same_product_to_the_bit() {
        for isa in isas().into_iter().filter(|isa| *isa != Isa::Amx) {
            for [m, n, k] in [[1, 1, 1], [5, 17, 33], [40, 16, 576], [130, 70, 1100], [2, 3, 0]] {
                let (x, w) = (random(m * k, 1), random(n * k, 2));
                for write in [Write::Set, Write::Add] {
                    let (mut once, mut each) = (random(m * n, 3), random(m * n, 3));
                    Packed32::new(&w, n, k).matmul_for(isa, &x, &mut once, m, write);
                    mm_nt(isa, &x, &w, &mut each, m, n, k, 1.0, write);
                    assert_eq!(once, each, "{isa:?} {m} {n} {k}");
                }
            }
        }
    }

    type Form = fn(&[f32], &[f32], &mut [f32], usize, usize, usize, f32, Write);
    const NT: Form = |x, w, y, m, n, k, alpha, write| mm_nt(Isa::current(), x, w, y, m, n, k, alpha, write);
    const NN: Form = |x, w, y, m, n, k, alpha, write| mm_nn(Isa::current(), x, w, y, m, n, k, alpha, write);

    #[test]
    fn the_three_forms_agree_on_the_same_matrices() {
        let (m, n, k) = (7, 20, 35);
        let (x, w) = (random(m * k, 1), random(n * k, 2));
        let run = |form: Form, a: &[f32], b: &[f32], s: [usize; 3]| {
            let mut y = vec![f32::NAN; m * n];
            form(a, b, &mut y, s[0], s[1], s[2], 1.0, Write::Set);
            y
        };
        let nt = run(NT, &x, &w, [m, n, k]);
        assert_eq!(nt, run(NN, &x, &turn(&w, n, k), [m, n, k]));
        assert_eq!(nt, run(mm_tn, &turn(&x, m, k), &turn(&w, n, k), [k, m, n]));
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_a_batch() {
        let (m, n, k) = (33, 24, 700);
        let (x, w) = (random(m * k, 1), random(n * k, 2));
        let (mut all, mut one) = (vec![0.0; m * n], vec![0.0; n]);
        NT(&x, &w, &mut all, m, n, k, 2.0, Write::Set);
        NT(&x[..k], &w, &mut one, 1, n, k, 2.0, Write::Set);
        assert_eq!(one, all[..n]);
    }

    #[test]
    fn a_wide_weight_gradient_is_rounded_where_rows_are() {
        let (n, k, m) = (WIDE + 5, WIDE + 40, 70);
        let (a, b) = (random(m * n, 1), random(m * k, 2));
        for isa in isas() {
            let mut c = random(n * k, 3);
            let seen = |values: &[f32]| if isa.rounds() { widen(values) } else { values.to_vec() };
            let products = naive(&turn(&seen(&a), m, n), &turn(&seen(&b), m, k), n, k, m);
            let expected: Vec<f64> = products.iter().zip(&c).map(|(sum, c)| sum + f64::from(*c)).collect();
            let (left, right) = (View { values: &a, row: 1, column: n }, View { values: &b, row: k, column: 1 });
            weight_gradient(isa, left, right, &mut c, [n, k, m], 1.0, Write::Add);
            assert_close(&c, &expected, 8e-6 * (m as f64).sqrt(), &format!("{isa:?}"));
        }
    }

    #[test]
    fn no_terms_give_zero() {
        let mut c = [1.0; 6];
        mm_tn(&[], &[], &mut c, 0, 2, 3, 1.0, Write::Add);
        assert_eq!(c, [1.0; 6]);
        mm_tn(&[], &[], &mut c, 0, 2, 3, 1.0, Write::Set);
        assert_eq!(c, [0.0; 6]);
    }
}
