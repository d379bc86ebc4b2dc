//! Parquet through the row API: every row becomes a JSON object. Times, decimals and bytes become text; a data set of
//! questions has text, numbers and lists.

use std::{fs::File, path::Path};

use parquet::{
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use serde_json::{Map, Value};

use super::raw::RawRow;

/// All rows of the file. Pages are only decodable in order, so a damaged one ends the reading with an error.
pub(crate) fn read(path: &Path) -> Result<Vec<RawRow>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(|error| describe(&error))?;
    let mut rows = Vec::new();
    for (place, row) in (1..).zip(reader.get_row_iter(None).map_err(|error| describe(&error))?) {
        let row = row.map_err(|error| format!("row {place}: {}", describe(&error)))?;
        rows.push(RawRow { place, key: None, value: Ok(object(row)) });
    }
    Ok(rows)
}

fn describe(error: &ParquetError) -> String {
    format!("not a readable Parquet file: {error}")
}

fn object(row: Row) -> Value {
    Value::Object(row.into_columns().into_iter().map(|(name, field)| (name, json(field))).collect::<Map<_, _>>())
}

fn json(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        // NaN and infinity have no JSON form and become null.
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned().into(),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().cloned().map(json).collect(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::{
        column::writer::ColumnWriter,
        data_type::ByteArray,
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };
    use serde_json::json;

    use super::*;

    /// Two rows: a text column that may be null, a number, and a list of texts.
    fn write(path: &Path) {
        let schema = "message rows {
            REQUIRED BYTE_ARRAY question (UTF8);
            OPTIONAL INT64 answer;
            REQUIRED GROUP steps (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties.into()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let texts = |texts: &[&str]| texts.iter().map(|text| ByteArray::from(*text)).collect::<Vec<_>>();
        let mut index = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            match (index, column.untyped()) {
                (0, ColumnWriter::ByteArrayColumnWriter(typed)) => {
                    typed.write_batch(&texts(&["How many?", "Où?"]), None, None).unwrap();
                }
                (1, ColumnWriter::Int64ColumnWriter(typed)) => {
                    typed.write_batch(&[7], Some(&[1, 0]), None).unwrap();
                }
                (2, ColumnWriter::ByteArrayColumnWriter(typed)) => {
                    typed.write_batch(&texts(&["a", "b", "c"]), Some(&[1, 1, 1]), Some(&[0, 1, 0])).unwrap();
                }
                _ => panic!("an unexpected column"),
            }
            column.close().unwrap();
            index += 1;
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn texts_numbers_nulls_and_lists_become_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.parquet");
        write(&path);
        let rows = read(&path).unwrap();
        let values: Vec<_> = rows.into_iter().map(|row| (row.place, row.value.unwrap())).collect();
        assert_eq!(values[0], (1, json!({"question": "How many?", "answer": 7, "steps": ["a", "b"]})));
        assert_eq!(values[1], (2, json!({"question": "Où?", "answer": null, "steps": ["c"]})));
    }

    #[test]
    fn a_cut_file_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.parquet");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        for keep in [0, 4, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            assert!(read(&path).unwrap_err().contains("Parquet"), "{keep}");
        }
    }
}
