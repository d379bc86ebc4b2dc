//! Rows as Parquet's plain columns: of each value how much of what leads to it is there, and which list it goes on (the Dremel paper's
//! definition and repetition levels). Every step may be missing, so that each counts.

use std::fs::File;

use divvy_core::{export::Shape, graded::Kind};
use parquet::{
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::writer::{SerializedColumnWriter, SerializedFileWriter},
};
use serde_json::Value;

/// Parquet's own words for these columns.
pub(super) fn schema(columns: &[(&'static str, Shape)]) -> String {
    format!("message rows {{ {} }}", fields(columns))
}

fn fields(columns: &[(&'static str, Shape)]) -> String {
    columns.iter().map(|(name, shape)| field(name, shape)).collect()
}

fn field(name: &str, shape: &Shape) -> String {
    match shape {
        Shape::Plain(Kind::Text) => format!("OPTIONAL BYTE_ARRAY {name} (UTF8); "),
        Shape::Plain(Kind::Bool) => format!("OPTIONAL BOOLEAN {name}; "),
        Shape::Plain(Kind::Integer) => format!("OPTIONAL INT64 {name}; "),
        Shape::Plain(Kind::Float) => format!("OPTIONAL DOUBLE {name}; "),
        Shape::List(element) => {
            format!("OPTIONAL GROUP {name} (LIST) {{ REPEATED GROUP list {{ {} }} }} ", field("element", element))
        }
        Shape::Record(parts) => format!("OPTIONAL GROUP {name} {{ {} }} ", fields(parts)),
    }
}

/// Plain values in a value.
pub(super) fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(count).sum::<usize>().max(1),
        Value::Object(object) => object.values().map(count).sum::<usize>().max(1),
        _ => 1,
    }
}

pub(super) fn write_group(
    writer: &mut SerializedFileWriter<File>,
    columns: &[(&'static str, Shape)],
    rows: &[Vec<Value>],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for (at, (_, shape)) in columns.iter().enumerate() {
        let mut leaves = Vec::new();
        empty(shape, false, &mut leaves);
        rows.iter().for_each(|row| place(shape, &row[at], Depth::default(), &mut leaves));
        for leaf in leaves {
            let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("no column".into()))?;
            leaf.write(&mut column)?;
            column.close()?;
        }
    }
    group.close().map(drop)
}

/// One plain column of a row group.
struct Leaf<'v> {
    kind: Kind,
    in_list: bool,
    values: Vec<&'v Value>,
    defined: Vec<i16>,
    repeated: Vec<i16>,
}

/// Where a value is.
#[derive(Clone, Copy, Default)]
struct Depth {
    /// Steps to it that are there.
    defined: i16,
    /// The list, counted from without, that goes on with it; 0 is a new row.
    repeated: i16,
    /// Lists around it.
    lists: i16,
}

/// The leaves of a shape, without values.
fn empty(shape: &Shape, in_list: bool, leaves: &mut Vec<Leaf<'_>>) {
    match shape {
        Shape::Plain(kind) => {
            let (values, defined, repeated) = (Vec::new(), Vec::new(), Vec::new());
            leaves.push(Leaf { kind: *kind, in_list, values, defined, repeated });
        }
        Shape::List(element) => empty(element, true, leaves),
        Shape::Record(parts) => parts.iter().for_each(|(_, part)| empty(part, in_list, leaves)),
    }
}

fn width(shape: &Shape) -> usize {
    match shape {
        Shape::Plain(_) => 1,
        Shape::List(element) => width(element),
        Shape::Record(parts) => parts.iter().map(|(_, part)| width(part)).sum(),
    }
}

/// Puts a value into the leaves of its shape; one of another shape is missing.
fn place<'v>(shape: &Shape, value: &'v Value, at: Depth, leaves: &mut [Leaf<'v>]) {
    let within = Depth { defined: at.defined + 1, ..at };
    match (shape, value) {
        (Shape::Plain(kind), value) if fits(*kind, value) => leaves[0].put(Some(value), within),
        (Shape::List(element), Value::Array(items)) if !items.is_empty() => {
            for (nth, item) in items.iter().enumerate() {
                let repeated = if nth == 0 { at.repeated } else { at.lists + 1 };
                place(element, item, Depth { defined: at.defined + 2, repeated, lists: at.lists + 1 }, leaves);
            }
        }
        (Shape::List(_), Value::Array(_)) => missing(within, leaves),
        (Shape::Record(parts), Value::Object(object)) => {
            let mut rest = leaves;
            for (name, part) in parts {
                let (own, others) = rest.split_at_mut(width(part));
                place(part, object.get(*name).unwrap_or(&Value::Null), within, own);
                rest = others;
            }
        }
        _ => missing(at, leaves),
    }
}

fn missing(at: Depth, leaves: &mut [Leaf<'_>]) {
    leaves.iter_mut().for_each(|leaf| leaf.put(None, at));
}

fn fits(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Text => value.is_string(),
        Kind::Bool => value.is_boolean(),
        Kind::Integer => value.is_i64(),
        Kind::Float => value.is_number(),
    }
}

impl<'v> Leaf<'v> {
    fn put(&mut self, value: Option<&'v Value>, at: Depth) {
        self.values.extend(value);
        self.defined.push(at.defined);
        self.repeated.push(at.repeated);
    }

    fn write(&self, column: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match self.kind {
            Kind::Text => self.write_as::<ByteArrayType>(column, |value| Some(ByteArray::from(value.as_str()?))),
            Kind::Bool => self.write_as::<BoolType>(column, Value::as_bool),
            Kind::Integer => self.write_as::<Int64Type>(column, Value::as_i64),
            Kind::Float => self.write_as::<DoubleType>(column, Value::as_f64),
        }
    }

    fn write_as<T: DataType>(
        &self,
        column: &mut SerializedColumnWriter<'_>,
        read: impl Fn(&Value) -> Option<T::T>,
    ) -> Result<(), ParquetError> {
        let values: Vec<T::T> = self.values.iter().filter_map(|value| read(value)).collect();
        let repeated = self.in_list.then_some(&*self.repeated);
        column.typed::<T>().write_batch(&values, Some(&self.defined), repeated).map(drop)
    }
}
