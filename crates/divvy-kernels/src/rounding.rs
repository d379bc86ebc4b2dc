//! From rows of f32 to the bf16 lines that `operands` multiplies, as they lie or turned. A line is 16 words, each a pair
//! of bf16; so what is turned is squares of 16 × 16 words, after rounding.

use crate::packed::{DEPTH, Line, PANEL};
use crate::{Isa, bf16};

/// A matrix `[rows, columns]` of f32, times a factor.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) values: &'a [f32],
    /// Values from row to row.
    pub(crate) step: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) factor: f32,
}

impl<'a> Source<'a> {
    /// Columns `first..first + most` of a row, as far as both are there.
    #[inline(always)]
    fn part(&self, row: usize, first: usize, most: usize) -> &'a [f32] {
        if row >= self.rows {
            return &[];
        }
        &self.values[row * self.step..][first..(first + most).min(self.columns)]
    }
}

/// Declares `fn name(source, lines, …)` that runs `body::<P>`, with the instructions of AVX-512 where they are.
macro_rules! rounding {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        pub(crate) fn $name($($arg: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
                fn avx512($($arg: $kind),*) {
                    $body::<x86::Avx512>($($arg),*)
                }
                if Isa::detect().has_avx512() {
                    // SAFETY: detection found these.
                    return unsafe { avx512($($arg),*) };
                }
            }
            $body::<Plain>($($arg),*)
        }
    };
}

rounding! {
    /// Rows as the left operand, `stride` lines apart; zeros behind the last column.
    fn left_rows(source: Source, lines: &mut [Line], stride: usize) = left_rows_body
}

rounding! {
    /// Columns as rows of the left operand, in whole tiles.
    fn left_columns(source: Source, lines: &mut [Line], stride: usize) = left_columns_body
}

rounding! {
    /// The right operand `[rows, columns]`, panel by panel, zeros behind the last row and column.
    fn right_rows(source: Source, lines: &mut [Line]) = right_rows_body
}

rounding! {
    /// The right operand `[columns, rows]`.
    fn right_columns(source: Source, lines: &mut [Line]) = right_columns_body
}

rounding! {
    /// The right operand `[rows, columns]` from rows that are rounded already, `stride` lines apart; zeros behind the last row.
    fn right_lines(rows: &[Line], stride: usize, count: usize, columns: usize, lines: &mut [Line]) = right_lines_body
}

#[inline(always)]
fn left_rows_body<P: Primitives>(source: Source, lines: &mut [Line], stride: usize) {
    for (row, lines) in lines.chunks_exact_mut(stride).take(source.rows).enumerate() {
        for (line, first) in lines.iter_mut().zip((0..source.columns).step_by(DEPTH)) {
            *line = P::line(source.part(row, first, DEPTH), source.factor);
        }
    }
}

#[inline(always)]
fn left_columns_body<P: Primitives>(source: Source, lines: &mut [Line], stride: usize) {
    // Row by row of the source, so that it is read as it lies.
    for (at, row) in (0..source.rows).step_by(DEPTH).enumerate() {
        for (tile, lines) in lines.chunks_exact_mut(PANEL * stride).enumerate() {
            let pair = |pair: usize| {
                let part = |row| source.part(row, tile * PANEL, PANEL);
                P::pairs(part(row + 2 * pair), part(row + 2 * pair + 1), source.factor)
            };
            let square = P::turned(&std::array::from_fn(pair));
            square.iter().enumerate().for_each(|(row, line)| lines[row * stride + at] = *line);
        }
    }
}

#[inline(always)]
fn right_rows_body<P: Primitives>(source: Source, lines: &mut [Line]) {
    let depth = source.rows.next_multiple_of(DEPTH) / 2;
    for pair in 0..depth {
        for (panel, first) in (0..source.columns).step_by(PANEL).enumerate() {
            let part = |row| source.part(row, first, PANEL);
            lines[panel * depth + pair] = P::pairs(part(2 * pair), part(2 * pair + 1), source.factor);
        }
    }
}

