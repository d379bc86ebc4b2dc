//! Stored numbers to f32, row by row: plain floats and the GGUF block formats (llama.cpp's `ggml-quants.c` and the
//! `gguf` Python package are the references; `blocks.rs` has one function a format). Called by the weight loader
//! straight from the mapped file.

mod blocks;
#[cfg(test)]
mod tests;

use divvy_kernels::{BlockFormat, BlockPart, BlockRow};
use half::{bf16, f16};

use crate::error::LoadError;

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
}

/// (type, GGUF number, name, elements a block, bytes a block)
const TYPES: [(TensorType, u32, &str, usize, usize); 15] = [
    (TensorType::F32, 0, "F32", 1, 4),
    (TensorType::F16, 1, "F16", 1, 2),
    (TensorType::BF16, 30, "BF16", 1, 2),
    (TensorType::Q4_0, 2, "Q4_0", 32, 18),
    (TensorType::Q4_1, 3, "Q4_1", 32, 20),
    (TensorType::Q5_0, 6, "Q5_0", 32, 22),
    (TensorType::Q5_1, 7, "Q5_1", 32, 24),
    (TensorType::Q8_0, 8, "Q8_0", 32, 34),
    (TensorType::Q2K, 10, "Q2_K", 256, 84),
    (TensorType::Q3K, 11, "Q3_K", 256, 110),
    (TensorType::Q4K, 12, "Q4_K", 256, 144),
    (TensorType::Q5K, 13, "Q5_K", 256, 176),
    (TensorType::Q6K, 14, "Q6_K", 256, 210),
    (TensorType::Iq4Nl, 20, "IQ4_NL", 32, 18),
    (TensorType::Iq4Xs, 23, "IQ4_XS", 256, 136),
];

impl TensorType {
    /// The type behind a GGUF number, `None` for formats that are not read.
    #[must_use]
    pub fn from_gguf(number: u32) -> Option<Self> {
        TYPES.iter().find(|entry| entry.1 == number).map(|entry| entry.0)
    }

    fn entry(self) -> &'static (Self, u32, &'static str, usize, usize) {
        TYPES.iter().find(|entry| entry.0 == self).expect("the table lists every type")
    }

    /// The type's number in GGUF files.
    #[must_use]
    pub fn number(self) -> u32 {
        self.entry().1
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().2
    }

    /// Elements that share one block; a row is a whole number of blocks.
    #[must_use]
    pub fn block_len(self) -> usize {
        self.entry().3
    }

    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.entry().4
    }

    /// Bytes of `elements` numbers, `None` on overflow or a partial block.
    #[must_use]
    pub fn bytes_of(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Names of all readable types, for messages.
    #[must_use]
    pub fn list() -> String {
        TYPES.map(|entry| entry.2).join(", ")
    }
}

/// A tensor inside a mapped file. `bytes` has been checked to hold exactly `shape`.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    pub file: &'a str,
    pub name: String,
    pub dtype: TensorType,
    /// Outermost dimension first: `[rows, columns]` or `[len]`.
    pub shape: Vec<usize>,
    pub bytes: &'a [u8],
    /// GGUF files of the llama family store query and key rows in interleaved RoPE order; `Some(heads)` says so, and
    /// rows are then read in half-split order.
    pub interleaved_heads: Option<usize>,
    /// Added to every value read: one where norm weights are stored less one.
    pub plus: f32,
}

/// Where the rows of a tensor lie in its bytes, and what they mean.
#[derive(Clone, Copy, Debug)]
struct Layout {
    dtype: TensorType,
    rows: usize,
    interleaved_heads: Option<usize>,
    plus: f32,
}

/// A matrix as it is stored, in memory of its own.
pub struct Stored {
    layout: Layout,
    bytes: Box<[u8]>,
}

impl Stored {
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Whether several numbers share a scale.
    #[must_use]
    pub fn is_quantised(&self) -> bool {
        self.layout.dtype.block_len() > 1
    }

    /// Reads row `row` into `out`, whose length is the row's.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        self.layout.read_row(&self.bytes, row, out);
    }
}

impl Layout {
    /// The bytes of half-split row `row`.
    fn bytes_of(self, bytes: &[u8], row: usize) -> &[u8] {
        let row = self.interleaved_heads.map_or(row, |heads| interleaved_row(row, self.rows / heads));
        let stride = bytes.len() / self.rows;
        &bytes[row * stride..(row + 1) * stride]
    }

