//! Costs made up for tests: one cent a thousand tokens, one student.

use divvy_core::cost::account::break_even;
use divvy_core::results::{
    ArmResult, Results,
    costs::{ArmCost, Costs, Distilling, Latency, Mean, Measure, Outlay, PerCorrect, Spending, StudentCost, Tokens},
};

use super::{COT, DISTILLED};

/// A dollar and twenty.
fn one_off() -> Outlay {
    Outlay { money_nanos: Some(1_200_000_000), machine_us: Some(90_000_000), ..Outlay::NONE }
}

pub(crate) fn saving(mean: i64, ci: (i64, i64)) -> Mean {
    Mean { mean, ci }
}

/// In nano-dollars or microseconds, with its break-even.
pub(crate) fn distilling(arm: &str, replaces: &str, measure: Measure, saving: Mean) -> Distilling {
    let once = match measure {
        Measure::Money => one_off().money_nanos,
        Measure::Machine => one_off().machine_us,
    };
    Distilling {
        arm: arm.to_owned(),
        replaces: replaces.to_owned(),
        measure: Some(measure),
        one_off: once,
        saving: Some(saving),
        break_even: once.map(|once| break_even(once, &saving)),
    }
}

fn tokens(arm: &ArmResult) -> Tokens {
    let input = arm.tokens_in.unwrap_or(0);
    Tokens { input, cached: input / 3, output: arm.tokens_out.unwrap_or(0) }
}

/// Costs for every arm of the results: 2 thousandths of a dollar and 400 ms a question. The distilled decomposer saves
/// `saving` nano-dollars against one call.
pub(crate) fn costed(mut results: Results, saving: Mean) -> Results {
    let spending = |a_question: i64, n: u64, correct: u64| Spending {
        total: a_question * n as i64,
        question: Some(Mean { mean: a_question, ci: (a_question - a_question / 10, a_question + a_question / 10) }),
        correct: (correct > 0).then(|| {
            let mean = a_question * n as i64 / correct as i64;
            PerCorrect { mean, low: mean - mean / 9, high: Some(mean + mean / 8) }
        }),
    };
    let arms = results.arms.iter().map(|arm| {
        let money = 2_000_000 - if arm.arm == DISTILLED { saving.mean } else { 0 };
        ArmCost {
            arm: arm.arm.clone(),
            n: arm.n,
            calls: 2 * arm.n,
            tokens: tokens(arm),
            failed_tries: 3,
            money: Some(spending(money, arm.n, arm.correct)),
            machine: Some(spending(400_000, arm.n, arm.correct)),
            one_off: arm.decomposer.as_deref().filter(|name| name.starts_with("student:")).map(|_| one_off()),
            latency: Some(Latency { n: arm.n, p50_ms: 420, p95_ms: 1_900 }),
            ..ArmCost::default()
        }
    });
    let part = |nanos| Outlay { money_nanos: Some(nanos), ..Outlay::NONE };
    results.costs = Some(Costs {
        arms: arms.collect(),
        students: vec![StudentCost {
            student: "sd-r".to_owned(),
            collection: part(300_000_000),
            screening: part(800_000_000),
            training: Outlay { money_nanos: Some(100_000_000), machine_us: Some(90_000_000), ..Outlay::NONE },
            total: one_off(),
        }],
        distilling: vec![distilling(DISTILLED, COT, Measure::Money, saving)],
        ..Costs::default()
    });
    results
}