#[inline(always)]
fn right_lines_body<P: Primitives>(rows: &[Line], stride: usize, count: usize, columns: usize, lines: &mut [Line]) {
    const NONE: Line = Line([0; DEPTH]);
    let (depth, panels) = (count.next_multiple_of(DEPTH) / 2, columns.div_ceil(PANEL));
    for pair in 0..depth {
        for at in 0..columns.div_ceil(DEPTH) {
            let line = |row: usize| if row < count { &rows[row * stride + at] } else { &NONE };
            let woven = P::woven(line(2 * pair), line(2 * pair + 1));
            for (panel, line) in (2 * at..panels).zip(woven) {
                lines[panel * depth + pair] = line;
            }
        }
    }
}

#[inline(always)]
fn right_columns_body<P: Primitives>(source: Source, lines: &mut [Line]) {
    let depth = source.columns.next_multiple_of(DEPTH) / 2;
    for (panel, lines) in lines.chunks_exact_mut(depth).enumerate() {
        for (square, first) in lines.chunks_exact_mut(PANEL).zip((0..).step_by(DEPTH)) {
            let line = |row: usize| P::line(source.part(panel * PANEL + row, first, DEPTH), source.factor);
            square.copy_from_slice(&P::turned(&std::array::from_fn(line)));
        }
    }
}

/// What an instruction set has to bring.
trait Primitives {
    /// Up to 32 values, zeros behind.
    fn line(values: &[f32], factor: f32) -> Line;

    /// Up to 16 columns of two rows, a word for each column; zeros behind.
    fn pairs(even: &[f32], odd: &[f32], factor: f32) -> Line;

    /// Pairs of the values of two lines: of the first halves, then of the second.
    fn woven(even: &Line, odd: &Line) -> [Line; 2];

    /// Word `j` of line `i` as word `i` of line `j`.
    fn turned(square: &[Line; PANEL]) -> [Line; PANEL];
}

struct Plain;

impl Primitives for Plain {
    #[inline(always)]
    fn line(values: &[f32], factor: f32) -> Line {
        Line(std::array::from_fn(|i| values.get(i).map_or(0, |value| bf16::round(factor * value))))
    }

    #[inline(always)]
    fn pairs(even: &[f32], odd: &[f32], factor: f32) -> Line {
        let value = |i: usize| [even, odd][i % 2].get(i / 2);
        Line(std::array::from_fn(|i| value(i).map_or(0, |value| bf16::round(factor * value))))
    }

    #[inline(always)]
    fn woven(even: &Line, odd: &Line) -> [Line; 2] {
        [0, PANEL].map(|half| Line(std::array::from_fn(|i| [even, odd][i % 2].0[half + i / 2])))
    }

