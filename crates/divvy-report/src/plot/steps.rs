//! Accuracy by number of reasoning steps, one small panel an arm on shared axes, every other arm in grey behind it: where
//! decomposing starts to pay. Panels wrap, so the same picture serves a phone.

use divvy_core::results::{ArmResult, Results};

use super::{
    accuracy::shape,
    canvas::{Anchor, Canvas},
    scale::Scale,
};
use crate::{number, roles};

const WIDTH: f64 = 268.0;
const HEIGHT: f64 = 176.0;

/// One `(caption, picture)` for each arm that has slices.
pub(crate) fn draw(results: &Results) -> Vec<(String, String)> {
    let steps = || results.arms.iter().flat_map(|arm| arm.by_steps.iter().map(|slice| f64::from(slice.steps)));
    let (low, high) = (steps().fold(f64::INFINITY, f64::min), steps().fold(0.0, f64::max));
    let x = Scale::new((low - 0.4, high + 0.4), (34.0, WIDTH - 8.0));
    let y = Scale::new((0.0, 1.0), (HEIGHT - 34.0, 10.0));
    let names = roles::short_names(results);
    let drawn = results.arms.iter().zip(names).filter(|(arm, _)| !arm.by_steps.is_empty());
    drawn.map(|(arm, name)| (name, panel(results, arm, &x, &y))).collect()
}

fn panel(results: &Results, arm: &ArmResult, x: &Scale, y: &Scale) -> String {
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    draw_axes(&mut canvas, x, y);
    for other in results.arms.iter().filter(|other| other.arm != arm.arm) {
        canvas.polyline(&line(other, x, y), "others");
    }
    let kind = roles::kind(results, arm);
    canvas.polyline(&line(arm, x, y), &format!("series {}", kind.class()));
    for slice in arm.by_steps.iter().filter(|slice| slice.n > 0) {
        let share = slice.correct as f64 / slice.n as f64;
        let at = x.place(f64::from(slice.steps));
        if let Some((low, high)) = slice.ci {
            canvas.line((at, y.place(low)), (at, y.place(high)), &format!("whisker {}", kind.class()));
        }
        let interval = slice.ci.map_or(String::new(), |ci| format!(" ({})", number::percent_interval(ci)));
        let tooltip =
            format!("{} steps: {} %{interval}, n = {}", slice.steps, number::percent(share), number::count(slice.n));
        canvas.marker((at, y.place(share)), 3.8, shape(kind), &format!("dot {}", kind.class()), &tooltip);
    }
    canvas.finish("panel", &format!("Accuracy of {} by number of reasoning steps", arm.arm))
}

fn draw_axes(canvas: &mut Canvas, x: &Scale, y: &Scale) {
    for tick in [0.0, 0.5, 1.0] {
        canvas.line((x.range.0, y.place(tick)), (x.range.1, y.place(tick)), "grid");
        canvas.text((x.range.0 - 6.0, y.place(tick) + 4.0), Anchor::End, "tick", &number::decimal(tick * 100.0, 0));
    }
    let whole = |tick: &f64| (tick - tick.round()).abs() < 1e-6;
    for tick in x.ticks(8).into_iter().filter(whole) {
        canvas.text((x.place(tick), HEIGHT - 18.0), Anchor::Middle, "tick", &number::decimal(tick, 0));
    }
    canvas.text((x.range.1, HEIGHT - 3.0), Anchor::End, "title", "reasoning steps →");
}

fn line(arm: &ArmResult, x: &Scale, y: &Scale) -> Vec<(f64, f64)> {
    let slices = arm.by_steps.iter().filter(|slice| slice.n > 0);
    slices.map(|slice| (x.place(f64::from(slice.steps)), y.place(slice.correct as f64 / slice.n as f64))).collect()
}
