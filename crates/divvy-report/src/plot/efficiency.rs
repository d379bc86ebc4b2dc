//! Accuracy against the number of training rows, a line for each series: which part is learnt from less? Rows grow by
//! factors, so the axis is logarithmic, and its marks are the sizes that were trained.

use divvy_core::results::Results;

use super::{
    Page,
    accuracy::shape,
    canvas::{Anchor, Canvas, text_width},
    labels::{self, Box2, Wanted},
    scale::{Scale, round_up},
};
use crate::{
    efficiency::{self, Point, Series},
    number,
};

const HEIGHT: f64 = 340.0;
const FONT: f64 = 12.5;

struct Frame {
    x: Scale,
    y: Scale,
    right: f64,
}

impl Frame {
    fn at(&self, point: &Point<'_>) -> (f64, f64) {
        (self.across(point.rows), self.y.place(point.arm.accuracy))
    }

    fn across(&self, rows: u64) -> f64 {
        self.x.place((rows.max(1) as f64).ln())
    }
}

/// `None` where no student has several sizes.
pub(crate) fn draw(results: &Results, page: Page) -> Option<String> {
    let all = efficiency::series(results);
    if all.is_empty() {
        return None;
    }
    let frame = frame(&all, page.width());
    let mut canvas = Canvas::new(page.width(), HEIGHT);
    draw_axes(&mut canvas, &frame, &all);
    all.iter().for_each(|series| draw_series(&mut canvas, &frame, series));
    draw_names(&mut canvas, &frame, &all);
    Some(canvas.finish(page.class(), "Accuracy by number of training rows"))
}

fn frame(all: &[Series<'_>], width: f64) -> Frame {
    let points = || all.iter().flat_map(|series| &series.points);
    let rows = || points().map(|point| (point.rows.max(1) as f64).ln());
    let (low, high) = (rows().fold(f64::INFINITY, f64::min), rows().fold(0.0, f64::max));
    let room = 0.06 * (high - low).max(1.0);
    let highest = points().map(|point| point.arm.ci.1.max(point.arm.accuracy)).fold(0.0, f64::max);
    let right = width - 14.0;
    Frame {
        x: Scale::new((low - room, high + room), (44.0, right)),
        y: Scale::new((0.0, round_up(highest.min(1.0), 5).min(1.0)), (HEIGHT - 46.0, 30.0)),
        right,
    }
}

fn draw_axes(canvas: &mut Canvas, frame: &Frame, all: &[Series<'_>]) {
    let (left, bottom) = (frame.x.range.0, frame.y.range.0);
    for tick in frame.y.ticks(5) {
        let y = frame.y.place(tick);
        canvas.line((left, y), (frame.right, y), "grid");
        canvas.text((left - 8.0, y + 4.0), Anchor::End, "tick", &number::decimal(tick * 100.0, 0));
    }
    let mut sizes: Vec<u64> = all.iter().flat_map(|series| &series.points).map(|point| point.rows).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut free = left;
    for rows in sizes {
        let (x, text) = (frame.across(rows), number::count(rows));
        canvas.line((x, bottom), (x, bottom + 5.0), "axis");
        // A number that would touch the one before it is left out.
        let half = text_width(&text, FONT) / 2.0;
        if x - half >= free {
            canvas.text((x, bottom + 19.0), Anchor::Middle, "tick", &text);
            free = x + half + 6.0;
        }
    }
    canvas.line((left, bottom), (frame.right, bottom), "axis");
    canvas.text((frame.right, bottom + 38.0), Anchor::End, "title", "training rows →");
    canvas.text((left, frame.y.range.1 - 15.0), Anchor::Start, "title", "↑ accuracy, %");
}

fn draw_series(canvas: &mut Canvas, frame: &Frame, series: &Series<'_>) {
    let class = series.kind.class();
    let line: Vec<(f64, f64)> = series.points.iter().map(|point| frame.at(point)).collect();
    canvas.polyline(&line, &format!("series {class}"));
    for point in &series.points {
        let (x, ci) = (frame.across(point.rows), point.arm.ci);
        canvas.line((x, frame.y.place(ci.0)), (x, frame.y.place(ci.1)), &format!("whisker {class}"));
        let spread = point.arm.pool.as_ref().map(|pool| (pool.of.len(), pool.spread()));
        let seeds = spread.map_or(String::new(), |(seeds, (low, high))| {
            canvas.line((x, frame.y.place(low)), (x, frame.y.place(high)), &format!("spread {class}"));
            format!(", {seeds} seeds from {} to {} %", number::percent(low), number::percent(high))
        });
        let tooltip = format!(
            "{}: {} % ({}) with {} training rows, n = {}{seeds}",
            point.arm.arm,
            number::percent(point.arm.accuracy),
            number::percent_interval(ci),
            number::count(point.rows),
            number::count(point.arm.n)
        );
        canvas.marker(frame.at(point), 5.0, shape(series.kind), &format!("dot {class}"), &tooltip);
    }
}

/// Each line is named at its last point.
fn draw_names(canvas: &mut Canvas, frame: &Frame, all: &[Series<'_>]) {
    let ends: Vec<(f64, f64)> = all.iter().filter_map(|series| Some(frame.at(series.points.last()?))).collect();
    let size = |series: &Series<'_>| (text_width(&series.name, FONT), FONT + 3.0);
    let wanted: Vec<Wanted> =
        all.iter().zip(&ends).map(|(series, at)| Wanted { at: *at, size: size(series) }).collect();
    let marks = all.iter().flat_map(|series| &series.points).map(|point| {
        let (x, y) = frame.at(point);
        Box2 { left: x - 7.0, top: y - 7.0, right: x + 7.0, bottom: y + 7.0 }
    });
    let bounds = Box2 {
        left: frame.x.range.0,
        top: frame.y.range.1 - 8.0,
        right: frame.right + 12.0,
        bottom: frame.y.range.0 - 2.0,
    };
    for (series, place) in all.iter().zip(labels::place(&wanted, &marks.collect::<Vec<_>>(), &bounds)) {
        let middle = (place.left + place.right) / 2.0;
        canvas.text((middle, place.bottom - 4.0), Anchor::Middle, "name", &series.name);
    }
}
