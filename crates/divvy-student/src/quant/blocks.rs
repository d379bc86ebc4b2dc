//! One function a block format: packed bytes of one block in, its codes, whole scales and steps out (see [`BlockFormat`]).
//! Layouts as in llama.cpp's `ggml-common.h`; the low nibbles of a block come before the high ones. What the numbers of a
//! block are follows from its parts, in one place for all formats.

use divvy_kernels::{BlockFormat, BlockRow, Side};
use half::f16;

use super::TensorType;

/// The parts of one block, to be filled.
pub(super) struct Parts<'a> {
    pub(super) codes: &'a mut [u8],
    /// Empty where groups have no scales of their own.
    pub(super) sides: &'a mut [Side],
    /// `d` and `dmin`, bits of f16.
    pub(super) halves: &'a mut [u16; 2],
}

/// What a format's parts mean; `None` for plain floats.
pub(super) fn format(dtype: TensorType) -> Option<BlockFormat> {
    use TensorType::*;
    let plain = |bits, zero| BlockFormat { bits, step: dtype.block_len(), zero, has_min: false, table: None };
    let with_min = |bits| BlockFormat { has_min: true, ..plain(bits, 0) };
    match dtype {
        F32 | F16 | BF16 => None,
        Q4_0 => Some(plain(4, 8)),
        Q5_0 => Some(plain(5, 16)),
        Q8_0 => Some(plain(8, SIGN)),
        Q3K => Some(plain(3, 4)),
        Q6K => Some(plain(6, 32)),
        Q4_1 | Q4K => Some(with_min(4)),
        Q5_1 | Q5K => Some(with_min(5)),
        Q2K => Some(with_min(2)),
        Iq4Nl | Iq4Xs => Some(BlockFormat { table: Some(IQ4), ..plain(4, SIGN) }),
    }
}

/// Takes one block apart.
pub(super) fn take_apart(dtype: TensorType, block: &[u8], parts: Parts<'_>) {
    use TensorType::*;
    match dtype {
        F32 | F16 | BF16 => unreachable!("plain floats have no blocks"),
        Q4_0 => q4_0(block, parts),
        Q4_1 => q4_1(block, parts),
        Q5_0 => q5_0(block, parts),
        Q5_1 => q5_1(block, parts),
        Q8_0 => q8_0(block, parts),
        Q2K => q2_k(block, parts),
        Q3K => q3_k(block, parts),
        Q4K => q4_k(block, parts),
        Q5K => q5_k(block, parts),
        Q6K => q6_k(block, parts),
        Iq4Nl => iq4_nl(block, parts),
        Iq4Xs => iq4_xs(block, parts),
    }
}

/// The numbers of a row of one block: d·s·(code − zero) − dmin·m, group by group.
pub(super) fn numbers(format: &BlockFormat, block: &BlockRow, out: &mut [f32]) {
    let [d, dmin] = block.halves[0].map(|bits| f16::from_bits(bits).to_f32());
    let len = format.group();
    for (group, (codes, out)) in block.codes.chunks(len).zip(out.chunks_mut(len)).enumerate() {
        let side = block.sides.get(group).copied().unwrap_or(Side { scale: 1, min: 1 });
        let (scale, min) = (d * f32::from(side.scale), dmin * f32::from(side.min));
        let number = |stands: u8| scale * (f32::from(stands) - f32::from(format.zero));
        match format.table {
            Some(table) => out.iter_mut().zip(codes).for_each(|(out, code)| *out = number(table[usize::from(*code)])),
            None if format.has_min => out.iter_mut().zip(codes).for_each(|(out, code)| *out = number(*code) - min),
            None => out.iter_mut().zip(codes).for_each(|(out, code)| *out = number(*code)),
        }
    }
}

/// What a signed byte has more as an unsigned one.
const SIGN: u8 = 128;

/// What the nibbles of IQ4 stand for, [`SIGN`] more: −127, −104, −83, …, 113.
const IQ4: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

fn half_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The same number with the other sign: a minimum is taken off.
fn negated(half: u16) -> u16 {
    half ^ 0x8000
}

/// 16 × two nibbles: the low ones, then the high ones.
fn nibbles(quants: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(quants) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Fifth bits of 32 codes.
fn fifths(high: &[u8], codes: &mut [u8]) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= (((high >> j) & 1) as u8) << 4;
    }
}

/// d, 16 × two nibbles: d·(q − 8)
fn q4_0(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 0), 0];
    nibbles(&block[2..], parts.codes);
}

/// d, m, 16 × two nibbles: d·q + m
fn q4_1(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 0), negated(half_at(block, 2))];
    nibbles(&block[4..], parts.codes);
}

/// d, 32 high bits, 16 × two nibbles: d·(q − 16)
fn q5_0(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 0), 0];
    nibbles(&block[6..], parts.codes);
    fifths(&block[2..6], parts.codes);
}

/// d, m, 32 high bits, 16 × two nibbles: d·q + m
fn q5_1(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 0), negated(half_at(block, 2))];
    nibbles(&block[8..], parts.codes);
    fifths(&block[4..8], parts.codes);
}

