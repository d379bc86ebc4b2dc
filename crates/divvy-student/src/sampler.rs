//! The next token from logits. Greedy, or temperature with top-k, nucleus (Holtzman et al. 2020, arXiv:1904.09751) and
//! min-p sampling (Nguyen et al. 2024, arXiv:2407.01082), in this order and each over what the one before left, drawn
//! from the job's own generator: same seed, same tokens, whatever else runs in the batch. Repetition penalty as in CTRL
//! (Keskar et al. 2019, arXiv:1909.05858), over the tokens already written, not over the prompt.

use divvy_core::chat::Sampling;
use divvy_kernels::argmax;

use crate::train::random::Random;

/// State of one job's sampling.
pub struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    penalty: f32,
    /// (token, what is added to its logit)
    bias: Vec<(usize, f32)>,
    random: Random,
    /// Distinct tokens already written.
    written: Vec<u32>,
}

impl Sampler {
    #[must_use]
    pub fn new(sampling: &Sampling) -> Self {
        Self {
            temperature: sampling.temperature as f32,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p as f32,
            min_p: sampling.min_p as f32,
            penalty: sampling.repetition_penalty as f32,
            bias: sampling.logit_bias.iter().map(|(&token, &bias)| (token as usize, bias as f32)).collect(),
            random: Random::new(sampling.seed, SAMPLING),
            written: Vec::new(),
        }
    }

    /// Chooses a token and remembers it; none where a logit is no number or all are infinite. Changes `logits` in place.
    pub fn sample(&mut self, logits: &mut [f32]) -> Option<u32> {
        for &(token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(token) {
                *logit += bias;
            }
        }
        self.penalise(logits);
        let best = argmax(logits);
        // Without a branch for each, so that all are looked at sixteen at a time.
        let broken = logits.iter().fold(false, |broken, logit| broken | logit.is_nan());
        if broken || !logits[best].is_finite() {
            return None;
        }
        let token = if self.temperature > 0.0 { self.draw(logits, logits[best]) } else { best };
        let token = token as u32;
        if self.penalty != 1.0 && !self.written.contains(&token) {
            self.written.push(token);
        }
        Some(token)
    }

    fn penalise(&self, logits: &mut [f32]) {
        for &token in &self.written {
            let logit = &mut logits[token as usize];
            *logit = if *logit > 0.0 { *logit / self.penalty } else { *logit * self.penalty };
        }
    }

    /// Sorts the tokens by weight, leaves the likely ones, and draws one of them.
    fn draw(&mut self, logits: &[f32], best: f32) -> usize {
        let weight = |logit: f32| ((logit - best) / self.temperature).exp();
        let total: f64 = logits.iter().map(|&logit| f64::from(weight(logit))).sum();
        // Tokens this unlikely cannot be drawn with 24 random bits, and leaving them out makes the sort short.
        let mut candidates: Vec<Candidate> =
            logits.iter().enumerate().map(|(token, &logit)| (weight(logit), token)).filter(|c| c.0 > 1e-9).collect();
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mass = self.truncate(&mut candidates, total);
        let mut left = self.unit() * mass;
        for &(weight, token) in &candidates {
            left -= f64::from(weight);
            if left < 0.0 {
                return token;
            }
        }
        candidates[candidates.len() - 1].1
    }

    /// Leaves what may be drawn, at least the likeliest; its weight together.
    fn truncate(&self, candidates: &mut Vec<Candidate>, mut total: f64) -> f64 {
        let sum = |candidates: &[Candidate]| candidates.iter().map(|candidate| f64::from(candidate.0)).sum::<f64>();
        if self.top_k > 0 && self.top_k < candidates.len() {
            candidates.truncate(self.top_k);
            total = sum(candidates);
        }
        let (wanted, mut mass) = (f64::from(self.top_p) * total, 0.0);
        let nucleus = candidates.iter().position(|candidate| {
            mass += f64::from(candidate.0);
            mass >= wanted
        });
        candidates.truncate(nucleus.map_or(candidates.len(), |last| last + 1));
        if self.min_p > 0.0 {
            // The likeliest one's weight is 1.
            let likely = candidates.iter().take_while(|candidate| candidate.0 >= self.min_p).count();
            candidates.truncate(likely.max(1));
            mass = sum(candidates);
        }
        mass
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.random.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// (weight relative to the likeliest token's, token)
type Candidate = (f32, usize);

/// Natural logarithm of the probability that the model itself gives a token, before bias, penalty and temperature.
#[must_use]
pub fn log_probability(logits: &[f32], token: u32) -> f32 {
    let best = f64::from(logits[argmax(logits)]);
    let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - best).exp()).sum();
    (f64::from(logits[token as usize]) - best - total.ln()) as f32
}

