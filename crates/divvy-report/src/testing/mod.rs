//! Results made up for tests: a small run with a decomposer distilled, and helpers to bend it.

mod costs;

pub(crate) use costs::{costed, distilling, saving};

use divvy_core::{
    arm::{Strategy, Variant},
    chat::{ChatRequest, Finish, Message, Sampling},
    digest::Digest,
    graded::{Asked, GradedRow, RowCall, Said, Sheet},
    model::ModelId,
    quality::{Quality, Share, StepCount},
    question::ScorerKind,
    recipe::EvalSplit,
    records::{Outcome, Stage, TrainPoint},
    results::{
        ArmResult, ArmSlices, CollectionSummary, Comparison, DatasetResults, DatasetUse, DecomposerQuality, Example,
        Family, Measured, ModelUse, Pass, Results, ScreeningSummary, ShareIntervals, Slice, StageTime, StepDifference,
        StepSlice, TrainingSummary, costs::Tokens,
    },
    stats::wilson,
};
use serde_json::value::RawValue;

pub(crate) fn arm(slug: &str, strategy: Strategy, decomposer: Option<&str>, correct: u64) -> ArmResult {
    ArmResult {
        arm: slug.to_owned(),
        strategy,
        variant: Variant::default(),
        decomposer: decomposer.map(str::to_owned),
        solver: "big".to_owned(),
        n: 300,
        each: 1,
        pool: None,
        correct,
        accuracy: correct as f64 / 300.0,
        ci: (correct as f64 / 300.0 - 0.05, correct as f64 / 300.0 + 0.05),
        passages: None,
        score: correct as f64 / 300.0,
        score_ci: None,
        no_answer: 3,
        truncated: 2,
        refused: 0,
        errors: 0,
        pending: 0,
        tokens_in: Some(90_000),
        tokens_out: Some(30_000),
        decompose_tokens_in: Some(30_000),
        decompose_tokens_out: Some(9_000),
        solve_tokens_in: Some(60_000),
        solve_tokens_out: Some(21_000),
        cost_nanos: None,
        well_formed: decomposer.map(|_| 0.97),
        mean_subquestions: decomposer.map(|_| 3.2),
        decompositions: decomposer.map(|_| quality()),
        by_steps: (1..=4)
            .map(|steps| StepSlice { steps, n: 75, correct: correct / 4, ci: Some(wilson::interval(correct / 4, 75)) })
            .collect(),
        examples: vec![example("synth/test/0", true), example("synth/test/1", false)],
    }
}

pub(crate) fn quality() -> Measured {
    let counts = Quality {
        n: 300,
        well_formed: 291,
        declined: 12,
        subquestions: 893,
        repeating: 7,
        steps: StepCount { of: 291, equal: 120, difference: -58 },
        leaking: Share { of: 279, count: 3 },
        referring: Share { of: 270, count: 200 },
    };
    let intervals = ShareIntervals {
        well_formed: Some(wilson::interval(291, 300)),
        repeating: Some(wilson::interval(7, 300)),
        ..ShareIntervals::default()
    };
    Measured { counts, intervals }
}

pub(crate) fn decomposer_quality(name: &str, stage: Stage) -> DecomposerQuality {
    let pass = Some(Pass { solver: "big".to_owned(), n: 300, rate: 0.6, ci: Some((0.54, 0.65)) });
    let (decomposer, variant) = (name.to_owned(), Variant::default());
    DecomposerQuality { decomposer, stage, variant, heard: None, quality: quality(), pass }
}

pub(crate) fn example(id: &str, correct: bool) -> Example {
    Example {
        question_id: id.to_owned(),
        premise: None,
        question: "How many boxes are left?".to_owned(),
        gold: vec!["12".to_owned()],
        subquestions: vec!["How many were there?".to_owned()],
        sub_answers: vec![Some("3 + 9 = 12".to_owned())],
        reply: "The answer is: 12".to_owned(),
        answer: Some("12".to_owned()),
        correct,
        outcome: Outcome::Answered,
    }
}

