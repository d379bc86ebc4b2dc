//! Weights in panels of 16 output columns. Along `k` a panel is a row of spans of 256 values, and a span holds all that is
//! read with it, so that memory is read in one stream: its codes, then whole scales, minima, `d` and `dmin` (see [`Places`]).
//! Codes lie in units of 32 values; a unit has as many 64-byte lines as a code has bits: first the plane of the low bits, then
//! that of the high ones. Byte `4 · column + i` of a plane of `w` bits holds value `i` of a group of four `k`, and of every
//! `w`th group behind it, one above the other.

use super::format::{BlockFormat, BlockRow};
use super::{LEFT, portable};
use crate::packed;
use rayon::prelude::*;
use std::ops::Range;

pub(super) const PANEL: usize = packed::PANEL;
/// Values along `k` whose codes lie together.
pub(super) const UNIT: usize = 32;
/// Groups of four `k` in a unit.
pub(super) const FOURS: usize = UNIT / 4;

/// One cache line of a plane.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 4 * PANEL]);

/// Immutable weights `W[n, k]`: matrices of one width on top of each other, each in a format of its own.
pub struct Blocks {
    parts: Vec<BlockPart>,
    n: usize,
    k: usize,
}

impl Blocks {
    /// # Panics
    /// When there is no part, or one of another width.
    #[must_use]
    pub fn of(parts: Vec<BlockPart>) -> Blocks {
        let k = parts.first().expect("a matrix has at least one part").k;
        assert!(parts.iter().all(|part| part.k == k), "parts of one matrix have one width");
        Blocks { n: parts.iter().map(|part| part.rows).sum(), k, parts }
    }

    /// Outputs: rows of `W`.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs: columns of `W`.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Bytes that the weights take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(BlockPart::bytes).sum()
    }

    /// Reads one row back as f32: an embedding look-up.
    ///
    /// # Panics
    /// When `row >= n` or `out` is not `k` long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n, "row {row} of a matrix with {} rows", self.n);
        assert_eq!(out.len(), self.k, "row: out holds k values");
        let mut first = 0;
        let holds = |part: &&BlockPart| {
            first += part.rows;
            row < first
        };
        let part = self.parts.iter().find(holds).expect("some part has the row");
        portable::row(part, row - (first - part.rows), out);
    }

    pub(super) fn panels(&self) -> usize {
        self.parts.iter().map(BlockPart::panels).sum()
    }

    /// What `panels`, counted through all parts, are of each: the part, its own panels, and its first column in the result.
    pub(super) fn parts_of(&self, panels: Range<usize>) -> impl Iterator<Item = (&BlockPart, Range<usize>, usize)> {
        let (mut first, mut column) = (0, 0);
        self.parts.iter().filter_map(move |part| {
            let own = panels.start.max(first) - first..panels.end.min(first + part.panels()).saturating_sub(first);
            let at = column;
            (first, column) = (first + part.panels(), column + part.rows);
            (own.start < own.end).then_some((part, own, at))
        })
    }
}

/// A matrix `[rows, k]` in one format.
pub struct BlockPart {
    pub(super) format: BlockFormat,
    lines: Vec<Line>,
    /// Of each panel.
    a_panel: usize,
    rows: usize,
    k: usize,
}

/// Where the parts of a panel's span begin, in bytes from its first code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// 16 columns for each group.
    pub(super) scales: usize,
    /// 16 columns for each pair of groups, the two of a column side by side.
    pub(super) mins: usize,
    /// 16 columns of f16 for each step.
    pub(super) d: usize,
    /// Likewise.
    pub(super) dmin: usize,
    end: usize,
}

impl Places {
    /// Of a span of so many units.
    pub(super) fn of(format: &BlockFormat, units: usize) -> Places {
        let (groups, steps) = if format.has_sides() { (units * UNIT / format.group(), 1) } else { (0, units) };
        let if_min = |bytes: usize| if format.has_min { bytes } else { 0 };
        let scales = units * format.bits * size_of::<Line>();
        let mins = scales + PANEL * groups;
        let d = mins + if_min(PANEL * groups);
        let dmin = d + 2 * PANEL * steps;
        Places { scales, mins, d, dmin, end: dmin + if_min(2 * PANEL * steps) }
    }

    /// Behind the last.
    pub(super) fn end(self) -> usize {
        self.end
    }

    fn lines(self) -> usize {
        self.end.div_ceil(size_of::<Line>())
    }
}