/// d, 32 signed bytes: d·q
fn q8_0(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 0), 0];
    parts.codes.iter_mut().zip(&block[2..]).for_each(|(code, byte)| *code = byte ^ SIGN);
}

/// 64 × four 2-bit numbers, 32 bytes for each 128 numbers.
fn quarters(quants: &[u8], codes: &mut [u8]) {
    for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (quants, shift) = (&quants[32 * (j / 4)..], 2 * (j % 4));
        codes.iter_mut().zip(quants).for_each(|(code, byte)| *code = (byte >> shift) & 3);
    }
}

/// 128 × two nibbles, 32 bytes for each 64 numbers.
fn nibbles_of_64(quants: &[u8], codes: &mut [u8]) {
    for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (quants, shift) = (&quants[32 * (j / 2)..], 4 * (j % 2));
        codes.iter_mut().zip(quants).for_each(|(code, byte)| *code = (byte >> shift) & 15);
    }
}

/// 16 bytes of scale and minimum (a nibble each), 64 × four 2-bit numbers, d, dmin, in sixteen sub-blocks of 16:
/// d·s·q − dmin·m
fn q2_k(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 80), half_at(block, 82)];
    quarters(&block[16..80], parts.codes);
    for (side, byte) in parts.sides.iter_mut().zip(&block[..16]) {
        *side = Side { scale: (byte & 15) as i8, min: byte >> 4 };
    }
}

/// 32 bytes of third bits (bit `j` of each belongs to sub-block `j` of 32), 64 × four 2-bit numbers, sixteen 6-bit scales in
/// twelve bytes, d: d·(s − 32)·(q − 4)
fn q3_k(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 108), 0];
    quarters(&block[32..96], parts.codes);
    for (j, codes) in parts.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        codes.iter_mut().zip(&block[..32]).for_each(|(code, high)| *code |= ((high >> j) & 1) << 2);
    }
    let scales = &block[96..108];
    for (i, side) in parts.sides.iter_mut().enumerate() {
        let low = (scales[i % 8] >> (4 * (i / 8))) & 15;
        let up = (scales[8 + i % 4] >> (2 * (i / 4))) & 3;
        *side = Side { scale: (low | (up << 4)) as i8 - 32, min: 0 };
    }
}

/// 6-bit scales and minima of eight sub-blocks, packed into twelve bytes.
fn scales_and_minima(scales: &[u8], sides: &mut [Side]) {
    for (j, side) in sides.iter_mut().enumerate() {
        let (scale, min) = if j < 4 {
            (scales[j] & 63, scales[j + 4] & 63)
        } else {
            ((scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4), (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))
        };
        *side = Side { scale: scale as i8, min };
    }
}

/// d, dmin, 12 scale bytes, 128 × two nibbles, in eight sub-blocks of 32: d·s·q − dmin·m
fn q4_k(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 0), half_at(block, 2)];
    scales_and_minima(&block[4..16], parts.sides);
    nibbles_of_64(&block[16..144], parts.codes);
}

/// As [`q4_k`] with 32 bytes of fifth bits (bit `j` of each belongs to sub-block `j`) before the nibbles.
fn q5_k(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 0), half_at(block, 2)];
    scales_and_minima(&block[4..16], parts.sides);
    nibbles_of_64(&block[48..176], parts.codes);
    for (j, codes) in parts.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        codes.iter_mut().zip(&block[16..48]).for_each(|(code, high)| *code |= ((high >> j) & 1) << 4);
    }
}

/// 128 low nibble pairs, 64 × four 2-bit highs, 16 signed scales, d; two halves of 128 numbers: d·s·(q − 32)
fn q6_k(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 208), 0];
    for (j, codes) in parts.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half, quarter) = (j / 4, j % 4);
        let low = &block[64 * half + 32 * (quarter % 2)..];
        let high = &block[128 + 32 * half..];
        for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
            *code = ((low >> (4 * (quarter / 2))) & 15) | (((high >> (2 * quarter)) & 3) << 4);
        }
    }
    for (side, scale) in parts.sides.iter_mut().zip(&block[192..208]) {
        *side = Side { scale: *scale as i8, min: 0 };
    }
}

/// d, 16 × two nibbles
fn iq4_nl(block: &[u8], parts: Parts<'_>) {
    q4_0(block, parts);
}

/// d, the high two bits of eight 6-bit scales, their low four, 128 × two nibbles: d·(s − 32)·what a nibble stands for
fn iq4_xs(block: &[u8], parts: Parts<'_>) {
    *parts.halves = [half_at(block, 0), 0];
    let high = half_at(block, 2);
    for (j, codes) in parts.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        nibbles(&block[8 + 16 * j..][..16], codes);
        let low = (block[4 + j / 2] >> (4 * (j % 2))) & 15;
        parts.sides[j] = Side { scale: (low as i8 + 16 * ((high >> (2 * j)) & 3) as i8) - 32, min: 0 };
    }
}
