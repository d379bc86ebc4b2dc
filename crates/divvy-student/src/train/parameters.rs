//! What is trained, as flat f32 tensors with gradient and AdamW moments, in one fixed order. The model-specific part
//! (which index is which matrix) lives in `lora.rs` and `full.rs`.

use divvy_kernels::{AdamW, adamw_step, scale, squared_norm};

/// Name and kind of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) decay: Decay,
    /// Its learning rate over the run's.
    pub(crate) rate: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decay {
    /// Matrices.
    Yes,
    /// Norms and biases.
    No,
}

/// All parameters; the vectors run in parallel.
#[derive(Default)]
pub(crate) struct Parameters {
    pub(crate) infos: Vec<Info>,
    pub(crate) values: Vec<Vec<f32>>,
    pub(crate) gradients: Vec<Vec<f32>>,
    /// First moments.
    pub(crate) m: Vec<Vec<f32>>,
    /// Second moments.
    pub(crate) v: Vec<Vec<f32>>,
}

impl Parameters {
    pub(crate) fn push(&mut self, name: String, shape: &[usize], decay: Decay, values: Vec<f32>) {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name} fills its shape");
        let zeros = || vec![0.0; values.len()];
        self.gradients.push(zeros());
        self.m.push(zeros());
        self.v.push(zeros());
        self.values.push(values);
        self.infos.push(Info { name, shape: shape.to_vec(), decay, rate: 1.0 });
    }

    pub(crate) fn count(&self) -> usize {
        self.values.iter().map(Vec::len).sum()
    }

    /// Norm of the whole gradient.
    pub(crate) fn gradient_norm(&self) -> f64 {
        self.gradients.iter().map(|gradient| squared_norm(gradient)).sum::<f64>().sqrt()
    }

    /// Scales the gradient down to `max_norm` (the divisor's 1e-6 is PyTorch's).
    pub(crate) fn clip(&mut self, norm: f64, max_norm: f64) {
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 {
            self.gradients.iter_mut().for_each(|gradient| scale(gradient, factor as f32));
        }
    }

    /// One AdamW update; `step` counts from 1. Gradients are zeroed for the next step.
    pub(crate) fn update(&mut self, settings: &AdamW, learning_rate: f64, step: u64) {
        let plain = AdamW { weight_decay: 0.0, ..*settings };
        for (index, info) in self.infos.iter().enumerate() {
            let settings = if info.decay == Decay::Yes { settings } else { &plain };
            let gradient = &mut self.gradients[index];
            let (m, v) = (&mut self.m[index], &mut self.v[index]);
            let rate = (info.rate * learning_rate) as f32;
            adamw_step(settings, rate, step, &mut self.values[index], gradient, m, v);
            gradient.fill(0.0);
        }
    }
}