impl BlockPart {
    /// Takes `rows` rows of `k` values: `fill(row, parts)` is called once for each row, from several threads, with room for
    /// all that the format has.
    ///
    /// # Panics
    /// When there are no rows, or `k` is no multiple of the format's step.
    pub fn from_rows(format: BlockFormat, rows: usize, k: usize, fill: impl Fn(usize, &mut BlockRow) + Sync) -> Self {
        format.check();
        assert!(rows > 0 && k > 0, "a packed matrix needs at least one row and one column, got [{rows}, {k}]");
        assert!(k.is_multiple_of(format.step), "rows of {k} values are no whole blocks of {}", format.step);
        let a_panel = lines_a_panel(&format, k);
        let mut lines = vec![Line([0; 4 * PANEL]); rows.div_ceil(PANEL) * a_panel];
        lines.par_chunks_mut(a_panel).enumerate().for_each_init(
            || BlockRow::of(&format, k),
            |row, (panel, lines)| {
                for column in 0..PANEL.min(rows - panel * PANEL) {
                    fill(panel * PANEL + column, row);
                    put(&format, row, column, lines);
                }
            },
        );
        BlockPart { format, lines, a_panel, rows, k }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn k(&self) -> usize {
        self.k
    }

    pub(super) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Units of one panel.
    pub(super) fn units(&self) -> usize {
        self.k / UNIT
    }

    pub(super) fn lines_a_panel(&self) -> usize {
        self.a_panel
    }

    /// All from a panel's span on.
    pub(super) fn span(&self, panel: usize, span: usize) -> &[Line] {
        &self.lines[panel * self.a_panel + span * lines_a_span(&self.format)..]
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }
}

fn lines_a_span(format: &BlockFormat) -> usize {
    Places::of(format, LEFT / UNIT).lines()
}

fn lines_a_panel(format: &BlockFormat, k: usize) -> usize {
    let last = k % LEFT / UNIT;
    let rest = if last > 0 { Places::of(format, last).lines() } else { 0 };
    k / LEFT * lines_a_span(format) + rest
}

/// One line behind the other.
pub(super) fn bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: a line is 64 bytes and nothing else.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
}

fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as above, and any bytes are a line.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

/// Writes one column of a panel.
fn put(format: &BlockFormat, row: &BlockRow, column: usize, lines: &mut [Line]) {
    let spans = row.codes.chunks(LEFT).zip(lines.chunks_mut(lines_a_span(format)));
    for (span, (codes, lines)) in spans.enumerate() {
        for (codes, lines) in codes.as_chunks::<UNIT>().0.iter().zip(lines.chunks_exact_mut(format.bits)) {
            put_codes(format, codes, column, lines);
        }
        put_steps(format, row, span, column, lines);
    }
}

fn put_codes(format: &BlockFormat, codes: &[u8; UNIT], column: usize, lines: &mut [Line]) {
    let [low, high] = format.planes();
    let (below, above) = lines.split_at_mut(low);
    put_plane(codes.map(|code| code & mask(low)), low, column, below);
    put_plane(codes.map(|code| code.checked_shr(low as u32).unwrap_or(0)), high, column, above);
}

fn put_steps(format: &BlockFormat, row: &BlockRow, span: usize, column: usize, lines: &mut [Line]) {
    let units = (row.codes.len() / UNIT - span * LEFT / UNIT).min(LEFT / UNIT);
    let (places, bytes) = (Places::of(format, units), bytes_mut(lines));
    if format.has_sides() {
        let groups = LEFT / format.group();
        for (group, side) in row.sides[span * groups..][..groups].iter().enumerate() {
            bytes[places.scales + PANEL * group + column] = side.scale as u8;
            if format.has_min {
                bytes[places.mins + 2 * PANEL * (group / 2) + 2 * column + group % 2] = side.min;
            }
        }
    }
    let steps = units * UNIT / format.step;
    for (step, halves) in row.halves[span * LEFT / format.step..][..steps].iter().enumerate() {
        for (at, half) in [places.d, places.dmin].into_iter().zip(halves).take(1 + usize::from(format.has_min)) {
            bytes[at + 2 * (PANEL * step + column)..][..2].copy_from_slice(&half.to_le_bytes());
        }
    }
}

/// The lowest `bits` bits of a byte.
pub(super) const fn mask(bits: usize) -> u8 {
    ((1u16 << bits) - 1) as u8
}

/// Writes the codes of one column's unit, `width` bits each, into its plane.
fn put_plane(codes: [u8; UNIT], width: usize, column: usize, lines: &mut [Line]) {
    if width == 0 {
        return;
    }
    for (i, code) in codes.into_iter().enumerate() {
        let four = i / 4;
        lines[four % width].0[4 * column + i % 4] |= code << (width * (four / width));
    }
}
