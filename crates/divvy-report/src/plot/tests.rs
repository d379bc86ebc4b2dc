use super::*;
use crate::testing::results;

#[test]
fn every_arm_is_a_marker_with_its_figures_and_a_name() {
    let svg = accuracy::draw(&results(), Page::Wide).expect("five arms");
    assert_eq!(svg.matches("<title>").count(), 5);
    assert!(svg.contains("<title>cot/big: 40.0 % (35.0–45.0), 400 tokens per question, n = 300</title>"), "{svg}");
    assert!(svg.contains(">two-stage/sd-r</text>"), "one solver throughout is left out of names");
    assert!(svg.starts_with("<svg class=\"plot wide\"") && svg.contains("role=\"img\""));
}

#[test]
fn a_curve_of_many_steps_is_thinned_but_keeps_its_extremes() {
    let mut training = results().training.remove(0);
    let point = training.curve[0];
    training.curve =
        (1..=50_000).map(|step| divvy_core::records::TrainPoint { step, dev_loss: None, ..point }).collect();
    training.curve[31_234].loss = 9.0;
    let svg = training::draw(&training, Page::Wide).expect("a curve");
    assert!(svg.len() < 40_000, "{}", svg.len());
    let lowest_y = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
    let smallest =
        lowest_y.split(' ').filter_map(|pair| pair.split(',').nth(1)?.parse::<f64>().ok()).fold(f64::MAX, f64::min);
    assert!(smallest < 40.0, "the spike survives: {smallest}");
}

#[test]
fn a_line_for_each_series_with_every_size_and_a_name_at_its_end() {
    let results = crate::efficiency::tests::sized();
    let svg = efficiency::draw(&results, Page::Wide).expect("two series");
    assert_eq!((svg.matches("<title>").count(), svg.matches("<polyline").count()), (5, 2), "{svg}");
    for name in [">two-stage/sd/big</text>", ">two-stage/teacher/se</text>", ">640</text>", ">100</text>"] {
        assert!(svg.contains(name), "{name}: {svg}");
    }
    let title = "<title>two-stage/sd@1600/big: 60.0 % (55.0–65.0) with 640 training rows, n = 300</title>";
    assert!(svg.contains(title), "{svg}");
    assert!(efficiency::draw(&results, Page::Phone).is_some_and(|svg| !svg.contains("NaN")));
}

#[test]
fn nothing_to_draw_draws_nothing() {
    let mut results = results();
    for arm in &mut results.arms {
        (arm.n, arm.accuracy, arm.by_steps) = (0, f64::NAN, Vec::new());
    }
    results.training[0].curve.clear();
    assert!(accuracy::draw(&results, Page::Wide).is_none());
    assert!(training::draw(&results.training[0], Page::Phone).is_none());
    assert!(steps::draw(&results).is_empty());
    assert!(efficiency::draw(&results, Page::Wide).is_none());
}
