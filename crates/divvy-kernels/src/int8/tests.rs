use super::*;
use crate::testing::{isas, product as naive, random};

/// Every kernel of this machine, the defining one first.
fn kernels() -> Vec<Kernel> {
    let mut all = vec![Kernel::Portable(Isa::Portable)];
    all.extend(isas().into_iter().filter(|isa| *isa == Isa::Avx2).map(Kernel::Portable));
    #[cfg(target_arch = "x86_64")]
    if vnni::available() {
        all.push(Kernel::Vnni);
    }
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if isas().contains(&Isa::Amx) && amx::available() {
        all.push(Kernel::Amx);
    }
    all
}

fn packed(w: &[f32], n: usize, k: usize) -> Packed8 {
    Packed8::from_rows(n, k, |row, out| out.copy_from_slice(&w[row * k..][..k]))
}

const SHAPES: [[usize; 3]; 11] = [
    [1, 1, 1],
    [1, 64, 96],
    [2, 33, 7],
    [3, 100, 257],
    [7, 130, 576],
    [33, 70, 1030],
    [64, 16, 512],
    [50, 75, 640],
    [16, 48, 64],
    [27, 96, 576],
    [45, 33, 256],
];

#[test]
fn close_to_the_product_in_full_precision() {
    for [m, n, k] in SHAPES {
        let (x, w) = (random(m * k, 1), random(n * k, 2));
        let mut y = vec![f32::NAN; m * n];
        matmul8(&x, &packed(&w, n, k), &mut y, m, Write::Set);
        // Each factor is off by at most half a step of 1/127, independently: errors add up like a random walk.
        let most = 4.0 * (k as f64).sqrt() / 127.0;
        for (got, want) in y.iter().zip(naive(&x, &w, m, n, k)) {
            assert!((f64::from(*got) - want).abs() < most, "{m}x{n}x{k}: {got} for {want}");
        }
    }
}

#[test]
fn whole_numbers_come_out_exactly() {
    let (m, n, k) = (5, 40, 301);
    let whole = |len: usize, by: usize| -> Vec<f32> { (0..len).map(|i| (i * by % 255) as f32 - 127.0).collect() };
    let (x, mut w) = (whole(m * k, 7), whole(n * k, 11));
    // With its largest possible value in each block, a row's step is exactly one.
    let mut x = x;
    x.chunks_mut(k).for_each(|row| (row[0], row[256]) = (127.0, -127.0));
    w.chunks_mut(k).for_each(|row| (row[0], row[256]) = (127.0, -127.0));
    for kernel in kernels() {
        let mut y = vec![1.0; m * n];
        product(kernel, &x, &packed(&w, n, k), &mut y, m, Write::Add);
        let want: Vec<f32> = naive(&x, &w, m, n, k).iter().map(|value| (value + 1.0) as f32).collect();
        assert_eq!(y, want, "{kernel:?}");
    }
}

#[test]
fn every_kernel_and_every_batch_give_the_same_bits() {
    for [m, n, k] in SHAPES {
        let (x, w, before) = (random(m * k, 3), random(n * k, 4), random(m * n, 5));
        let w = packed(&w, n, k);
        for write in [Write::Set, Write::Add] {
            let run = |kernel, m: usize| {
                let mut y = before[..m * n].to_vec();
                product(kernel, &x[..m * k], &w, &mut y, m, write);
                y
            };
            let all = run(kernels()[0], m);
            for kernel in kernels() {
                for some in 1..=m {
                    assert_eq!(run(kernel, some), all[..some * n], "{kernel:?} {m}x{n}x{k}, {some} rows");
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (m, n, k) = (65, 530, 400);
    let (x, w) = (random(m * k, 6), packed(&random(n * k, 7), n, k));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut y = vec![0.0; m * n];
        pool.install(|| matmul8(&x, &w, &mut y, m, Write::Set));
        y
    };
    assert_eq!(run(1), run(5));
}

#[test]
fn rows_of_zeros_give_zeros() {
    let w = packed(&vec![0.0; 3 * 40], 3, 40);
    let mut y = [f32::NAN; 3];
    matmul8(&random(40, 8), &w, &mut y, 1, Write::Set);
    assert_eq!(y, [0.0; 3]);
    let w = packed(&random(3 * 40, 9), 3, 40);
    y.fill(f32::NAN);
    matmul8(&[0.0; 40], &w, &mut y, 1, Write::Set);
    assert_eq!(y, [0.0; 3]);
}

#[test]
fn what_is_not_a_number_shows() {
    let w = packed(&random(3 * 300, 10), 3, 300);
    for bad in [f32::NAN, f32::INFINITY] {
        for at in [0, 17, 299] {
            let mut x = random(300, 11);
            x[at] = bad;
            for kernel in kernels() {
                let mut y = [0.0; 3];
                product(kernel, &x, &w, &mut y, 1, Write::Set);
                assert!(y.iter().all(|value| value.is_nan()), "{kernel:?}: {bad} at {at} gives {y:?}");
            }
        }
    }
}

#[test]
fn rows_are_rounded_alike_by_every_instruction_set() {
    let x = random(3 * 301, 12);
    let plain = Rows8::of(Isa::Portable, &x, 3, 301, 3);
    for isa in Isa::available() {
        let rows = Rows8::of(isa, &x, 3, 301, 3);
        assert!(rows.values == plain.values && rows.scales == plain.scales, "{isa:?}");
    }
}

#[test]
#[should_panic(expected = "matmul8: x is [m, k] = [2, 4]")]
fn a_wrong_shape_panics_with_the_expected_one() {
    matmul8(&[0.0; 7], &packed(&[0.0; 12], 3, 4), &mut [0.0; 6], 2, Write::Set);
}
