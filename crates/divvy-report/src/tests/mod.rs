//! The report as a whole: what must be in it, what must never be, and that no input breaks it.

mod markup;
pub(crate) mod random;
mod random_costs;

use divvy_core::{
    graded::Sheet,
    results::{Found, Results, StageTime},
};
use proptest::prelude::*;

use crate::{
    Rows, chunk, html,
    html::escape::text as escape,
    json, markdown,
    testing::{costed, results, saving, sheet, two_sets},
};

fn rows(sheet: Sheet) -> Rows {
    let mut rows = Rows::new(None);
    assert!(rows.add(chunk(&sheet)).is_empty());
    rows
}

#[test]
fn markdown_leads_with_the_verdict_and_its_tables_line_up() {
    let text = markdown(&results());
    assert!(
        text.starts_with(
            "# quickstart\n\n**Distil the decomposer.**\n\n**What it costs and saves:** It takes 400 tokens"
        )
    );
    assert!(text.contains("\n\n- two-stage/sd-r/big beats answering in one call"), "{text}");
    let row = "| two-stage/sd-r/big    | 300 |     180 |         60.0 |         55.0–65.0 |";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("| Arm (steps)           |       1 (n = 75) |"), "{text}");
    assert!(text.contains("| cot/big               | 40.0 (29.7–51.3) |"), "{text}");
    let (_, stages) = text.split_once("## Wall time by stage").unwrap();
    assert!(stages.contains(" |\n\nTimes are of this plan’s own commands."), "below its table: {stages}");
    assert!(text.contains("| sd-r    | small | SD-R   | LoRA r=16 |  640 |        4 |    2.0 |    40 |"), "{text}");
    for block in text.split("\n\n").filter(|block| block.starts_with('|')) {
        let widths: Vec<usize> = block.trim_end().lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{block}");
    }
    assert!(!text.contains('$'), "no price is known, so none is shown");
}

#[test]
fn what_a_stage_found_done_stands_beside_its_time() {
    let mut told = results();
    told.stages[0].found = Some(Found { calls: 1_200, of: 1_500 });
    told.stages.push(StageTime { stage: "evaluate".to_owned(), wall_ms: 9, found: None });
    let text = markdown(&told);
    assert!(text.contains("| Found done (calls) |") && text.contains("|     1,200 of 1,500 |"), "{text}");
    let value = json(&told);
    assert_eq!((&value["stages"][0]["found"]["of"], value["stages"][1].get("found")), (&1_500.into(), None));
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
    let (_, stages) = page.split_once("id=\"stages\"").unwrap();
    assert!(stages.contains("</div><p class=\"note\">Times are of this plan’s own commands."), "below its table");
    assert!(page.find("verdict-title").expect("a verdict") < page.find("<table").expect("a table"));
    assert!(html(&results(), &rows(sheet())).contains("All 3 graded rows"));
    for remote in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(remote), "{remote}");
    }
}

#[test]
fn where_it_pays_to_decompose_is_told_by_steps() {
    let told = results();
    let weighed = told.comparisons.iter().filter(|pair| !pair.by_steps.is_empty()).count();
    let text = markdown(&told);
    let (_, table) = text.split_once("by number of reasoning steps, where one of them decomposes").unwrap();
    let table: Vec<&str> = table.split("\n\n").nth(1).unwrap().lines().collect();
    assert!(weighed > 0 && table.len() == 2 + weighed && weighed < told.comparisons.len(), "{table:#?}");
    for cell in ["1 (n = 75)", "4 (n = 75)"] {
        assert!(table[0].contains(cell), "{table:#?}");
    }
    assert!(table[2].contains("−15.0 (−25.0 to −5.0)") && table[2].contains("+15.0 (+5.0 to +25.0)"), "{table:#?}");
    let none = Results { comparisons: Vec::new(), ..told };
    assert!(!markdown(&none).contains("where one of them decomposes"));
}

