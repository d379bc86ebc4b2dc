//! The instructions: permission, configuration of a thread's tiles, and the kernel of two row tiles by two panels.

use crate::bf16;
use std::arch::asm;

/// Whether the processor multiplies bytes, too; asked where [`available`] says yes.
pub(crate) fn has_bytes() -> bool {
    std::arch::x86_64::__cpuid_count(7, 0).edx & (1 << 25) != 0
}

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
    // One step in each of two segments.
    let segments = [0, 1].map(|step| Segment {
        left: lines[32 * step..].as_ptr().cast(),
        left_stride: 2 * K,
        right: panels.each_ref().map(|panel| panel[512 * step..].as_ptr().cast()),
        steps: 1,
    });
    let call = Call { segments: &segments, dest: sums.as_mut_ptr(), dest_stride: 4 * COLUMNS, add: 1 };
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
pub(crate) struct Tiles {
    /// The configuration belongs to a thread, so this must not move to another one.
    stay: std::marker::PhantomData<*const ()>,
}

impl Tiles {
    /// # Safety
    /// AMX is available (or emulated), and this thread holds no other `Tiles`.
    pub(crate) unsafe fn configure() -> Tiles {
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

/// A part of the sum: rows times panels over some steps of 32 `k`. Strides are in bytes; the kernels read the fields in
/// this order.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Segment {
    /// First row, at the first `k`.
    pub(crate) left: *const u8,
    pub(crate) left_stride: usize,
    /// The two panels, at the first `k`.
    pub(crate) right: [*const u8; 2],
    /// At least one.
    pub(crate) steps: usize,
}

impl Segment {
    pub(super) const NONE: Segment =
        Segment { left: std::ptr::null(), left_stride: 0, right: [std::ptr::null(); 2], steps: 0 };
}

/// One kernel call, strides in bytes.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    /// At least one.
    pub(super) segments: &'a [Segment],
    pub(super) dest: *mut f32,
    pub(super) dest_stride: usize,
    /// 1 to start from what `dest` holds, 0 to start from zero.
    pub(super) add: usize,
}

