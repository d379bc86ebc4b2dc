//! A file mapped read-only into memory: weights are paged in as they are read, and several processes share one copy.

use std::{fs::File, io, ops::Deref, path::Path};

/// The bytes of a file.
///
/// The file must not be truncated or rewritten in place while it is mapped; model files are written beside and renamed,
/// which leaves the mapped copy intact.
pub struct MappedFile {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<memmap2::Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`. The error names the path.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        let name = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(name)?;
        let data = file.metadata().map_err(name)?;
        if !data.is_file() {
            return Err(name(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        if data.len() == 0 {
            return Ok(MappedFile { map: None });
        }
        // SAFETY: mapped read-only and private; that the file is not changed in place is the documented condition.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(name)?;
        Ok(MappedFile { map: Some(map) })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("divvy-kernels-{}-{name}", std::process::id()))
    }

    #[test]
    fn maps_what_was_written() {
        let path = temporary("written");
        std::fs::write(&path, b"weights").unwrap();
        assert_eq!(&*MappedFile::open(&path).unwrap(), b"weights");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_empty_file_has_no_bytes() {
        let path = temporary("empty");
        std::fs::write(&path, b"").unwrap();
        assert!(MappedFile::open(&path).unwrap().is_empty());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_missing_file_and_a_directory_are_named() {
        let path = temporary("missing");
        let error = MappedFile::open(&path).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing"));
        let error = MappedFile::open(&std::env::temp_dir()).err().unwrap();
        assert!(error.to_string().contains("not a regular file"));
    }
}