#[test]
fn each_data_set_has_its_own_answer_and_tables() {
    let told = two_sets();
    let text = markdown(&told);
    let first = "# quickstart\n\n**Distil the decomposer: stories. The decomposer is not shown to pay: facts.**\n\n- stories: \
                 **Distil the decomposer.**\n  - How sure: Shown. ";
    assert!(text.starts_with(first), "{text}");
    assert!(text.contains("\n- facts: **Not shown:"), "{text}");
    assert!(text.contains("| Arm                   | stories (n = 300) |  facts (n = 300) |"), "{text}");
    assert!(text.contains("| two-stage/teacher/big |  62.0 (57.0–67.0) |                – |"), "{text}");
    let (stories, facts) = text.split_once("## Data set facts").unwrap();
    assert!(stories.contains("### Paired comparisons") && facts.contains("### Paired comparisons"), "{text}");
    assert!(facts.contains("| Arm (answer)       | number (n = 200) |   span (n = 100) |"), "{facts}");
    assert!(facts.contains("| two-stage/sd-r/big | 50.0 (10.0–90.0) | 40.0 (10.0–90.0) |"), "{facts}");
    assert!(facts.contains("| Arm (passage)      |      p17 (n = 3) |"), "{facts}");
    let caption = "by the teacher's number of subquestions, as no gold steps are known";
    assert!(facts.contains(caption) && facts.contains("| Arm (subquestions) |      2 (n = 180) |"), "{facts}");
    assert!(facts.contains("facts (test, 300 rows)") && !facts.contains("stories (test"), "{facts}");
    assert!(facts.contains("by the number of tests that the plan asks for (decomposer 3)"), "{facts}");

    let value = json(&told);
    assert_eq!(
        (&value["verdict"]["answer"], &value["by_dataset"][0]["verdict"]["answer"]),
        (&"by-dataset".into(), &"decomposer".into())
    );
    assert_eq!(value["by_dataset"][1]["arms"].as_array().map(Vec::len), Some(4));
    assert!(json(&results()).get("by_dataset").is_none(), "one data set is told as ever");
    let back: Results = serde_json::from_value(value).expect("the JSON form is Results and more");
    assert_eq!(back, told);

    let page = html(&told, &rows(sheet()));
    markup::check(&page);
    for id in [
        "data-sets",
        "set-1",
        "set-2",
        "arms-1",
        "arms-2",
        "answers-2",
        "subquestions-2",
        "passages-2",
        "comparisons-2",
    ] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
}

#[test]
fn the_first_screen_of_several_data_sets_says_how_sure_at_what_cost_and_what_would_change_it() {
    let mut told = two_sets();
    let bare = Results { by_dataset: Vec::new(), ..told.clone() };
    let alone = Results { arms: told.by_dataset[0].arms.clone(), ..bare };
    told.by_dataset[0].costs = costed(alone, saving(1_500_000, (1_000_000, 2_000_000))).costs;
    let lines = [
        "Shown. two-stage/sd-r/big against cot/big: 60.0 % against 40.0 %, +20.0 points (95 % interval +14.0 to +26.0, Holm p \
         < 0.001, n = 300).",
        "A thousand questions cost $0.50 with two-stage/sd-r/big and $2.00 with cot/big: $1.50 less (95 % interval $1.00 to \
         $2.00).",
        "Not shown. two-stage/sd-r/big against cot/big: 60.0 % against 40.0 %, +1.0 points (95 % interval −5.0 to +7.0, Holm p \
         = 0.800, n = 300).",
        "It takes 400 tokens a question, 1.0 times the 400 of cot/big.",
    ];
    let changes = [
        "Fewer than 800 questions in all: then what it cost once is not saved.",
        "If the true difference is the +1.0 points seen here, about ",
    ];
    let text = markdown(&told);
    let (first, _) = text.split_once("\n## ").unwrap();
    assert_eq!(first.lines().filter(|line| line.starts_with("  - ")).count(), 6, "one line of each: {first}");
    let page = html(&told, &Rows::default());
    markup::check(&page);
    let first_of_page = page.split_once("id=\"data-sets-section\"").unwrap().0;
    for line in lines {
        assert!(first.contains(line), "{line} in {first}");
        assert!(first_of_page.contains(&escape(line)), "{line}");
    }
    for change in changes {
        assert!(first.contains(&format!("What would change it: {change}")), "{change} in {first}");
        assert!(first_of_page.contains(&format!("<dt>What would change it</dt><dd>{}", escape(change))), "{change}");
    }
}

