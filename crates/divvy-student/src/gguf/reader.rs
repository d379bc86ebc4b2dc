//! A cursor over a GGUF header that cannot leave the file. Every read names what it reads, for the error.

use crate::error::LoadError;
use crate::quant::TensorType;

use super::{TensorInfo, Value, narrow};

/// Texts for which room is made at once: more than any vocabulary has.
const MOST_TEXTS: usize = 1 << 20;

pub(super) struct Reader<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, bytes: &'a [u8]) -> Self {
        Self { file, bytes, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn corrupt(&self, key: &str, reason: impl Into<String>) -> LoadError {
        LoadError::corrupt(self.file, key, reason)
    }

    pub(super) fn take(&mut self, len: usize, key: &str) -> Result<&'a [u8], LoadError> {
        let left = &self.bytes[self.at..];
        let taken = left.get(..len).ok_or_else(|| {
            self.corrupt(key, format!("needs {len} bytes at {}, the file has {}", self.at, left.len()))
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, key: &str) -> Result<[u8; N], LoadError> {
        Ok(self.take(N, key)?.try_into().expect("take returns the length asked for"))
    }

    pub(super) fn u32(&mut self, key: &str) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.array(key)?))
    }

    fn u64(&mut self, key: &str) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.array(key)?))
    }

    pub(super) fn count(&mut self, key: &str, most: u64) -> Result<u64, LoadError> {
        let count = self.u64(key)?;
        if count > most {
            return Err(self.corrupt(key, format!("{count} entries, at most {most} make sense")));
        }
        Ok(count)
    }

    fn text(&mut self, key: &str) -> Result<String, LoadError> {
        let len = self.u64(key)?;
        let len = usize::try_from(len).map_err(|_| self.corrupt(key, format!("a text of {len} bytes")))?;
        let bytes = self.take(len, key)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.corrupt(key, "the text is not UTF-8"))
    }

    /// One metadata pair.
    pub(super) fn entry(&mut self) -> Result<(String, Value), LoadError> {
        let key = self.text("a metadata key")?;
        let kind = self.u32(&key)?;
        let value = if kind == 9 { self.list(&key)? } else { self.scalar(&key, kind)? };
        Ok((key, value))
    }

    fn scalar(&mut self, key: &str, kind: u32) -> Result<Value, LoadError> {
        Ok(match kind {
            0 => Value::Int(self.array::<1>(key)?[0].into()),
            1 => Value::Int(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Int(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Int(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Int(self.u32(key)?.into()),
            5 => Value::Int(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.boolean(key)?),
            8 => Value::Text(self.text(key)?),
            10 => {
                let value = self.u64(key)?;
                Value::Int(i64::try_from(value).map_err(|_| self.corrupt(key, format!("{value} is too large")))?)
            }
            11 => Value::Int(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => return Err(self.corrupt(key, format!("unknown value type {other}"))),
        })
    }

    fn boolean(&mut self, key: &str) -> Result<bool, LoadError> {
        match self.array::<1>(key)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.corrupt(key, format!("{other} is neither false (0) nor true (1)"))),
        }
    }

    /// An array of scalars. Room is made for as many elements as it has, once the file is seen to hold them.
    fn list(&mut self, key: &str) -> Result<Value, LoadError> {
        let kind = self.u32(key)?;
        let width = narrow(kind).or(match kind {
            7 => Some(1),
            4..=6 => Some(4),
            8 | 10..=12 => Some(8), // of a text, its length
            _ => None,
        });
        let width = width.ok_or_else(|| self.corrupt(key, format!("array of unsupported element type {kind}")))?;
        let len = self.len_of_list(key, width)?;
        let mut list = match kind {
            0..=3 => return Ok(Value::Narrow { kind, bytes: self.take(len * width, key)?.to_vec() }),
            6 | 12 => Value::Floats(Vec::with_capacity(len)),
            7 => Value::Bools(Vec::with_capacity(len)),
            8 => Value::Texts(Vec::with_capacity(len.min(MOST_TEXTS))),
            _ => Value::Ints(Vec::with_capacity(len)),
        };
        for _ in 0..len {
            match (&mut list, self.scalar(key, kind)?) {
                (Value::Ints(values), Value::Int(value)) => values.push(value),
                (Value::Floats(values), Value::Float(value)) => values.push(value),
                (Value::Bools(values), Value::Bool(value)) => values.push(value),
                (Value::Texts(values), Value::Text(value)) => values.push(value),
                _ => return Err(self.corrupt(key, "elements of mixed types")),
            }
        }
        Ok(list)
    }

    /// Length of a list whose elements take at least `width` bytes each.
    fn len_of_list(&mut self, key: &str, width: usize) -> Result<usize, LoadError> {
        let len = self.u64(key)?;
        let left = self.bytes.len() - self.at;
        usize::try_from(len)
            .ok()
            .filter(|&len| len <= left / width)
            .ok_or_else(|| self.corrupt(key, format!("a list of {len} elements, the file has {left} bytes left")))
    }

    /// One row of the tensor table; `start` is still relative to the data section.
    pub(super) fn tensor(&mut self, alignment: usize) -> Result<(String, TensorInfo), LoadError> {
        let name = self.text("a tensor name")?;
        let key = format!("tensor {name}");
        let shape = self.shape(&key)?;
        let number = self.u32(&key)?;
        let dtype = TensorType::from_gguf(number).ok_or_else(|| LoadError::Unsupported {
            file: self.file.into(),
            key: key.clone(),
            what: format!("tensor type {number}"),
            supported: TensorType::list(),
        })?;
        let bytes = self.tensor_bytes(&key, dtype, &shape)?;
        let offset = self.u64(&key)?;
        let start = usize::try_from(offset).ok().filter(|start| start % alignment == 0);
        let start = start.ok_or_else(|| {
            self.corrupt(&key, format!("offset {offset} is not a multiple of the alignment {alignment}"))
        })?;
        Ok((name, TensorInfo { dtype, shape, start, bytes }))
    }

    /// Dimensions, outermost first; the file lists the innermost first.
    fn shape(&mut self, key: &str) -> Result<Vec<usize>, LoadError> {
        let dims = self.u32(key)?;
        if !(1..=4).contains(&dims) {
            return Err(self.corrupt(key, format!("{dims} dimensions, expected 1 to 4")));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let size = self.u64(key)?;
            let size = usize::try_from(size).ok().filter(|&size| size > 0 && size <= 1 << 40);
            shape.insert(0, size.ok_or_else(|| self.corrupt(key, "a dimension is zero or absurdly large"))?);
        }
        Ok(shape)
    }

    fn tensor_bytes(&self, key: &str, dtype: TensorType, shape: &[usize]) -> Result<usize, LoadError> {
        let columns = shape[shape.len() - 1];
        let row = dtype.bytes_of(columns).ok_or_else(|| {
            let reason = format!("rows of {columns} are not whole {} blocks of {}", dtype.name(), dtype.block_len());
            self.corrupt(key, reason)
        })?;
        let total = shape[..shape.len() - 1].iter().try_fold(row, |bytes, &size| bytes.checked_mul(size));
        total.filter(|&bytes| bytes <= self.bytes.len()).ok_or_else(|| {
            self.corrupt(key, format!("shape {shape:?} needs more than the file's {} bytes", self.bytes.len()))
        })
    }
}
