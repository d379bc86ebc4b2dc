//! The kernel in plain Rust: the definition of what the others compute.

use super::packed::{Beside, Line, PANEL};
use super::{Job, Write};
use crate::Isa;
use crate::dispatch::per_isa;
use std::ops::Range;

pub(super) fn run(isa: Isa, job: &Job, rows: Range<usize>, panels: Range<usize>) {
    for panel in panels {
        for row in rows.clone() {
            // SAFETY: this task owns these rows × panels of y.
            let y = unsafe { job.y.slice(row * job.right.n() + panel * PANEL, job.width(panel)) };
            if job.write == Write::Set {
                y.fill(0.0);
            }
            for (block, groups) in job.blocks() {
                let at = row * job.left.stride;
                let x = &job.left.values[at + 4 * groups.start..at + 4 * groups.end];
                let first = panel * job.right.groups();
                let lines = &job.right.lines[first + groups.start..first + groups.end];
                let beside = &job.right.beside[panel * job.right.blocks() + block];
                let scale = job.left.scales[row * job.right.blocks() + block];
                one_block(isa, x, lines, beside, scale, y);
            }
        }
    }
}

per_isa! {
    fn one_block(x: &[u8], lines: &[Line], beside: &Beside, scale: f32, y: &mut [f32]) = one_block_body
}

#[inline(always)]
fn one_block_body(x: &[u8], lines: &[Line], beside: &Beside, scale: f32, y: &mut [f32]) {
    let mut sums = [0i32; PANEL];
    for (line, x) in lines.iter().zip(x.as_chunks::<4>().0) {
        for c in 0..PANEL {
            for i in 0..4 {
                sums[c] += i32::from(x[i]) * i32::from(line.0[4 * c + i]);
            }
        }
    }
    for (c, y) in y.iter_mut().enumerate() {
        *y += (sums[c] - beside.shift[c]) as f32 * beside.scale[c] * scale;
    }
}
