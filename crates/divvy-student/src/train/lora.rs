//! LoRA's parameters: an [`Adapter`] taken apart into the fused tensors that training works on, and put together
//! again. Index `(layer·4 + fused)·2` is A, the next one Bᵀ.

use super::linear::LoraMap;
use super::parameters::{Decay, Parameters};
use crate::adapter::{Adapter, Factors, Fused, LoraSettings};
use crate::config::{ModelConfig, Projection};

pub(crate) fn index(layer: usize, fused: Fused) -> usize {
    (layer * 4 + fused as usize) * 2
}

pub(crate) fn map<'a>(values: &'a [Vec<f32>], settings: &LoraSettings, layer: usize, fused: Fused) -> LoraMap<'a> {
    let at = index(layer, fused);
    let inner = fused.parts().len() * settings.rank;
    LoraMap { a: &values[at], b: &values[at + 1], inner, scale: settings.scale() }
}

pub(crate) fn parameters(config: &ModelConfig, adapter: &Adapter) -> Parameters {
    let (rank, mut all) = (adapter.settings.rank, Parameters::default());
    for layer in 0..config.layers {
        for fused in Fused::ALL {
            let ([outputs, inputs], inner) = (fused.shape(config), fused.parts().len() * rank);
            let factors = fused.parts().iter().map(|&part| adapter.factors(layer, part));
            let a: Vec<f32> = factors.flat_map(|f| f.a.iter().copied()).collect();
            let mut b = vec![0.0; inner * outputs];
            for_each_b(config, fused, rank, |part, row, r, at| b[at] = adapter.factors(layer, part).b[row * rank + r]);
            all.push(format!("layers.{layer}.{fused:?}.a"), &[inner, inputs], Decay::Yes, a);
            all.push(format!("layers.{layer}.{fused:?}.b"), &[inner, outputs], Decay::Yes, b);
        }
    }
    all
}

/// Lets every B learn at `rate` times the speed of A.
pub(crate) fn set_b_rate(parameters: &mut Parameters, rate: f64) {
    parameters.infos.iter_mut().skip(1).step_by(2).for_each(|info| info.rate = rate);
}

/// Calls `visit(projection, output row, rank index, index in the fused Bᵀ)` for every entry that is a factor.
fn for_each_b(config: &ModelConfig, fused: Fused, rank: usize, mut visit: impl FnMut(Projection, usize, usize, usize)) {
    let [width, _] = fused.shape(config);
    let mut first = 0;
    for (p, &part) in fused.parts().iter().enumerate() {
        let [outputs, _] = config.projection_shape(part);
        for r in 0..rank {
            for row in 0..outputs {
                visit(part, row, r, (p * rank + r) * width + first + row);
            }
        }
        first += outputs;
    }
}

/// Zeroes the gradient outside the diagonal blocks of every fused Bᵀ: those entries are not parameters.
pub(crate) fn mask(config: &ModelConfig, settings: &LoraSettings, gradients: &mut [Vec<f32>]) {
    for layer in 0..config.layers {
        for fused in [Fused::Qkv, Fused::GateUp] {
            let [width, _] = fused.shape(config);
            let gradient = &mut gradients[index(layer, fused) + 1];
            let mut first = 0;
            for (p, &part) in fused.parts().iter().enumerate() {
                let last = first + config.projection_shape(part)[0];
                for row in gradient[p * settings.rank * width..].chunks_mut(width).take(settings.rank) {
                    row[..first].fill(0.0);
                    row[last..].fill(0.0);
                }
                first = last;
            }
        }
    }
}

/// The adapter that `values` (parameters, or their gradients) amount to.
pub(crate) fn adapter(config: &ModelConfig, settings: LoraSettings, values: &[Vec<f32>]) -> Adapter {
    let rank = settings.rank;
    let mut layers = Vec::with_capacity(config.layers);
    for layer in 0..config.layers {
        let mut factors = Projection::ALL.map(|part| {
            let [outputs, inputs] = config.projection_shape(part);
            Factors { a: Vec::new(), b: vec![0.0; outputs * rank], inputs, outputs }
        });
        for fused in Fused::ALL {
            let at = index(layer, fused);
            for (p, &part) in fused.parts().iter().enumerate() {
                let size = rank * factors[part as usize].inputs;
                factors[part as usize].a = values[at][p * size..(p + 1) * size].to_vec();
            }
            for_each_b(config, fused, rank, |part, row, r, from| {
                factors[part as usize].b[row * rank + r] = values[at + 1][from];
            });
        }
        layers.push(factors);
    }
    Adapter::of(settings, layers)
}
