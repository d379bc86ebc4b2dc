//! A training run: loss at every step as a line, dev loss as points, and the learning rate below on the same steps.

use divvy_core::{records::TrainPoint, results::TrainingSummary};

use super::{
    Page,
    canvas::{Anchor, Canvas, Shape, text_width},
    scale::{Scale, round_up},
};
use crate::{number, roles};

/// A line of more points than pixels is thinned: each bucket keeps its extremes.
const BUCKETS: usize = 400;

/// `None` when the run left no curve.
pub(crate) fn draw(training: &TrainingSummary, page: Page) -> Option<String> {
    let losses: Vec<(f64, f64)> = series(training, |point| Some(point.loss));
    if losses.is_empty() {
        return None;
    }
    let (width, height) = (page.width(), 330.0);
    let mut canvas = Canvas::new(width, height);
    let last = losses.iter().map(|point| point.0).fold(1.0, f64::max);
    let steps = Scale::new((0.0, last), (44.0, width - 62.0));
    draw_loss(&mut canvas, training, &losses, &steps, page);
    draw_rate(&mut canvas, training, &steps);
    for tick in steps.ticks(if page == Page::Wide { 8 } else { 4 }) {
        canvas.text((steps.place(tick), height - 22.0), Anchor::Middle, "tick", &number::count(tick.round() as u64));
    }
    canvas.text((steps.range.1, height - 4.0), Anchor::End, "title", "step →");
    let label = format!("Training loss, dev loss and learning rate of {}", roles::plain(&training.student));
    Some(canvas.finish(page.class(), &label))
}

fn draw_loss(canvas: &mut Canvas, training: &TrainingSummary, losses: &[(f64, f64)], steps: &Scale, page: Page) {
    let dev = series(training, |point| point.dev_loss);
    let highest = losses.iter().chain(&dev).map(|point| point.1).fold(0.0, f64::max);
    let y = Scale::new((0.0, round_up(highest, 5)), (218.0, 18.0));
    for tick in y.ticks(5) {
        canvas.line((steps.range.0, y.place(tick)), (steps.range.1, y.place(tick)), "grid");
        canvas.text((36.0, y.place(tick) + 4.0), Anchor::End, "tick", &number::decimal(tick, decimals(y.domain.1)));
    }
    let place = |point: &(f64, f64)| (steps.place(point.0), y.place(point.1));
    canvas.polyline(&thin(losses).iter().map(place).collect::<Vec<_>>(), "loss");
    canvas.polyline(&dev.iter().map(place).collect::<Vec<_>>(), "dev-line");
    for point in &dev {
        let tooltip = format!("dev loss {} at step {}", number::decimal(point.1, 3), number::count(point.0 as u64));
        canvas.marker(place(point), if page == Page::Wide { 4.5 } else { 3.8 }, Shape::Circle, "dev", &tooltip);
    }
    canvas.text((steps.range.0 + 2.0, 11.0), Anchor::Start, "title", "↑ loss, nats per token");
    name_ends(canvas, losses.last(), dev.last(), place);
}

/// The curves are named at their ends, where the eye arrives; names too close are pushed apart.
fn name_ends(
    canvas: &mut Canvas,
    loss: Option<&(f64, f64)>,
    dev: Option<&(f64, f64)>,
    place: impl Fn(&(f64, f64)) -> (f64, f64),
) {
    let (Some(loss), dev) = (loss.map(&place), dev.map(&place)) else { return };
    let (mut loss_y, mut dev_y) = (loss.1, dev.map_or(f64::NEG_INFINITY, |dev| dev.1));
    if (loss_y - dev_y).abs() < 15.0 {
        let middle = f64::midpoint(loss_y, dev_y);
        let down = if loss_y >= dev_y { 7.5 } else { -7.5 };
        (loss_y, dev_y) = (middle + down, middle - down);
    }
    canvas.text((loss.0 + 9.0, loss_y + 4.0), Anchor::Start, "name loss-name", "train");
    if dev.is_some() {
        canvas.text((loss.0 + 9.0, dev_y + 4.0), Anchor::Start, "name dev-name", "dev");
    }
}

fn draw_rate(canvas: &mut Canvas, training: &TrainingSummary, steps: &Scale) {
    let rates = series(training, |point| Some(point.learning_rate));
    let highest = rates.iter().map(|point| point.1).fold(0.0, f64::max);
    let y = Scale::new((0.0, if highest > 0.0 { highest } else { 1.0 }), (288.0, 252.0));
    canvas.line((steps.range.0, 288.0), (steps.range.1, 288.0), "axis");
    let line: Vec<(f64, f64)> = thin(&rates).iter().map(|point| (steps.place(point.0), y.place(point.1))).collect();
    canvas.polyline(&line, "rate");
    let label = format!("learning rate, at most {}", number::scientific(highest));
    let room = steps.range.1 - text_width(&label, 11.5);
    canvas.text((room.max(steps.range.0 + 2.0), 243.0), Anchor::Start, "title", &label);
}

fn series(training: &TrainingSummary, value: impl Fn(&TrainPoint) -> Option<f64>) -> Vec<(f64, f64)> {
    let pair =
        |point: &TrainPoint| value(point).filter(|value| value.is_finite()).map(|value| (point.step as f64, value));
    training.curve.iter().filter_map(pair).collect()
}

/// Enough decimals to tell ticks apart.
fn decimals(highest: f64) -> usize {
    if highest >= 5.0 {
        0
    } else if highest >= 0.5 {
        1
    } else {
        3
    }
}

fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * BUCKETS {
        return points.to_vec();
    }
    let bucket = points.len().div_ceil(BUCKETS);
    points.chunks(bucket).flat_map(extremes).collect()
}

fn extremes(bucket: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let index = |better: fn(f64, f64) -> bool| {
        (0..bucket.len())
            .reduce(|best, next| if better(bucket[next].1, bucket[best].1) { next } else { best })
            .unwrap_or(0)
    };
    let (low, high) = (index(|a, b| a < b), index(|a, b| a > b));
    let mut kept = vec![bucket[low.min(high)], bucket[low.max(high)]];
    kept.dedup();
    kept
}
