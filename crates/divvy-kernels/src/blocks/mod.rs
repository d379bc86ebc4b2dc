//! Products with weights in the bits of their file, for generation: the block formats of GGUF, where 16 or 32 weights share a
//! whole scale and 32 or 256 a step in f16. Activations are in 8 bits, as beside [`Packed8`](crate::Packed8) and in llama.cpp
//! (`Q8_K`). Codes are whole numbers, so that the sums of a group are exact; groups are added in order by single f32
//! operations, and every instruction set gives the same bits.

mod format;
mod left;
mod packed;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use crate::dispatch::Shared;
use crate::matmul::for_each_task;
use crate::{Isa, Write};
pub use format::{BlockFormat, BlockRow, Side};
use left::Rows;
pub use packed::{BlockPart, Blocks};
use packed::{PANEL, UNIT};
use std::ops::Range;

/// Values along `k` that share a scale on the left.
const LEFT: usize = 256;

/// Which kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// Compiled for the instruction set; see `per_isa!`.
    Portable(Isa),
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Kernel {
    fn current() -> Self {
        let isa = Isa::current();
        #[cfg(target_arch = "x86_64")]
        // Forcing a lesser instruction set forces this too; older processors have VNNI without the dot products of bf16.
        if (isa >= Isa::Avx512 || isa == Isa::detect()) && vnni::available() {
            return Self::Vnni;
        }
        Self::Portable(isa)
    }
}

/// `y[m, n] (+)= x[m, k] · W[n, k]ᵀ`, the left rounded to 8 bits with a scale for each 256 values. Row `i` has the same bits
/// whatever `m`, the number of threads and the instruction set.
///
/// # Panics
/// When `x` is not `m * w.k()` or `y` not `m * w.n()` long.
pub fn matmul_blocks(x: &[f32], w: &Blocks, y: &mut [f32], m: usize, write: Write) {
    product(Kernel::current(), x, w, y, m, write);
}

fn product(kernel: Kernel, x: &[f32], w: &Blocks, y: &mut [f32], m: usize, write: Write) {
    assert_eq!(x.len(), m * w.k(), "matmul_blocks: x is [m, k] = [{m}, {}]", w.k());
    assert_eq!(y.len(), m * w.n(), "matmul_blocks: y is [m, n] = [{m}, {}]", w.n());
    if m == 0 {
        return;
    }
    let rounder = match kernel {
        Kernel::Portable(isa) => isa,
        #[cfg(target_arch = "x86_64")]
        Kernel::Vnni => Isa::detect(),
    };
    let left = Rows::of(rounder, x, m, w.k());
    let y = Shared::new(y);
    for_each_task(m, w.panels(), w.k() * PANEL / 2, |rows, panels| {
        for (part, panels, column) in w.parts_of(panels) {
            let job = Job { left: &left, right: part, y, column, n: w.n(), write };
            match kernel {
                Kernel::Portable(isa) => portable::run(isa, &job, rows.clone(), panels),
                #[cfg(target_arch = "x86_64")]
                Kernel::Vnni => vnni::run(&job, rows.clone(), panels),
            }
        }
    });
}

/// The product with one part; tasks write disjoint rows × panels.
struct Job<'a> {
    left: &'a Rows,
    right: &'a BlockPart,
    y: Shared,
    /// Column of `y` in which the part begins.
    column: usize,
    /// Columns of `y`.
    n: usize,
    write: Write,
}

impl Job<'_> {
    /// Columns of `panel` that exist.
    fn width(&self, panel: usize) -> usize {
        PANEL.min(self.right.rows() - panel * PANEL)
    }

    /// Where `row` and `panel` meet in `y`.
    fn at(&self, row: usize, panel: usize) -> usize {
        row * self.n + self.column + panel * PANEL
    }

    /// The units of each scale of the left.
    fn spans(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (units, step) = (self.right.units(), LEFT / UNIT);
        (0..units.div_ceil(step)).map(move |span| (span, span * step..((span + 1) * step).min(units)))
    }
}
