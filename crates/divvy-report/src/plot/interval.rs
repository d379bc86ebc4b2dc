//! A small estimate with its interval, for a table cell: the same axis in every row of a column.

use super::canvas::{Canvas, Shape};
use super::scale::Scale;
use crate::table::Bar;

pub(crate) fn draw(bar: &Bar) -> String {
    let (width, height) = (104.0, 16.0);
    let middle = height / 2.0;
    let scale = Scale::new(bar.domain, (6.0, width - 6.0));
    let mut canvas = Canvas::new(width, height);
    canvas.line((6.0, middle), (width - 6.0, middle), "grid");
    if bar.domain.0 < 0.0 {
        canvas.line((scale.place(0.0), 1.0), (scale.place(0.0), height - 1.0), "axis");
    }
    canvas.line((scale.place(bar.low), middle), (scale.place(bar.high), middle), "range");
    canvas.marker((scale.place(bar.value), middle), 3.6, Shape::Circle, "estimate", "");
    canvas.finish("mini", "")
}