/// `calls-1` is a table of the first data set, and was the second chunk of calls, too.
#[test]
fn no_rows_have_the_id_of_a_table() {
    let mut told = two_sets();
    let bare = Results { by_dataset: Vec::new(), ..told.clone() };
    for set in &mut told.by_dataset {
        set.costs = costed(Results { arms: set.arms.clone(), ..bare.clone() }, saving(1, (1, 1))).costs;
    }
    let mut three = rows(sheet());
    (0..2).for_each(|_| assert!(three.add(chunk(&sheet())).is_empty()));
    let page = html(&told, &three);
    markup::check(&page);
    assert!(
        page.contains("<table id=\"calls-1\"")
            && page.contains("<script type=\"application/octet-stream\" id=\"calls-1.js\"")
    );
}

#[test]
fn how_a_data_set_was_tested_is_said_of_that_data_set() {
    let notes = |shared: &[usize]| {
        let mut told = two_sets();
        // Over all data sets an arm has passages as soon as one of them has.
        told.arms.iter_mut().for_each(|arm| arm.passages = (!shared.is_empty()).then_some(360));
        for set in shared {
            told.by_dataset[*set].arms.iter_mut().for_each(|arm| arm.passages = Some(60));
        }
        markdown(&told).split_once("## Notes").unwrap().1.to_owned()
    };
    let mixed = notes(&[1]);
    assert!(
        mixed.contains(
            "Questions share 60 passages of facts and are not independent: intervals and tests draw whole passages (95 % percentile \
             bootstrap, seeded by the run), or where there are fewer than thirty, as in slices, are Student’s t over them; an \
             accuracy’s are no narrower than of independent rows. For stories the interval of an accuracy is the 95 % Wilson interval;"
        ),
        "{mixed}"
    );
    assert!(mixed.contains(
        ": paired cluster bootstrap where questions share passages, and for stories exact McNemar test, Holm"
    ));
    assert!(!mixed.contains("360"), "{mixed}");
    let both = notes(&[0, 1]);
    assert!(
        both.contains("share 60 passages of stories, 60 passages of facts and") && !both.contains("Wilson"),
        "{both}"
    );
    let none = notes(&[]);
    assert!(
        none.contains("- The interval of an accuracy is the 95 % Wilson")
            && none.contains(": exact McNemar test, Holm")
    );
    let mut one = results();
    one.arms.iter_mut().for_each(|arm| arm.passages = Some(60));
    assert!(markdown(&one).contains("Questions share 60 passages and are not independent:"));
}

#[test]
fn tokens_that_nobody_counted_are_a_dash_in_every_form() {
    let mut told = costed(results(), saving(1_500_000, (1_000_000, 2_000_000)));
    told.arms[1].forget_tokens();
    told.costs.as_mut().unwrap().arms[1].unknown_usage = 12;
    let text = markdown(&told);
    let tokens = text.split_once("## Tokens per question").unwrap().1;
    let row = tokens.lines().find(|line| line.starts_with("| cot/big ")).unwrap();
    assert_eq!(row.matches('–').count(), 6, "{row}");
    assert!(text.contains("Calls without: cot/big 12 of 600."), "{text}");
    let value = json(&told);
    assert!(value["arms"][1]["tokens_in"].is_null() && value["arms"][1]["solve_tokens_out"].is_null());
    assert_eq!(serde_json::from_value::<Results>(value).expect("it reads back"), told);
    let csv = crate::csv_arms(&told);
    let line = csv.lines().find(|line| line.starts_with("synth,cot/big,")).unwrap();
    assert!(line.contains(",0,,,,,,,,"), "empty, and no zero: {line}");
    assert!(crate::latex(&told).contains("cot/big & 300 & 40.0 (35.0--45.0) & -- & -- "));
    // By the machine's time all are drawn, by tokens those that were counted.
    assert!(html(&told, &Rows::default()).contains("minutes of the machine per 1,000 questions for 5 arms"));
    told.costs.as_mut().unwrap().arms.iter_mut().for_each(|cost| cost.machine = None);
    let page = html(&told, &Rows::default());
    markup::check(&page);
    assert!(page.contains("for 4 arms") && !page.contains(" 0 tokens per question"), "it is not drawn by its tokens");
}

