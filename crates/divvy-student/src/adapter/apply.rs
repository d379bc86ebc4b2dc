//! An adapter at inference: what it adds to the output of a fused base matrix, for the rows of a batch that use it.

use divvy_kernels::{Write, mm_nt};
use rayon::prelude::*;

use super::{Adapter, Factors, Fused};
use crate::config::ModelConfig;

impl Adapter {
    /// `y += s·B·(A·x)` for `m` rows, each projection into its own columns. `x` is `[m, inputs]`, `y` is
    /// `[m, outputs of the fused matrix]`, already holding the base's product. A row's result does not depend on the
    /// other rows, so callers may pass any slice of a batch.
    ///
    /// # Panics
    /// When the slices are not whole rows of these widths.
    pub fn apply(&self, layer: usize, fused: Fused, x: &[f32], y: &mut [f32]) {
        let parts = fused.parts().iter().map(|&part| self.factors(layer, part));
        let width: usize = parts.clone().map(|factors| factors.outputs).sum();
        let m = y.len() / width;
        assert_eq!(y.len(), m * width, "y holds whole rows of {width}");
        let mut first = 0;
        for factors in parts {
            let delta = self.delta(factors, x, m);
            add_columns(&delta, factors.outputs, y, width, first);
            first += factors.outputs;
        }
    }

    /// `s·B·(A·x)`, `[m, outputs]`.
    fn delta(&self, factors: &Factors, x: &[f32], m: usize) -> Vec<f32> {
        let rank = self.settings.rank;
        assert_eq!(x.len(), m * factors.inputs, "x holds {m} rows of {}", factors.inputs);
        let mut inner = vec![0.0; m * rank];
        mm_nt(x, &factors.a, &mut inner, m, rank, factors.inputs, 1.0, Write::Set);
        let mut delta = vec![0.0; m * factors.outputs];
        mm_nt(&inner, &factors.b, &mut delta, m, factors.outputs, rank, self.settings.scale(), Write::Set);
        delta
    }

    /// The merged weight row `row` of a fused matrix: base row in `values`, adapter's share added in place.
    pub fn merge_row(&self, config: &ModelConfig, layer: usize, fused: Fused, row: usize, values: &mut [f32]) {
        let mut row = row;
        for &part in fused.parts() {
            let factors = self.factors(layer, part);
            if row < factors.outputs {
                return self.add_row(factors, row, values);
            }
            row -= factors.outputs;
        }
        panic!("row lies behind the {:?} outputs of {fused:?}", fused.shape(config)[0]);
    }

    fn add_row(&self, factors: &Factors, row: usize, values: &mut [f32]) {
        let (rank, scale) = (self.settings.rank, self.settings.scale());
        for (r, &b) in factors.b[row * rank..][..rank].iter().enumerate() {
            for (value, &a) in values.iter_mut().zip(&factors.a[r * factors.inputs..][..factors.inputs]) {
                *value += scale * b * a;
            }
        }
    }
}

/// Adds `delta[m, outputs]` to columns `first..` of `y[m, width]`.
fn add_columns(delta: &[f32], outputs: usize, y: &mut [f32], width: usize, first: usize) {
    let add = |(row, values): (&mut [f32], &[f32])| {
        row[first..first + outputs].iter_mut().zip(values).for_each(|(out, value)| *out += value);
    };
    if y.len() < 1 << 16 {
        y.chunks_mut(width).zip(delta.chunks(outputs)).for_each(add);
    } else {
        y.par_chunks_mut(width).zip(delta.par_chunks(outputs)).with_min_len(16).for_each(add);
    }
}
