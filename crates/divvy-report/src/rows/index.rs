//! What can be filtered by without decoding a row: one state for each question and arm.

use serde_json::json;

use super::{Place, Rows, chunk::packed_bytes};

/// Numbers that stand for states; the words are in the same order.
pub(super) mod states {
    /// Not answered yet.
    pub(crate) const NONE: u8 = 0;
    pub(crate) const RIGHT: u8 = 1;
    pub(crate) const WORDS: [&str; 7] = ["", "right", "wrong", "no answer", "truncated", "refused", "error"];
}

/// A block of data for the page's script.
pub(super) fn script(rows: &Rows) -> String {
    let index = json!({
        "arms": rows.arms,
        "sizes": rows.sizes,
        "words": states::WORDS,
        "states": packed_bytes(&rows.states),
        "folder": rows.folder.as_ref().filter(|_| rows.place == Place::Folder),
    });
    format!(r#"<script type="application/json" id="rows-index">{}</script>"#, inert(&index.to_string()))
}

/// JSON that cannot end the element it stands in; the same JSON to whoever reads it.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
