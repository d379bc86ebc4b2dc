//! An adapter at inference: what it adds to the output of a fused base matrix, for the rows of a batch that use it.
//! Decoding brings few rows, so the factors are packed once, in the numbers that training multiplies them in (bf16 where the
//! processor does, or else f32): per fused matrix the A of its projections stacked, the B as blocks of one matrix, zero elsewhere.

use std::sync::OnceLock;

use divvy_kernels::{Isa, Packed, Packed32, Write, matmul};

use super::{Adapter, Factors, Fused};
use crate::config::Projection;

/// The factors beside one fused matrix `[outputs, inputs]`; `inner` is the sum of its projections' ranks.
#[derive(Clone)]
struct Laid {
    /// `[inner, inputs]`, times the adapter's scale.
    a: Factor,
    /// `[outputs, inner]`
    b: Factor,
}

#[derive(Clone)]
enum Factor {
    Rounded(Packed),
    Whole(Packed32),
}

impl Factor {
    /// Packs `n` rows of `k` values: `fill(row, values)` is called once for each row.
    fn from_rows(n: usize, k: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        if Isa::current().rounds() {
            return Self::Rounded(Packed::from_rows(n, k, fill));
        }
        let mut values = vec![0.0; n * k];
        values.chunks_exact_mut(k).enumerate().for_each(|(row, values)| fill(row, values));
        Self::Whole(Packed32::new(&values, n, k))
    }

    fn n(&self) -> usize {
        match self {
            Self::Rounded(packed) => packed.n(),
            Self::Whole(packed) => packed.n(),
        }
    }

    fn matmul(&self, x: &[f32], y: &mut [f32], m: usize, write: Write) {
        match self {
            Self::Rounded(packed) => matmul(x, packed, y, m, write),
            Self::Whole(packed) => packed.matmul(x, y, m, write),
        }
    }
}

/// Made when an adapter is first applied; follows from its factors, so it takes no part in comparisons. Nothing lies beside a
/// matrix that is left as it is.
#[derive(Clone, Default)]
pub(super) struct Layout(OnceLock<Vec<[Option<Laid>; 4]>>);

impl PartialEq for Layout {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "Layout(made)" } else { "Layout(not made)" })
    }
}

impl Adapter {
    /// `y += s·B·(A·x)` for `m` rows, each projection into its own columns. `x` is `[m, inputs]`, `y` is
    /// `[m, outputs of the fused matrix]`, already holding the base's product. A row's result does not depend on the
    /// other rows, so callers may pass any slice of a batch. The factors must not change after the first call.
    ///
    /// # Panics
    /// When the slices are not whole rows of these widths.
    pub fn apply(&self, layer: usize, fused: Fused, x: &[f32], y: &mut [f32]) {
        let laid = &self.layout.0.get_or_init(|| self.lay_out())[layer][fused as usize];
        let Some(Laid { a, b }) = laid else { return };
        let m = y.len() / b.n();
        let mut u = vec![0.0; m * a.n()];
        a.matmul(x, &mut u, m, Write::Set);
        b.matmul(&u, y, m, Write::Add);
    }

    fn lay_out(&self) -> Vec<[Option<Laid>; 4]> {
        (0..self.layers.len()).map(|layer| Fused::ALL.map(|fused| self.lay_out_one(layer, fused))).collect()
    }

    fn lay_out_one(&self, layer: usize, fused: Fused) -> Option<Laid> {
        let scale = self.settings.scale();
        let parts: Vec<&Factors> = fused.parts().iter().map(|&part| self.factors(layer, part)).collect();
        let inputs = parts[0].inputs;
        let rows: Vec<&[f32]> = parts.iter().flat_map(|factors| factors.a.chunks_exact(inputs)).collect();
        if rows.is_empty() {
            return None;
        }
        let outputs = parts.iter().map(|factors| factors.outputs).sum();
        let a = Factor::from_rows(rows.len(), inputs, |row, values| {
            values.iter_mut().zip(rows[row]).for_each(|(value, a)| *value = scale * a);
        });
        let b = Factor::from_rows(outputs, rows.len(), |row, values| {
            let (mut part, mut within, mut first) = (0, row, 0);
            while within >= parts[part].outputs {
                within -= parts[part].outputs;
                first += parts[part].rank();
                part += 1;
            }
            let rank = parts[part].rank();
            values.fill(0.0);
            values[first..first + rank].copy_from_slice(&parts[part].b[within * rank..][..rank]);
        });
        Some(Laid { a, b })
    }

    /// Adds the adapter's share to row `row` of a projection's base matrix, for merged export.
    ///
    /// # Panics
    /// When the matrix has no such row.
    pub fn merge_row(&self, layer: usize, projection: Projection, row: usize, values: &mut [f32]) {
        let factors = self.factors(layer, projection);
        let (rank, scale) = (factors.rank(), self.settings.scale());
        for (r, &b) in factors.b[row * rank..][..rank].iter().enumerate() {
            for (value, &a) in values.iter_mut().zip(&factors.a[r * factors.inputs..][..factors.inputs]) {
                *value += scale * b * a;
            }
        }
    }
}
