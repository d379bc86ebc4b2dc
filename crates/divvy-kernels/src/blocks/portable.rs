//! The kernel in plain Rust: the definition of what the others compute.

use super::format::BlockFormat;
use super::left::SUMMED;
use super::packed::{BlockPart, FOURS, Line, PANEL, Places, UNIT, bytes, mask};
use super::{Job, LEFT, Write};
use crate::Isa;
use crate::dispatch::per_isa;
use half::f16;
use std::ops::Range;

pub(super) fn run(isa: Isa, job: &Job, rows: Range<usize>, panels: Range<usize>) {
    for panel in panels {
        for row in rows.clone() {
            // SAFETY: this task owns these rows × panels of y.
            let y = unsafe { job.y.slice(job.at(row, panel), job.width(panel)) };
            if job.write == Write::Set {
                y.fill(0.0);
            }
            for (span, units) in job.spans() {
                let mut sums = [0.0; PANEL];
                one_span(isa, job, row, panel, span, units, &mut sums);
                let scale = job.left.scales[row * job.left.scales_a_row(job.right.k()) + span];
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum * scale);
            }
        }
    }
}

per_isa! {
    /// What 256 values along `k` give, in steps of the left.
    fn one_span(
        job: &Job,
        row: usize,
        panel: usize,
        span: usize,
        units: Range<usize>,
        sums: &mut [f32; PANEL],
    ) = one_span_body
}

#[inline(always)]
fn one_span_body(job: &Job, row: usize, panel: usize, span: usize, units: Range<usize>, sums: &mut [f32; PANEL]) {
    let groups = UNIT / job.right.format.group();
    let right = Span::of(job.right, panel, span, units.len());
    // Of the whole span, where it is one step.
    let (mut scaled, mut taken) = ([0; PANEL], [0; PANEL]);
    for (own, unit) in units.enumerate() {
        let codes = right.codes(own);
        for (group, codes) in codes.chunks(FOURS / groups).enumerate() {
            let (dots, sum) = job.dot(row, unit * groups + group, codes);
            match right.sides(own * groups + group) {
                Some((scales, mins)) => {
                    (0..PANEL).for_each(|c| scaled[c] += i32::from(scales[c]) * dots[c]);
                    (0..PANEL).for_each(|c| taken[c] += i32::from(mins[c]) * sum);
                }
                None => right.add_step(own, dots, [sum; PANEL], sums),
            }
        }
    }
    if right.format.has_sides() {
        right.add_step(0, scaled, taken, sums);
    }
}

impl Job<'_> {
    /// Products of a row with the codes of a group, less their zero, and the sum of the row's values.
    #[inline(always)]
    fn dot(&self, row: usize, group: usize, codes: &[[u8; 4 * PANEL]]) -> ([i32; PANEL], i32) {
        let (left, len) = (self.left, self.right.format.group());
        let x = &left.values[row * left.stride + group * len..][..len];
        let sums = &left.sums[row * left.sums_a_row(self.right.k()) + group * len / SUMMED..][..len / SUMMED];
        let sum = sums.iter().sum::<i32>();
        let mut dots = [-i32::from(self.right.format.zero) * sum; PANEL];
        for (x, codes) in x.as_chunks::<4>().0.iter().zip(codes) {
            for c in 0..PANEL {
                for i in 0..4 {
                    dots[c] += i32::from(x[i] as i8) * i32::from(codes[4 * c + i]);
                }
            }
        }
        (dots, sum)
    }
}

/// 256 values along `k` of a panel, fewer at the end.
struct Span<'a> {
    format: &'a BlockFormat,
    lines: &'a [Line],
    places: Places,
}

impl<'a> Span<'a> {
    fn of(part: &'a BlockPart, panel: usize, span: usize, units: usize) -> Self {
        Self { format: &part.format, lines: part.span(panel, span), places: Places::of(&part.format, units) }
    }

    #[inline(always)]
    fn codes(&self, unit: usize) -> [[u8; 4 * PANEL]; FOURS] {
        codes(self.format, &self.lines[unit * self.format.bits..][..self.format.bits])
    }

