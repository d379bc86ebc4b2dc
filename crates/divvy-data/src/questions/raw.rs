//! A question file as raw rows, whatever its format: JSONL, CSV or TSV, Parquet, or one JSON document; each may be
//! gzipped. What a row means is decided elsewhere; here it is only found, decoded to JSON, and given its place.
//!
//! ```text
//! .jsonl .ndjson   a JSON object a line; blank lines are skipped
//! .csv .tsv        a header, then records; without a header the fields are numbered: {"0": …, "1": …}
//! .parquet         one object a row
//! .json            an array of rows, an object that holds one array, or an object of rows by key (official DROP)
//! ```

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

/// One row and its place: a line (JSONL, CSV) or, for the other formats, the row's number; both from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRow {
    pub place: u64,
    /// The row's key, where the file is an object of rows.
    pub key: Option<String>,
    /// The decoded row, or why there is none.
    pub value: Result<Value, String>,
}

/// The longest line that is still taken for a row; a file without line ends must not fill the memory.
const MAX_LINE: u64 = 64 << 20;

/// Some editors begin a UTF-8 file with a byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Rows in their order, or why the file cannot be read on, to be shown beside its path.
pub type Rows = Box<dyn Iterator<Item = Result<RawRow, String>>>;

/// The rows of `path`. An undecodable row is a row with a reason. Lines are read as they are asked for, so that a file of
/// any length takes no memory; the other formats are read at once.
///
/// # Errors
/// One reason, to be shown beside the path.
pub fn read_rows(path: &Path) -> Result<Rows, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (name, zipped) = match name.strip_suffix(".gz") {
        Some(inner) => (inner.to_owned(), true),
        None => (name, false),
    };
    let file = File::open(path).map_err(|error| describe(&error))?;
    let reader: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let rows = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("jsonl" | "ndjson") => return Ok(Box::new(JsonLines::new(BufReader::new(reader)))),
        Some("csv") => records(reader, b','),
        Some("tsv") => records(reader, b'\t'),
        Some("json") => document(reader),
        Some("parquet") if zipped => Err("a gzipped Parquet file cannot be read; unpack it".to_owned()),
        Some("parquet") => parquet_rows(path),
        _ => {
            Err("unknown format; known are .jsonl, .ndjson, .csv, .tsv, .json (each also .gz) and .parquet".to_owned())
        }
    }?;
    Ok(Box::new(rows.into_iter().map(Ok)))
}

fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file (a recipe's files lie beside it, or in the folder that --data names)".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        _ => error.to_string(),
    }
}

/// A JSON object a line.
struct JsonLines<R> {
    reader: R,
    line: Vec<u8>,
    /// Number of the line read last.
    place: u64,
}

impl<R: BufRead> JsonLines<R> {
    fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), place: 0 }
    }

    /// The next line, `None` at the end; what is wrong with it is wrong with the file.
    fn read_line(&mut self) -> Result<Option<&[u8]>, String> {
        self.place += 1;
        let place = self.place;
        self.line.clear();
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| format!("line {place}: {}", describe(&error)))?;
        if read as u64 == MAX_LINE && !self.line.ends_with(b"\n") {
            return Err(format!("line {place} is longer than {} MiB; is this JSONL?", MAX_LINE >> 20));
        }
        let mark = if place == 1 { self.line.strip_prefix(MARK) } else { None };
        Ok((read > 0).then(|| mark.unwrap_or(&self.line)))
    }
}

impl<R: BufRead> Iterator for JsonLines<R> {
    type Item = Result<RawRow, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let value = match self.read_line().transpose()? {
                Err(error) => return Some(Err(error)),
                Ok(text) if text.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(text) => decode(text),
            };
            return Some(Ok(RawRow { place: self.place, key: None, value }));
        }
    }
}

/// JSON of one line. serde_json counts lines of its own, so its position is cut down to the column.
fn decode(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        format!("not JSON: {message} at column {}", error.column())
    })
}

