//! Accuracy against cost, one point an arm with its intervals: what an arrangement gives for what it takes, in money where the
//! price of every arm is known, in the machine's time where that is, else in tokens. A thin line joins the arms that no other arm beats on both.

use divvy_core::results::{
    ArmResult, Results,
    costs::{ArmCost, Measure},
};

use super::{
    Page,
    canvas::{Anchor, Canvas, Shape, text_width},
    labels::{self, Box2, Wanted},
    scale::{Scale, round_up},
};
use crate::{
    costs, number,
    roles::{self, Kind},
};

const FONT: f64 = 12.5;

/// What an arm takes is told in this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// For a thousand questions.
    Dollars,
    /// Minutes of the machine, for a thousand questions.
    Machine,
    /// For a question, in and out.
    Tokens,
}

/// Money where it is known of every arm, and any of them costs some; where none has a price, the machine's time likewise. A token of
/// a small model is not worth one of a large model.
pub(crate) fn axis(results: &Results) -> Axis {
    let known = results.arms.iter().all(|arm| arm.cost_nanos.is_some());
    let some = results.arms.iter().any(|arm| arm.cost_nanos.is_some_and(|nanos| nanos > 0));
    let worked = |arm: &ArmResult| cost_of(results, arm)?.machine.as_ref().map(|spent| spent.total);
    let all_worked = results.arms.iter().all(|arm| worked(arm).is_some());
    match () {
        () if known && some => Axis::Dollars,
        () if all_worked && results.arms.iter().any(|arm| worked(arm) > Some(0)) => Axis::Machine,
        () => Axis::Tokens,
    }
}

fn cost_of<'r>(results: &'r Results, arm: &ArmResult) -> Option<&'r ArmCost> {
    results.costs.as_ref()?.arms.iter().find(|cost| cost.arm == arm.arm)
}

impl Axis {
    fn measure(self) -> Option<Measure> {
        match self {
            Self::Dollars => Some(Measure::Money),
            Self::Machine => Some(Measure::Machine),
            Self::Tokens => None,
        }
    }

    /// A thousand questions of this amount each.
    fn scaled(self, amount: i64) -> f64 {
        amount as f64 / if self == Self::Machine { 60e3 } else { 1e6 }
    }

    fn of(self, results: &Results, arm: &ArmResult) -> Option<f64> {
        if arm.n == 0 {
            return None;
        }
        let cost = match self {
            Self::Tokens => number::ratio(arm.tokens()?, arm.n),
            Self::Dollars | Self::Machine => match cost_of(results, arm) {
                Some(cost) => {
                    costs::per_question(costs::spent(cost, self.measure()?)?, cost.n).map(|each| self.scaled(each))
                }
                None => arm.cost_nanos.map(|nanos| self.scaled(nanos) / arm.n as f64),
            },
        };
        cost.filter(|cost| *cost >= 0.0)
    }

    /// 95 % interval, where one was computed.
    fn interval(self, results: &Results, arm: &ArmResult) -> Option<(f64, f64)> {
        let mean = costs::spent(cost_of(results, arm)?, self.measure()?)?.question?;
        Some((self.scaled(mean.ci.0).max(0.0), self.scaled(mean.ci.1)))
    }

    /// For whoever hears the plot read.
    fn words(self) -> &'static str {
        match self {
            Self::Dollars => "dollars per 1,000 questions",
            Self::Machine => "minutes of the machine per 1,000 questions",
            Self::Tokens => "tokens per question",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Dollars => "$ per 1,000 questions →",
            Self::Machine => "minutes of the machine per 1,000 questions →",
            Self::Tokens => "tokens per question, in and out →",
        }
    }

    /// As many decimals as the ticks are apart.
    fn tick(self, tick: f64, step: f64) -> String {
        match self {
            Self::Tokens => number::count(tick.round() as u64),
            Self::Dollars | Self::Machine => number::decimal(tick, (-step.log10().floor()).clamp(0.0, 9.0) as usize),
        }
    }
}

struct Point {
    label: String,
    tooltip: String,
    kind: Kind,
    cost: f64,
    cost_ci: Option<(f64, f64)>,
    accuracy: f64,
    ci: (f64, f64),
}