    #[inline(always)]
    fn at<const LEN: usize>(&self, place: usize) -> &[u8; LEN] {
        bytes(self.lines)[place..].first_chunk().expect("a span has all its parts")
    }

    /// Scales and minima of a group, where it has any of its own.
    #[inline(always)]
    fn sides(&self, group: usize) -> Option<([i8; PANEL], [u8; PANEL])> {
        if !self.format.has_sides() {
            return None;
        }
        let scales = self.at::<PANEL>(self.places.scales + PANEL * group).map(|byte| byte as i8);
        if !self.format.has_min {
            return Some((scales, [0; PANEL]));
        }
        let pair = self.at::<{ 2 * PANEL }>(self.places.mins + 2 * PANEL * (group / 2));
        Some((scales, std::array::from_fn(|c| pair[2 * c + group % 2])))
    }

    /// `d` and `dmin` of the columns in a step.
    #[inline(always)]
    fn step(&self, step: usize) -> [[f32; PANEL]; 2] {
        let wide = |place: usize| {
            let halves = self.at::<{ 2 * PANEL }>(place + 2 * PANEL * step);
            std::array::from_fn(|c| f16::from_le_bytes([halves[2 * c], halves[2 * c + 1]]).to_f32())
        };
        [wide(self.places.d), if self.format.has_min { wide(self.places.dmin) } else { [0.0; PANEL] }]
    }

    /// Adds what was summed up in a step.
    #[inline(always)]
    fn add_step(&self, step: usize, dots: [i32; PANEL], taken: [i32; PANEL], sums: &mut [f32; PANEL]) {
        let [d, dmin] = self.step(step);
        (0..PANEL).for_each(|c| sums[c] += d[c] * dots[c] as f32);
        if self.format.has_min {
            (0..PANEL).for_each(|c| sums[c] -= dmin[c] * taken[c] as f32);
        }
    }
}

/// The numbers of one row of a part.
pub(super) fn row(part: &BlockPart, row: usize, out: &mut [f32]) {
    let (column, format) = (row % PANEL, &part.format);
    for (span, out) in out.chunks_mut(LEFT).enumerate() {
        let right = Span::of(part, row / PANEL, span, out.len() / UNIT);
        for (unit, out) in out.as_chunks_mut::<UNIT>().0.iter_mut().enumerate() {
            let codes = right.codes(unit);
            let [d, dmin] = right.step(unit * UNIT / format.step).map(|halves| halves[column]);
            for (i, value) in out.iter_mut().enumerate() {
                let sides = right.sides((unit * UNIT + i) / format.group());
                let (scale, min) = sides.map_or((1.0, 1.0), |(s, m)| (f32::from(s[column]), f32::from(m[column])));
                let code = codes[i / 4][4 * column + i % 4];
                *value = d * scale * (f32::from(code) - f32::from(format.zero)) - dmin * min;
            }
        }
    }
}

/// What the codes of a unit stand for: 16 columns × 4 for each four of its `k`.
#[inline(always)]
fn codes(format: &BlockFormat, lines: &[Line]) -> [[u8; 4 * PANEL]; FOURS] {
    let [low, high] = format.planes();
    let (below, above) = lines.split_at(low);
    let mut all = [[0; 4 * PANEL]; FOURS];
    for (four, codes) in all.iter_mut().enumerate() {
        *codes = plane(below, low, four);
        if high > 0 {
            let upper = plane(above, high, four);
            codes.iter_mut().zip(upper).for_each(|(code, upper)| *code |= upper << low);
        }
        if let Some(table) = format.table {
            codes.iter_mut().for_each(|code| *code = table[usize::from(*code)]);
        }
    }
    all
}

#[inline(always)]
fn plane(lines: &[Line], width: usize, four: usize) -> [u8; 4 * PANEL] {
    lines[four % width].0.map(|byte| (byte >> (width * (four / width))) & mask(width))
}