    fn read_row(self, bytes: &[u8], row: usize, out: &mut [f32]) {
        dequantise(self.dtype, self.bytes_of(bytes, row), out);
        if self.plus != 0.0 {
            out.iter_mut().for_each(|value| *value += self.plus);
        }
    }
}

impl TensorView<'_> {
    /// # Errors
    /// [`LoadError::Shape`] when the shape is another.
    pub fn expect_shape(&self, want: &[usize]) -> Result<(), LoadError> {
        if self.shape == want {
            return Ok(());
        }
        Err(LoadError::Shape {
            file: self.file.to_owned(),
            tensor: self.name.clone(),
            got: self.shape.clone(),
            want: want.to_vec(),
        })
    }

    /// Reads row `row` (the whole tensor when it is one-dimensional) into `out`, whose length is the row's.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        self.layout().read_row(self.bytes, row, out);
    }

    /// The numbers as they are stored, copied out of the file.
    #[must_use]
    pub fn stored(&self) -> Stored {
        Stored { layout: self.layout(), bytes: self.bytes.into() }
    }

    /// What its blocks are made of; `None` for plain floats.
    #[must_use]
    pub fn block_format(&self) -> Option<BlockFormat> {
        blocks::format(self.dtype)
    }

    /// The matrix in the bits of its blocks, for products.
    ///
    /// # Panics
    /// On plain floats.
    #[must_use]
    pub fn block_part(&self) -> BlockPart {
        let format = self.block_format().expect("plain floats have no blocks");
        let ([rows, k], layout) = ([self.shape[0], self.shape[1]], self.layout());
        BlockPart::from_rows(format, rows, k, |row, parts| {
            take_apart(self.dtype, layout.bytes_of(self.bytes, row), parts)
        })
    }

    fn layout(&self) -> Layout {
        let rows = if self.shape.len() == 2 { self.shape[0] } else { 1 };
        Layout { dtype: self.dtype, rows, interleaved_heads: self.interleaved_heads, plus: self.plus }
    }
}

/// Where half-split row `row` lies in a matrix whose heads of `head_dim` rows are interleaved: the pair (j, j + d/2)
/// is stored at (2j, 2j + 1).
fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let (half, pair) = (within / (head_dim / 2), within % (head_dim / 2));
    head * head_dim + 2 * pair + half
}

/// The other way round: which half-split row an interleaved matrix holds as its row `row`.
pub(crate) fn half_split_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within / 2 + within % 2 * (head_dim / 2)
}

/// Expands `bytes` into `out`; both hold the same whole number of blocks.
pub fn dequantise(dtype: TensorType, bytes: &[u8], out: &mut [f32]) {
    debug_assert_eq!(dtype.bytes_of(out.len()), Some(bytes.len()));
    match dtype {
        TensorType::F32 => each::<4>(bytes, out, f32::from_le_bytes),
        TensorType::F16 => each::<2>(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        TensorType::BF16 => each::<2>(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        _ => expand(dtype, bytes, out),
    }
}

fn expand(dtype: TensorType, bytes: &[u8], out: &mut [f32]) {
    let format = blocks::format(dtype).expect("plain floats are read as they are");
    let len = dtype.block_len();
    let mut one = BlockRow::of(&format, len);
    for (block, values) in bytes.chunks_exact(dtype.block_bytes()).zip(out.chunks_exact_mut(len)) {
        take_apart(dtype, block, &mut one);
        blocks::numbers(&format, &one, values);
    }
}

/// Takes the blocks of one row apart.
fn take_apart(dtype: TensorType, bytes: &[u8], row: &mut BlockRow) {
    let sides = row.sides.len() / row.halves.len();
    let codes = row.codes.chunks_exact_mut(dtype.block_len());
    let rest = codes.zip(&mut row.halves).zip(bytes.chunks_exact(dtype.block_bytes()));
    for (index, ((codes, halves), block)) in rest.enumerate() {
        let sides = &mut row.sides[index * sides..][..sides];
        blocks::take_apart(dtype, block, blocks::Parts { codes, sides, halves });
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    for (chunk, value) in bytes.as_chunks::<N>().0.iter().zip(out) {
        *value = read(*chunk);
    }
}
