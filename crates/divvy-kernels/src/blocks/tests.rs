use super::*;
use crate::testing::{assert_close, isas, product as naive, random};
use half::f16;

const fn format(bits: usize, step: usize, zero: u8, has_min: bool) -> BlockFormat {
    BlockFormat { bits, step, zero, has_min, table: None }
}

/// What the formats of GGUF come to, and one with a table.
fn formats() -> Vec<BlockFormat> {
    let table = std::array::from_fn(|i| (i * i + 3) as u8);
    vec![
        format(4, 32, 8, false),
        format(4, 32, 0, true),
        format(5, 32, 16, false),
        format(5, 32, 0, true),
        format(8, 32, 128, false),
        format(2, 256, 0, true),
        format(3, 256, 4, false),
        format(4, 256, 0, true),
        format(5, 256, 0, true),
        format(6, 256, 32, false),
        BlockFormat { table: Some(table), ..format(4, 32, 128, false) },
        BlockFormat { table: Some(table), ..format(4, 256, 128, false) },
    ]
}

/// Every kernel of this machine, the defining one first.
fn kernels() -> Vec<Kernel> {
    let mut all = vec![Kernel::Portable(Isa::Portable)];
    all.extend(isas().into_iter().filter(|isa| *isa == Isa::Avx2).map(Kernel::Portable));
    #[cfg(target_arch = "x86_64")]
    if vnni::available() {
        all.push(Kernel::Vnni);
    }
    all
}

/// Whole numbers from 0 to `below`.
fn whole(len: usize, below: u32, seed: u64) -> Vec<u32> {
    random(len, seed).into_iter().map(|value| ((value + 1.0) * 0.5 * below as f32) as u32 % below).collect()
}

fn rows(format: &BlockFormat, n: usize, k: usize, seed: u64) -> Vec<BlockRow> {
    let halves = random(n * 2 * (k / format.step), seed);
    let codes = whole(n * k, 1 << format.bits, seed + 1);
    let sides = whole(n * 2 * (k / 16), 64, seed + 2);
    let one = |row: usize| BlockRow {
        codes: codes[row * k..][..k].iter().map(|code| *code as u8).collect(),
        sides: match format.has_sides() {
            true => (0..k / format.group())
                .map(|g| 2 * (row * (k / 16) + g))
                .map(|at| Side { scale: sides[at] as i8 - 32, min: sides[at + 1] as u8 })
                .collect(),
            false => Vec::new(),
        },
        halves: (0..k / format.step)
            .map(|step| 2 * (row * (k / format.step) + step))
            .map(|at| [halves[at], halves[at + 1]].map(|value| f16::from_f32(value * 0.01).to_bits()))
            .collect(),
    };
    (0..n).map(one).collect()
}

/// The numbers of a row, by the format's definition.
fn values(format: &BlockFormat, row: &BlockRow) -> Vec<f32> {
    let value = |(i, code): (usize, &u8)| {
        let side = row.sides.get(i / format.group()).copied().unwrap_or(Side { scale: 1, min: 1 });
        let [d, dmin] = row.halves[i / format.step].map(|bits| f16::from_bits(bits).to_f32());
        let stands = format.table.map_or(*code, |table| table[usize::from(*code)]);
        let min = if format.has_min { dmin * f32::from(side.min) } else { 0.0 };
        d * f32::from(side.scale) * (f32::from(stands) - f32::from(format.zero)) - min
    };
    row.codes.iter().enumerate().map(value).collect()
}

fn part(format: BlockFormat, rows: &[BlockRow], k: usize) -> BlockPart {
    BlockPart::from_rows(format, rows.len(), k, |row, out| {
        out.codes.copy_from_slice(&rows[row].codes);
        out.sides.copy_from_slice(&rows[row].sides);
        out.halves.copy_from_slice(&rows[row].halves);
    })
}

/// Rows whose largest value in each 256 is 127, of whole numbers: eight bits hold them as they are.
fn whole_rows(m: usize, k: usize) -> Vec<f32> {
    let mut x: Vec<f32> = whole(m * k, 255, 5).into_iter().map(|value| value as f32 - 127.0).collect();
    x.chunks_mut(k).for_each(|row| row.chunks_mut(256).for_each(|block| block[0] = 127.0));
    x
}

const SHAPES: [[usize; 3]; 6] =
    [[1, 64, 256], [1, 100, 768], [2, 33, 512], [5, 130, 256], [7, 16, 1024], [13, 48, 512]];

#[test]
fn a_product_is_that_of_the_numbers_that_a_format_stands_for() {
    for format in formats() {
        for [m, n, k] in SHAPES {
            let rows = rows(&format, n, k, 11);
            let w: Vec<f32> = rows.iter().flat_map(|row| values(&format, row)).collect();
            let (x, right) = (whole_rows(m, k), Blocks::of(vec![part(format, &rows, k)]));
            for kernel in kernels() {
                let mut y = vec![f32::NAN; m * n];
                product(kernel, &x, &right, &mut y, m, Write::Set);
                let size = naive(
                    &x.iter().map(|x| x.abs()).collect::<Vec<_>>(),
                    &w.iter().map(|w| w.abs()).collect::<Vec<_>>(),
                    m,
                    n,
                    k,
                );
                for ((got, want), size) in y.iter().zip(naive(&x, &w, m, n, k)).zip(size) {
                    let gap = (f64::from(*got) - want).abs();
                    assert!(gap <= 1e-5 * size, "{kernel:?} {format:?} {m}x{n}x{k}: {got} for {want}");
                }
            }
        }
    }
}

