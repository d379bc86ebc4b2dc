//! An archive that Ray brings to every node of a job, under the name of its content: what is there already is not sent
//! again.

use std::{
    fs,
    io::{Cursor, Read, Write},
    path::PathBuf,
};

use divvy_core::digest::Digest;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::error::{LaunchError, at};

/// The dashboard of Ray 2.60 takes no more in one request.
const MOST_BYTES: usize = 100 << 20;

/// A file in an archive.
pub struct Entry {
    pub name: String,
    pub content: Content,
    /// Whether it is run.
    pub program: bool,
}

pub enum Content {
    Text(Vec<u8>),
    File(PathBuf),
    /// So many bytes of a file, from an offset on; they do not get smaller.
    Part {
        file: PathBuf,
        from: u64,
        length: u64,
    },
}

impl Entry {
    #[must_use]
    pub fn text(name: &str, text: &[u8]) -> Self {
        Self { name: name.to_owned(), content: Content::Text(text.to_vec()), program: false }
    }

    #[must_use]
    pub fn file(name: &str, file: PathBuf) -> Self {
        Self { name: name.to_owned(), content: Content::File(file), program: false }
    }

    fn read(&self) -> Result<Vec<u8>, LaunchError> {
        match &self.content {
            Content::Text(text) => Ok(text.clone()),
            Content::File(file) => fs::read(file).map_err(at(file)),
            Content::Part { file, from, length } => {
                let read = || {
                    let mut opened = fs::File::open(file)?;
                    std::io::Seek::seek(&mut opened, std::io::SeekFrom::Start(*from))?;
                    let mut bytes = Vec::new();
                    opened.take(*length).read_to_end(&mut bytes)?;
                    Ok(bytes)
                };
                read().map_err(at(file))
            }
        }
    }
}

pub struct Package {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Package {
    /// The same files make the same archive.
    ///
    /// # Errors
    /// A file that cannot be read, or more than the cluster takes.
    pub fn of(entries: &[Entry]) -> Result<Self, LaunchError> {
        let told =
            |error: zip::result::ZipError| LaunchError::Failed(format!("ray: an archive for the nodes: {error}"));
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for entry in entries {
            let packed = matches!(entry.content, Content::Part { .. });
            let method = if packed { CompressionMethod::Stored } else { CompressionMethod::Deflated };
            let options = SimpleFileOptions::default().compression_method(method);
            // Without a mode of its own a file would be nobody's to run.
            let options = options.unix_permissions(if entry.program { 0o755 } else { 0o644 });
            zip.start_file(&entry.name, options).map_err(told)?;
            zip.write_all(&entry.read()?).map_err(|error| told(error.into()))?;
        }
        let bytes = zip.finish().map_err(told)?.into_inner();
        if bytes.len() > MOST_BYTES {
            let [size, most] = [bytes.len(), MOST_BYTES].map(|bytes| bytes >> 20);
            return Err(LaunchError::Failed(format!(
                "ray: what is to be sent has {size} MiB, and the cluster takes {most}"
            )));
        }
        let name = format!("_ray_pkg_{}.zip", &Digest::of_bytes(&bytes).hex()[..32]);
        Ok(Self { name, bytes })
    }

    /// As jobs name it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("gcs://{}", self.name)
    }

    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_have_the_same_name_and_programs_may_be_run() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("program");
        fs::write(&file, "0123456789").unwrap();
        let entries = || {
            let part = Content::Part { file: file.clone(), from: 3, length: 4 };
            [
                Entry { program: true, ..Entry::file("bin/divvy", file.clone()) },
                Entry::text("recipe.toml", b"name = \"x\""),
                Entry { name: "part".to_owned(), content: part, program: false },
            ]
        };
        let (one, two) = (Package::of(&entries()).unwrap(), Package::of(&entries()).unwrap());
        assert_eq!((one.uri(), one.size()), (two.uri(), two.size()));
        assert!(one.uri().starts_with("gcs://_ray_pkg_") && one.uri().ends_with(".zip"));
        let mut read = zip::ZipArchive::new(Cursor::new(&one.bytes)).unwrap();
        assert_eq!(read.by_name("bin/divvy").unwrap().unix_mode().map(|mode| mode & 0o777), Some(0o755));
        let mut part = String::new();
        read.by_name("part").unwrap().read_to_string(&mut part).unwrap();
        assert_eq!(part, "3456");
        fs::write(&file, "other").unwrap();
        assert_ne!(Package::of(&entries()).unwrap().uri(), one.uri());
    }
}
