//! Intel AMX: bf16 matrix tiles. (The kernels follow; until then no machine is said to have it.)

use crate::{Packed, Write};

pub(crate) fn available() -> bool {
    false
}

pub(crate) fn emulated() -> bool {
    false
}

#[cfg(test)]
pub(crate) fn emulate() -> bool {
    false
}

pub(crate) fn matmul(_x: &[f32], _w: &Packed, _y: &mut [f32], _m: usize, _write: Write) {
    unreachable!("no machine is said to have AMX yet")
}