/// A comparison whose Holm p says whether the difference is shown.
pub(crate) fn comparison(a: &str, b: &str, difference: f64, p_holm: f64) -> Comparison {
    let (only_a, only_b) = (60, 60 - (difference * 100.0) as u64 % 60);
    let ci = (difference - 0.06, difference + 0.06);
    Comparison {
        a: a.to_owned(),
        b: b.to_owned(),
        family: Family::Decomposer,
        n: 300,
        only_a,
        only_b,
        difference,
        ci,
        p_value: p_holm / 3.0,
        p_holm,
        tests: 3,
        declared: false,
        exploratory: false,
        detectable: Some(0.08),
        spread: (only_a + only_b) as f64 / 300.0,
        design_effect: 1.0,
        score: None,
        by_steps: by_steps(a, b),
    }
}

/// Of a comparison with an arm that does not decompose: the more steps, the better.
fn by_steps(a: &str, b: &str) -> Vec<StepDifference> {
    let step = |steps: u32| {
        let difference = f64::from(steps) * 0.1 - 0.25;
        StepDifference { steps, n: 75, difference, ci: (difference - 0.1, difference + 0.1) }
    };
    if [a, b].contains(&COT) { (1..=4).map(step).collect() } else { Vec::new() }
}

pub(crate) const COT: &str = "cot/big";
pub(crate) const UNTRAINED: &str = "two-stage/small/big";
pub(crate) const DISTILLED: &str = "two-stage/sd-r/big";
pub(crate) const TEACHER: &str = "two-stage/teacher/big";

pub(crate) fn results() -> Results {
    Results {
        name: "quickstart".to_owned(),
        plan: "ab".repeat(32),
        created: "2026-01-01T00:00:00Z".to_owned(),
        divvy_version: "0.0.0".to_owned(),
        split: EvalSplit::Test,
        datasets: vec![DatasetUse { dataset: "synth".to_owned(), split: "test".to_owned(), rows: 300, opened_by: 1 }],
        models: vec![ModelUse {
            name: "big".to_owned(),
            source: "path:big.gguf".to_owned(),
            numerics: Some("fast".to_owned()),
            id: "cd".repeat(32),
        }],
        arms: vec![
            arm("direct/big", Strategy::Direct, None, 60),
            arm(COT, Strategy::Cot, None, 120),
            arm(UNTRAINED, Strategy::TwoStage, Some("small"), 90),
            arm(DISTILLED, Strategy::TwoStage, Some("student:sd-r"), 180),
            arm(TEACHER, Strategy::TwoStage, Some("teacher"), 186),
        ],
        seeds: Vec::new(),
        comparisons: vec![
            comparison(DISTILLED, COT, 0.2, 0.0001),
            comparison(UNTRAINED, DISTILLED, -0.3, 0.0001),
            comparison(DISTILLED, TEACHER, -0.02, 0.6),
        ],
        slices: Vec::new(),
        by_dataset: Vec::new(),
        scoring: None,
        collection: Some(CollectionSummary {
            teacher: "big".to_owned(),
            candidates: 1_020,
            usable: 1_000,
            reasons: vec![("malformed".to_owned(), 15), ("truncated".to_owned(), 5)],
            tokens_in: 200_000,
            tokens_out: 60_000,
        }),
        screening: Some(ScreeningSummary {
            solver: Some("big".to_owned()),
            candidates: 1_000,
            kept: 640,
            reasons: vec![("correct".to_owned(), 640), ("wrong-answer".to_owned(), 350), ("truncated".to_owned(), 10)],
            tokens_in: 400_000,
            tokens_out: 150_000,
        }),
        training: vec![training()],
        students: Vec::new(),
        quality: vec![decomposer_quality("big", Stage::Collect), decomposer_quality("student:sd-r", Stage::Evaluate)],
        stages: vec![StageTime { stage: "screen".to_owned(), wall_ms: 185_000, found: None }],
        costs: None,
    }
}

/// The same arms on two data sets: the second is one on which nothing is shown, and the teacher has nothing to say.
pub(crate) fn two_sets() -> Results {
    let mut results = results();
    let test =
        |dataset: &str| DatasetUse { dataset: dataset.to_owned(), split: "test".to_owned(), rows: 300, opened_by: 1 };
    results.datasets = vec![test("stories"), test("facts")];
    let unclear = |pair: &Comparison| Comparison { difference: 0.01, ci: (-0.05, 0.07), p_holm: 0.8, ..pair.clone() };
    let of = |dataset: &str, arms: &[ArmResult], comparisons: Vec<Comparison>| DatasetResults {
        dataset: dataset.to_owned(),
        arms: arms.to_vec(),
        seeds: Vec::new(),
        comparisons,
        slices: vec![slices(COT), slices(DISTILLED)],
        quality: Vec::new(),
        scoring: None,
        costs: None,
    };
    let facts: Vec<Comparison> = results.comparisons[..2].iter().map(unclear).collect();
    results.by_dataset =
        vec![of("stories", &results.arms, results.comparisons.clone()), of("facts", &results.arms[..4], facts)];
    results.comparisons.clear();
    results.arms.iter_mut().take(4).for_each(|arm| arm.n = 600);
    results
}

