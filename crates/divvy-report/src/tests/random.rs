//! Results as no run would make them: every float may be infinite or not a number, every text hostile.

use divvy_core::{
    graded::Sheet,
    results::{Comparison, Family, Results, ScoreDifference, StepSlice},
};
use proptest::prelude::*;

use crate::testing;

/// Every text from outside replaced or extended by `text`.
pub(super) fn poisoned(mut results: Results, text: &str) -> Results {
    for field in [&mut results.name, &mut results.plan, &mut results.created, &mut results.divvy_version] {
        field.push_str(text);
    }
    results.datasets.iter_mut().for_each(|used| used.dataset.push_str(text));
    results.models.iter_mut().for_each(|model| model.source.push_str(text));
    for arm in &mut results.arms {
        [&mut arm.arm, &mut arm.solver].into_iter().chain(arm.decomposer.as_mut()).for_each(|name| name.push_str(text));
        for example in &mut arm.examples {
            for field in [&mut example.question_id, &mut example.question, &mut example.reply] {
                field.push_str(text);
            }
            example.premise = Some(text.to_owned());
            example.answer = Some(text.to_owned());
            example.gold.push(text.to_owned());
            example.subquestions.push(text.to_owned());
        }
    }
    for pair in &mut results.comparisons {
        pair.a.push_str(text);
        pair.b.push_str(text);
    }
    for set in &mut results.by_dataset {
        set.dataset.push_str(text);
        for arm in &mut set.arms {
            [&mut arm.arm, &mut arm.solver]
                .into_iter()
                .chain(arm.decomposer.as_mut())
                .for_each(|name| name.push_str(text));
        }
        for arm in &mut set.slices {
            let slices = arm.by_answer.iter_mut().chain(&mut arm.by_subquestions).chain(&mut arm.by_passage);
            slices.for_each(|slice| slice.of.push_str(text));
        }
    }
    for training in &mut results.training {
        for field in [&mut training.student, &mut training.base, &mut training.target, &mut training.method] {
            field.push_str(text);
        }
    }
    if let Some(collection) = &mut results.collection {
        collection.teacher.push_str(text);
        collection.reasons.iter_mut().for_each(|(reason, _)| reason.push_str(text));
    }
    if let Some(screening) = &mut results.screening {
        screening.solver.iter_mut().for_each(|solver| solver.push_str(text));
        screening.reasons.iter_mut().for_each(|(reason, _)| reason.push_str(text));
    }
    if let Some(costs) = &mut results.costs {
        costs.arms.iter_mut().for_each(|cost| cost.arm.push_str(text));
        costs.students.iter_mut().for_each(|cost| cost.student.push_str(text));
        costs.distilling.iter_mut().for_each(|pair| {
            pair.arm.push_str(text);
            pair.replaces.push_str(text);
        });
    }
    for entry in &mut results.quality {
        entry.decomposer.push_str(text);
        entry.pass.iter_mut().for_each(|pass| pass.solver.push_str(text));
    }
    results.stages.iter_mut().for_each(|stage| stage.stage.push_str(text));
    results
}

/// The same of rows.
pub(super) fn poisoned_sheet(mut sheet: Sheet, text: &str) -> Sheet {
    sheet.arms = sheet.arms.iter().map(|arm| format!("{arm}{text}")).collect();
    for asked in &mut sheet.questions {
        asked.question.push_str(text);
        asked.id.push_str(text);
        for row in &mut asked.rows {
            row.reply.push_str(text);
        }
    }
    sheet.calls.iter_mut().for_each(|call| call.said.as_mut().expect("it was read").reply.push_str(text));
    sheet
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.0..=1.0, 1 => any::<f64>(), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..1_000_u64, 1 => any::<u64>().prop_map(|value| value / 4), 1 => Just(0)]
}

prop_compose! {
    fn arm()(
        which in 0..5_usize,
        numbers in prop::collection::vec(count(), 10),
        floats in prop::collection::vec(float(), 6),
        cost in prop::option::of(any::<i64>()),
        known in any::<bool>(),
        slices in prop::collection::vec((0..9_u32, count(), count(), prop::option::of((float(), float()))), 0..5),
        examples in 0..3_usize,
    ) -> divvy_core::results::ArmResult {
        let mut arm = testing::results().arms.remove(which);
        (arm.n, arm.correct, arm.no_answer, arm.truncated, arm.errors) =
            (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4] / 500);
        (arm.tokens_in, arm.tokens_out, arm.decompose_tokens_in, arm.solve_tokens_out) =
            (Some(numbers[5]), known.then_some(numbers[6]), Some(numbers[7]), known.then_some(numbers[8]));
        (arm.accuracy, arm.ci, arm.score) = (floats[0], (floats[1], floats[2]), floats[3]);
        arm.cost_nanos = cost;
        (arm.well_formed, arm.mean_subquestions) = (known.then_some(floats[4]), known.then_some(floats[5]));
        arm.by_steps =
            slices.into_iter().map(|(steps, n, correct, ci)| StepSlice { steps, n, correct, ci }).collect();
        arm.examples.truncate(examples);
        arm
    }
}

prop_compose! {
    fn comparison(names: Vec<String>)(
        a in prop::sample::select(names.clone()),
        b in prop::sample::select(names),
        counts in (count(), count(), count()),
        exploratory in any::<bool>(),
        floats in prop::collection::vec(float(), 5),
    ) -> Comparison {
        let (n, only_a, only_b) = counts;
        let ci = (floats[1], floats[2]);
        let family = [Family::Decomposer, Family::Solver, Family::Parts][n as usize % 3];
        let (difference, p_value, p_holm) = (floats[0], floats[3], floats[4]);
        let score = (n % 2 == 0).then_some(ScoreDifference { difference, ci, p_value, p_holm, tests: n });
        Comparison { a, b, family, n, only_a, only_b, difference, ci, p_value, p_holm, score, exploratory, detectable: Some(floats[1]), ..testing::comparison("", "", 0.0, 1.0) }
    }
}

prop_compose! {
    pub(crate) fn results()(
        arms in prop::collection::vec(arm(), 0..8),
        comparisons in prop::collection::vec(
            comparison(testing::results().arms.into_iter().map(|arm| arm.arm).collect()), 0..6),
        text in ".{0,12}",
        costs in prop::option::of(super::random_costs::costs()),
        curve in prop::collection::vec((count(), float(), float(), prop::option::of(float())), 0..40),
        keep in any::<bool>(),
    ) -> Results {
        let mut results = testing::results();
        results.arms = arms;
        results.costs = costs;
        results.comparisons = comparisons;
        let point = results.training[0].curve[0];
        results.training[0].curve = curve.into_iter().map(|(step, loss, learning_rate, dev_loss)| {
            divvy_core::records::TrainPoint { step, loss, learning_rate, dev_loss, ..point }
        }).collect();
        if !keep {
            (results.collection, results.screening) = (None, None);
            results.training.clear();
        }
        poisoned(results, &text)
    }
}
