//! What several targets begin with.

use std::path::PathBuf;

use divvy_testkit::checkpoint;

/// A folder with a model that loads, whose files a target writes over. It stays for the life of the process and longer.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn model_folder() -> PathBuf {
    let folder = tempfile::tempdir().expect("a folder for the model").keep();
    checkpoint::write_tiny(&folder).expect("it is written");
    folder
}
