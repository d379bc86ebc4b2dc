//! How a kernel reaches its instruction set and its threads: `per_isa!` compiles one generic body for each instruction set, `Shared` lets
//! tasks write disjoint parts of one buffer, `row_blocks` splits rows over the pool.

use rayon::prelude::*;

/// Declares `fn name(isa, args…)` that runs `body(args…)`, compiled for the baseline, for AVX2+FMA and for AVX-512.
/// The body must be `#[inline(always)]`, so that it is compiled with the features of its caller.
macro_rules! per_isa {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $(-> $out:ty)? = $body:path) => {
        $(#[$meta])*
        fn $name(isa: $crate::Isa, $($arg: $kind),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $kind),*) $(-> $out)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $kind),*) $(-> $out)? {
                    $body($($arg),*)
                }
                if isa.has_avx512() {
                    // SAFETY: detection found these.
                    return unsafe { avx512($($arg),*) };
                }
                if isa >= $crate::Isa::Avx2 {
                    // SAFETY: an Isa of Avx2 or better exists only where detection found AVX2 and FMA.
                    return unsafe { avx2($($arg),*) };
                }
            }
            let _ = isa;
            $body($($arg),*)
        }
    };
}
pub(crate) use per_isa;

/// Calls `$call.shape::<ROWS, PANELS>()` for 1 to 6 rows of one panel or of four.
macro_rules! by_shape {
    ($call:ident, $rows:ident, $panels:ident) => {
        match ($rows, $panels) {
            (1, 4) => $call.shape::<1, 4>(),
            (2, 4) => $call.shape::<2, 4>(),
            (3, 4) => $call.shape::<3, 4>(),
            (4, 4) => $call.shape::<4, 4>(),
            (5, 4) => $call.shape::<5, 4>(),
            (6, 4) => $call.shape::<6, 4>(),
            (1, 1) => $call.shape::<1, 1>(),
            (2, 1) => $call.shape::<2, 1>(),
            (3, 1) => $call.shape::<3, 1>(),
            (4, 1) => $call.shape::<4, 1>(),
            (5, 1) => $call.shape::<5, 1>(),
            (6, 1) => $call.shape::<6, 1>(),
            _ => unreachable!("{} rows by {} panels", $rows, $panels),
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use by_shape;

/// A buffer that several tasks write at the same time, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    at: *mut f32,
    len: usize,
}

// SAFETY: the pointer comes from an exclusive borrow that outlives the tasks; each access goes through an unsafe
// function whose caller promises that no two tasks touch the same element.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(buffer: &mut [f32]) -> Shared {
        Shared { at: buffer.as_mut_ptr(), len: buffer.len() }
    }

    /// # Safety
    /// The original borrow is alive, and no other task reads or writes this range meanwhile.
    pub(crate) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start + len <= self.len, "a task reaches behind its buffer");
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(start), len) }
    }

    /// # Safety
    /// As for `slice`, for every element reached through the pointer.
    pub(crate) unsafe fn pointer(self, start: usize) -> *mut f32 {
        debug_assert!(start < self.len);
        // SAFETY: the caller promises to stay within the buffer.
        unsafe { self.at.add(start) }
    }
}

/// A rectangle of a buffer of rows, as the destination of a product.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    buffer: Shared,
    at: usize,
    /// Values from row to row.
    pub(crate) row: usize,
}

impl Block {
    /// All of `y`, rows of `n`.
    pub(crate) fn whole(y: &mut [f32], n: usize) -> Block {
        Block { buffer: Shared::new(y), at: 0, row: n }
    }

    /// What lies right of and below an element.
    pub(crate) fn from(self, row: usize, column: usize) -> Block {
        Block { at: self.at + row * self.row + column, ..self }
    }

    /// # Safety
    /// As for [`Shared::pointer`].
    pub(crate) unsafe fn pointer(self, row: usize, column: usize) -> *mut f32 {
        // SAFETY: passed on.
        unsafe { self.buffer.pointer(self.at + row * self.row + column) }
    }
}

/// Elements below which splitting costs more than it gains.
const GRAIN: usize = 1 << 14;

/// Rows in one task, for rows of `width` values: depends on the shape alone, so that partial sums do not depend on the
/// number of threads.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}

/// Runs `work(first_row, rows)` over all rows in parallel.
pub(crate) fn row_blocks(rows: usize, width: usize, work: impl Fn(usize, usize) + Sync) {
    let block = rows_per_task(width);
    if rows <= block {
        work(0, rows);
    } else {
        (0..rows.div_ceil(block)).into_par_iter().for_each(|i| work(i * block, block.min(rows - i * block)));
    }
}
