//! A directory of its own for a test, gone when the test is.

use std::path::{Path, PathBuf};

pub struct Workspace {
    directory: tempfile::TempDir,
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Workspace {
    /// # Panics
    /// When the machine has no room for a temporary directory.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("divvy-test-").tempdir().expect("a temporary directory");
        Self { directory }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file, with its directories, and returns where it is.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a directory in the workspace");
        }
        std::fs::write(&path, text).expect("a file in the workspace");
        path
    }
}
