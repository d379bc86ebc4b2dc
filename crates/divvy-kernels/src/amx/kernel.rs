//! The instructions: permission, configuration of a thread's tiles, and the kernel of two row tiles by two panels.

use crate::bf16;
use std::arch::asm;

/// Whether processor and kernel have AMX bf16, asking for the permission that Linux requires once per process.
pub(crate) fn available() -> bool {
    const REQUEST_PERMISSION: i32 = 0x1023; // ARCH_REQ_XCOMP_PERM
    const TILE_DATA: u64 = 18; // XFEATURE_XTILEDATA
    let has = |edx: u32| edx & (1 << 22) != 0 && edx & (1 << 24) != 0;
    if std::arch::x86_64::__cpuid(0).eax < 7 || !has(std::arch::x86_64::__cpuid_count(7, 0).edx) {
        return false;
    }
    // SAFETY: arch_prctl with this code takes a number and touches no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

/// Whether the kernels compute on this very machine what they should, on values whose products and sums are exact: a
/// processor, hypervisor or emulator that says AMX and does it wrongly is passed over instead of believed.
///
/// # Safety
/// AMX is available (or emulated).
pub(crate) unsafe fn proven() -> bool {
    // SAFETY: the caller's promise; no other `Tiles` is alive in this function.
    let tiles = unsafe { Tiles::configure() };
    agrees(&tiles, 32, two_by_two) && agrees(&tiles, 16, one_by_two)
}

/// `start + left · right` by the kernel, over `rows` rows, 32 columns and two steps of `k`, against the plain loop.
fn agrees(tiles: &Tiles, rows: usize, kernel: unsafe fn(&Tiles, Call)) -> bool {
    const COLUMNS: usize = 32;
    const K: usize = 64;
    let left = |row: usize, k: usize| ((row * 7 + k * 3) % 9) as f32 - 4.0;
    let right = |column: usize, k: usize| ((column * 5 + k) % 7) as f32 - 3.0;
    let start = |row: usize, column: usize| ((row + column) % 5) as f32;
    let lines: Vec<u16> = (0..rows * K).map(|i| bf16::round(left(i / K, i % K))).collect();
    // A panel is 16 columns; in a line of it lie two `k` of each column.
    let panel = |first: usize| -> Vec<u16> {
        (0..16 * K).map(|i| bf16::round(right(first + i % 32 / 2, i / 32 * 2 + i % 2))).collect()
    };
    let panels = [panel(0), panel(16)];
    let mut sums: Vec<f32> = (0..rows * COLUMNS).map(|i| start(i / COLUMNS, i % COLUMNS)).collect();
    let call = Call {
        left: lines.as_ptr().cast(),
        left_stride: 2 * K,
        right: [panels[0].as_ptr().cast(), panels[1].as_ptr().cast()],
        dest: sums.as_mut_ptr(),
        dest_stride: 4 * COLUMNS,
        steps: K / 32,
        add: 1,
    };
    // SAFETY: the buffers above hold all rows that the strides name; the tiles are configured.
    unsafe { kernel(tiles, call) };
    (0..rows * COLUMNS).all(|i| {
        let (row, column) = (i / COLUMNS, i % COLUMNS);
        sums[i] == start(row, column) + (0..K).map(|k| left(row, k) * right(column, k)).sum::<f32>()
    })
}

/// The 64 bytes that `ldtilecfg` reads (Intel SDM, "Tile configuration").
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

/// All eight tiles of this thread, 16 rows of 64 bytes, as long as the value lives.
pub(super) struct Tiles {
    /// The configuration belongs to a thread, so this must not move to another one.
    stay: std::marker::PhantomData<*const ()>,
}

impl Tiles {
    /// # Safety
    /// AMX is available (or emulated), and this thread holds no other `Tiles`.
    pub(super) unsafe fn configure() -> Tiles {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes_per_row: [0; 16], rows: [0; 16] };
        configuration.bytes_per_row[..8].fill(64);
        configuration.rows[..8].fill(16);
        // SAFETY: without the option `nomem` the compiler writes the structure before the instruction reads it.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, preserves_flags)) };
        Tiles { stay: std::marker::PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a configured thread has AMX; the tiles' contents are not needed any more.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
    }
}

/// Operands of one kernel call, strides in bytes.
#[derive(Clone, Copy)]
pub(super) struct Call {
    /// First row, at the first `k`.
    pub(super) left: *const u8,
    pub(super) left_stride: usize,
    /// The two panels, at the first `k`.
    pub(super) right: [*const u8; 2],
    pub(super) dest: *mut f32,
    pub(super) dest_stride: usize,
    /// Steps of 32 `k`, at least one.
    pub(super) steps: usize,
    /// 1 to start from what `dest` holds, 0 to start from zero.
    pub(super) add: usize,
}

/// `dest[32, 32] (+)= left[32, k] · right[k, 32]`.
///
/// # Safety
/// The thread's tiles are configured; all rows named by the strides are valid.
pub(super) unsafe fn two_by_two(_: &Tiles, call: Call) {
    // SAFETY: the caller's promise. Registers 0-3 hold sums, 4 and 5 rows, 6 and 7 panels.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jz 3f",
            "tileloadd tmm0, [{dest} + {dest_stride}]",
            "tileloadd tmm1, [{dest} + {dest_stride} + 64]",
            "tileloadd tmm2, [{low} + {dest_stride}]",
            "tileloadd tmm3, [{low} + {dest_stride} + 64]",
            "jmp 4f",
            "3:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "4:",
            "tileloadd tmm6, [{first} + {line}]",
            "tileloadd tmm4, [{left} + {left_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{second} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{under} + {left_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 64",
            "add {under}, 64",
            "add {first}, 1024",
            "add {second}, 1024",
            "dec {steps}",
            "jnz 4b",
            "tilestored [{dest} + {dest_stride}], tmm0",
            "tilestored [{dest} + {dest_stride} + 64], tmm1",
            "tilestored [{low} + {dest_stride}], tmm2",
            "tilestored [{low} + {dest_stride} + 64], tmm3",
            add = in(reg) call.add,
            dest = in(reg) call.dest,
            low = in(reg) call.dest.cast::<u8>().wrapping_add(16 * call.dest_stride),
            dest_stride = in(reg) call.dest_stride,
            left = inout(reg) call.left => _,
            under = inout(reg) call.left.wrapping_add(16 * call.left_stride) => _,
            left_stride = in(reg) call.left_stride,
            first = inout(reg) call.right[0] => _,
            second = inout(reg) call.right[1] => _,
            line = in(reg) 64usize,
            steps = inout(reg) call.steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// `dest[16, 32] (+)= left[16, k] · right[k, 32]`, with the same order of summation.
///
/// # Safety
/// As for [`two_by_two`].
pub(super) unsafe fn one_by_two(_: &Tiles, call: Call) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jz 3f",
            "tileloadd tmm0, [{dest} + {dest_stride}]",
            "tileloadd tmm1, [{dest} + {dest_stride} + 64]",
            "jmp 4f",
            "3:",
            "tilezero tmm0",
            "tilezero tmm1",
            "4:",
            "tileloadd tmm4, [{left} + {left_stride}]",
            "tileloadd tmm6, [{first} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{second} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {left}, 64",
            "add {first}, 1024",
            "add {second}, 1024",
            "dec {steps}",
            "jnz 4b",
            "tilestored [{dest} + {dest_stride}], tmm0",
            "tilestored [{dest} + {dest_stride} + 64], tmm1",
            add = in(reg) call.add,
            dest = in(reg) call.dest,
            dest_stride = in(reg) call.dest_stride,
            left = inout(reg) call.left => _,
            left_stride = in(reg) call.left_stride,
            first = inout(reg) call.right[0] => _,
            second = inout(reg) call.right[1] => _,
            line = in(reg) 64usize,
            steps = inout(reg) call.steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_proven_and_a_wrong_one_is_not() {
        if !crate::testing::isas().contains(&crate::Isa::Amx) {
            return;
        }
        // SAFETY: the tests have AMX, if only emulated.
        assert!(unsafe { proven() });
        // SAFETY: as above.
        let tiles = unsafe { Tiles::configure() };
        let forgets_the_second_panel = |tiles: &Tiles, call: Call| {
            // SAFETY: the call is `agrees`' own; its first panel is as long as the second.
            unsafe { two_by_two(tiles, Call { right: [call.right[0]; 2], ..call }) }
        };
        assert!(!agrees(&tiles, 32, forgets_the_second_panel));
        assert!(!agrees(&tiles, 32, |_, _| ()), "nothing was added");
    }
}