struct Frame {
    x: Scale,
    y: Scale,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

pub(crate) fn shape(kind: Kind) -> Shape {
    match kind {
        Kind::OneCall => Shape::Circle,
        Kind::UntrainedDecomposer => Shape::Down,
        Kind::DistilledDecomposer => Shape::Diamond,
        Kind::TeacherDecomposer => Shape::Square,
        Kind::OtherDecomposer => Shape::Triangle,
        Kind::DistilledSolver => Shape::Cross,
        Kind::Untaught => Shape::Bar,
    }
}

/// `None` when no arm has an accuracy to draw.
pub(crate) fn draw(results: &Results, page: Page) -> Option<String> {
    let points = points(results);
    if points.is_empty() {
        return None;
    }
    let (width, height) = (page.width(), if page == Page::Wide { 430.0 } else { 400.0 });
    let mut canvas = Canvas::new(width, height);
    let frame = frame(&points, width, height);
    draw_axes(&mut canvas, &frame, page, axis(results));
    draw_frontier(&mut canvas, &frame, &points);
    draw_points(&mut canvas, &frame, &points);
    draw_labels(&mut canvas, &frame, &points);
    let label = format!(
        "Accuracy against {} for {} arms; the figures are in the table of arms.",
        axis(results).words(),
        points.len()
    );
    Some(canvas.finish(page.class(), &label))
}

/// Kinds that occur, for the key under the plot.
pub(crate) fn kinds(results: &Results) -> Vec<Kind> {
    let present: Vec<Kind> = results.arms.iter().map(|arm| roles::kind(results, arm)).collect();
    Kind::ALL.into_iter().filter(|kind| present.contains(kind)).collect()
}

/// A marker alone, for the key.
pub(crate) fn key(kind: Kind) -> String {
    let mut canvas = Canvas::new(16.0, 16.0);
    canvas.marker((8.0, 8.0), 5.0, shape(kind), &format!("dot {}", kind.class()), kind.words());
    canvas.finish("key", kind.words())
}

fn points(results: &Results) -> Vec<Point> {
    let (names, axis) = (roles::short_names(results), axis(results));
    let arms = results.arms.iter().zip(names);
    arms.filter_map(|(arm, label)| point(results, axis, arm, label)).collect()
}

/// `None` without a place on either axis.
fn point(results: &Results, axis: Axis, arm: &ArmResult, label: String) -> Option<Point> {
    let is_finite = [arm.accuracy, arm.ci.0, arm.ci.1].iter().all(|value| value.is_finite());
    let cost = axis.of(results, arm).filter(|_| is_finite)?;
    Some(Point {
        label,
        tooltip: tooltip(results, axis, arm),
        kind: roles::kind(results, arm),
        cost,
        cost_ci: axis.interval(results, arm),
        accuracy: arm.accuracy,
        ci: arm.ci,
    })
}

fn tooltip(results: &Results, axis: Axis, arm: &ArmResult) -> String {
    let tokens = arm.tokens().and_then(|tokens| number::ratio(tokens, arm.n));
    let tokens = tokens.map_or_else(|| number::DASH.to_owned(), |mean| number::count(mean.round() as u64));
    let dollars = match arm.cost_nanos {
        Some(_) => format!(", $ {} per 1,000", number::dollars_per_thousand(arm.cost_nanos, arm.n)),
        None => String::new(),
    };
    format!(
        "{}: {} % ({}), {tokens} tokens per question{dollars}{}, n = {}",
        arm.arm,
        number::percent(arm.accuracy),
        number::percent_interval(arm.ci),
        machine(results, axis, arm).unwrap_or_default(),
        number::count(arm.n),
    )
}

/// Where that is the axis.
fn machine(results: &Results, axis: Axis, arm: &ArmResult) -> Option<String> {
    let cost = cost_of(results, arm).filter(|_| matches!(axis, Axis::Machine))?;
    let each = costs::per_question(cost.machine.as_ref()?, cost.n)?;
    Some(format!(", {} of the machine per 1,000", costs::thousand(each, Measure::Machine)))
}

fn frame(points: &[Point], width: f64, height: f64) -> Frame {
    let (left, right, top, bottom) = (44.0, width - 14.0, 30.0, height - 46.0);
    let most = points.iter().map(|point| point.cost.max(point.cost_ci.map_or(0.0, |ci| ci.1))).fold(0.0, f64::max);
    let highest = points.iter().map(|point| point.ci.1.max(point.accuracy)).fold(0.0, f64::max);
    let x = Scale::new((0.0, round_up(most * 1.04, 6)), (left, right));
    let y = Scale::new((0.0, round_up(highest.min(1.0), 5).min(1.0)), (bottom, top));
    Frame { x, y, left, right, top, bottom }
}

fn draw_axes(canvas: &mut Canvas, frame: &Frame, page: Page, axis: Axis) {
    for tick in frame.y.ticks(5) {
        let y = frame.y.place(tick);
        canvas.line((frame.left, y), (frame.right, y), "grid");
        canvas.text((frame.left - 8.0, y + 4.0), Anchor::End, "tick", &number::decimal(tick * 100.0, 0));
    }
    let ticks = frame.x.ticks(if page == Page::Wide { 7 } else { 4 });
    let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(1.0);
    for tick in ticks {
        let x = frame.x.place(tick);
        canvas.line((x, frame.bottom), (x, frame.bottom + 5.0), "axis");
        canvas.text((x, frame.bottom + 19.0), Anchor::Middle, "tick", &axis.tick(tick, step));
    }
    canvas.line((frame.left, frame.bottom), (frame.right, frame.bottom), "axis");
    canvas.text((frame.right, frame.bottom + 38.0), Anchor::End, "title", axis.title());
    canvas.text((frame.left, frame.top - 15.0), Anchor::Start, "title", "↑ accuracy, %");
}

/// Arms with more right answers than every arm that takes no more.
fn draw_frontier(canvas: &mut Canvas, frame: &Frame, points: &[Point]) {
    let mut order: Vec<&Point> = points.iter().collect();
    order.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.accuracy.total_cmp(&a.accuracy)));
    let mut best = f64::NEG_INFINITY;
    let mut line = Vec::new();
    for point in order {
        if point.accuracy > best {
            best = point.accuracy;
            line.push((frame.x.place(point.cost), frame.y.place(point.accuracy)));
        }
    }
    canvas.polyline(&line, "frontier");
}

