//! The inner product kernels: up to 4 rows × one or more panels of 16 columns, accumulators in registers. Each element
//! is one chain of multiply-adds over `k` in rising order, starting from zero or from what is there. So its value does
//! not depend on how rows and columns are cut into calls, and everything built on this (products, attention) is
//! bit-stable against batch size and threads. Products cut a long `k` into parts of their own ([`tile_apart`]), which hang on `k` alone.

use crate::{Isa, Write, packed::PANEL};
use std::{mem::MaybeUninit, ops::Range};

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

/// Panels that one call should take for this many rows, to have enough independent chains in flight. With 32 registers of
/// 16 columns there is room for four at any number of rows.
pub(crate) fn panels_for(isa: Isa, rows: usize) -> usize {
    match rows {
        _ if isa.has_avx512() => 4,
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
    if let (true, Right::Rows { at, panel, row }) = (isa.has_avx512(), right) {
        let plain = avx512::Plain { left, right: at, panel, row, depth, dest, write };
        // SAFETY: passed on; AVX-512 is there because the Isa says so.
        return unsafe { plain.run(rows, panels) };
    }
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        // SAFETY: passed on; AVX2 and FMA are there because the Isa says so.
        return unsafe { avx2::tile(rows, panels, depth, left, right, dest, write) };
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

/// Panels that a kernel takes at most.
const PANELS: usize = 4;

/// `dest[rows, width] += left[rows, depth] · right[depth, width]`, summed by itself before it is added: of tens of thousands of terms one
/// chain in f32 is off by ten times what parts are.
///
/// # Safety
/// As for [`tile`], of at most four panels.
pub(crate) unsafe fn tile_apart(
    isa: Isa,
    rows: usize,
    width: usize,
    depth: usize,
    left: Left,
    right: Right,
    dest: Dest,
) {
    let mut scratch = [const { MaybeUninit::<f32>::uninit() }; ROWS * PANELS * PANEL];
    let (panels, sums) = (width.div_ceil(PANEL), scratch.as_mut_ptr().cast::<f32>());
    let row = panels * PANEL;
    // SAFETY: rows and width bound every access; the scratch holds ROWS rows of four panels, and what is read of it was set.
    unsafe {
        tile(isa, rows, panels, depth, left, right, Dest { at: sums, row }, Write::Set);
        for at in 0..rows {
            let sums = std::slice::from_raw_parts(sums.add(at * row), width);
            let into = std::slice::from_raw_parts_mut(dest.at.add(at * dest.row), width);
            into.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
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

/// f32 operands, a panel in one register: twice the columns of an AVX2 instruction, and the same chain for each element, so
/// the same bits.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::*;
    use crate::dispatch::by_shape;
    use std::arch::x86_64::*;

    pub(super) struct Plain {
        pub(super) left: Left,
        pub(super) right: *const f32,
        pub(super) panel: usize,
        pub(super) row: usize,
        pub(super) depth: usize,
        pub(super) dest: Dest,
        pub(super) write: Write,
    }

    impl Plain {
        /// # Safety
        /// As for [`super::tile`].
        #[target_feature(enable = "avx512f")]
        pub(super) unsafe fn run(&self, rows: usize, panels: usize) {
            // SAFETY: passed on.
            unsafe {
                if panels == 4 {
                    return by_shape!(self, rows, panels);
                }
                let single = 1;
                for panel in 0..panels {
                    let right = self.right.wrapping_add(panel * self.panel);
                    let one = Plain { right, dest: self.dest.skip(panel), ..*self };
                    by_shape!(one, rows, single);
                }
            }
        }

        #[target_feature(enable = "avx512f")]
        unsafe fn shape<const R: usize, const C: usize>(&self) {
            let mut sums = [[_mm512_setzero_ps(); C]; R];
            // SAFETY: the caller's shapes bound every access.
            unsafe {
                let at = |r: usize, c: usize| self.dest.at.wrapping_add(r * self.dest.row + c * PANEL);
                if self.write == Write::Add {
                    for r in 0..R {
                        for c in 0..C {
                            sums[r][c] = _mm512_loadu_ps(at(r, c));
                        }
                    }
                }
                for k in 0..self.depth {
                    let mut columns = [_mm512_setzero_ps(); C];
                    for c in 0..C {
                        columns[c] = _mm512_loadu_ps(self.right.add(c * self.panel + k * self.row));
                    }
                    for r in 0..R {
                        let factor = _mm512_set1_ps(*self.left.at.add(r * self.left.row + k * self.left.step));
                        for c in 0..C {
                            sums[r][c] = _mm512_fmadd_ps(factor, columns[c], sums[r][c]);
                        }
                    }
                }
                for r in 0..R {
                    for c in 0..C {
                        _mm512_storeu_ps(at(r, c), sums[r][c]);
                    }
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
    use crate::testing::random;

    /// Fused multiply-adds in the same order: one instruction set's bits are the other's.
    #[test]
    fn wider_registers_give_the_same_bits() {
        let isas: Vec<Isa> = Isa::available().filter(|isa| *isa >= Isa::Avx2).collect();
        let (left, right) = (random(ROWS * 70, 1), random(70 * 6 * PANEL, 2));
        for (rows, panels, depth) in [(1, 4, 70), (2, 2, 9), (3, 4, 33), (4, 4, 70), (4, 6, 5), (4, 1, 1)] {
            for write in [Write::Set, Write::Add] {
                let run = |isa: Isa| {
                    let mut out = random(ROWS * 6 * PANEL, 3);
                    let right = Right::Rows { at: right.as_ptr(), panel: PANEL, row: 6 * PANEL };
                    let dest = Dest { at: out.as_mut_ptr(), row: 6 * PANEL };
                    let left = Left { at: left.as_ptr(), row: 70, step: 1 };
                    // SAFETY: at most 4 rows, 6 panels and 70 deep, and the buffers hold that.
                    unsafe { tile(isa, rows, panels, depth, left, right, dest, write) };
                    out
                };
                for isa in &isas {
                    assert_eq!(run(*isa), run(isas[0]), "{isa:?} {rows} rows, {panels} panels, {write:?}");
                }
            }
        }
    }

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