#[test]
fn a_short_last_block_of_the_left_is_one() {
    let (m, n, k) = (3, 20, 576);
    for format in formats().into_iter().filter(|format| format.step == 32) {
        let rows = rows(&format, n, k, 3);
        let w: Vec<f32> = rows.iter().flat_map(|row| values(&format, row)).collect();
        let x = whole_rows(m, k);
        for kernel in kernels() {
            let mut y = vec![1.0; m * n];
            product(kernel, &x, &Blocks::of(vec![part(format, &rows, k)]), &mut y, m, Write::Add);
            let want: Vec<f64> = naive(&x, &w, m, n, k).iter().map(|value| value + 1.0).collect();
            assert_close(&y, &want, 1e-3, "576 values");
        }
    }
}

#[test]
fn every_kernel_and_every_batch_give_the_same_bits() {
    for format in formats() {
        let (m, n, k) = (9, 70, 512);
        let (x, before) = (random(m * k, 21), random(m * n, 22));
        let right = Blocks::of(vec![part(format, &rows(&format, n, k, 23), k)]);
        for write in [Write::Set, Write::Add] {
            let run = |kernel, m: usize| {
                let mut y = before[..m * n].to_vec();
                product(kernel, &x[..m * k], &right, &mut y, m, write);
                y
            };
            let all = run(kernels()[0], m);
            for kernel in kernels() {
                for some in 1..=m {
                    assert_eq!(run(kernel, some), all[..some * n], "{kernel:?} {format:?}, {some} rows");
                }
            }
        }
    }
}

#[test]
fn parts_of_several_formats_lie_beside_each_other() {
    let (m, k) = (3, 256);
    let parts: Vec<(BlockFormat, Vec<BlockRow>)> = formats()
        .into_iter()
        .zip([7, 16, 33, 1, 40, 64])
        .map(|(format, n)| (format, rows(&format, n, k, n as u64)))
        .collect();
    let all = Blocks::of(parts.iter().map(|(format, rows)| part(*format, rows, k)).collect());
    let x = random(m * k, 31);
    for threads in [1, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut y = vec![f32::NAN; m * all.n()];
        pool.install(|| matmul_blocks(&x, &all, &mut y, m, Write::Set));
        let mut column = 0;
        for (format, rows) in &parts {
            let mut alone = vec![0.0; m * rows.len()];
            matmul_blocks(&x, &Blocks::of(vec![part(*format, rows, k)]), &mut alone, m, Write::Set);
            for (row, alone) in alone.chunks(rows.len()).enumerate() {
                assert_eq!(&y[row * all.n() + column..][..rows.len()], alone, "{format:?}");
            }
            column += rows.len();
        }
    }
}

#[test]
fn rows_read_back_as_what_they_stand_for() {
    let k = 512;
    let parts: Vec<(BlockFormat, Vec<BlockRow>)> =
        formats().into_iter().map(|format| (format, rows(&format, 20, k, 71))).collect();
    let all = Blocks::of(parts.iter().map(|(format, rows)| part(*format, rows, k)).collect());
    let want = parts.iter().flat_map(|(format, rows)| rows.iter().map(|row| values(format, row)));
    let mut got = vec![0.0; k];
    for (row, want) in want.enumerate() {
        all.row(row, &mut got);
        assert_eq!(got, want, "row {row}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (m, n, k) = (33, 530, 512);
    let format = format(4, 256, 0, true);
    let right = Blocks::of(vec![part(format, &rows(&format, n, k, 41), k)]);
    let x = random(m * k, 42);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut y = vec![0.0; m * n];
        pool.install(|| matmul_blocks(&x, &right, &mut y, m, Write::Set));
        y
    };
    assert_eq!(run(1), run(5));
}

#[test]
fn what_is_not_a_number_shows() {
    let format = format(6, 256, 32, false);
    let right = Blocks::of(vec![part(format, &rows(&format, 20, 512, 51), 512)]);
    for bad in [f32::NAN, f32::INFINITY] {
        for at in [0, 300, 511] {
            let mut x = random(512, 52);
            x[at] = bad;
            for kernel in kernels() {
                let mut y = [0.0; 20];
                product(kernel, &x, &right, &mut y, 1, Write::Set);
                assert!(y.iter().all(|value| value.is_nan()), "{kernel:?}: {bad} at {at} gives {y:?}");
            }
        }
    }
}

#[test]
fn weights_take_the_bits_of_their_format() {
    let bits = |format: BlockFormat| {
        let right = Blocks::of(vec![part(format, &rows(&format, 64, 512, 61), 512)]);
        right.bytes() as f64 * 8.0 / (64.0 * 512.0)
    };
    // As in the file: Q4_0 has 18 bytes for 32, Q4_1 20; Q4_K's scales are a byte each here, 12 for 16 there, and a span of Q6_K is
    // filled up to whole lines.
    let got =
        [format(4, 32, 8, false), format(4, 32, 0, true), format(4, 256, 0, true), format(6, 256, 32, false)].map(bits);
    assert_eq!(got, [4.5, 5.0, 4.625, 6.625]);
}

#[test]
#[should_panic(expected = "no whole blocks of 256")]
fn a_row_is_a_whole_number_of_blocks() {
    BlockPart::from_rows(format(4, 256, 0, true), 1, 320, |_, _| ());
}
