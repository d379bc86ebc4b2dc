//! Rows for the page: in it while they are few, beside it when they are many, and nothing in them is markup.

use std::io::Read as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;
use crate::testing::sheet;

fn unpacked(text: &str) -> Value {
    let bytes = STANDARD.decode(text).unwrap();
    serde_json::from_reader(flate2::read::ZlibDecoder::new(&bytes[..])).unwrap()
}

fn rows(room: usize, folder: Option<&str>, chunks: usize) -> (Rows, Vec<RowsFile>) {
    let mut rows = Rows { room, ..Rows::new(folder.map(str::to_owned)) };
    let files = (0..chunks).flat_map(|_| rows.add(chunk(&sheet()))).collect();
    (rows, files)
}

#[test]
fn a_chunk_holds_the_rows_their_calls_and_their_states() {
    let chunk = chunk(&sheet());
    assert_eq!(chunk.states, [1, 1, 6, 0], "right, right; error, not there");
    let (rows, calls) = (unpacked(&chunk.rows), unpacked(&chunk.calls));
    assert_eq!(rows[0]["rows"][1]["calls"], json!([1, 0]));
    assert_eq!(rows[0]["rows"][1]["tokens"], json!({"input": 180, "cached": 64, "output": 16}));
    assert_eq!(calls[1]["reply"], "1. How many were there?");
    assert_eq!(calls[0]["request"]["messages"][0]["content"], "How many boxes are left?");
}

#[test]
fn tokens_that_nobody_counted_are_null() {
    let mut sheet = sheet();
    sheet.questions[0].rows[0].tokens = None;
    assert_eq!(unpacked(&chunk(&sheet).rows)[0]["rows"][0]["tokens"], Value::Null);
}

#[test]
fn few_rows_are_in_the_page() {
    let (rows, files) = rows(ROOM, Some("x.rows"), 2);
    assert!(files.is_empty() && rows.any() && !rows.beside());
    assert_eq!(rows.count(), 6);
    let data = data(&rows);
    assert_eq!(data.matches(r#"<script type="application/octet-stream""#).count(), 4);
    let index = data.split_once('>').unwrap().1.split_once('<').unwrap().0;
    let index: Value = serde_json::from_str(index).unwrap();
    assert_eq!((&index["sizes"], &index["folder"]), (&json!([2, 2]), &Value::Null));
    let states = STANDARD.decode(index["states"].as_str().unwrap()).unwrap();
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(&states[..]).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [1, 1, 6, 0, 1, 1, 6, 0]);
}

#[test]
fn many_rows_lie_beside_it_all_of_them() {
    let length = chunk(&sheet()).rows.len() + chunk(&sheet()).calls.len();
    let (rows, files) = rows(2 * length, Some("x.rows"), 4);
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let all = ["rows-0", "calls-0", "rows-1", "calls-1", "rows-2", "calls-2", "rows-3", "calls-3"]
        .map(|name| format!("{name}.js"));
    assert_eq!(names, all);
    assert!(files[6].text.starts_with(r#"divvyChunk("rows-3",""#) && files[6].text.is_ascii());
    assert!(rows.beside() && rows.any() && !data(&rows).contains("octet-stream"));
    assert!(data(&rows).contains(r#""folder":"x.rows""#));
}

#[test]
fn where_there_is_no_folder_too_many_rows_are_left_out_and_it_is_said() {
    let (rows, files) = rows(10, None, 2);
    assert!(files.is_empty() && rows.too_many() && !rows.any());
    assert_eq!((rows.count(), data(&rows)), (6, String::new()));
    let page = crate::html(&crate::testing::results(), &rows);
    assert!(page.contains("There are 6 rows, too many for one file"));
}
