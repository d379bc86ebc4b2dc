//! The inner product kernels: up to 4 rows × one or more panels of 16 columns, accumulators in registers. Each element
//! is one chain of multiply-adds over `k` in rising order, starting from zero or from what is there. So its value does
//! not depend on how rows, columns and `k` are cut into calls, and everything built on this (products, attention) is
//! bit-stable against batch size and threads.

use crate::{Isa, Write, packed::PANEL};
use std::ops::Range;

/// Rows that a kernel takes at most: 4 × 2 vector sums are the eight chains that hide the latency of a fused multiply-add
/// (two a cycle, four cycles), and with bf16 operands six rows spill out of 16 registers (a third of the speed).
pub(crate) const ROWS: usize = 4;

/// Left operand: element `(row, k)` lies at `at[row * row_stride + k * step]`.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) at: *const f32,
    pub(crate) row: usize,
    pub(crate) step: usize,
}

/// Right operand: panel `p` begins at `p * panel` elements.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// Lines of bf16 pairs (see `packed`); the depth must be even.
    Pairs { at: *const u16, panel: usize },
    /// f32 rows of 16 columns, `row` elements apart.
    Rows { at: *const f32, panel: usize, row: usize },
}

/// Destination: element `(row, column)` lies at `at[row * row_stride + column]`.
#[derive(Clone, Copy)]
pub(crate) struct Dest {
    pub(crate) at: *mut f32,
    pub(crate) row: usize,
}

/// Cuts rows into strips of at most `most`, as equal as can be: a last strip of one row would be slow.
pub(crate) fn strips(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (start, len) = (rows.start, rows.len());
    let count = len.div_ceil(most);
    (0..count).map(move |i| start + i * len / count..start + (i + 1) * len / count)
}