fn draw_points(canvas: &mut Canvas, frame: &Frame, points: &[Point]) {
    for point in points {
        let (x, low, high) = (frame.x.place(point.cost), frame.y.place(point.ci.0), frame.y.place(point.ci.1));
        let class = format!("whisker {}", point.kind.class());
        canvas.line((x, low), (x, high), &class);
        for end in [low, high] {
            canvas.line((x - 4.0, end), (x + 4.0, end), &class);
        }
        if let Some(ci) = point.cost_ci {
            let (y, left, right) = (frame.y.place(point.accuracy), frame.x.place(ci.0), frame.x.place(ci.1));
            canvas.line((left, y), (right, y), &class);
        }
    }
    for point in points {
        let at = (frame.x.place(point.cost), frame.y.place(point.accuracy));
        canvas.marker(at, 5.5, shape(point.kind), &format!("dot {}", point.kind.class()), &point.tooltip);
    }
}

fn draw_labels(canvas: &mut Canvas, frame: &Frame, points: &[Point]) {
    let at = |point: &Point| (frame.x.place(point.cost), frame.y.place(point.accuracy));
    let wanted: Vec<Wanted> = points
        .iter()
        .map(|point| Wanted { at: at(point), size: (text_width(&point.label, FONT), FONT + 3.0) })
        .collect();
    let mut obstacles = Vec::new();
    for point in points {
        let (x, y) = at(point);
        obstacles.push(Box2 { left: x - 8.0, top: y - 8.0, right: x + 8.0, bottom: y + 8.0 });
        let (top, bottom) = (frame.y.place(point.ci.1), frame.y.place(point.ci.0));
        obstacles.push(Box2 { left: x - 5.0, top, right: x + 5.0, bottom });
        if let Some(ci) = point.cost_ci {
            let (left, right) = (frame.x.place(ci.0), frame.x.place(ci.1));
            obstacles.push(Box2 { left, top: y - 3.0, right, bottom: y + 3.0 });
        }
    }
    let bounds = Box2 { left: frame.left, top: frame.top - 8.0, right: frame.right + 12.0, bottom: frame.bottom - 2.0 };
    for (point, place) in points.iter().zip(labels::place(&wanted, &obstacles, &bounds)) {
        let middle = ((place.left + place.right) / 2.0, (place.top + place.bottom) / 2.0);
        let (x, y) = at(point);
        let nearest = (x.clamp(place.left, place.right), y.clamp(place.top, place.bottom));
        if (nearest.0 - x).hypot(nearest.1 - y) > 22.0 {
            canvas.line((x, y), nearest, "leader");
        }
        canvas.text((middle.0, place.bottom - 4.0), Anchor::Middle, "name", &point.label);
    }
}
