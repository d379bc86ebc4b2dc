//! A file on its way: it is written beside its target and renamed when it is whole. Whoever lets it go before that leaves nothing
//! behind.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

pub struct Beside {
    target: PathBuf,
    partial: PathBuf,
}

impl Beside {
    /// In the folder of the target, which must be there.
    ///
    /// # Errors
    /// The system's.
    pub fn create(target: &Path) -> io::Result<(Self, File)> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let beside = Self { target: target.to_owned(), partial: target.with_file_name(name) };
        let file = File::create(&beside.partial)?;
        Ok((beside, file))
    }

    /// Its file is whole and on the disk: it gets its name.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn rename(self) -> Result<(), String> {
        fs::rename(&self.partial, &self.target).map_err(|error| self.cannot(&error))
    }

    /// What is to be said where it could not be written.
    pub fn cannot(&self, error: &dyn std::fmt::Display) -> String {
        cannot(&self.target, error)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // What has its name is not there any more; what is half written helps nobody.
        let _ = fs::remove_file(&self.partial);
    }
}

pub(crate) fn cannot(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot write `{}`: {error}", path.display())
}
