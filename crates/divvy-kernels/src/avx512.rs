//! AVX-512 with bf16 dot products (`AVX512_BF16`): products of bf16 pairs with f32 sums, half the instructions of f32.
//! Up to 6 rows × 4 panels of 16 columns have their sums in registers. Each element is one chain over the pairs of `k`
//! in rising order, so that its value does not depend on how rows, columns and `k` are cut into calls.

use crate::Write;
use crate::dispatch::Block;
use crate::operands::Term;

/// Whether the processor has the instructions.
#[cfg(target_arch = "x86_64")]
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
}

/// `y[m, n] (+)= sum of left · right`.
///
/// # Panics
/// When `y` is not `m * n` long, or the terms differ in these.
#[cfg(target_arch = "x86_64")]
pub(crate) fn product(terms: &[Term], y: &mut [f32], write: Write) {
    x86::product(terms, y, write);
}

/// `(+)= left · right` into a block of `y`, on the calling thread.
///
/// # Safety
/// No other task reads or writes this block.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn product_here(term: Term, into: Block, write: Write) {
    // SAFETY: passed on.
    unsafe { x86::product_here(term, into, write) }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn product_here(_term: Term, _into: Block, _write: Write) {
    unreachable!("no machine of this kind is said to have AVX-512")
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn product(_terms: &[Term], _y: &mut [f32], _write: Write) {
    unreachable!("no machine of this kind is said to have AVX-512")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::dispatch::by_shape;
    use crate::matmul::for_each_task;
    use crate::packed::{DEPTH, PANEL};
    use crate::tile::{Dest, strips};
    use std::arch::x86_64::*;
    use std::ops::Range;

    /// Rows of one kernel call: 6 × 4 sums, 4 panels and a pair of the left fit the 32 registers.
    const ROWS: usize = 6;
    /// Panels of one kernel call.
    const GROUP: usize = 4;
    /// Pairs of `k` in one pass: a group's part of 128 KB stays in the second-level cache while the rows go by.
    const PAIRS: usize = 512;

    pub(super) fn product(terms: &[Term], y: &mut [f32], write: Write) {
        let (m, n) = (terms[0].left.m, terms[0].right.n);
        assert!(terms.iter().all(|term| (term.left.m, term.right.n) == (m, n)), "avx512: every term is [m, n]");
        assert_eq!(y.len(), m * n, "avx512: y is [m, n]");
        let work = terms.iter().map(|term| term.right.k).sum::<usize>() * PANEL;
        let job = Job { terms, n, into: Block::whole(y, n) };
        for_each_task(m, n.div_ceil(PANEL), work, |rows, panels| job.run(rows, panels, write));
    }

    /// # Safety
    /// No other task reads or writes this block.
    pub(super) unsafe fn product_here(term: Term, into: Block, write: Write) {
        let (m, n) = (term.left.m, term.right.n);
        Job { terms: &[term], n, into }.run(0..m, 0..n.div_ceil(PANEL), write);
    }

    struct Job<'a> {
        terms: &'a [Term<'a>],
        n: usize,
        into: Block,
    }

    impl Job<'_> {
        /// Group by group of panels, so that its part of `y` is still in the cache when the next pass adds to it.
        fn run(&self, rows: Range<usize>, panels: Range<usize>, write: Write) {
            let mut panel = panels.start;
            while panel < panels.end {
                let count = if panels.end - panel >= GROUP { GROUP } else { 1 };
                self.group(&rows, panel, count, write);
                panel += count;
            }
        }

        fn group(&self, rows: &Range<usize>, panel: usize, count: usize, mut write: Write) {
            for term in self.terms {
                let total = term.right.k.div_ceil(2);
                for from in (0..total).step_by(PAIRS) {
                    let pairs = from..(from + PAIRS).min(total);
                    for strip in strips(rows.clone(), ROWS) {
                        self.strip(term, strip, panel, count, pairs.clone(), write);
                    }
                    write = Write::Add;
                }
            }
        }

        fn strip(
            &self,
            term: &Term,
            rows: Range<usize>,
            panel: usize,
            count: usize,
            pairs: Range<usize>,
            write: Write,
        ) {
            let (n, depth) = (self.n, term.right.k.next_multiple_of(DEPTH) / 2);
            let lines = &term.right.lines[panel * depth + pairs.start..(panel + count - 1) * depth + pairs.end];
            let line = pairs.start * 2 / DEPTH;
            let (first, last) = (rows.start * term.left.stride + line, (rows.end - 1) * term.left.stride);
            let left = &term.left.lines[first..last + (pairs.end * 2).div_ceil(DEPTH)];
            let call = Call {
                left: left.as_ptr().cast(),
                left_row: term.left.stride * PANEL,
                right: lines.as_ptr().cast(),
                right_panel: depth * PANEL,
                pairs: pairs.len(),
                // SAFETY: within y, because the rows and the first column of the panel are.
                dest: Dest { at: unsafe { self.into.pointer(rows.start, panel * PANEL) }, row: self.into.row },
                last: (n - (panel + count - 1) * PANEL).min(PANEL),
                write,
            };
            // SAFETY: only reached where the instructions are; the slices bound what is read, the mask of the last panel
            // what is written, and this task owns these rows × panels.
            unsafe { call.run(rows.len(), count) }
        }
    }

    /// Operands of one kernel call; distances in pairs of bf16 on the left and the right.
    struct Call {
        left: *const i32,
        left_row: usize,
        right: *const i32,
        right_panel: usize,
        pairs: usize,
        dest: Dest,
        /// Columns that exist in the last panel.
        last: usize,
        write: Write,
    }

    impl Call {
        /// # Safety
        /// All elements named by the shapes are valid and `dest` is not shared.
        #[target_feature(enable = "avx512f,avx512bf16")]
        unsafe fn run(&self, rows: usize, panels: usize) {
            // SAFETY: passed on.
            unsafe { by_shape!(self, rows, panels) }
        }

        #[target_feature(enable = "avx512f,avx512bf16")]
        unsafe fn shape<const R: usize, const C: usize>(&self) {
            let mut sums = [[_mm512_setzero_ps(); C]; R];
            // SAFETY: the caller's shapes bound every access.
            unsafe {
                if self.write == Write::Add {
                    self.each::<R, C>(|r, c, mask, at| sums[r][c] = _mm512_maskz_loadu_ps(mask, at));
                }
                for pair in 0..self.pairs {
                    let mut columns = [_mm512_setzero_si512(); C];
                    for c in 0..C {
                        columns[c] = _mm512_load_si512(self.right.add(c * self.right_panel + pair * PANEL).cast());
                    }
                    for r in 0..R {
                        let row = _mm512_set1_epi32(*self.left.add(r * self.left_row + pair));
                        for c in 0..C {
                            sums[r][c] = _mm512_dpbf16_ps(sums[r][c], bf16(row), bf16(columns[c]));
                        }
                    }
                }
                self.each::<R, C>(|r, c, mask, at| _mm512_mask_storeu_ps(at, mask, sums[r][c]));
            }
        }

        /// Calls `visit(row, panel, columns that exist, first element)` for each vector of the destination.
        #[inline(always)]
        fn each<const R: usize, const C: usize>(&self, mut visit: impl FnMut(usize, usize, __mmask16, *mut f32)) {
            for r in 0..R {
                for c in 0..C {
                    let width = if c + 1 == C { self.last } else { PANEL };
                    let mask = (0xffff_u32 >> (PANEL - width)) as __mmask16;
                    visit(r, c, mask, self.dest.at.wrapping_add(r * self.dest.row + c * PANEL));
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn bf16(pairs: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes without invalid values.
        unsafe { std::mem::transmute(pairs) }
    }
}