/// `dest[32, 32] (+)= sum over segments of left[32, k] · right[k, 32]`.
///
/// # Safety
/// The thread's tiles are configured; all rows named by the strides are valid; there is a segment and none is empty.
pub(super) unsafe fn two_by_two(_: &Tiles, call: Call) {
    debug_assert!(call.segments.iter().all(|segment| segment.steps > 0) && !call.segments.is_empty());
    // Panels are read with the hint that they need not stay in the first-level cache, where the rows then do: a third faster.
    // SAFETY: the caller's promise. Registers 0-3 hold sums, 4 and 5 rows, 6 and 7 panels.
    unsafe {
        asm!(
            "test {steps}, {steps}",
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
            "mov {left}, [{segment}]",
            "mov {left_stride}, [{segment} + 8]",
            "mov {first}, [{segment} + 16]",
            "mov {second}, [{segment} + 24]",
            "mov {steps}, [{segment} + 32]",
            "mov {under}, {left_stride}",
            "shl {under}, 4",
            "add {under}, {left}",
            "5:",
            "tileloaddt1 tmm6, [{first} + {line}]",
            "tileloadd tmm4, [{left} + {left_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloaddt1 tmm7, [{second} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{under} + {left_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 64",
            "add {under}, 64",
            "add {first}, 1024",
            "add {second}, 1024",
            "dec {steps}",
            "jnz 5b",
            "add {segment}, {size}",
            "cmp {segment}, {end}",
            "jne 4b",
            "tilestored [{dest} + {dest_stride}], tmm0",
            "tilestored [{dest} + {dest_stride} + 64], tmm1",
            "tilestored [{low} + {dest_stride}], tmm2",
            "tilestored [{low} + {dest_stride} + 64], tmm3",
            size = const size_of::<Segment>(),
            segment = inout(reg) call.segments.as_ptr() => _,
            end = in(reg) call.segments.as_ptr_range().end,
            dest = in(reg) call.dest,
            low = in(reg) call.dest.cast::<u8>().wrapping_add(16 * call.dest_stride),
            dest_stride = in(reg) call.dest_stride,
            left = out(reg) _,
            under = out(reg) _,
            left_stride = out(reg) _,
            first = out(reg) _,
            second = out(reg) _,
            line = in(reg) 64usize,
            steps = inout(reg) call.add => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Bytes between the lines of a panel that are multiplied and those that are fetched meanwhile: what one call takes. The
/// processor itself does not keep up with two panels at once (LOG.md).
const AHEAD: usize = 4096;

/// `dest[32, 32] = left[32, k] · right[k, 32]` of unsigned and signed bytes with 32-bit sums; a step is 64 `k`, and `under` the
/// 17th row.
///
/// # Safety
/// As for [`two_by_two`], with bytes for numbers; `dest` holds the square, dense.
pub(crate) unsafe fn bytes_two_by_two(_: &Tiles, segment: Segment, under: *const u8, dest: &mut [[i32; 32]; 32]) {
    let Segment { left, left_stride, right: [first, second], steps } = segment;
    debug_assert!(steps > 0);
    // SAFETY: the caller's promise. Registers as in `two_by_two`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "5:",
            "tileloaddt1 tmm6, [{first} + {line}]",
            "tileloadd tmm4, [{left} + {left_stride}]",
            "tdpbusd tmm0, tmm4, tmm6",
            ".irp line,0,64,128,192,256,320,384,448",
            "prefetcht1 [{first} + {ahead} + \\line]",
            ".endr",
            "tileloaddt1 tmm7, [{second} + {line}]",
            "tdpbusd tmm1, tmm4, tmm7",
            ".irp line,0,64,128,192,256,320,384,448",
            "prefetcht1 [{first} + {further} + \\line]",
            ".endr",
            "tileloadd tmm5, [{under} + {left_stride}]",
            "tdpbusd tmm2, tmm5, tmm6",
            ".irp line,0,64,128,192,256,320,384,448",
            "prefetcht1 [{second} + {ahead} + \\line]",
            ".endr",
            "tdpbusd tmm3, tmm5, tmm7",
            ".irp line,0,64,128,192,256,320,384,448",
            "prefetcht1 [{second} + {further} + \\line]",
            ".endr",
            "add {left}, 64",
            "add {under}, 64",
            "add {first}, 1024",
            "add {second}, 1024",
            "dec {steps}",
            "jnz 5b",
            "tilestored [{dest} + {dest_stride}], tmm0",
            "tilestored [{dest} + {dest_stride} + 64], tmm1",
            "tilestored [{low} + {dest_stride}], tmm2",
            "tilestored [{low} + {dest_stride} + 64], tmm3",
            ahead = const AHEAD,
            further = const AHEAD + 512,
            dest = in(reg) dest.as_mut_ptr(),
            low = in(reg) dest.as_mut_ptr().wrapping_add(16),
            dest_stride = in(reg) 128usize,
            left = inout(reg) left => _,
            under = inout(reg) under => _,
            left_stride = in(reg) left_stride,
            first = inout(reg) first => _,
            second = inout(reg) second => _,
            line = in(reg) 64usize,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// `dest[16, 32] (+)= sum over segments of left[16, k] · right[k, 32]`, with the same order of summation.
///
/// # Safety
/// As for [`two_by_two`].
pub(super) unsafe fn one_by_two(_: &Tiles, call: Call) {
    debug_assert!(call.segments.iter().all(|segment| segment.steps > 0) && !call.segments.is_empty());
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "test {steps}, {steps}",
            "jz 3f",
            "tileloadd tmm0, [{dest} + {dest_stride}]",
            "tileloadd tmm1, [{dest} + {dest_stride} + 64]",
            "jmp 4f",
            "3:",
            "tilezero tmm0",
            "tilezero tmm1",
            "4:",
            "mov {left}, [{segment}]",
            "mov {left_stride}, [{segment} + 8]",
            "mov {first}, [{segment} + 16]",
            "mov {second}, [{segment} + 24]",
            "mov {steps}, [{segment} + 32]",
            "5:",
            "tileloadd tmm4, [{left} + {left_stride}]",
            "tileloaddt1 tmm6, [{first} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloaddt1 tmm7, [{second} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {left}, 64",
            "add {first}, 1024",
            "add {second}, 1024",
            "dec {steps}",
            "jnz 5b",
            "add {segment}, {size}",
            "cmp {segment}, {end}",
            "jne 4b",
            "tilestored [{dest} + {dest_stride}], tmm0",
            "tilestored [{dest} + {dest_stride} + 64], tmm1",
            size = const size_of::<Segment>(),
            segment = inout(reg) call.segments.as_ptr() => _,
            end = in(reg) call.segments.as_ptr_range().end,
            dest = in(reg) call.dest,
            dest_stride = in(reg) call.dest_stride,
            left = out(reg) _,
            left_stride = out(reg) _,
            first = out(reg) _,
            second = out(reg) _,
            line = in(reg) 64usize,
            steps = inout(reg) call.add => _,
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
            let right = |segment: &Segment| [segment.right[0]; 2];
            let wrong: Vec<Segment> =
                call.segments.iter().map(|segment| Segment { right: right(segment), ..*segment }).collect();
            // SAFETY: the call is `agrees`' own; its first panel is as long as the second.
            unsafe { two_by_two(tiles, Call { segments: &wrong, ..call }) }
        };
        assert!(!agrees(&tiles, 32, forgets_the_second_panel));
        assert!(!agrees(&tiles, 32, |_, _| ()), "nothing was added");
    }
}
