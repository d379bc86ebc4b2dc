//! The report as a whole: what must be in it, what must never be, and that no input breaks it.

mod markup;
mod random;

use divvy_core::{graded::Sheet, results::Results};
use proptest::prelude::*;

use crate::{
    Rows, chunk, html, json, markdown,
    testing::{results, sheet},
};

fn rows(sheet: Sheet) -> Rows {
    let mut rows = Rows::new(None);
    assert!(rows.add(chunk(&sheet)).is_empty());
    rows
}

#[test]
fn markdown_leads_with_the_verdict_and_its_tables_line_up() {
    let text = markdown(&results());
    assert!(text.starts_with("# quickstart\n\n**Distil the decomposer.**\n\n- two-stage/sd-r/big beats"));
    let row = "| two-stage/sd-r/big    | 300 |     180 |         60.0 |         55.0–65.0 |";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("| Arm (steps)           | 1 (n = 75) |"), "{text}");
    assert!(text.contains("| cot/big               |       40.0 |"), "{text}");
    assert!(text.contains("| sd-r    | small | SD-R   | LoRA r=16 |  640 |        4 |    2.0 |    40 |"), "{text}");
    for block in text.split("\n\n").filter(|block| block.starts_with('|')) {
        let widths: Vec<usize> = block.trim_end().lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{block}");
    }
    assert!(!text.contains('$'), "no price is known, so none is shown");
    assert!(text.contains("No price is known"));
}

#[test]
fn json_has_the_stable_shape_and_reads_back() {
    let value = json(&results());
    let arm = &value["arms"][3];
    for key in ["arm", "strategy", "decomposer", "solver", "n", "correct", "accuracy", "ci", "tokens_in", "tokens_out"]
    {
        assert!(!arm[key].is_null(), "{key}");
    }
    assert_eq!(arm["strategy"], "two-stage");
    assert_eq!(arm["ci"].as_array().map(Vec::len), Some(2));
    assert!(value["arms"][0]["decomposer"].is_null());
    assert_eq!(value["verdict"]["answer"], "decomposer");
    let back: Results = serde_json::from_value(value).expect("the JSON form is Results and more");
    assert_eq!(back, results());
}

#[test]
fn the_page_is_well_formed_complete_and_loads_nothing() {
    let page = html(&results(), &Rows::default());
    markup::check(&page);
    for id in ["plot", "arms", "comparisons", "steps", "rows", "training", "collection", "screening", "stages"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert_eq!(page.matches("<article").count(), 10, "every example is in the page");
    assert!(page.find("verdict-title").expect("a verdict") < page.find("<table").expect("a table"));
    assert!(html(&results(), &rows(sheet())).contains("All 3 graded rows"));
    for remote in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(remote), "{remote}");
    }
}

#[test]
fn hostile_text_is_inert_everywhere() {
    let hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'`|\u{1b}[31m\u{0}</title></style>";
    let page = html(&random::poisoned(results(), hostile), &rows(random::poisoned_sheet(sheet(), hostile)));
    markup::check(&page);
    let plain = html(&results(), &rows(sheet()));
    for tag in ["<script", "</script", "<img", "</title", "</style", "<article"] {
        assert_eq!(page.matches(tag).count(), plain.matches(tag).count(), "{tag}");
    }
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert!(!page.contains('\u{1b}') && !page.contains('\u{0}'));
    assert!(
        !markdown(&random::poisoned(results(), hostile)).contains('\u{1b}'),
        "no escape sequence reaches a terminal"
    );
}

#[test]
fn the_policy_names_this_script() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(crate::html::SCRIPT));
    assert_eq!(
        include_str!("../../assets/report.js.sha256").trim(),
        digest,
        "the script changed: write this digest to assets/report.js.sha256"
    );
}

#[test]
fn a_report_without_arms_one_arm_or_no_rows_is_still_a_report() {
    let mut bare = results();
    bare.arms.clear();
    bare.comparisons.clear();
    bare.training.clear();
    (bare.collection, bare.screening, bare.stages) = (None, None, Vec::new());
    let mut single = results();
    single.arms.truncate(1);
    let mut unanswered = results();
    for arm in &mut unanswered.arms {
        (arm.n, arm.correct, arm.accuracy, arm.ci) = (0, 0, f64::NAN, (f64::NAN, f64::NAN));
    }
    for case in [&bare, &single, &unanswered] {
        let (page, text) = (html(case, &Rows::default()), markdown(case));
        markup::check(&page);
        assert!(!text.contains("NaN") && text.contains("## Notes"));
    }
    assert!(html(&bare, &Rows::default()).contains("No arm was evaluated."));
    assert!(markdown(&unanswered).contains("No verdict: no question has been answered yet."));
}

#[test]
fn known_prices_appear_and_unknown_ones_are_a_dash() {
    let mut results = results();
    results.arms[1].cost_nanos = Some(300_000_000);
    let text = markdown(&results);
    assert!(text.contains("Cost ($ per 1,000)") && text.contains("1.00 |"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("| direct/big") && line.ends_with("– |")), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_results_break_the_report(results in random::results()) {
        let page = html(&results, &Rows::default());
        markup::check(&page);
        for word in ["NaN", "inf\"", "inf,", "Infinity"] {
            prop_assert!(!page.split("</script>").last().unwrap_or_default().contains(word), "{word}");
        }
        prop_assert_eq!(&page, &html(&results, &Rows::default()));
        prop_assert_eq!(markdown(&results), markdown(&results));
        prop_assert!(json(&results)["arms"].is_array());
    }
}
