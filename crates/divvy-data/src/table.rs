//! A table out, as Parquet with typed columns, a part at a time: any number of rows in the memory of a few thousand. Written
//! beside the target and renamed when it is whole.

use std::path::{Path, PathBuf};

use divvy_core::graded::Kind;
use serde_json::Value;

/// Rows in one row group: bounds what a writer and a reader hold at once.
#[cfg(feature = "parquet")]
const ROWS_A_GROUP: usize = 1 << 12;

/// A Parquet file that is being written.
pub struct Table {
    path: PathBuf,
    #[cfg(feature = "parquet")]
    columns: Vec<(&'static str, Kind)>,
    #[cfg(feature = "parquet")]
    waiting: Vec<Vec<Value>>,
    #[cfg(feature = "parquet")]
    writer: parquet::file::writer::SerializedFileWriter<std::fs::File>,
}

impl Table {
    /// # Errors
    /// A sentence that names the file, or the feature that this divvy was built without.
    #[cfg(feature = "parquet")]
    pub fn create(path: &Path, columns: &[(&'static str, Kind)]) -> Result<Self, String> {
        use parquet::{basic::Compression, file::properties::WriterProperties, file::writer::SerializedFileWriter};
        let field = |(name, kind): &(&str, Kind)| match kind {
            Kind::Text => format!("OPTIONAL BYTE_ARRAY {name} (UTF8); "),
            Kind::Bool => format!("OPTIONAL BOOLEAN {name}; "),
            Kind::Integer => format!("OPTIONAL INT64 {name}; "),
            Kind::Float => format!("OPTIONAL DOUBLE {name}; "),
        };
        let fields: String = columns.iter().map(field).collect();
        let make = || -> Result<_, parquet::errors::ParquetError> {
            let schema = parquet::schema::parser::parse_message_type(&format!("message rows {{ {fields}}}"))?;
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            SerializedFileWriter::new(std::fs::File::create(partial(path))?, schema.into(), properties.into())
        };
        let writer = make().map_err(|error| cannot(path, &error))?;
        Ok(Self { path: path.to_owned(), columns: columns.to_vec(), waiting: Vec::new(), writer })
    }

    /// # Errors
    /// This divvy was built without the feature.
    #[cfg(not(feature = "parquet"))]
    pub fn create(_path: &Path, _columns: &[(&'static str, Kind)]) -> Result<Self, String> {
        Err("this divvy was built without the `parquet` feature; write CSV".to_owned())
    }

    /// Rows with a value for each column.
    ///
    /// # Errors
    /// A sentence that names the file: a disk that is full.
    #[cfg(feature = "parquet")]
    pub fn add(&mut self, rows: Vec<Vec<Value>>) -> Result<(), String> {
        self.waiting.extend(rows);
        while self.waiting.len() >= ROWS_A_GROUP {
            let rest = self.waiting.split_off(ROWS_A_GROUP);
            let group = std::mem::replace(&mut self.waiting, rest);
            self.group(&group).map_err(|error| cannot(&self.path, &error))?;
        }
        Ok(())
    }

    /// # Errors
    /// None: there is no such table.
    #[cfg(not(feature = "parquet"))]
    pub fn add(&mut self, _rows: Vec<Vec<Value>>) -> Result<(), String> {
        Ok(())
    }

    /// The file is whole, on the disk, and has its name.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn finish(self) -> Result<(), String> {
        let path = self.path.clone();
        #[cfg(feature = "parquet")]
        self.end().map_err(|error| cannot(&path, &error))?;
        std::fs::rename(partial(&path), &path).map_err(|error| cannot(&path, &error))
    }

    #[cfg(feature = "parquet")]
    fn end(mut self) -> Result<(), parquet::errors::ParquetError> {
        let rest = std::mem::take(&mut self.waiting);
        if !rest.is_empty() {
            self.group(&rest)?;
        }
        Ok(self.writer.into_inner()?.sync_all()?)
    }

    #[cfg(feature = "parquet")]
    fn group(&mut self, rows: &[Vec<Value>]) -> Result<(), parquet::errors::ParquetError> {
        use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
        let mut group = self.writer.next_row_group()?;
        for (at, (_, kind)) in self.columns.iter().enumerate() {
            let values = rows.iter().map(|row| &row[at]);
            let mut column =
                group.next_column()?.ok_or_else(|| parquet::errors::ParquetError::General("no column".into()))?;
            match kind {
                Kind::Text => {
                    write::<ByteArrayType>(&mut column, values, |value| Some(ByteArray::from(value.as_str()?)))
                }
                Kind::Bool => write::<BoolType>(&mut column, values, Value::as_bool),
                Kind::Integer => write::<Int64Type>(&mut column, values, Value::as_i64),
                Kind::Float => write::<DoubleType>(&mut column, values, Value::as_f64),
            }?;
            column.close()?;
        }
        group.close().map(drop)
    }
}

/// A value that is not of the column's kind is missing.
#[cfg(feature = "parquet")]
fn write<'v, T: parquet::data_type::DataType>(
    column: &mut parquet::file::writer::SerializedColumnWriter<'_>,
    values: impl Iterator<Item = &'v Value>,
    read: impl Fn(&Value) -> Option<T::T>,
) -> Result<(), parquet::errors::ParquetError> {
    let values: Vec<Option<T::T>> = values.map(read).collect();
    let present: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    column.typed::<T>().write_batch(&values, Some(&present), None).map(drop)
}

fn partial(path: &Path) -> PathBuf {
    path.with_extension("parquet.partial")
}

fn cannot(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot write `{}`: {error}", path.display())
}

#[cfg(all(test, feature = "parquet"))]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_with_its_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let columns = [("id", Kind::Text), ("right", Kind::Bool), ("n", Kind::Integer), ("share", Kind::Float)];
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
        let error = Table::create(Path::new("/nowhere/rows.parquet"), &[("id", Kind::Text)]).err().unwrap();
        assert!(error.contains("/nowhere/rows.parquet"), "{error}");
    }
}
