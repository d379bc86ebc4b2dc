//! Products in 8 bits for generation: weights and activations as whole numbers with a scale for each block of 256, the
//! way llama.cpp treats activations beside its block formats (`Q8_K`). Half the bytes of bf16 and, on AVX-512 VNNI, half
//! the instructions. Sums within a block are exact and blocks are added in order by single f32 operations, so every
//! instruction set gives the same bits.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod packed;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use crate::dispatch::Shared;
use crate::matmul::for_each_task;
use crate::{Isa, Write};
pub use packed::Packed8;
use packed::{BLOCK, PANEL};
pub(crate) use packed::{Rows8, ZERO};
use std::ops::Range;

/// Which kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// Compiled for the instruction set; see `per_isa!`.
    Portable(Isa),
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
}

impl Kernel {
    fn current() -> Self {
        let isa = Isa::current();
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if isa == Isa::Amx && amx::available() {
            return Self::Amx;
        }
        #[cfg(target_arch = "x86_64")]
        // Forcing a lesser instruction set forces this too; older processors have VNNI without the dot products of bf16.
        if (isa >= Isa::Avx512 || isa == Isa::detect()) && vnni::available() {
            return Self::Vnni;
        }
        Self::Portable(isa)
    }
}

/// Whether products in 8 bits are faster here than those in bf16: only with VNNI or AMX.
pub fn eight_bits_pay() -> bool {
    !matches!(Kernel::current(), Kernel::Portable(_))
}

/// Whether a kernel gives the bits of the plain one on more than a square of its tiles and more than one block.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn agrees(kernel: Kernel) -> bool {
    let [m, n, k] = [35, 40, 320];
    let value = |i: usize, by: usize| (i * by % 251) as f32 / 16.0 - 7.0;
    let x: Vec<f32> = (0..m * k).map(|i| value(i, 7)).collect();
    let w =
        Packed8::from_rows(n, k, |row, out| out.iter_mut().enumerate().for_each(|(i, v)| *v = value(row * k + i, 11)));
    let run = |kernel| {
        let mut y = vec![1.0; m * n];
        product(kernel, &x, &w, &mut y, m, Write::Add);
        y
    };
    run(kernel) == run(Kernel::Portable(Isa::Portable))
}

/// `y[m, n] (+)= x[m, k] · W[n, k]ᵀ`, both rounded to 8 bits. Row `i` has the same bits whatever `m`, the number of threads
/// and the instruction set.
///
/// # Panics
/// When `x` is not `m * w.k()` or `y` not `m * w.n()` long.
pub fn matmul8(x: &[f32], w: &Packed8, y: &mut [f32], m: usize, write: Write) {
    product(Kernel::current(), x, w, y, m, write);
}

fn product(kernel: Kernel, x: &[f32], w: &Packed8, y: &mut [f32], m: usize, write: Write) {
    assert_eq!(x.len(), m * w.k(), "matmul8: x is [m, k] = [{m}, {}]", w.k());
    assert_eq!(y.len(), m * w.n(), "matmul8: y is [m, n] = [{m}, {}]", w.n());
    if m == 0 {
        return;
    }
    let rounder = match kernel {
        Kernel::Portable(isa) => isa,
        #[cfg(target_arch = "x86_64")]
        _ => Isa::detect(),
    };
    // Rows that a kernel takes at once: tasks are cut between them.
    let unit = match kernel {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Kernel::Amx if m >= amx::FEWEST => amx::SQUARE,
        _ => 1,
    };
    let left = Rows8::of(rounder, x, m, w.k(), m.next_multiple_of(unit));
    let job = Job { left: &left, right: w, y: Shared::new(y), write };
    for_each_task(m.div_ceil(unit), w.n().div_ceil(PANEL), unit * w.k() * PANEL / 2, |units, panels| {
        let rows = units.start * unit..(units.end * unit).min(m);
        match kernel {
            Kernel::Portable(isa) => portable::run(isa, &job, rows, panels),
            #[cfg(target_arch = "x86_64")]
            Kernel::Vnni => vnni::run(&job, rows, panels),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kernel::Amx => amx::run(&job, rows, panels),
        }
    });
}

/// One product; tasks share it and write disjoint rows × panels.
struct Job<'a> {
    left: &'a Rows8,
    right: &'a Packed8,
    y: Shared,
    write: Write,
}

impl Job<'_> {
    /// Columns of `panel` that exist.
    fn width(&self, panel: usize) -> usize {
        PANEL.min(self.right.n() - panel * PANEL)
    }

    /// Groups of four `k` of each block.
    fn blocks(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (groups, step) = (self.right.groups(), BLOCK / 4);
        (0..groups.div_ceil(step)).map(move |block| (block, block * step..((block + 1) * step).min(groups)))
    }
}
