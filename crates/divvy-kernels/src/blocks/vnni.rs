//! AVX-512 VNNI: codes are taken apart in registers, 64 at a time, and one instruction multiplies four of each column with
//! four of the left. Up to 8 rows of a panel have their sums in registers, or one row of four panels.

use super::left::SUMMED;
use super::packed::{Line, PANEL, Places, UNIT, bytes, mask};
use super::{Job, Write};
use crate::tile::strips;
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of one kernel call.
const ROWS: usize = 8;

/// Units between what is multiplied and what is fetched.
const AHEAD: usize = 8;

/// Adds products of fours of values along `k` of one unit, written out so that each shift is a number. A macro, since a function of
/// vectors that is not inlined hands them over in memory, and `array::from_fn` never is inlined into these instructions.
macro_rules! add_fours {
    ($call:ident, $lines:ident, $table:ident, $unit:ident, $dots:ident, [$($four:literal)*]) => {
        $({
            let mut columns = [_mm512_setzero_si512(); C];
            for (c, column) in columns.iter_mut().enumerate() {
                let lines = $lines.add(c * $call.job.right.lines_a_panel());
                *column = codes::<LOW, HIGH>(lines, $four, $table);
            }
            for (r, dots) in $dots.iter_mut().enumerate() {
                let row = $call.left(r, $unit * UNIT + 4 * $four);
                for (dot, column) in dots.iter_mut().zip(columns) {
                    *dot = _mm512_dpbusd_epi32(*dot, column, row);
                }
            }
        })*
    };
}

/// Whether the processor has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn run(job: &Job, rows: Range<usize>, panels: Range<usize>) {
    let together = if rows.len() == 1 { 4 } else { 1 };
    let mut panel = panels.start;
    while panel < panels.end {
        let count = if panels.end - panel >= together { together } else { 1 };
        for strip in strips(rows.clone(), ROWS) {
            for (span, units) in job.spans() {
                let call = Call::of(job, strip.clone(), panel, count, span, units);
                // SAFETY: only reached where the instructions are; `of` has seen that all lies within its operand, and this
                // task owns these rows × panels.
                unsafe { call.run(strip.len(), count) }
            }
        }
        panel += count;
    }
}

/// One call: 256 values along `k` (fewer at the end) of up to 8 rows of a panel, or one row of four.
struct Call<'a> {
    job: &'a Job<'a>,
    row: usize,
    panel: usize,
    span: usize,
    /// Along the left.
    units: Range<usize>,
    /// The first panel's span.
    right: &'a [Line],
    places: Places,
    /// Columns that exist in the last panel.
    last: usize,
    add: bool,
}

impl<'a> Call<'a> {
    fn of(job: &'a Job<'a>, rows: Range<usize>, panel: usize, count: usize, span: usize, units: Range<usize>) -> Self {
        let (right, k) = (job.right, job.right.k());
        assert!(panel + count <= right.panels() && units.end <= right.units(), "parts that exist");
        assert!(rows.end * job.left.sums_a_row(k) <= job.left.sums.len(), "within the left operand");
        assert!(rows.end * job.left.stride <= job.left.values.len(), "within the left operand");
        assert!(rows.end * job.left.scales_a_row(k) <= job.left.scales.len(), "within the left operand");
        let (last, add) = (job.width(panel + count - 1), job.write == Write::Add || span > 0);
        let (first, places) = (right.span(panel, span), Places::of(&right.format, units.len()));
        let to_last = (count - 1) * right.lines_a_panel();
        assert!(places.end() <= bytes(&first[to_last..]).len(), "within the right operand");
        Call { job, row: rows.start, panel, span, units, right: first, places, last, add }
    }