/// Keeps this stream apart from the training's.
const SAMPLING: u64 = 0x5341_4d50;

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f64, top_p: f64, penalty: f64, seed: u64) -> Sampling {
        Sampling { temperature, top_p, repetition_penalty: penalty, seed, ..Sampling::greedy(8) }
    }

    fn draws(sampling: &Sampling, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
        (0..n).map(|_| sampler.sample(&mut logits.to_vec()).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(draws(&sampling(0.0, 1.0, 1.0, 0), &[1.0, 3.0, 3.0], 2), [1, 1]);
    }

    #[test]
    fn from_what_is_no_number_nothing_is_drawn() {
        for temperature in [0.0, 0.7] {
            for logits in [[f32::NAN; 3], [f32::NEG_INFINITY; 3], [0.0, f32::INFINITY, 1.0], [2.0, 1.0, f32::NAN]] {
                let mut sampler = Sampler::new(&sampling(temperature, 0.9, 1.1, 1));
                assert_eq!(sampler.sample(&mut logits.clone()), None, "{logits:?}");
            }
        }
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.7f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
        let drawn = draws(&sampling(1.0, 1.0, 1.0, 3), &logits, 20_000);
        for (token, share) in [(0, 0.7), (1, 0.2), (2, 0.1)] {
            let seen = drawn.iter().filter(|&&t| t == token).count() as f64 / 20_000.0;
            assert!((seen - share).abs() < 0.015, "token {token}: {seen}");
        }
    }

    #[test]
    fn temperature_sharpens() {
        let logits = [0.6f32.ln(), 0.4f32.ln()];
        let drawn = draws(&sampling(0.5, 1.0, 1.0, 4), &logits, 20_000);
        let seen = drawn.iter().filter(|&&t| t == 0).count() as f64 / 20_000.0;
        assert!((seen - 0.36 / 0.52).abs() < 0.015, "{seen}");
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_that_reaches_top_p() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let drawn = draws(&sampling(1.0, 0.75, 1.0, 5), &logits, 2_000);
        assert!(drawn.contains(&0) && drawn.contains(&1) && !drawn.contains(&2));
        assert!(draws(&sampling(1.0, 0.4, 1.0, 5), &logits, 200).iter().all(|&t| t == 0));
    }

    #[test]
    fn seeds_repeat_and_differ() {
        let logits = vec![0.0; 50];
        let run = |seed| draws(&sampling(1.0, 1.0, 1.0, seed), &logits, 20);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn the_penalty_holds_back_what_was_written_and_only_that() {
        let drawn = draws(&sampling(0.0, 1.0, 2.0, 0), &[3.0, 2.0, 1.0], 2);
        assert_eq!(drawn, [0, 1]);
        assert_eq!(draws(&sampling(0.0, 1.0, 2.0, 0), &[-1.0, -1.5], 2), [0, 1]);
    }

    #[test]
    fn top_k_leaves_the_likeliest_and_their_proportions() {
        let logits = [0.4f32.ln(), 0.1f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let sampling = Sampling { top_k: 2, ..sampling(1.0, 1.0, 1.0, 6) };
        let drawn = draws(&sampling, &logits, 20_000);
        assert!(drawn.iter().all(|&t| t == 0 || t == 2));
        let seen = drawn.iter().filter(|&&t| t == 0).count() as f64 / 20_000.0;
        assert!((seen - 4.0 / 7.0).abs() < 0.015, "{seen}");
        // The nucleus is one of what is left: 0.4 of 0.7 is more than half.
        let both = Sampling { top_p: 0.5, ..sampling };
        assert!(draws(&both, &logits, 200).iter().all(|&t| t == 0));
        assert!(draws(&Sampling { top_k: 99, ..sampling_of(1) }, &logits, 2_000).contains(&1));
    }

    fn sampling_of(seed: u64) -> Sampling {
        sampling(1.0, 1.0, 1.0, seed)
    }

    #[test]
    fn min_p_is_a_share_of_the_likeliest_after_the_temperature() {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
        let drawn = draws(&Sampling { min_p: 0.4, ..sampling_of(7) }, &logits, 2_000);
        assert!(drawn.contains(&1) && !drawn.contains(&2));
        let warm = Sampling { temperature: 4.0, min_p: 0.4, ..sampling_of(7) };
        assert!(draws(&warm, &logits, 2_000).contains(&2));
        assert!(draws(&Sampling { min_p: 2.0, ..sampling_of(7) }, &logits, 50).iter().all(|&t| t == 0));
    }

    #[test]
    fn a_bias_moves_tokens_and_foreign_ids_do_nothing() {
        let biased =
            |bias: &[(u32, f64)]| Sampling { logit_bias: bias.iter().copied().collect(), ..Sampling::greedy(1) };
        assert_eq!(draws(&biased(&[(2, 5.0)]), &[1.0, 3.0, 0.0], 1), [2]);
        assert_eq!(draws(&biased(&[(1, -100.0), (9, 100.0)]), &[1.0, 3.0, 0.0], 1), [0]);
    }

    #[test]
    fn log_probabilities_are_the_models() {
        let logits = [0.7f32.ln() + 300.0, 0.2f32.ln() + 300.0, 0.1f32.ln() + 300.0];
        for (token, share) in [(0, 0.7f32), (1, 0.2), (2, 0.1)] {
            assert!((log_probability(&logits, token) - share.ln()).abs() < 1e-4);
        }
    }
}
