//! Prints GFLOP/s of the products by shape and batch, in bf16 and in 8 bits, on the current instruction set and pool
//! (`DIVVY_ISA`, `RAYON_NUM_THREADS`): `cargo run --release -p divvy-kernels --example gemm_bench [REPEATS]`.
//! With one thread the time is processor time, so that a busy machine does not blur it.
//! `gemm_bench REPEATS M,N,K …` prints GFLOP/s of these shapes in bf16 alone, a line each, after a first line with what
//! the bf16 products of AMX, or else of AVX-512, could do if nothing but them were issued (0 where there are none).
#![expect(clippy::print_stdout, reason = "a benchmark's output")]

use divvy_kernels::{Input, Isa, Packed, Packed8, Write, matmul, matmul8, mm_tn};
use std::sync::LazyLock;
use std::time::Instant;

const SHAPES: [(usize, usize); 5] = [(576, 1536), (1536, 8960), (17_920, 1536), (896, 4864), (151_936, 896)];

fn main() {
    let repeats = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let shapes: Vec<String> = std::env::args().skip(2).collect();
    if !shapes.is_empty() {
        println!("{:.1}", issue_rate(repeats));
        shapes.iter().for_each(|shape| println!("{:.1}", one_shape(shape, repeats)));
        return;
    }
    println!(
        "{:?}, {} threads, best of {repeats}; GFLOP/s (GB/s of weights)",
        Isa::current(),
        rayon::current_num_threads()
    );
    for (n, k) in SHAPES {
        let fill = |row: usize, out: &mut [f32]| {
            out.iter_mut().enumerate().for_each(|(i, v)| *v = ((row * 7 + i) % 13) as f32 - 6.0);
        };
        let (w, eight) = (Packed::from_rows(n, k, fill), Packed8::from_rows(n, k, fill));
        for m in [1, 2, 4, 8, 16, 32, 128, 512] {
            if m * n > 1 << 26 {
                continue;
            }
            let (x, mut y) = (vec![0.5f32; m * k], vec![0f32; m * n]);
            let wide = best(repeats, || matmul(&x, &w, &mut y, m, Write::Set));
            let narrow = best(repeats, || matmul8(&x, &eight, &mut y, m, Write::Set));
            for (name, bytes, seconds) in [("bf16", w.bytes(), wide), ("int8", n * k, narrow)] {
                let rate = |amount: usize| amount as f64 / seconds / 1e9;
                println!("{name} n={n:6} k={k:5} m={m:4}  {:8.1}  ({:5.1})", rate(2 * m * n * k), rate(bytes));
            }
        }
    }
    lora(repeats);
}

/// GFLOP/s of `M,N,K`.
fn one_shape(shape: &str, repeats: usize) -> f64 {
    let numbers: Vec<usize> = shape.split(',').filter_map(|number| number.parse().ok()).collect();
    let [m, n, k] = numbers[..] else { panic!("a shape is M,N,K, not {shape}") };
    let w = Packed::from_rows(n, k, |row, out| out.fill((row % 13) as f32 - 6.0));
    let (x, mut y) = (vec![0.5f32; m * k], vec![0f32; m * n]);
    (2 * m * n * k) as f64 / best(repeats, || matmul(&x, &w, &mut y, m, Write::Set)) / 1e9
}

/// GFLOP/s of all threads that do nothing but bf16 products in registers.
fn issue_rate(repeats: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        const TURNS: usize = 400_000;
        let (issue, multiply_adds): (fn(usize), usize) = match Isa::current() {
            // SAFETY: the instructions are there, and Linux has given its permission.
            Isa::Amx => (|turns| unsafe { tile_products(turns) }, 6 * 16 * 16 * 32),
            // SAFETY: the instructions are there.
            Isa::Avx512 => (|turns| unsafe { dot_products(turns) }, 16 * 32),
            Isa::Avx2 | Isa::Portable => return 0.0,
        };
        let threads = rayon::current_num_threads();
        let all = || if threads == 1 { issue(TURNS) } else { drop(rayon::broadcast(|_| issue(TURNS))) };
        (threads * TURNS * 2 * multiply_adds) as f64 / best(10 * repeats, all) / 1e9
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = repeats;
        0.0
    }
}

