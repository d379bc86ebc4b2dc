//! A table out, as Parquet with typed columns, a part at a time: any number of rows in the memory of a few thousand. Written
//! beside the target and renamed when it is whole.

#[cfg(feature = "parquet")]
mod leaves;

use std::path::Path;

use divvy_core::export::Shape;
use serde_json::Value;

use crate::beside::Beside;
#[cfg(feature = "parquet")]
use crate::beside::cannot;

/// Rows in one row group, and plain values in it: bound what a writer and a reader hold at once.
#[cfg(feature = "parquet")]
const ROWS_A_GROUP: usize = 1 << 12;
#[cfg(feature = "parquet")]
const VALUES_A_GROUP: usize = 1 << 20;

/// A Parquet file that is being written. One that is let go before it is finished is gone.
#[cfg(feature = "parquet")]
pub struct Table {
    columns: Vec<(&'static str, Shape)>,
    waiting: Vec<Vec<Value>>,
    /// Plain values in those.
    values: usize,
    writer: parquet::file::writer::SerializedFileWriter<std::fs::File>,
    beside: Beside,
}

#[cfg(feature = "parquet")]
impl Table {
    /// # Errors
    /// A sentence that names the file.
    pub fn create(path: &Path, columns: &[(&'static str, Shape)]) -> Result<Self, String> {
        use parquet::{basic::Compression, file::properties::WriterProperties, file::writer::SerializedFileWriter};
        let (beside, file) = Beside::create(path).map_err(|error| cannot(path, &error))?;
        let make = || -> Result<_, parquet::errors::ParquetError> {
            let schema = parquet::schema::parser::parse_message_type(&leaves::schema(columns))?;
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            SerializedFileWriter::new(file, schema.into(), properties.into())
        };
        let writer = make().map_err(|error| cannot(path, &error))?;
        Ok(Self { columns: columns.to_vec(), waiting: Vec::new(), values: 0, writer, beside })
    }

    /// Rows with a value for each column.
    ///
    /// # Errors
    /// A sentence that names the file: a disk that is full.
    pub fn add(&mut self, rows: Vec<Vec<Value>>) -> Result<(), String> {
        // Row by row: where a group ends does not hang on the parts in which they come.
        for row in rows {
            self.values += row.iter().map(leaves::count).sum::<usize>();
            self.waiting.push(row);
            if self.waiting.len() >= ROWS_A_GROUP || self.values >= VALUES_A_GROUP {
                self.group().map_err(|error| self.beside.cannot(&error))?;
            }
        }
        Ok(())
    }

    /// The file is whole, on the disk, and has its name.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn finish(self) -> Result<(), String> {
        self.end()?.rename()
    }

    /// The file is whole and on the disk.
    pub(crate) fn end(mut self) -> Result<Beside, String> {
        let last = if self.waiting.is_empty() { Ok(()) } else { self.group() };
        let whole = last.and_then(|()| Ok(self.writer.into_inner()?.sync_all()?));
        whole.map_err(|error| self.beside.cannot(&error))?;
        Ok(self.beside)
    }

    fn group(&mut self) -> Result<(), parquet::errors::ParquetError> {
        self.values = 0;
        leaves::write_group(&mut self.writer, &self.columns, &std::mem::take(&mut self.waiting))
    }
}

/// There is none in this divvy.
#[cfg(not(feature = "parquet"))]
pub struct Table(std::convert::Infallible);

#[cfg(not(feature = "parquet"))]
impl Table {
    /// # Errors
    /// This divvy was built without the feature.
    pub fn create(_path: &Path, _columns: &[(&'static str, Shape)]) -> Result<Self, String> {
        Err("this divvy was built without the `parquet` feature; write JSONL or CSV".to_owned())
    }

    /// # Errors
    /// None: there is no such table.
    pub fn add(&mut self, _rows: Vec<Vec<Value>>) -> Result<(), String> {
        match self.0 {}
    }

    /// # Errors
    /// None: there is no such table.
    pub fn finish(self) -> Result<(), String> {
        match self.0 {}
    }

    pub(crate) fn end(self) -> Result<Beside, String> {
        match self.0 {}
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests {
    use divvy_core::graded::Kind;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_with_its_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let columns = [("id", Kind::Text), ("right", Kind::Bool), ("n", Kind::Integer), ("share", Kind::Float)];
        let columns = columns.map(|(name, kind)| (name, Shape::Plain(kind)));
        let row = |n: usize| {
            let known = n.is_multiple_of(2);
            vec![json!(n.to_string()), json!(known), json!(known.then_some(n)), json!(n as f64 / 2.0)]
        };
        let mut table = Table::create(&path, &columns).unwrap();
        // Parts that do not meet the row groups.
        for part in (0..10_000).map(row).collect::<Vec<_>>().chunks(700) {
            table.add(part.to_vec()).unwrap();
        }
        assert!(!path.exists(), "half a file is never visible");
        table.finish().unwrap();
        let rows: Vec<Value> =
            crate::questions::raw::read_rows(&path).unwrap().map(|row| row.unwrap().value.unwrap()).collect();
        assert_eq!(rows.len(), 10_000);
        assert_eq!(rows[9_998], json!({"id": "9998", "right": true, "n": 9998, "share": 4999.0}));
        assert_eq!((&rows[1]["n"], &rows[1]["right"], &rows[1]["share"]), (&Value::Null, &json!(false), &json!(0.5)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no halves are left");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error =
            Table::create(Path::new("/nowhere/rows.parquet"), &[("id", Shape::Plain(Kind::Text))]).err().unwrap();
        assert!(error.contains("/nowhere/rows.parquet"), "{error}");
    }

    fn texts() -> Shape {
        Shape::List(Box::new(Shape::Plain(Kind::Text)))
    }

    /// Lists in records in lists, empty and missing at every depth, beside each other.
    #[test]
    fn nested_columns_are_read_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let turn = Shape::Record(vec![
            ("who", Shape::Plain(Kind::Text)),
            ("said", texts()),
            ("n", Shape::Plain(Kind::Integer)),
        ]);
        let columns = [("turns", Shape::List(Box::new(turn))), ("words", texts()), ("id", Shape::Plain(Kind::Integer))];
        let rows = [
            json!([[{"who": "a", "said": ["x", "y"], "n": 1}, {"who": "b", "said": [], "n": null}], ["w"], 0]),
            json!([[], [], 1]),
            json!([null, null, 2]),
            json!([[{"who": null, "said": null, "n": 3}, null, {"who": "c", "said": ["z", null], "n": -4}], ["v", "u", null], 3]),
            json!([[{"who": "d", "said": ["t"], "n": 5}], null, null]),
        ];
        let mut table = Table::create(&path, &columns).unwrap();
        // More than a group has.
        for _ in 0..1000 {
            table.add(rows.iter().map(|row| row.as_array().unwrap().clone()).collect()).unwrap();
        }
        table.finish().unwrap();
        let read: Vec<Value> =
            crate::questions::raw::read_rows(&path).unwrap().map(|row| row.unwrap().value.unwrap()).collect();
        assert_eq!(read.len(), 5000);
        for (at, row) in read.iter().enumerate() {
            let expect = &rows[at % 5];
            assert_eq!(row, &json!({"turns": expect[0], "words": expect[1], "id": expect[2]}), "row {at}");
        }
    }
}
