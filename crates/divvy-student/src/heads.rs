//! RMS norms over single heads of joint rows (QK-norm): heads are laid out densely, normed like rows of their own width, and
//! put back. Used by the passes of inference and training alike.

use divvy_kernels::{rms_norm, rms_norm_backward};

use crate::config::ModelConfig;
use crate::weights::Layer;

/// Where some heads lie: `width` values from `offset` on in each row of `stride`.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    offset: usize,
    width: usize,
    stride: usize,
}

impl Columns {
    /// Those of the queries and of the keys in a joint row.
    pub(crate) fn of(config: &ModelConfig) -> [Self; 2] {
        let stride = config.qkv_width();
        let (query, kv) = (config.query_width(), config.kv_width());
        [Self { offset: 0, width: query, stride }, Self { offset: query, width: kv, stride }]
    }

    fn gather(self, rows: &[f32], out: &mut Vec<f32>) {
        out.clear();
        rows.chunks_exact(self.stride).for_each(|row| out.extend_from_slice(&row[self.offset..][..self.width]));
    }

    fn scatter(self, from: &[f32], rows: &mut [f32]) {
        for (row, from) in rows.chunks_exact_mut(self.stride).zip(from.chunks_exact(self.width)) {
            row[self.offset..][..self.width].copy_from_slice(from);
        }
    }
}

/// What norms of heads leave for their backward pass: queries, then keys, dense, as they were before; and `1/rms` of each
/// head.
#[derive(Default)]
pub(crate) struct HeadTape {
    pub(crate) raw: [Vec<f32>; 2],
    pub(crate) inverse: [Vec<f32>; 2],
}

/// Norms the query and key heads of `qkv` in place, if the layer norms them.
pub(crate) fn norm_heads(config: &ModelConfig, layer: &Layer, qkv: &mut [f32], tape: &mut HeadTape) {
    let weights = [&layer.query_norm, &layer.key_norm];
    for (part, columns) in Columns::of(config).into_iter().enumerate() {
        let Some(weight) = weights[part] else { return };
        let (raw, inverse) = (&mut tape.raw[part], &mut tape.inverse[part]);
        columns.gather(qkv, raw);
        inverse.resize(raw.len() / config.head_dim, 0.0);
        let mut normed = vec![0.0; raw.len()];
        rms_norm(raw, weight, config.rms_eps, &mut normed, inverse);
        columns.scatter(&normed, qkv);
    }
}

/// Turns the gradient of normed query (`part` 0) or key heads (1) in `dqkv` into that of the heads as they were; adds that
/// of the norm's weight to `dweight`.
pub(crate) fn norm_heads_backward(
    config: &ModelConfig,
    (part, weight): (usize, &[f32]),
    tape: &HeadTape,
    dqkv: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let columns = Columns::of(config)[part];
    let mut dnormed = Vec::new();
    columns.gather(dqkv, &mut dnormed);
    let mut draw = vec![0.0; dnormed.len()];
    rms_norm_backward(&tape.raw[part], weight, &tape.inverse[part], &dnormed, &mut draw, dweight);
    columns.scatter(&draw, dqkv);
}
