//! Every format, whole and damaged, through files.

use std::{fs, io::Write};

use serde_json::json;

use super::*;

fn rows(name: &str, content: &[u8]) -> Result<Vec<RawRow>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    read_rows(&path)?.collect()
}

/// Values and reasons with their places, in short.
fn check(name: &str, content: &[u8], expect: &[(u64, Result<Value, &str>)]) {
    let rows = rows(name, content).unwrap();
    assert_eq!(rows.len(), expect.len(), "{rows:?}");
    for (row, (place, value)) in rows.iter().zip(expect) {
        assert_eq!(row.place, *place);
        match (&row.value, value) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
            (got, want) => panic!("{got:?} instead of {want:?}"),
        }
    }
}

#[test]
fn json_lines_keep_their_line_numbers() {
    let text = b"\xef\xbb\xbf{\"q\": 1}\n\n{\"q\": \n{\"q\": 3}\r\n{\"q\": \"\xff\"}";
    check(
        "a.jsonl",
        text,
        &[
            (1, Ok(json!({"q": 1}))),
            (3, Err("not JSON: EOF while parsing a value at column")),
            (4, Ok(json!({"q": 3}))),
            (5, Err("not JSON")),
        ],
    );
}

#[test]
fn gzip_is_transparent_and_a_cut_archive_is_an_error() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&b"{\"q\": 1}\n".repeat(2)).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(rows("a.jsonl.gz", &packed).unwrap().len(), 2);
    assert!(rows("a.jsonl.gz", &packed[..packed.len() - 6]).is_err());
}

#[test]
fn csv_with_a_header_quotes_and_a_short_record() {
    let text = b"question,answer\n\"How many,\nin all?\",7\nlonely\n\"say \"\"hi\"\"\",x\n";
    check(
        "a.csv",
        text,
        &[
            (2, Ok(json!({"question": "How many,\nin all?", "answer": "7"}))),
            (4, Err("1 fields where the header names 2")),
            (5, Ok(json!({"question": "say \"hi\"", "answer": "x"}))),
        ],
    );
}

#[test]
fn csv_without_a_header_numbers_its_fields() {
    check(
        "a.csv",
        b"Who founded the town of Oak?,,ann\nWhere?,,there\n",
        &[
            (1, Ok(json!({"0": "Who founded the town of Oak?", "1": "", "2": "ann"}))),
            (2, Ok(json!({"0": "Where?", "1": "", "2": "there"}))),
        ],
    );
}

#[test]
fn a_document_may_be_an_array_a_wrapper_or_rows_by_key() {
    let want = [(1, Ok(json!({"q": 1}))), (2, Ok(json!({"q": 2})))];
    check("a.json", br#"[{"q": 1}, {"q": 2}]"#, &want);
    check("a.json", br#"{"note": "x", "examples": [{"q": 1}, {"q": 2}]}"#, &want);
    check("a.json", b"\xef\xbb\xbf[{\"q\": 1}, {\"q\": 2}]", &want);
    let keyed = rows("a.json", br#"{"p1": {"q": 1}, "p2": {"q": 2}}"#).unwrap();
    assert_eq!(keyed[1].key.as_deref(), Some("p2"));
    assert!(rows("a.json", b"[1, 2").unwrap_err().contains("line 1"));
}

#[test]
fn other_files_name_the_known_formats() {
    assert!(rows("a.txt", b"x").unwrap_err().contains(".jsonl"));
    assert!(read_rows(Path::new("/no/such.jsonl")).err().unwrap().contains("no such file"));
}