fn records(reader: impl Read, delimiter: u8) -> Result<Vec<RawRow>, String> {
    let mut csv = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(reader);
    let mut header: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    let mut record = csv::ByteRecord::new();
    while csv.read_byte_record(&mut record).map_err(|error| error.to_string())? {
        let place = record.position().map_or(0, csv::Position::line);
        let fields: Result<Vec<&str>, _> = record.iter().map(std::str::from_utf8).collect();
        let Ok(fields) = fields else {
            rows.push(RawRow { place, key: None, value: Err("not UTF-8".to_owned()) });
            continue;
        };
        if rows.is_empty() && header.is_none() && is_header(&fields) {
            header = Some(fields.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect());
            continue;
        }
        rows.push(RawRow { place, key: None, value: record_object(&fields, header.as_deref()) });
    }
    Ok(rows)
}

/// A first record is a header if its fields are distinct and read like names: short, no sentence, none empty. (Bamboogle's own
/// CSV has none.)
fn is_header(fields: &[&str]) -> bool {
    let names: Vec<String> =
        fields.iter().map(|field| field.trim_start_matches('\u{feff}').trim().to_ascii_lowercase()).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    distinct.len() == names.len()
        && names.iter().all(|name| {
            !name.is_empty() && name.len() <= 64 && !name.ends_with(['?', '.']) && name.split(' ').count() <= 3
        })
}

fn record_object(fields: &[&str], header: Option<&[String]>) -> Result<Value, String> {
    let text = |field: &str| Value::String(field.to_owned());
    let Some(header) = header else {
        let numbered = fields.iter().enumerate().map(|(index, field)| (index.to_string(), text(field)));
        return Ok(Value::Object(numbered.collect()));
    };
    if fields.len() != header.len() {
        return Err(format!("{} fields where the header names {}", fields.len(), header.len()));
    }
    Ok(Value::Object(header.iter().zip(fields).map(|(name, field)| (name.clone(), text(field))).collect()))
}

fn document(reader: impl Read) -> Result<Vec<RawRow>, String> {
    let mut reader = BufReader::new(reader);
    if reader.fill_buf().map_err(|error| describe(&error))?.starts_with(MARK) {
        reader.consume(MARK.len());
    }
    let value: Value = serde_json::from_reader(reader).map_err(|error| format!("not JSON: {error}"))?;
    match value {
        Value::Array(rows) => Ok(number(rows)),
        Value::Object(map) => keyed(map),
        _ => Err("neither an array nor an object of rows".to_owned()),
    }
}

fn number(rows: Vec<Value>) -> Vec<RawRow> {
    (1..).zip(rows).map(|(place, value)| RawRow { place, key: None, value: Ok(value) }).collect()
}

/// An object of objects is rows by key; an object with exactly one array of objects wraps its rows.
fn keyed(mut map: Map<String, Value>) -> Result<Vec<RawRow>, String> {
    if map.values().all(Value::is_object) {
        // Sorted: a JSON map's own order depends on how serde_json was built, and row numbers must not.
        let sorted: BTreeMap<String, Value> = map.into_iter().collect();
        return Ok((1..)
            .zip(sorted)
            .map(|(place, (key, value))| RawRow { place, key: Some(key), value: Ok(value) })
            .collect());
    }
    let arrays: Vec<String> = map.iter().filter(|(_, value)| value.is_array()).map(|(key, _)| key.clone()).collect();
    match arrays.as_slice() {
        [one] => match map.remove(one) {
            Some(Value::Array(rows)) => Ok(number(rows)),
            _ => Err("no rows".to_owned()),
        },
        _ => Err("an object that is neither rows by key nor a wrapper of one array of rows".to_owned()),
    }
}

#[cfg(feature = "parquet")]
fn parquet_rows(path: &Path) -> Result<Vec<RawRow>, String> {
    super::parquet::read(path)
}

#[cfg(not(feature = "parquet"))]
fn parquet_rows(_path: &Path) -> Result<Vec<RawRow>, String> {
    Err("this divvy was built without the `parquet` feature; convert the file to JSONL".to_owned())
}

#[cfg(test)]
mod tests;
