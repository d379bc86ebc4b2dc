//! Every row of a run for the page, in chunks that a browser decodes when somebody looks: compressed JSON in base64, inside the
//! page while that is small, else as script files beside it, since a page on disk may not fetch. What is filtered by, the
//! state of each row, is apart and always there.

mod chunk;
mod index;

use divvy_core::records::Outcome;

pub use chunk::{Chunk, chunk};
use index::states;

/// Text in a page up to which rows are in the page itself: more of it, and browsers are slow to open it.
const ROOM: usize = 24 << 20;

/// The rows of one page, as far as they have been added.
#[derive(Debug, Default)]
pub struct Rows {
    room: usize,
    /// Name of the folder beside the page; none where there can be none.
    folder: Option<String>,
    place: Place,
    arms: Vec<String>,
    /// Questions of each chunk.
    sizes: Vec<usize>,
    states: Vec<u8>,
    /// Chunks in the page.
    chunks: Vec<Chunk>,
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Page,
    Folder,
    /// There are too many, and no folder to put them into.
    Nowhere,
}

/// A script file of the folder beside the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsFile {
    pub name: String,
    pub text: String,
}

impl Rows {
    /// For a page that has a folder of this name beside it, if there are many rows; `None` where it is alone.
    #[must_use]
    pub fn new(folder: Option<String>) -> Self {
        Self { room: ROOM, folder, ..Self::default() }
    }

    /// Takes the next chunk. The files that come back are to be written now: none while everything fits into the page.
    pub fn add(&mut self, chunk: Chunk) -> Vec<RowsFile> {
        self.arms.clone_from(&chunk.arms);
        self.sizes.push(chunk.questions);
        self.states.extend_from_slice(&chunk.states);
        self.length += chunk.rows.len() + chunk.calls.len();
        match self.place {
            Place::Page if self.length <= self.room => {
                self.chunks.push(chunk);
                Vec::new()
            }
            Place::Page => self.move_out(chunk),
            Place::Folder => files(self.sizes.len() - 1, &chunk).into(),
            Place::Nowhere => Vec::new(),
        }
    }

    /// The page is full.
    fn move_out(&mut self, last: Chunk) -> Vec<RowsFile> {
        self.place = if self.folder.is_some() { Place::Folder } else { Place::Nowhere };
        let mut chunks = std::mem::take(&mut self.chunks);
        if self.place == Place::Nowhere {
            return Vec::new();
        }
        chunks.push(last);
        chunks.iter().enumerate().flat_map(|(number, chunk)| files(number, chunk)).collect()
    }

    /// There is something to browse.
    pub(crate) fn any(&self) -> bool {
        self.place != Place::Nowhere && self.states.iter().any(|state| *state != states::NONE)
    }

    pub(crate) fn too_many(&self) -> bool {
        self.place == Place::Nowhere
    }

    /// Rows lie beside the page.
    #[must_use]
    pub fn beside(&self) -> bool {
        self.place == Place::Folder
    }

    pub(crate) fn count(&self) -> u64 {
        self.states.iter().filter(|state| **state != states::NONE).count() as u64
    }
}

fn files(number: usize, chunk: &Chunk) -> [RowsFile; 2] {
    let file = |kind: &str, text: &str| RowsFile {
        name: format!("{kind}-{number}.js"),
        text: format!("divvyChunk(\"{kind}-{number}\",\"{text}\");\n"),
    };
    [file("rows", &chunk.rows), file("calls", &chunk.calls)]
}

/// What the page needs of the rows, before and after its sections.
pub(crate) fn data(rows: &Rows) -> String {
    if !rows.any() {
        return String::new();
    }
    let block = |kind: &str, number: usize, text: &str| {
        format!(r#"<script type="application/octet-stream" id="{kind}-{number}.js">{text}</script>"#)
    };
    let mut text = index::script(rows);
    text.reserve(rows.length + 128 * rows.chunks.len());
    for (number, chunk) in rows.chunks.iter().enumerate() {
        text.push_str(&block("rows", number, &chunk.rows));
        text.push_str(&block("calls", number, &chunk.calls));
    }
    text
}

/// The state of a row that has an outcome, and how it reads.
pub(crate) fn state(correct: bool, outcome: Outcome) -> u8 {
    match (correct, outcome) {
        (true, _) => states::RIGHT,
        (false, Outcome::Answered) => states::RIGHT + 1,
        (false, Outcome::NoAnswer) => states::RIGHT + 2,
        (false, Outcome::Truncated) => states::RIGHT + 3,
        (false, Outcome::Refused) => states::RIGHT + 4,
        (false, Outcome::Error) => states::RIGHT + 5,
    }
}

#[cfg(test)]
mod tests;
