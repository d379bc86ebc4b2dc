//! One function a block format: packed bytes of one block in, its 32 or 256 numbers out. Layouts as in llama.cpp's
//! `ggml-common.h`; the low nibbles of a block come before the high ones.

use half::f16;

/// Runs `expand` over all blocks.
pub(super) fn each_block<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    expand: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (block, values) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
        expand(block, values);
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// d, 16 × two nibbles: d·(q − 8)
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, &byte) in block[2..].iter().enumerate() {
        out[j] = d * (i32::from(byte & 15) - 8) as f32;
        out[j + 16] = d * (i32::from(byte >> 4) - 8) as f32;
    }
}

/// d, m, 16 × two nibbles: d·q + m
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (j, &byte) in block[4..].iter().enumerate() {
        out[j] = d * f32::from(byte & 15) + m;
        out[j + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// The two 5-bit numbers of byte `j`: nibbles from `quants`, fifth bits `j` and `j + 16` of `high`.
fn five_bits(quants: &[u8], high: u32, j: usize) -> (u8, u8) {
    let fifth = |bit: usize| (((high >> bit) & 1) as u8) << 4;
    ((quants[j] & 15) | fifth(j), (quants[j] >> 4) | fifth(j + 16))
}

/// d, 32 high bits, 16 × two nibbles: d·(q − 16)
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for j in 0..16 {
        let (low, up) = five_bits(&block[6..], high, j);
        out[j] = d * (i32::from(low) - 16) as f32;
        out[j + 16] = d * (i32::from(up) - 16) as f32;
    }
}

/// d, m, 32 high bits, 16 × two nibbles: d·q + m
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for j in 0..16 {
        let (low, up) = five_bits(&block[8..], high, j);
        out[j] = d * f32::from(low) + m;
        out[j + 16] = d * f32::from(up) + m;
    }
}

/// d, 32 signed bytes: d·q
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (value, &byte) in out.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(byte as i8);
    }
}

/// 16 bytes of scale and minimum (a nibble each), 64 × four 2-bit numbers, d, dmin, in sixteen sub-blocks of 16:
/// d·s·q − dmin·m
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    let (scales, quants) = (&block[..16], &block[16..80]);
    for (j, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (quants, shift) = (&quants[32 * (j / 4)..], 2 * (j % 4));
        for (l, value) in values.iter_mut().enumerate() {
            let scale = scales[2 * j + l / 16];
            let (scale, min) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
            *value = scale * f32::from((quants[l] >> shift) & 3) - min;
        }
    }
}

/// 32 bytes of third bits (bit `j` of each belongs to sub-block `j` of 32; set: nothing is taken off), 64 × four 2-bit
/// numbers, sixteen 6-bit scales in twelve bytes, d: d·(s − 32)·(q − 4)
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half_at(block, 108);
    let (high, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = |i: usize| {
        let low = (scales[i % 8] >> (4 * (i / 8))) & 15;
        let up = (scales[8 + i % 4] >> (2 * (i / 4))) & 3;
        d * (i32::from(low | (up << 4)) - 32) as f32
    };
    for (j, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (quants, shift) = (&quants[32 * (j / 4)..], 2 * (j % 4));
        for (l, value) in values.iter_mut().enumerate() {
            let third = if (high[l] >> j) & 1 == 1 { 0 } else { 4 };
            let quant = i32::from((quants[l] >> shift) & 3) - third;
            *value = scale(2 * j + l / 16) * quant as f32;
        }
    }
}

/// What the nibbles of IQ4 stand for.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Sixteen bytes of nibbles, low ones first: scale times what they stand for.
fn iq4(scale: f32, quants: &[u8], out: &mut [f32]) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(quants) {
        *low = scale * f32::from(IQ4[usize::from(byte & 15)]);
        *high = scale * f32::from(IQ4[usize::from(byte >> 4)]);
    }
}

/// d, 16 × two nibbles
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    iq4(half_at(block, 0), &block[2..], out);
}

/// d, the high two bits of eight 6-bit scales, their low four, 128 × two nibbles
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let (d, high) = (half_at(block, 0), u16::from_le_bytes([block[2], block[3]]));
    for (j, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = (block[4 + j / 2] >> (4 * (j % 2))) & 15;
        let scale = i32::from(low) + 16 * i32::from((high >> (2 * j)) & 3) - 32;
        iq4(d * scale as f32, &block[8 + 16 * j..][..16], values);
    }
}

/// 6-bit scale and minimum of sub-block `j` (of eight), packed into twelve bytes.
fn scale_min(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        ((scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4), (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))
    };
    (f32::from(scale), f32::from(min))
}

/// d, dmin, 12 scale bytes, 128 × two nibbles, in eight sub-blocks of 32: d·s·q − dmin·m
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, quants) = (&block[4..16], &block[16..]);
    for (j, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(scales, j);
        let (scale, min, shift) = (d * scale, dmin * min, 4 * (j % 2));
        for (value, &byte) in values.iter_mut().zip(&quants[32 * (j / 2)..]) {
            *value = scale * f32::from((byte >> shift) & 15) - min;
        }
    }
}

/// As [`q4_k`] with 32 bytes of fifth bits (bit `j` of each belongs to sub-block `j`) before the nibbles.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, high, quants) = (&block[4..16], &block[16..48], &block[48..]);
    for (j, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(scales, j);
        let (scale, min, shift) = (d * scale, dmin * min, 4 * (j % 2));
        for (l, value) in values.iter_mut().enumerate() {
            let quant = ((quants[32 * (j / 2) + l] >> shift) & 15) | (((high[l] >> j) & 1) << 4);
            *value = scale * f32::from(quant) - min;
        }
    }
}

/// 128 low nibble pairs, 64 × four 2-bit highs, 16 signed scales, d; two halves of 128 numbers: d·s·(q − 32)
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for half in 0..2 {
        let (low, high, scales) = (&block[64 * half..], &block[128 + 32 * half..], &block[192 + 8 * half..]);
        for quarter in 0..4 {
            let nibble_shift = 4 * (quarter / 2);
            for l in 0..32 {
                let nibble = (low[l + 32 * (quarter % 2)] >> nibble_shift) & 15;
                let quant = nibble | (((high[l] >> (2 * quarter)) & 3) << 4);
                let scale = f32::from(scales[2 * quarter + l / 16] as i8);
                out[128 * half + 32 * quarter + l] = d * scale * (i32::from(quant) - 32) as f32;
            }
        }
    }
}