/// Panels that one call should take for this many rows, to have enough independent chains in flight.
pub(crate) fn panels_for(rows: usize) -> usize {
    match rows {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

/// `dest[rows, 16 * panels] (+)= left[rows, depth] · right[depth, 16 * panels]`.
///
/// # Safety
/// All elements named by the shapes are valid, `dest` is not shared, `rows` is 1 to 4, the machine has `isa`.
#[inline]
pub(crate) unsafe fn tile(
    isa: Isa,
    rows: usize,
    panels: usize,
    depth: usize,
    left: Left,
    right: Right,
    dest: Dest,
    write: Write,
) {
    debug_assert!((1..=ROWS).contains(&rows));
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        // SAFETY: passed on; AVX2 and FMA are there because the Isa says so.
        return unsafe { crate::tile::avx2::tile(rows, panels, depth, left, right, dest, write) };
    }
    let _ = isa;
    // SAFETY: passed on.
    unsafe { portable(rows, panels, depth, left, right, dest, write) }
}

/// The same when only the first `width` of `16 * panels` columns exist in `dest`.
///
/// # Safety
/// As for [`tile`].
pub(crate) unsafe fn tile_edge(
    isa: Isa,
    rows: usize,
    width: usize,
    depth: usize,
    left: Left,
    right: Right,
    dest: Dest,
    write: Write,
) {
    let mut scratch = [0f32; ROWS * PANEL];
    // SAFETY: rows and width bound every access; the scratch holds ROWS rows of one panel.
    unsafe {
        if write == Write::Add {
            for row in 0..rows {
                std::ptr::copy_nonoverlapping(dest.at.add(row * dest.row), scratch[row * PANEL..].as_mut_ptr(), width);
            }
        }
        let inner = Dest { at: scratch.as_mut_ptr(), row: PANEL };
        tile(isa, rows, 1, depth, left, right, inner, write);
        for row in 0..rows {
            std::ptr::copy_nonoverlapping(scratch[row * PANEL..].as_ptr(), dest.at.add(row * dest.row), width);
        }
    }
}

/// # Safety
/// As for [`tile`].
unsafe fn portable(rows: usize, panels: usize, depth: usize, left: Left, right: Right, dest: Dest, write: Write) {
    for panel in 0..panels {
        for row in 0..rows {
            // SAFETY: the shapes bound every access.
            unsafe {
                let out = dest.at.add(row * dest.row + panel * PANEL).cast::<[f32; PANEL]>();
                let mut sum = if write == Write::Add { out.read_unaligned() } else { [0.0; PANEL] };
                for k in 0..depth {
                    let factor = *left.at.add(row * left.row + k * left.step);
                    let values = right.portable(panel, k);
                    for column in 0..PANEL {
                        sum[column] += factor * values[column];
                    }
                }
                out.write_unaligned(sum);
            }
        }
    }
}

impl Right {
    /// # Safety
    /// The panel and `k` exist.
    #[inline(always)]
    unsafe fn portable(self, panel: usize, k: usize) -> [f32; PANEL] {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Right::Pairs { at, panel: stride } => {
                    let line = at.add(panel * stride + k / 2 * 2 * PANEL).cast::<[u32; PANEL]>().read_unaligned();
                    line.map(|pair| f32::from_bits(if k.is_multiple_of(2) { pair << 16 } else { pair & 0xffff_0000 }))
                }
                Right::Rows { at, panel: stride, row } => {
                    at.add(panel * stride + k * row).cast::<[f32; PANEL]>().read_unaligned()
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use std::arch::x86_64::*;

    /// Two vectors of eight columns for each panel of each row.
    type Sums<const R: usize, const C: usize> = [[[__m256; 2]; C]; R];

    /// # Safety
    /// As for [`super::tile`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tile(
        rows: usize,
        panels: usize,
        depth: usize,
        left: Left,
        right: Right,
        dest: Dest,
        write: Write,
    ) {
        // SAFETY: passed on.
        unsafe {
            match (rows, panels) {
                (1, 4) => shape::<1, 4>(depth, left, right, dest, write),
                (1, 2) => shape::<1, 2>(depth, left, right, dest, write),
                (1, 1) => shape::<1, 1>(depth, left, right, dest, write),
                (2, 2) => shape::<2, 2>(depth, left, right, dest, write),
                (2, 1) => shape::<2, 1>(depth, left, right, dest, write),
                (3, 2) => shape::<3, 2>(depth, left, right, dest, write),
                (3, 1) => shape::<3, 1>(depth, left, right, dest, write),
                (4, 1) => shape::<4, 1>(depth, left, right, dest, write),
                _ => {
                    for panel in 0..panels {
                        tile(rows, 1, depth, left, right.skip(panel), dest.skip(panel), write);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn shape<const R: usize, const C: usize>(depth: usize, left: Left, right: Right, dest: Dest, write: Write) {
        // SAFETY: passed on.
        unsafe {
            let mut sums = load::<R, C>(dest, write);
            match right {
                Right::Pairs { at, panel } => pairs(&mut sums, depth, left, at, panel),
                Right::Rows { at, panel, row } => plain(&mut sums, depth, left, at, panel, row),
            }
            store(&sums, dest);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn pairs<const R: usize, const C: usize>(
        sums: &mut Sums<R, C>,
        depth: usize,
        left: Left,
        right: *const u16,
        panel: usize,
    ) {
        let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
        for pair in 0..depth / 2 {
            // SAFETY: the caller's shapes bound every access.
            unsafe {
                let factors = left.at.add(2 * pair * left.step);
                let line = right.add(pair * 2 * PANEL);
                for half in 0..2 {
                    for c in 0..C {
                        for side in 0..2 {
                            let both = _mm256_loadu_si256(line.add(c * panel + side * PANEL).cast());
                            let bits =
                                if half == 0 { _mm256_slli_epi32::<16>(both) } else { _mm256_and_si256(both, upper) };
                            let values = _mm256_castsi256_ps(bits);
                            for r in 0..R {
                                let factor = _mm256_broadcast_ss(&*factors.add(r * left.row + half * left.step));
                                sums[r][c][side] = _mm256_fmadd_ps(factor, values, sums[r][c][side]);
                            }
                        }
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn plain<const R: usize, const C: usize>(
        sums: &mut Sums<R, C>,
        depth: usize,
        left: Left,
        right: *const f32,
        panel: usize,
        row: usize,
    ) {
        for k in 0..depth {
            // SAFETY: the caller's shapes bound every access.
            unsafe {
                let factors = left.at.add(k * left.step);
                for c in 0..C {
                    for side in 0..2 {
                        let values = _mm256_loadu_ps(right.add(c * panel + k * row + side * 8));
                        for r in 0..R {
                            let factor = _mm256_broadcast_ss(&*factors.add(r * left.row));
                            sums[r][c][side] = _mm256_fmadd_ps(factor, values, sums[r][c][side]);
                        }
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load<const R: usize, const C: usize>(dest: Dest, write: Write) -> Sums<R, C> {
        let mut sums = [[[_mm256_setzero_ps(); 2]; C]; R];
        if write == Write::Add {
            for r in 0..R {
                for c in 0..C {
                    for side in 0..2 {
                        // SAFETY: the caller's shapes bound every access.
                        sums[r][c][side] = unsafe { _mm256_loadu_ps(dest.at.add(r * dest.row + c * PANEL + side * 8)) };
                    }
                }
            }
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store<const R: usize, const C: usize>(sums: &Sums<R, C>, dest: Dest) {
        for r in 0..R {
            for c in 0..C {
                for side in 0..2 {
                    // SAFETY: the caller's shapes bound every access.
                    unsafe { _mm256_storeu_ps(dest.at.add(r * dest.row + c * PANEL + side * 8), sums[r][c][side]) };
                }
            }
        }
    }
}

impl Right {
    /// Moves on by whole panels.
    pub(crate) fn skip(self, panels: usize) -> Right {
        match self {
            Right::Pairs { at, panel } => Right::Pairs { at: at.wrapping_add(panels * panel), panel },
            Right::Rows { at, panel, row } => Right::Rows { at: at.wrapping_add(panels * panel), panel, row },
        }
    }
}

impl Dest {
    /// Moves on by whole panels.
    pub(crate) fn skip(self, panels: usize) -> Dest {
        Dest { at: self.at.wrapping_add(panels * PANEL), row: self.row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_are_even_and_cover_all_rows() {
        let lengths = |rows| strips(rows, ROWS).map(|strip| strip.len()).collect::<Vec<_>>();
        assert_eq!(lengths(3..12), [3, 3, 3]);
        assert_eq!(lengths(0..32), [4; 8]);
        assert_eq!(lengths(0..5), [2, 3]);
        assert!(lengths(3..3).is_empty());
        assert_eq!(strips(4..9, ROWS).last(), Some(6..9));
    }
}
