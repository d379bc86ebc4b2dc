//! Costs as no run would make them: any number, known or not, of arms that may not be there.

use divvy_core::{
    cost::account::break_even,
    results::costs::{
        ArmCost, Costs, Distilling, Latency, Mean, Measure, Outlay, PerCorrect, Spending, StatedTerms, StudentCost,
    },
};
use proptest::prelude::*;

use crate::testing;

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -5_000_000..5_000_000_i64, 1 => any::<i64>(), 1 => Just(0)]
}

fn mean() -> impl Strategy<Value = Mean> {
    (amount(), amount(), amount()).prop_map(|(a, b, c)| {
        let mut ends = [a, b, c];
        ends.sort_unstable();
        Mean { mean: ends[1], ci: (ends[0], ends[2]) }
    })
}

fn spending() -> impl Strategy<Value = Spending> {
    let correct = (amount(), amount(), prop::option::of(amount()));
    let correct = correct.prop_map(|(mean, low, high)| PerCorrect { mean, low, high });
    (amount(), prop::option::of(mean()), prop::option::of(correct)).prop_map(|(total, question, correct)| Spending {
        total,
        question,
        correct,
    })
}

fn outlay() -> impl Strategy<Value = Outlay> {
    (prop::option::of(amount()), prop::option::of(amount())).prop_map(|(money_nanos, machine_us)| Outlay {
        money_nanos,
        machine_us,
        ..Outlay::NONE
    })
}

fn slug() -> impl Strategy<Value = String> {
    prop::sample::select(testing::results().arms.into_iter().map(|arm| arm.arm).collect::<Vec<_>>())
}

prop_compose! {
    fn arm()(
        arm in slug(),
        n in 0..400_u64,
        money in prop::option::of(spending()),
        machine in prop::option::of(spending()),
        one_off in prop::option::of(outlay()),
        latency in prop::option::of((any::<i64>(), any::<i64>())),
        recorded in any::<bool>(),
    ) -> ArmCost {
        let latency = latency.map(|(p50_ms, p95_ms)| Latency { n, p50_ms, p95_ms });
        ArmCost { arm, n, money, machine, one_off, latency, recorded, ..ArmCost::default() }
    }
}

prop_compose! {
    fn pair()(
        (arm, replaces) in (slug(), slug()),
        measure in prop::option::of(prop::sample::select(vec![Measure::Money, Measure::Machine])),
        one_off in prop::option::of(amount()),
        saving in mean(),
    ) -> Distilling {
        let known = measure.is_some();
        Distilling {
            arm,
            replaces,
            measure,
            one_off: one_off.filter(|_| known),
            saving: known.then_some(saving),
            break_even: one_off.filter(|_| known).map(|one_off| break_even(one_off, &saving)),
        }
    }
}

prop_compose! {
    pub(super) fn costs()(
        arms in prop::collection::vec(arm(), 0..6),
        distilling in prop::collection::vec(pair(), 0..5),
        parts in prop::collection::vec(outlay(), 4),
        machine_hour_nanos in prop::option::of(amount()),
        questions in any::<u64>(),
    ) -> Costs {
        let student = StudentCost {
            student: "sd-r".to_owned(),
            collection: parts[0],
            screening: parts[1],
            training: parts[2],
            total: parts[3],
        };
        Costs {
            terms: StatedTerms { machine_hour_nanos, utilisation: 0.5, questions },
            arms,
            students: vec![student],
            distilling,
        }
    }
}