#[test]
fn hostile_text_is_inert_everywhere() {
    let hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'`|\u{1b}[31m\u{0}</title></style>";
    for told in [results(), two_sets()] {
        let plain = html(&told, &rows(sheet()));
        let page = html(&random::poisoned(told, hostile), &rows(random::poisoned_sheet(sheet(), hostile)));
        markup::check(&page);
        for tag in ["<script", "</script", "<img", "</title", "</style", "<article"] {
            assert_eq!(page.matches(tag).count(), plain.matches(tag).count(), "{tag}");
        }
    }
    let page = html(&random::poisoned(results(), hostile), &rows(random::poisoned_sheet(sheet(), hostile)));
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

#[test]
fn costs_are_in_both_forms_and_break_even_in_words() {
    let results = costed(results(), saving(1_500_000, (1_000_000, 2_000_000)));
    let (page, text) = (html(&results, &Rows::default()), markdown(&results));
    markup::check(&page);
    for id in ["costs", "machine-time", "break-even", "outlays", "calls"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    let line = |begins: &str, holds: &str| {
        let found = text.lines().find(|line| line.starts_with(begins) && line.contains(holds));
        found.unwrap_or_else(|| panic!("{begins} {holds} in {text}"))
    };
    let money = line("| two-stage/sd-r/big ", "$0.50 |");
    for figure in ["$0.45 to $0.55", "$0.833 |", "$0.741 to $0.937", "$0.62 |"] {
        assert!(money.contains(figure), "{figure} in {money}");
    }
    assert!(line("| two-stage/sd-r/big ", "6 min 40 s |").contains("11 min 07 s |"));
    assert!(line("| two-stage/sd-r/big ", "420 ms |").ends_with(" 1.9 s |"));
    let paid = line("| two-stage/sd-r/big ", "| cot/big    |     $1.20 |");
    assert!(paid.contains(" 800 |") && paid.contains("600 to 1,200"), "{paid}");
    let student = text.lines().find(|line| line.starts_with("| sd-r ") && line.contains("$0.80")).unwrap();
    assert!(student.contains("$1.20, 1 min 30 s"), "{student}");
    assert!(
        text.contains("Costs count every call") && text.contains("Latency is a question’s calls one after another")
    );
}

#[test]
fn costs_of_several_data_sets_stand_on_terms_that_are_told_once() {
    let mut results = two_sets();
    let bare = Results { by_dataset: Vec::new(), ..results.clone() };
    for set in &mut results.by_dataset {
        let alone = Results { arms: set.arms.clone(), ..bare.clone() };
        set.costs = costed(alone, saving(1_500_000, (1_000_000, 2_000_000))).costs;
        set.costs.as_mut().unwrap().arms[0].recorded = true;
    }
    let (page, text) = (html(&results, &Rows::default()), markdown(&results));
    for note in ["Costs count every call", "Latency is a question’s calls", "the decompositions came with the data, so"]
    {
        assert_eq!((page.matches(note).count(), text.matches(note).count()), (1, 1), "{note} in {text}");
    }
}

#[test]
fn what_is_not_known_of_costs_is_a_dash() {
    let mut results = costed(results(), saving(1, (0, 2)));
    let costs = results.costs.as_mut().unwrap();
    for arm in &mut costs.arms {
        (arm.money, arm.latency) = (None, None);
    }
    costs.arms[1].machine = None;
    let pair = &mut costs.distilling[0];
    (pair.measure, pair.one_off, pair.saving, pair.break_even) = (None, None, None, None);
    let text = markdown(&results);
    assert!(text.contains("costs are in the machine’s time; `machine_hour` under [costs]"), "{text}");
    assert!(!text.contains("Money, every call counted"), "a table without a figure is left out: {text}");
    let row = text.lines().find(|line| line.starts_with("| two-stage/sd-r/big | cot/big ")).unwrap();
    assert_eq!(row.matches('–').count(), 5, "{row}");
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