    /// # Safety
    /// The processor has the instructions, and no other task uses these rows × panels of `y`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn run(&self, rows: usize, panels: usize) {
        // SAFETY: passed on.
        unsafe {
            match (self.job.right.format.planes(), self.job.right.format.has_sides()) {
                ([8, 0], false) => self.planes::<8, 0, false>(rows, panels),
                ([4, 0], false) => self.planes::<4, 0, false>(rows, panels),
                ([4, 1], false) => self.planes::<4, 1, false>(rows, panels),
                ([8, 0], true) => self.planes::<8, 0, true>(rows, panels),
                ([4, 0], true) => self.planes::<4, 0, true>(rows, panels),
                ([4, 1], true) => self.planes::<4, 1, true>(rows, panels),
                ([4, 2], true) => self.planes::<4, 2, true>(rows, panels),
                ([2, 1], true) => self.planes::<2, 1, true>(rows, panels),
                ([2, 0], true) => self.planes::<2, 0, true>(rows, panels),
                other => unreachable!("planes and sides {other:?}"),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn planes<const LOW: usize, const HIGH: usize, const SIDES: bool>(&self, rows: usize, panels: usize) {
        // SAFETY: passed on.
        unsafe {
            match (rows, panels) {
                (1, 4) => self.shape::<1, 4, LOW, HIGH, SIDES>(),
                (1, 1) => self.shape::<1, 1, LOW, HIGH, SIDES>(),
                (2, 1) => self.shape::<2, 1, LOW, HIGH, SIDES>(),
                (3, 1) => self.shape::<3, 1, LOW, HIGH, SIDES>(),
                (4, 1) => self.shape::<4, 1, LOW, HIGH, SIDES>(),
                (5, 1) => self.shape::<5, 1, LOW, HIGH, SIDES>(),
                (6, 1) => self.shape::<6, 1, LOW, HIGH, SIDES>(),
                (7, 1) => self.shape::<7, 1, LOW, HIGH, SIDES>(),
                (8, 1) => self.shape::<8, 1, LOW, HIGH, SIDES>(),
                _ => unreachable!("{rows} rows by {panels} panels"),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn shape<const R: usize, const C: usize, const LOW: usize, const HIGH: usize, const SIDES: bool>(&self) {
        let right = self.job.right;
        let (table, mut sums) = (right.format.table.map(|codes| table(codes)), Sums::<R, C>::new());
        // SAFETY: the assertions of `of` bound every access.
        unsafe {
            for own in 0..self.units.len() {
                let lines = self.right.as_ptr().add(own * (LOW + HIGH));
                for c in 0..C {
                    fetch_ahead::<LOW, HIGH>(lines.wrapping_add(c * right.lines_a_panel()));
                }
                let unit = self.units.start + own;
                if const { groups(LOW, HIGH) == 1 } {
                    let mut dots = self.none(1, unit);
                    add_fours!(self, lines, table, unit, dots, [0 1 2 3 4 5 6 7]);
                    self.add_group::<R, C, LOW, HIGH, SIDES>(own, &dots, &mut sums);
                } else {
                    let mut dots = self.none(2, 2 * unit);
                    add_fours!(self, lines, table, unit, dots, [0 1 2 3]);
                    self.add_group::<R, C, LOW, HIGH, SIDES>(2 * own, &dots, &mut sums);
                    let mut dots = self.none(2, 2 * unit + 1);
                    add_fours!(self, lines, table, unit, dots, [4 5 6 7]);
                    self.add_group::<R, C, LOW, HIGH, SIDES>(2 * own + 1, &dots, &mut sums);
                }
            }
            if SIDES {
                let Sums { scaled, taken, .. } = sums;
                self.add_step(0, &scaled, &taken, &mut sums.all);
            }
            self.write(&sums.all);
        }
    }

    /// Four values of the `r`th row from `at` on, in each lane.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn left(&self, r: usize, at: usize) -> __m512i {
        let left = self.job.left;
        // SAFETY: passed on.
        let four =
            unsafe { left.values.as_ptr().add((self.row + r) * left.stride + at).cast::<i32>().read_unaligned() };
        _mm512_set1_epi32(four)
    }

    /// What lies so many bytes into the span of the `c`th panel.
    #[inline]
    unsafe fn at(&self, c: usize, place: usize) -> *const u8 {
        // SAFETY: passed on.
        unsafe { self.right.as_ptr().add(c * self.job.right.lines_a_panel()).cast::<u8>().add(place) }
    }

    /// Where a group's products begin: with what its codes have too much.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn none<const R: usize, const C: usize>(&self, groups: usize, group: usize) -> [[__m512i; C]; R] {
        let zero = -i32::from(self.job.right.format.zero);
        let mut dots = [[_mm512_setzero_si512(); C]; R];
        if zero != 0 {
            for (r, dots) in dots.iter_mut().enumerate() {
                // SAFETY: passed on.
                *dots = [_mm512_set1_epi32(zero * unsafe { self.sum(r, groups, group) }); C];
            }
        }
        dots
    }

    /// Adds the `group`th group of the span of each panel, operation by operation as the portable kernel does. Each shape has its own, so that sums
    /// stay in registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn add_group<const R: usize, const C: usize, const LOW: usize, const HIGH: usize, const SIDES: bool>(
        &self,
        group: usize,
        dots: &[[__m512i; C]; R],
        sums: &mut Sums<R, C>,
    ) {
        let (right, groups) = (self.job.right, const { groups(LOW, HIGH) });
        // SAFETY: the assertions of `of` bound every access.
        unsafe {
            if !SIDES {
                for (r, taken) in sums.taken.iter_mut().enumerate() {
                    *taken = [_mm512_set1_epi32(self.sum(r, groups, self.units.start + group)); C];
                }
                return self.add_step(group, dots, &sums.taken, &mut sums.all);
            }
            for c in 0..C {
                let scale = self.at(c, self.places.scales + PANEL * group);
                let scale = _mm512_cvtepi8_epi32(_mm_loadu_si128(scale.cast()));
                for r in 0..R {
                    sums.scaled[r][c] = _mm512_add_epi32(sums.scaled[r][c], _mm512_mullo_epi32(scale, dots[r][c]));
                }
            }
            if right.format.has_min && group % 2 == 1 {
                self.take_minima(groups, group / 2, &mut sums.taken);
            }
        }
    }

    /// Minima of a pair of groups times the sums of their left values. Not into every shape: its registers are better used there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn take_minima<const R: usize, const C: usize>(
        &self,
        groups: usize,
        pair: usize,
        taken: &mut [[__m512i; C]; R],
    ) {
        let begin = groups * self.units.start;
        let mut of_left = [_mm512_setzero_si512(); R];
        for (r, of_left) in of_left.iter_mut().enumerate() {
            // SAFETY: passed on.
            let (first, second) =
                unsafe { (self.sum(r, groups, begin + 2 * pair), self.sum(r, groups, begin + 2 * pair + 1)) };
            *of_left = _mm512_set1_epi32(i32::from(first as u16) | second << 16);
        }
        for c in 0..C {
            // SAFETY: passed on.
            let mins = unsafe {
                let mins = self.at(c, self.places.mins + 2 * PANEL * pair);
                _mm512_cvtepu8_epi16(_mm256_loadu_si256(mins.cast()))
            };
            for r in 0..R {
                taken[r][c] = _mm512_dpwssd_epi32(taken[r][c], mins, of_left[r]);
            }
        }
    }

    /// Adds what was summed up in a step of each panel.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add_step<const R: usize, const C: usize>(
        &self,
        step: usize,
        dots: &[[__m512i; C]; R],
        taken: &[[__m512i; C]; R],
        sums: &mut [[__m512; C]; R],
    ) {
        let (places, behind) = (self.places, 2 * PANEL * step);
        for c in 0..C {
            // SAFETY: passed on.
            let d = unsafe { halves(self.at(c, places.d + behind)) };
            for r in 0..R {
                sums[r][c] = _mm512_add_ps(sums[r][c], _mm512_mul_ps(d, _mm512_cvtepi32_ps(dots[r][c])));
            }
            if self.job.right.format.has_min {
                // SAFETY: passed on.
                let dmin = unsafe { halves(self.at(c, places.dmin + behind)) };
                for r in 0..R {
                    sums[r][c] = _mm512_sub_ps(sums[r][c], _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(taken[r][c])));
                }
            }
        }
    }

    /// The sum of a group of the `r`th row.
    #[inline]
    unsafe fn sum(&self, r: usize, groups: usize, group: usize) -> i32 {
        let (left, a_group) = (self.job.left, UNIT / SUMMED / groups);
        let at = (self.row + r) * left.sums_a_row(self.job.right.k()) + group * a_group;
        // SAFETY: passed on.
        unsafe {
            let first = *left.sums.get_unchecked(at);
            if a_group == 2 { first + *left.sums.get_unchecked(at + 1) } else { first }
        }
    }

    /// Scales the sums of the rows and adds them to `y`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn write<const R: usize, const C: usize>(&self, sums: &[[__m512; C]; R]) {
        let (job, k) = (self.job, self.job.right.k());
        for (r, sums) in sums.iter().enumerate() {
            let scale = job.left.scales[(self.row + r) * job.left.scales_a_row(k) + self.span];
            for (c, sum) in sums.iter().enumerate() {
                let width = if c + 1 == C { self.last } else { PANEL };
                let mask = (0xffff_u32 >> (PANEL - width)) as __mmask16;
                // SAFETY: the first column of the panel exists, the mask leaves out those behind the last; the task owns them.
                unsafe {
                    let at = job.y.pointer(job.at(self.row + r, self.panel + c));
                    let before = if self.add { _mm512_maskz_loadu_ps(mask, at) } else { _mm512_setzero_ps() };
                    let share = _mm512_mul_ps(*sum, _mm512_set1_ps(scale));
                    _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(before, share));
                }
            }
        }
    }
}

