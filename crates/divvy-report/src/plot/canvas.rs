//! An SVG being written. Every coordinate passes through here: an element with a coordinate that is not a number is left out,
//! so `NaN` never reaches a page. Text is escaped.

use crate::html::escape::escape;

pub(crate) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Circle,
    Square,
    Diamond,
    Triangle,
    Down,
    Cross,
    Bar,
}

/// Average width of a character at a font size of 1, generous so that labels do not touch.
const CHARACTER_WIDTH: f64 = 0.56;

/// Estimated width of a text in pixels.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    unicode_width::UnicodeWidthStr::width(text) as f64 * CHARACTER_WIDTH * size
}

impl Canvas {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub(crate) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        if let Some([x1, y1, x2, y2]) = written([x1, y1, x2, y2]) {
            self.body.push_str(&format!(r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#));
        }
    }

    /// Connected points; a point that is not a number is skipped.
    pub(crate) fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let texts: Vec<String> =
            points.iter().filter_map(|(x, y)| written([*x, *y])).map(|[x, y]| format!("{x},{y}")).collect();
        if texts.len() > 1 {
            self.body.push_str(&format!(r#"<polyline class="{class}" points="{}"/>"#, texts.join(" ")));
        }
    }

    pub(crate) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        if let Some([x, y]) = written([x, y]) {
            let text = escape(text);
            self.body
                .push_str(&format!(r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>"#));
        }
    }

    /// A marker of about `size` pixels radius, with a tooltip.
    pub(crate) fn marker(&mut self, (x, y): (f64, f64), size: f64, shape: Shape, class: &str, tooltip: &str) {
        if !x.is_finite() || !y.is_finite() {
            return;
        }
        let path = match shape {
            Shape::Circle => return self.circle((x, y), size, class, tooltip),
            Shape::Square => vec![(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            Shape::Diamond => vec![(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
            Shape::Triangle => vec![(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)],
            Shape::Down => vec![(0.0, 1.15), (1.1, -0.85), (-1.1, -0.85)],
            Shape::Bar => vec![(-1.25, -0.5), (1.25, -0.5), (1.25, 0.5), (-1.25, 0.5)],
            Shape::Cross => cross(),
        };
        let points: Vec<String> = path
            .iter()
            .filter_map(|(dx, dy)| written([x + dx * size, y + dy * size]))
            .map(|[x, y]| format!("{x},{y}"))
            .collect();
        let tooltip = escape(tooltip);
        self.body.push_str(&format!(
            r#"<polygon class="{class}" points="{}"><title>{tooltip}</title></polygon>"#,
            points.join(" ")
        ));
    }

    fn circle(&mut self, (x, y): (f64, f64), radius: f64, class: &str, tooltip: &str) {
        if let Some([x, y, radius]) = written([x, y, radius]) {
            let tooltip = escape(tooltip);
            self.body.push_str(&format!(
                r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}"><title>{tooltip}</title></circle>"#
            ));
        }
    }

    /// The finished picture; `label` is what a screen reader says.
    pub(crate) fn finish(self, class: &str, label: &str) -> String {
        let [width, height] = written([self.width, self.height]).expect("a canvas has a finite size");
        let (label, body) = (escape(label), self.body);
        format!(
            r#"<svg class="plot {class}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">{body}</svg>"#
        )
    }
}

fn cross() -> Vec<(f64, f64)> {
    let (long, short) = (1.15, 0.4);
    vec![
        (-short, -long),
        (short, -long),
        (short, -short),
        (long, -short),
        (long, short),
        (short, short),
        (short, long),
        (-short, long),
        (-short, short),
        (-long, short),
        (-long, -short),
        (-short, -short),
    ]
}

/// Coordinates as text with at most two decimals; nothing when one is not a number.
fn written<const N: usize>(values: [f64; N]) -> Option<[String; N]> {
    let write = |value: f64| {
        let text = format!("{value:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text == "-0" { "0".to_owned() } else { text.to_owned() }
    };
    values.iter().all(|value| value.is_finite()).then(|| values.map(write))
}