/// Six independent tiles of sums; the numbers are whatever zeroed tiles hold.
///
/// # Safety
/// The processor has AMX with bf16 and the process may use it.
#[cfg(target_arch = "x86_64")]
unsafe fn tile_products(turns: usize) {
    // Palette 1; eight tiles of 16 rows of 64 bytes (Intel SDM, "Tile configuration").
    let mut configuration = [0u8; 64];
    configuration[0] = 1;
    (0..8).for_each(|tile| (configuration[16 + 2 * tile], configuration[48 + tile]) = (64, 16));
    // SAFETY: the configuration is read, tiles alone are touched besides, and all of them are declared.
    unsafe {
        std::arch::asm!(
            "ldtilecfg [{configuration}]",
            "2:",
            "tdpbf16ps tmm0, tmm6, tmm7",
            "tdpbf16ps tmm1, tmm6, tmm7",
            "tdpbf16ps tmm2, tmm6, tmm7",
            "tdpbf16ps tmm3, tmm6, tmm7",
            "tdpbf16ps tmm4, tmm6, tmm7",
            "tdpbf16ps tmm5, tmm6, tmm7",
            "dec {turns}",
            "jnz 2b",
            "tilerelease",
            configuration = in(reg) configuration.as_ptr(),
            turns = inout(reg) turns => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Sixteen independent sums, more than latency × instructions a cycle; in assembly, so that nothing else is issued.
///
/// # Safety
/// The processor has AVX-512 with bf16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn dot_products(turns: usize) {
    // SAFETY: registers alone are touched, and all of them are declared.
    unsafe {
        std::arch::asm!(
            "vzeroall",
            "vpxord zmm16, zmm16, zmm16",
            "2:",
            "vdpbf16ps zmm0, zmm16, zmm16",
            "vdpbf16ps zmm1, zmm16, zmm16",
            "vdpbf16ps zmm2, zmm16, zmm16",
            "vdpbf16ps zmm3, zmm16, zmm16",
            "vdpbf16ps zmm4, zmm16, zmm16",
            "vdpbf16ps zmm5, zmm16, zmm16",
            "vdpbf16ps zmm6, zmm16, zmm16",
            "vdpbf16ps zmm7, zmm16, zmm16",
            "vdpbf16ps zmm8, zmm16, zmm16",
            "vdpbf16ps zmm9, zmm16, zmm16",
            "vdpbf16ps zmm10, zmm16, zmm16",
            "vdpbf16ps zmm11, zmm16, zmm16",
            "vdpbf16ps zmm12, zmm16, zmm16",
            "vdpbf16ps zmm13, zmm16, zmm16",
            "vdpbf16ps zmm14, zmm16, zmm16",
            "vdpbf16ps zmm15, zmm16, zmm16",
            "dec {turns}",
            "jnz 2b",
            turns = inout(reg) turns => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _,
            options(nomem, nostack),
        );
    }
}

/// The two products of a LoRA factor of rank 16 over 2,048 tokens, as training runs them.
fn lora(repeats: usize) {
    let (m, width, rank) = (2048, 576, 16);
    let (x, a) = (vec![0.5f32; m * width], vec![0.5f32; rank * width]);
    let (mut y, mut gradient) = (vec![0f32; m * rank], vec![0f32; rank * width]);
    let rate = |seconds: f64| (2 * m * width * rank) as f64 / seconds / 1e9;
    let forward = best(repeats, || Input::new(&x, m, width).mm_nt(&a, &mut y, rank, 1.0));
    let backward = best(repeats, || mm_tn(&y, &x, &mut gradient, m, rank, width, 1.0, Write::Set));
    println!(
        "f32 nt m={m} n={rank} k={width}  {:8.1}\nf32 tn m={m} n={rank} k={width}  {:8.1}",
        rate(forward),
        rate(backward)
    );
}

fn best(repeats: usize, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..=repeats {
        let start = seconds();
        work();
        best = best.min(seconds() - start);
    }
    best
}

/// Processor time of this thread when it is the only one, else wall time.
fn seconds() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    #[cfg(target_os = "linux")]
    if rayon::current_num_threads() == 1 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        return time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    }
    START.elapsed().as_secs_f64()
}