    #[inline(always)]
    fn turned(square: &[Line; PANEL]) -> [Line; PANEL] {
        std::array::from_fn(|j| Line(std::array::from_fn(|i| square[i / 2].0[2 * j + i % 2])))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    /// Only for functions that are compiled for AVX-512 with bf16, into which it is inlined.
    pub(super) struct Avx512;

    impl Primitives for Avx512 {
        #[inline(always)]
        fn line(values: &[f32], factor: f32) -> Line {
            // SAFETY: the instructions are there by the promise above; the masks bound what is read.
            unsafe {
                let low = load(values, 0, factor);
                let high = load(values, PANEL, factor);
                as_line(bits(_mm512_cvtne2ps_pbh(high, low)))
            }
        }

        #[inline(always)]
        fn pairs(even: &[f32], odd: &[f32], factor: f32) -> Line {
            // SAFETY: as above.
            unsafe {
                let both = bits(_mm512_cvtne2ps_pbh(load(odd, 0, factor), load(even, 0, factor)));
                let order = _mm512_load_si512(INTERLEAVED.0.as_ptr().cast());
                as_line(_mm512_permutexvar_epi16(order, both))
            }
        }

        #[inline(always)]
        fn woven(even: &Line, odd: &Line) -> [Line; 2] {
            // SAFETY: as above; both lines are read whole.
            unsafe {
                let [even, odd] = [even, odd].map(|line| _mm512_load_si512(line.0.as_ptr().cast()));
                [&WOVEN[0], &WOVEN[1]].map(|order| {
                    let order = _mm512_load_si512(order.0.as_ptr().cast());
                    as_line(_mm512_permutex2var_epi16(even, order, odd))
                })
            }
        }

        #[inline(always)]
        fn turned(square: &[Line; PANEL]) -> [Line; PANEL] {
            // SAFETY: as above; every line is read and written whole.
            unsafe {
                let rows: [__m512i; PANEL] = square.each_ref().map(|line| _mm512_load_si512(line.0.as_ptr().cast()));
                turn(rows).map(as_line)
            }
        }
    }

    /// Value `i` of one line before value `i` of the other, whose places are counted on from the first's: both halves.
    const WOVEN: [Line; 2] = {
        let mut orders = [[0; DEPTH]; 2];
        let mut i = 0;
        while i < DEPTH {
            orders[0][i] = (i / 2 + i % 2 * DEPTH) as u16;
            orders[1][i] = (PANEL + i / 2 + i % 2 * DEPTH) as u16;
            i += 1;
        }
        [Line(orders[0]), Line(orders[1])]
    };

    /// Value `i` of the first half before value `i` of the second.
    const INTERLEAVED: Line = {
        let mut order = [0; DEPTH];
        let mut i = 0;
        while i < DEPTH {
            order[i] = (i / 2 + i % 2 * PANEL) as u16;
            i += 1;
        }
        Line(order)
    };

    /// # Safety
    /// AVX-512 is there.
    #[inline(always)]
    unsafe fn load(values: &[f32], from: usize, factor: f32) -> __m512 {
        let count = values.len().saturating_sub(from).min(PANEL);
        // SAFETY: the mask has a bit for each value that is there.
        unsafe {
            let mask = (0xffff_u32 >> (PANEL - count)) as __mmask16;
            let values = _mm512_maskz_loadu_ps(mask, values.as_ptr().wrapping_add(from));
            _mm512_mul_ps(values, _mm512_set1_ps(factor))
        }
    }

    #[inline(always)]
    fn bits(values: __m512bh) -> __m512i {
        // SAFETY: both are 64 bytes without invalid values.
        unsafe { std::mem::transmute(values) }
    }

    #[inline(always)]
    fn as_line(bits: __m512i) -> Line {
        // SAFETY: as above.
        unsafe { std::mem::transmute(bits) }
    }

    /// Words, pairs and quarters change places in turn.
    ///
    /// # Safety
    /// AVX-512 is there.
    #[inline(always)]
    unsafe fn turn(rows: [__m512i; PANEL]) -> [__m512i; PANEL] {
        // SAFETY: registers alone.
        unsafe {
            let mut words = rows;
            for i in (0..PANEL).step_by(2) {
                words[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
                words[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            // Within each quarter: column 4q + j of rows 4i.. .
            let mut pairs = words;
            for i in (0..PANEL).step_by(4) {
                for j in 0..2 {
                    pairs[i + 2 * j] = _mm512_unpacklo_epi64(words[i + j], words[i + 2 + j]);
                    pairs[i + 2 * j + 1] = _mm512_unpackhi_epi64(words[i + j], words[i + 2 + j]);
                }
            }
            let mut halves = pairs;
            for i in (0..PANEL).step_by(8) {
                for j in 0..4 {
                    halves[i + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(pairs[i + j], pairs[i + 4 + j]);
                    halves[i + 4 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(pairs[i + j], pairs[i + 4 + j]);
                }
            }
            let mut turned = halves;
            for j in 0..4 {
                turned[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(halves[j], halves[8 + j]);
                turned[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(halves[j], halves[8 + j]);
                turned[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(halves[4 + j], halves[12 + j]);
                turned[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(halves[4 + j], halves[12 + j]);
            }
            turned
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    const SHAPES: [(usize, usize, usize); 6] =
        [(1, 1, 3), (16, 32, 32), (17, 33, 40), (48, 64, 64), (33, 16, 16), (70, 100, 101)];

    fn source(values: &[f32], (rows, columns, step): (usize, usize, usize)) -> Source<'_> {
        Source { values, step, rows, columns, factor: 0.5 }
    }

    fn rounded(values: &[f32], step: usize, row: usize, column: usize) -> u16 {
        bf16::round(0.5 * values[row * step + column])
    }

    fn dirty(len: usize) -> Vec<Line> {
        vec![Line([7; DEPTH]); len]
    }

    #[test]
    fn left_operands_hold_rows_and_columns() {
        for shape @ (rows, columns, step) in SHAPES {
            let values = random(rows * step, 1);
            let stride = columns.div_ceil(DEPTH) | 1;
            let mut lines = dirty(rows * stride);
            left_rows(source(&values, shape), &mut lines, stride);
            for (row, at) in (0..rows).flat_map(|row| (0..columns.next_multiple_of(DEPTH)).map(move |at| (row, at))) {
                let expected = if at < columns { rounded(&values, step, row, at) } else { 0 };
                assert_eq!(lines[row * stride + at / DEPTH].0[at % DEPTH], expected, "{shape:?} [{row}, {at}]");
            }
            let stride = rows.div_ceil(DEPTH) | 1;
            let mut lines = dirty(columns.next_multiple_of(PANEL) * stride);
            left_columns(source(&values, shape), &mut lines, stride);
            for (column, at) in (0..columns).flat_map(|c| (0..rows.next_multiple_of(DEPTH)).map(move |at| (c, at))) {
                let expected = if at < rows { rounded(&values, step, at, column) } else { 0 };
                assert_eq!(lines[column * stride + at / DEPTH].0[at % DEPTH], expected, "{shape:?} [{column}, {at}]");
            }
        }
    }

    #[test]
    fn right_operands_are_panels_of_columns_and_of_rows() {
        let check = |lines: &[Line], k: usize, n: usize, expected: &dyn Fn(usize, usize) -> u16| {
            let depth = k.next_multiple_of(DEPTH) / 2;
            for (at, column) in (0..2 * depth).flat_map(|at| (0..n.next_multiple_of(PANEL)).map(move |c| (at, c))) {
                let found = lines[column / PANEL * depth + at / 2].0[2 * (column % PANEL) + at % 2];
                let expected = if at < k && column < n { expected(at, column) } else { 0 };
                assert_eq!(found, expected, "k = {k}, n = {n}: [{at}, {column}]");
            }
        };
        for shape @ (rows, columns, step) in SHAPES {
            let values = random(rows * step, 2);
            let mut lines = dirty(columns.div_ceil(PANEL) * rows.next_multiple_of(DEPTH) / 2);
            right_rows(source(&values, shape), &mut lines);
            check(&lines, rows, columns, &|at, column| rounded(&values, step, at, column));
            let (stride, mut from) = (columns.div_ceil(DEPTH) + 1, dirty(rows * (columns.div_ceil(DEPTH) + 1)));
            left_rows(source(&values, shape), &mut from, stride);
            let mut lines = dirty(columns.div_ceil(PANEL) * rows.next_multiple_of(DEPTH) / 2);
            right_lines(&from, stride, rows, columns, &mut lines);
            check(&lines, rows, columns, &|at, column| rounded(&values, step, at, column));
            let mut lines = dirty(rows.div_ceil(PANEL) * columns.next_multiple_of(DEPTH) / 2);
            right_columns(source(&values, shape), &mut lines);
            check(&lines, columns, rows, &|at, column| rounded(&values, step, column, at));
        }
    }

    #[test]
    fn the_plain_primitives_give_the_same_lines() {
        let (rows, columns, step) = (37, 70, 71);
        let values = random(rows * step, 3);
        let shape = source(&values, (rows, columns, step));
        let [mut one, mut other] = [dirty(37 * 3), dirty(37 * 3)];
        left_rows(shape, &mut one, 3);
        left_rows_body::<Plain>(shape, &mut other, 3);
        assert!(one.iter().zip(&other).all(|(a, b)| a.0 == b.0));
        let [mut one, mut other] = [dirty(80 * 3), dirty(80 * 3)];
        left_columns(shape, &mut one, 3);
        left_columns_body::<Plain>(shape, &mut other, 3);
        assert!(one.iter().zip(&other).all(|(a, b)| a.0 == b.0));
        let [mut one, mut other] = [dirty(5 * 32), dirty(5 * 32)];
        right_rows(shape, &mut one);
        right_rows_body::<Plain>(shape, &mut other);
        assert!(one.iter().zip(&other).all(|(a, b)| a.0 == b.0));
        let rows = one[..37 * 3].to_vec();
        let [mut one, mut other] = [dirty(5 * 32), dirty(5 * 32)];
        right_lines(&rows, 3, 37, 70, &mut one);
        right_lines_body::<Plain>(&rows, 3, 37, 70, &mut other);
        assert!(one.iter().zip(&other).all(|(a, b)| a.0 == b.0));
        let [mut one, mut other] = [dirty(3 * 48), dirty(3 * 48)];
        right_columns(shape, &mut one);
        right_columns_body::<Plain>(shape, &mut other);
        assert!(one.iter().zip(&other).all(|(a, b)| a.0 == b.0));
    }
}
