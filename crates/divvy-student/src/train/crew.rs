//! Micro-batches of LoRA side by side. A thread that has rows of its own waits for no other between products, and what it
//! writes is still in its cache when it reads it: a fifth faster than all threads on one micro-batch (LOG.md).

use divvy_kernels::CrossEntropy;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::backward::{Backward, Turned};
use super::buffers::Buffers;
use super::forward::{Keep, Network, forward};
use super::rows::MicroBatch;

/// Micro-batches that are under way at the same time; where there are more threads, several share the work on each.
pub(crate) const ABREAST: usize = 2;

#[derive(Default)]
pub(crate) struct Crew {
    workers: Vec<Worker>,
}

#[derive(Default)]
struct Worker {
    /// Its own threads; the process's where it is the only one, or no more can be had.
    pool: Option<ThreadPool>,
    buffers: Buffers,
    /// Of one micro-batch, to be added up in the order of micro-batches: the same bits whoever computes them.
    gradients: Vec<Vec<f32>>,
}

/// What all of them read.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) network: Network<'a>,
    pub(crate) turned: &'a Turned,
    pub(crate) keep: Keep,
}

impl Crew {
    /// Adds the gradients of `micros`; their shares of the step's loss.
    pub(crate) fn accumulate(
        &mut self,
        shared: Shared<'_>,
        micros: &[MicroBatch],
        gradients: &mut [Vec<f32>],
    ) -> CrossEntropy {
        let shape: Vec<usize> = gradients.iter().map(Vec::len).collect();
        let mut sum = CrossEntropy::default();
        for micros in micros.chunks(abreast()) {
            let workers = self.workers(micros.len());
            let losses = match (&mut *workers, micros) {
                // Alone it has all threads.
                ([worker, ..], [micro]) => vec![worker.run(shared, micro, &shape)],
                (workers, micros) => side_by_side(workers, shared, micros, &shape),
            };
            for (worker, loss) in workers.iter().zip(losses) {
                add(gradients, &worker.gradients);
                sum.loss_sum += loss.loss_sum;
                sum.correct += loss.correct;
            }
        }
        sum
    }

    /// `count` workers, each with its share of the threads where there are several.
    fn workers(&mut self, count: usize) -> &mut [Worker] {
        let threads = rayon::current_num_threads();
        while self.workers.len() < count {
            let share = (threads + self.workers.len()) / ABREAST;
            let pool = (threads > 1).then(|| ThreadPoolBuilder::new().num_threads(share).build().ok()).flatten();
            self.workers.push(Worker { pool, ..Worker::default() });
        }
        &mut self.workers[..count]
    }
}

fn side_by_side(
    workers: &mut [Worker],
    shared: Shared<'_>,
    micros: &[MicroBatch],
    shape: &[usize],
) -> Vec<CrossEntropy> {
    std::thread::scope(|scope| {
        let each = workers.iter_mut().zip(micros);
        let begun: Vec<_> =
            each.map(|(worker, micro)| scope.spawn(move || worker.run_apart(shared, micro, shape))).collect();
        begun.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Micro-batches at a time: one on a single thread, whatever is to be added up.
fn abreast() -> usize {
    ABREAST.min(rayon::current_num_threads())
}

impl Worker {
    /// On its own threads.
    fn run_apart(&mut self, shared: Shared<'_>, micro: &MicroBatch, shape: &[usize]) -> CrossEntropy {
        match self.pool.take() {
            None => self.run(shared, micro, shape),
            Some(pool) => {
                let loss = pool.install(|| self.run(shared, micro, shape));
                self.pool = Some(pool);
                loss
            }
        }
    }

    fn run(
        &mut self,
        Shared { network, turned, keep }: Shared<'_>,
        micro: &MicroBatch,
        shape: &[usize],
    ) -> CrossEntropy {
        let Worker { buffers, gradients, .. } = self;
        gradients.resize_with(shape.len(), Vec::new);
        for (gradient, len) in gradients.iter_mut().zip(shape) {
            gradient.clear();
            gradient.resize(*len, 0.0);
        }
        let tape = forward(&network, micro, keep, buffers);
        Backward { network, turned, micro, gradients, full: None }.run(tape, buffers)
    }
}

fn add(sums: &mut [Vec<f32>], terms: &[Vec<f32>]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        sum.iter_mut().zip(term).for_each(|(sum, term)| *sum += term);
    }
}