/// What a call has summed up: in steps of the left, and, where groups have scales, in steps of the right before that.
struct Sums<const R: usize, const C: usize> {
    all: [[__m512; C]; R],
    scaled: [[__m512i; C]; R],
    taken: [[__m512i; C]; R],
}

impl<const R: usize, const C: usize> Sums<R, C> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        let none = [[_mm512_setzero_si512(); C]; R];
        Self { all: [[_mm512_setzero_ps(); C]; R], scaled: none, taken: none }
    }
}

/// Asks for the lines of a unit some way behind this one, and for one of what stands behind a span's units. It is a hint, so that it
/// may point behind the end.
#[inline]
#[target_feature(enable = "avx512f")]
fn fetch_ahead<const LOW: usize, const HIGH: usize>(lines: *const Line) {
    for line in 0..=LOW + HIGH {
        _mm_prefetch::<_MM_HINT_T0>(lines.wrapping_add(AHEAD * (LOW + HIGH) + line).cast());
    }
}

/// Groups of a unit whose codes lie in planes of these bits.
const fn groups(low: usize, high: usize) -> usize {
    if low == 2 || high == 2 { 2 } else { 1 }
}

/// What codes stand for, in each 128 bits, as the instruction looks it up.
#[inline]
#[target_feature(enable = "avx512f")]
fn table(table: [u8; 16]) -> __m512i {
    // SAFETY: 16 bytes are read, and there are as many.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

/// 16 numbers in f16 as f32.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn halves(at: *const u8) -> __m512 {
    // SAFETY: passed on.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(at.cast()) })
}

/// What the codes of the `four`th group of four `k` stand for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn codes<const LOW: usize, const HIGH: usize>(
    lines: *const Line,
    four: usize,
    table: Option<__m512i>,
) -> __m512i {
    // SAFETY: passed on.
    let low = unsafe { plane::<LOW>(lines, four) };
    if HIGH == 0 {
        return table.map_or(low, |table| _mm512_shuffle_epi8(table, low));
    }
    // SAFETY: passed on.
    let high = unsafe { plane::<HIGH>(lines.add(LOW), four) };
    _mm512_or_si512(low, _mm512_sll_epi16(high, _mm_cvtsi32_si128(LOW as i32)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn plane<const WIDTH: usize>(lines: *const Line, four: usize) -> __m512i {
    // SAFETY: passed on.
    let line = unsafe { _mm512_load_si512(lines.add(four % WIDTH.max(1)).cast()) };
    if WIDTH == 8 {
        return line;
    }
    let shift = _mm_cvtsi32_si128((WIDTH * (four / WIDTH.max(1))) as i32);
    _mm512_and_si512(_mm512_srl_epi16(line, shift), _mm512_set1_epi8(mask(WIDTH) as i8))
}