fn slices(arm: &str) -> ArmSlices {
    let slice = |of: &str, n: u64, correct: u64| Slice { of: of.to_owned(), n, correct, ci: (0.1, 0.9) };
    ArmSlices {
        arm: arm.to_owned(),
        by_answer: vec![slice("number", 200, 100), slice("span", 100, 40)],
        by_subquestions: vec![slice("2", 180, 90), slice("10", 110, 40)],
        by_passage: vec![slice("p17", 3, 2)],
    }
}

/// Two questions: the first with two rows, of which one decomposes, the second with one that failed.
pub(crate) fn sheet() -> Sheet {
    let call = |key: &str, reply: &str| RowCall {
        key: key.repeat(32),
        tokens_in: Some(90),
        tokens_cached: None,
        tokens_out: Some(8),
        cost_nanos: None,
        latency_ms: 40,
        said: Some(Said {
            model: "big".to_owned(),
            finish: Finish::Stop,
            request: RawValue::from_string(request()).expect("a request is JSON"),
            reply: reply.to_owned(),
        }),
    };
    let row = |arm, calls| GradedRow {
        correct: true,
        score: 1.0,
        outcome: Outcome::Answered,
        answer: Some("12".to_owned()),
        reply: "The answer is: 12".to_owned(),
        tokens: Some(Tokens { input: 90, cached: 0, output: 8 }),
        calls,
        ..GradedRow::failed(arm)
    };
    let two_stage = GradedRow {
        subquestions: vec!["How many were there?".to_owned()],
        tokens: Some(Tokens { input: 180, cached: 64, output: 16 }),
        decomposing: Tokens { input: 90, cached: 64, output: 8 },
        decomposed: Some(1),
        ..row(1, vec![1, 0])
    };
    let failed = GradedRow {
        correct: false,
        score: 0.0,
        outcome: Outcome::Error,
        reason: Some("bad-request".to_owned()),
        answer: None,
        reply: String::new(),
        ..row(0, Vec::new())
    };
    let asked = |id: &str, rows| Asked {
        id: id.to_owned(),
        premise: None,
        question: "How many boxes are left?".to_owned(),
        gold: vec!["12".to_owned()],
        steps: Some(2),
        dataset: "synth".to_owned(),
        scorer: ScorerKind::Numeric,
        rows,
    };
    Sheet {
        arms: [COT.to_owned(), DISTILLED.to_owned()].into(),
        questions: vec![asked("synth/test/0", vec![row(0, vec![0]), two_stage]), asked("synth/test/1", vec![failed])],
        calls: vec![call("ab", "The answer is: 12"), call("cd", "1. How many were there?")],
    }
}

fn request() -> String {
    let request = ChatRequest {
        model: ModelId(Digest::of_bytes(b"big")),
        messages: vec![Message::user("How many boxes are left?")],
        sampling: Sampling::greedy(200),
        sample: 0,
    };
    serde_json::to_string(&request).expect("a request is plain JSON")
}

fn training() -> TrainingSummary {
    let point = |step: u64| TrainPoint {
        step,
        loss: 2.0 / (1.0 + step as f64 / 10.0),
        learning_rate: 2e-4,
        grad_norm: 1.0,
        tokens: 4_096,
        tokens_per_second: 900.0,
        dev_loss: step.is_multiple_of(10).then(|| 2.1 / (1.0 + step as f64 / 11.0)),
        dev_quality: None,
    };
    TrainingSummary {
        student: "sd-r".to_owned(),
        base: "small".to_owned(),
        target: "SD-R".to_owned(),
        method: "LoRA r=16".to_owned(),
        too_long: 3,
        unusable: 1,
        rows: 640,
        epochs: 2.0,
        wall_ms: 240_000,
        kept: None,
        sweep: Vec::new(),
        curve: (1..=40).map(point).collect(),
    }
}
