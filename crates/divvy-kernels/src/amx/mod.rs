//! Intel AMX: products of bf16 matrix tiles with f32 sums. The left operand is rounded to bf16 rows, the right one lies
//! in the panels of `packed`; two row tiles meet two panels in each kernel call. The code itself needs AMX and AVX2 only.
//!
//! Where it was run: on an Intel Xeon with AMX (LOG.md, 2026-11-26). The tests run this code on every x86-64 Linux
//! machine, on one without AMX under the emulator of `emulator.rs`, which traps and interprets exactly the instructions
//! used here. On any machine it is believed only where it proves itself when the process starts; elsewhere AVX-512 does
//! its work.

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod emulator;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod kernel;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod product;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use kernel::{Segment, Tiles, bytes_two_by_two, has_bytes};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use product::{product, product_here};

/// Whether this machine has AMX that computes what it should.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) fn available() -> bool {
    // SAFETY: tried only where processor and kernel say that they have it.
    kernel::available() && unsafe { kernel::proven() }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
use crate::{Write, dispatch::Block, operands::Term};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn available() -> bool {
    false
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn product(_terms: &[Term], _y: &mut [f32], _write: Write) {
    unreachable!("no machine of this kind is said to have AMX")
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) unsafe fn product_here(_term: Term, _into: Block, _write: Write) {
    unreachable!("no machine of this kind is said to have AMX")
}

/// Whether the tests' emulator stands in for the hardware.
pub(crate) fn emulated() -> bool {
    #[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
    return emulator::installed();
    #[cfg(not(all(test, target_arch = "x86_64", target_os = "linux")))]
    false
}

/// Installs the emulator; says whether it can be had.
#[cfg(test)]
pub(crate) fn emulate() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && emulator::install();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use crate::testing::{random, widen};
    use crate::{Packed, Write, matmul};

    /// Values whose products and sums are exact in f32: any mistake in a tile shows as a difference, not as noise.
    fn exact(len: usize, seed: u64) -> Vec<f32> {
        random(len, seed).iter().map(|value| (value * 8.0).round()).collect()
    }

    #[test]
    fn the_tests_run_amx_code_wherever_avx2_is() {
        let amx = crate::testing::isas().contains(&crate::Isa::Amx);
        assert_eq!(amx, is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
    }

    #[test]
    fn tiles_panels_and_depth_blocks_are_exact() {
        if !crate::testing::isas().contains(&crate::Isa::Amx) {
            return;
        }
        for (m, n, k) in [(1, 1, 1), (16, 32, 32), (32, 32, 64), (47, 80, 33), (33, 48, 4200), (64, 17, 100)] {
            let (x, w, start) = (exact(m * k, 1), exact(n * k, 2), exact(m * n, 3));
            assert_eq!(x, widen(&x));
            let packed =
                Packed::from_rows_for(crate::Isa::Amx, n, k, |row, out| out.copy_from_slice(&w[row * k..][..k]));
            let mut y = start.clone();
            matmul(&x, &packed, &mut y, m, Write::Add);
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let sum: f32 = (0..k).map(|l| x[i * k + l] * w[j * k + l]).sum();
                assert_eq!(y[i * n + j], start[i * n + j] + sum, "[{i}, {j}] of {m}x{n}x{k}");
            }
        }
    }
}
