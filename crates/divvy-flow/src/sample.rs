//! A few rows of a plan, to learn from what the rest will take. They are asked as ordinary items of the plan, under its
//! digest, so that the run that follows finds them done.

use std::sync::Arc;

use divvy_core::{arm::Arm, digest::derive_seed, plan::Plan, questions::Questions, recipe::EvalSplit};

use crate::{context::Context, split::Splits};

/// The same plan with so many rows of each split that it asks, chosen by the seed, and only the arms that can be asked.
#[must_use]
pub fn sampled(context: &Context, rows: usize, can_be_asked: impl Fn(&Arm) -> bool) -> Context {
    let mut plan = context.plan.clone();
    if let Some(evaluate) = &mut plan.evaluate {
        evaluate.arms.retain(can_be_asked);
    }
    Context {
        questions: few(&plan, &context.questions, rows),
        plan,
        shown: Arc::clone(&context.shown),
        digest: context.digest.clone(),
        store: context.store.clone(),
        models: Arc::clone(&context.models),
        progress: Arc::clone(&context.progress),
        cancel: context.cancel.clone(),
        asking: context.asking.clone(),
        shard: context.shard,
        now: context.now,
    }
}

fn few(plan: &Plan, questions: &Splits, rows: usize) -> Splits {
    let split = plan.evaluate.as_ref().map(|evaluate| evaluate.split);
    let of = |wanted: EvalSplit, questions: &Questions| {
        if split == Some(wanted) { chosen(questions, rows, plan.seed) } else { Questions::default() }
    };
    Splits {
        // In the seed's order already, which is the order of screening too.
        train: questions.train.take(rows),
        dev: of(EvalSplit::Dev, &questions.dev),
        test: of(EvalSplit::Test, &questions.test),
    }
}

fn chosen(questions: &Questions, rows: usize, seed: u64) -> Questions {
    let order = questions.order_by(|id| derive_seed(seed, &format!("sample/{id}")));
    questions.choose(order.take(rows))
}
