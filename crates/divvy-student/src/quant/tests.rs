//! Block formats against the `gguf` Python package's own expansion (tests/fixtures/make_quant_fixtures.py).

use divvy_kernels::{Blocks, Write, matmul_blocks};

use super::*;
use crate::testing::fixture;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_block_format_expands_like_the_reference() {
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("quants.json")).unwrap()).unwrap();
    let formats = json.as_object().unwrap();
    assert_eq!(formats.len(), 12);
    for (name, case) in formats {
        let dtype = TYPES.iter().find(|entry| entry.2 == name).unwrap().0;
        let want: Vec<f32> = case["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        let mut got = vec![0.0; want.len()];
        dequantise(dtype, &unhex(case["bytes"].as_str().unwrap()), &mut got);
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!(got == want, "{name}[{at}]: {got} instead of {want}");
        }
    }
}

#[test]
fn every_block_format_multiplies_as_it_expands() {
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("quants.json")).unwrap()).unwrap();
    for (name, case) in json.as_object().unwrap() {
        let dtype = TYPES.iter().find(|entry| entry.2 == name).unwrap().0;
        let bytes = unhex(case["bytes"].as_str().unwrap());
        let (k, rows) = (dtype.block_len(), bytes.len() / dtype.block_bytes());
        let shape = vec![rows, k];
        let view =
            TensorView { file: "x", name: "w".into(), dtype, shape, bytes: &bytes, interleaved_heads: None, plus: 0.0 };
        let blocks = Blocks::of(vec![view.block_part()]);
        // Whole numbers of which the largest is 127, so that eight bits hold them.
        let x: Vec<f32> = (0..k).map(|i| (i * 37 % 255) as f32 - 127.0).collect();
        let mut y = vec![0.0; rows];
        matmul_blocks(&x, &blocks, &mut y, 1, Write::Set);
        for (row, got) in y.into_iter().enumerate() {
            let (mut w, mut back) = (vec![0.0; k], vec![0.0; k]);
            view.read_row(row, &mut w);
            blocks.row(row, &mut back);
            assert_eq!(back, w, "{name}, row {row}");
            let want: f64 = x.iter().zip(&w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            let size: f64 = x.iter().zip(&w).map(|(x, w)| f64::from(x.abs() * w.abs())).sum();
            assert!((f64::from(got) - want).abs() <= 1e-5 * size, "{name}, row {row}: {got} for {want}");
        }
    }
}

#[test]
fn a_matrix_that_is_kept_as_it_is_stored_reads_like_the_file() {
    // Four rows of one block, two heads.
    let bytes: Vec<u8> = (0..4 * 34).map(|at: usize| (at * 37 % 101) as u8).collect();
    for (interleaved_heads, plus) in [(None, 0.0), (Some(2), 0.0), (None, 1.0)] {
        let (dtype, shape) = (TensorType::Q8_0, vec![4, 32]);
        let view = TensorView { file: "x", name: "w".into(), dtype, shape, bytes: &bytes, interleaved_heads, plus };
        let stored = view.stored();
        assert_eq!((stored.rows(), stored.is_quantised()), (4, true));
        for row in 0..4 {
            let (mut from_file, mut kept) = ([0.0; 32], [0.0; 32]);
            view.read_row(row, &mut from_file);
            stored.read_row(row, &mut kept);
            assert_eq!(from_file, kept);
        }
    }
}

#[test]
fn plain_floats() {
    let mut out = [0.0; 2];
    dequantise(TensorType::F16, &[0x00, 0x3C, 0x00, 0xC0], &mut out);
    assert_eq!(out, [1.0, -2.0]);
    dequantise(TensorType::BF16, &[0x80, 0x3F, 0x00, 0xC0], &mut out);
    assert_eq!(out, [1.0, -2.0]);
    dequantise(TensorType::F32, &[0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0], &mut out);
    assert_eq!(out, [1.0, -2.0]);
}

#[test]
fn partial_blocks_and_overflow_have_no_size() {
    assert_eq!(TensorType::Q4K.bytes_of(512), Some(288));
    assert_eq!(TensorType::Q4K.bytes_of(511), None);
    assert_eq!(TensorType::F32.bytes_of(usize::MAX), None);
}

#[test]
fn interleaved_rows_are_found() {
    // One head of six rows, stored as pairs (0, 3), (1, 4), (2, 5).
    assert_eq!((0..6).map(|row| interleaved_row(row, 6)).collect::<Vec<_>>(), [0, 2, 4, 1, 3, 5]);
    assert_eq!(interleaved_row(9, 6), 7);
    assert!((0..24).all(|row| half_split_row(interleaved_row(row, 6), 6) == row));
}
