//! The state of a run and what can be done with it: add the gradients of a micro-batch, take an optimiser step,
//! measure a loss. The loop around it is `run.rs`.

use divvy_kernels::{AdamW, CrossEntropy, linear_cross_entropy};

use super::backward::{Backward, Turned};
use super::buffers::Buffers;
use super::crew::{self, ABREAST, Crew};
use super::forward::{Keep, Network, forward};
use super::full::{self, FullIndex, FullWeights};
use super::lora;
use super::parameters::Parameters;
use super::rows::MicroBatch;
use super::run::{Learnt, TrainedWeights};
use super::settings::{Base, Method, TrainConfig};
use crate::adapter::Adapter;
use crate::config::Ropes;
use crate::weights::Weights;

pub(crate) struct Trainer<'a> {
    base: Base<'a>,
    method: Method,
    pub(crate) parameters: Parameters,
    /// Full fine-tuning: the masters, packed.
    packed: Option<Weights>,
    turned: Turned,
    ropes: Ropes,
    buffers: Buffers,
    crew: Crew,
    keep: Keep,
}

impl<'a> Trainer<'a> {
    pub(crate) fn new(base: Base<'a>, config: &TrainConfig) -> Self {
        let parameters = match config.method {
            Method::Lora(settings) => {
                let fresh = Adapter::new(base.config, settings, config.seed);
                let mut parameters = lora::parameters(base.config, &fresh);
                lora::set_b_rate(&mut parameters, config.b_rate);
                parameters
            }
            Method::Full => full::parameters(base.config, base.weights),
        };
        Self {
            base,
            method: config.method,
            parameters,
            packed: None,
            turned: Turned::of(base.weights),
            ropes: Ropes::new(base.config, config.max_row_tokens),
            buffers: Buffers::default(),
            crew: Crew::default(),
            keep: Keep::ForBackward(config.activations),
        }
    }

    /// Most tokens of a micro-batch, where those under way at the same time have `limit` together.
    pub(crate) fn share(&self, limit: usize) -> usize {
        match self.method {
            Method::Lora(_) => limit.div_ceil(ABREAST),
            Method::Full => limit,
        }
    }

    /// Adds the gradients of micro-batches; their share of the step's loss and the targets they got right.
    pub(crate) fn accumulate(&mut self, micros: &[MicroBatch]) -> CrossEntropy {
        let Parameters { values, gradients, .. } = &mut self.parameters;
        let network = network(&self.base, self.packed.as_ref(), self.method, values, &self.ropes);
        if let Method::Lora(_) = self.method {
            let shared = crew::Shared { network, turned: &self.turned, keep: self.keep };
            return self.crew.accumulate(shared, micros, gradients);
        }
        // A gradient of every weight is too large to have more than once.
        let full = Some(FullIndex::new(self.base.config));
        let mut sum = CrossEntropy::default();
        for micro in micros {
            let tape = forward(&network, micro, self.keep, &mut self.buffers);
            let loss = Backward { network, turned: &self.turned, micro, gradients, full }.run(tape, &mut self.buffers);
            sum.loss_sum += loss.loss_sum;
            sum.correct += loss.correct;
        }
        sum
    }

    /// Loss alone.
    pub(crate) fn measure(&mut self, micro: &MicroBatch) -> CrossEntropy {
        let network = network(&self.base, self.packed.as_ref(), self.method, &self.parameters.values, &self.ropes);
        let tape = forward(&network, micro, Keep::Nothing, &mut self.buffers);
        let loss =
            linear_cross_entropy(&tape.hidden, network.weights.head.exact(), &micro.targets, &micro.weights, None);
        self.buffers.give_all([tape.last, tape.final_inverse, tape.hidden]);
        loss
    }

    /// Norm of the gradient accumulated so far, entries that are no parameters taken out.
    pub(crate) fn gradient_norm(&mut self) -> f64 {
        if let Method::Lora(settings) = self.method {
            lora::mask(self.base.config, &settings, &mut self.parameters.gradients);
        }
        self.parameters.gradient_norm()
    }

    /// Clips, steps (`step` counts from 1), and makes the new values visible to the next forward pass.
    pub(crate) fn step(&mut self, config: &TrainConfig, norm: f64, learning_rate: f64, step: u64) {
        let TrainConfig { beta1, beta2, epsilon, weight_decay, max_grad_norm, .. } = *config;
        self.parameters.clip(norm, max_grad_norm);
        self.parameters.update(&AdamW { beta1, beta2, eps: epsilon, weight_decay }, learning_rate, step);
        self.refresh();
    }

    /// Packs the masters again after they changed.
    pub(crate) fn refresh(&mut self) {
        if matches!(self.method, Method::Full) {
            let weights = full::weights(self.base.config, &self.parameters.values, self.packed.take());
            self.turned.turn_again(&weights);
            self.packed = Some(weights);
        }
    }

    /// As it stands.
    pub(crate) fn learnt(&self) -> Learnt<'_> {
        match self.method {
            Method::Lora(settings) => {
                Learnt::Adapter(lora::adapter(self.base.config, settings, &self.parameters.values))
            }
            Method::Full => Learnt::Whole(self.packed.as_ref().unwrap_or(self.base.weights)),
        }
    }

    pub(crate) fn into_weights(self) -> TrainedWeights {
        let (config, values) = (self.base.config, self.parameters.values);
        match self.method {
            Method::Lora(settings) => TrainedWeights::Adapter(lora::adapter(config, settings, &values)),
            Method::Full => TrainedWeights::Full(FullWeights { config: config.clone(), values }),
        }
    }
}

fn network<'n>(
    base: &Base<'n>,
    packed: Option<&'n Weights>,
    method: Method,
    values: &'n [Vec<f32>],
    ropes: &'n Ropes,
) -> Network<'n> {
    let lora = match method {
        Method::Lora(settings) => Some((settings, values)),
        Method::Full => None,
    };
    Network { config: base.config, weights: packed.unwrap_or(base.weights), lora, ropes }
}
