//! Files out: JSON objects as JSONL, or as Parquet with a text column for each key. Written beside the target and renamed,
//! so that half a file is never visible.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::Value;

/// Writes the rows to a `.jsonl` or `.parquet` file that is not there yet.
///
/// # Errors
/// A sentence that names the file: another ending, a file that exists, a disk that is full.
pub fn write(path: &Path, rows: &[Value]) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| format!("cannot write `{}`: {error}", path.display());
    if path.exists() {
        return Err(format!("`{}` is already there; name a new file", path.display()));
    }
    let partial = path.with_extension("partial");
    let written = match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("jsonl") => jsonl(&partial, rows).map_err(|error| fail(&error)),
        Some("parquet") => parquet(&partial, rows).map_err(|error| fail(&error)),
        _ => return Err(format!("`{}` should end in .jsonl or .parquet", path.display())),
    };
    let renamed = written.and_then(|()| std::fs::rename(&partial, path).map_err(|error| fail(&error)));
    if renamed.is_err() {
        // What is half written helps nobody; the error says what happened.
        let _ = std::fs::remove_file(&partial);
    }
    renamed
}

fn jsonl(path: &Path, rows: &[Value]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for row in rows {
        serde_json::to_writer(&mut file, row)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()
}

#[cfg(feature = "parquet")]
fn parquet(path: &Path, rows: &[Value]) -> Result<(), String> {
    use parquet::{basic::Compression, errors::ParquetError, file::properties::WriterProperties};
    let columns: std::collections::BTreeSet<&str> =
        rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys().map(String::as_str)).collect();
    let write = || -> Result<(), ParquetError> {
        let fields: String = columns.iter().map(|name| format!("OPTIONAL BYTE_ARRAY {name} (UTF8); ")).collect();
        let schema = parquet::schema::parser::parse_message_type(&format!("message rows {{ {fields}}}"))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = File::create(path)?;
        let mut writer = parquet::file::writer::SerializedFileWriter::new(file, schema.into(), properties.into())?;
        for group in rows.chunks(ROWS_A_GROUP) {
            row_group(&mut writer, &columns, group)?;
        }
        Ok(writer.into_inner()?.sync_all()?)
    };
    write().map_err(|error| error.to_string())
}

/// Rows in one row group: bounds what a reader holds at once.
#[cfg(feature = "parquet")]
const ROWS_A_GROUP: usize = 1 << 14;

#[cfg(feature = "parquet")]
fn row_group(
    writer: &mut parquet::file::writer::SerializedFileWriter<File>,
    columns: &std::collections::BTreeSet<&str>,
    rows: &[Value],
) -> Result<(), parquet::errors::ParquetError> {
    use parquet::data_type::{ByteArray, ByteArrayType};
    let mut group = writer.next_row_group()?;
    for name in columns {
        let texts: Vec<Option<String>> = rows.iter().map(|row| text(row.get(name)?)).collect();
        let present: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
        let bytes: Vec<ByteArray> = texts.iter().flatten().map(|text| ByteArray::from(text.as_str())).collect();
        let mut column =
            group.next_column()?.ok_or_else(|| parquet::errors::ParquetError::General("no column".into()))?;
        column.typed::<ByteArrayType>().write_batch(&bytes, Some(&present), None)?;
        column.close()?;
    }
    group.close().map(drop)
}

/// A text as it is, anything else as JSON.
#[cfg(feature = "parquet")]
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(not(feature = "parquet"))]
fn parquet(_path: &Path, _rows: &[Value]) -> Result<(), String> {
    Err("this divvy was built without the `parquet` feature; write JSONL".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(path: &Path) -> Vec<Value> {
        crate::questions::raw::read_rows(path).unwrap().map(|row| row.unwrap().value.unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [json!({"id": "a", "ids": [1, 2], "n": 0.5}), json!({"id": "b", "ids": []})];
        for name in ["rows.jsonl", "rows.parquet"] {
            let path = folder.path().join(name);
            write(&path, &rows).unwrap();
            assert!(write(&path, &rows).unwrap_err().contains("is already there"));
            let read = values(&path);
            assert_eq!((read.len(), &read[0]["id"], &read[1]["id"]), (2, &json!("a"), &json!("b")), "{name}");
        }
        let text = values(&folder.path().join("rows.parquet"));
        assert_eq!((&text[0]["ids"], &text[0]["n"], &text[1]["n"]), (&json!("[1,2]"), &json!("0.5"), &Value::Null));
        assert!(write(&folder.path().join("rows.txt"), &rows).unwrap_err().contains(".jsonl or .parquet"));
        assert!(write(&folder.path().join("no/rows.jsonl"), &rows).unwrap_err().contains("cannot write"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no halves are left");
    }
}
