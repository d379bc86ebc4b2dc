//! Rows out, one by one: JSON objects as JSONL, or as Parquet with a column for each key, nested as they are. Any number of them in
//! the memory of a few. Written beside the target and renamed, so that half a file is never visible.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use divvy_core::export::Shape;
use serde_json::Value;

use crate::{
    beside::{Beside, cannot},
    table::Table,
};

/// A file of rows that is being written. One that is let go before it is finished is gone.
pub struct RowsFile {
    names: Vec<&'static str>,
    out: Out,
}

enum Out {
    Lines(BufWriter<File>, Beside),
    Table(Box<Table>),
}

/// Says no to a file that rows cannot go to.
///
/// # Errors
/// A sentence that names the file: another ending, a file that exists.
pub fn check(path: &Path) -> Result<(), String> {
    if !matches!(ending(path), "jsonl" | "parquet") {
        return Err(format!("`{}` should end in .jsonl or .parquet", path.display()));
    }
    if path.exists() {
        return Err(format!("`{}` is already there; name a new file", path.display()));
    }
    Ok(())
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default()
}

impl RowsFile {
    /// A `.parquet` file, or else JSONL.
    ///
    /// # Errors
    /// A sentence that names the file, or the feature that this divvy was built without.
    pub fn create(path: &Path, columns: &[(&'static str, Shape)]) -> Result<Self, String> {
        let out = if ending(path) == "parquet" {
            Out::Table(Box::new(Table::create(path, columns)?))
        } else {
            let (beside, file) = Beside::create(path).map_err(|error| cannot(path, &error))?;
            Out::Lines(BufWriter::new(file), beside)
        };
        Ok(Self { names: columns.iter().map(|(name, _)| *name).collect(), out })
    }

    /// # Errors
    /// A sentence that names the file: a disk that is full.
    pub fn add(&mut self, mut row: Value) -> Result<(), String> {
        match &mut self.out {
            Out::Lines(file, beside) => line(file, &row).map_err(|error| beside.cannot(&error)),
            Out::Table(table) => table.add(vec![self.names.iter().map(|name| row[*name].take()).collect()]),
        }
    }

    /// The file is whole and on the disk; what is left is to give it its name.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn finish(self) -> Result<Beside, String> {
        match self.out {
            Out::Lines(file, beside) => {
                let whole = file.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all());
                whole.map_err(|error| beside.cannot(&error))?;
                Ok(beside)
            }
            Out::Table(table) => table.end(),
        }
    }
}

fn line(file: &mut impl Write, row: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, row)?;
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use divvy_core::graded::Kind;
    use serde_json::json;

    use super::*;

    fn columns() -> Vec<(&'static str, Shape)> {
        let part = Shape::Record(vec![("n", Shape::Plain(Kind::Float)), ("who", Shape::Plain(Kind::Text))]);
        vec![
            ("id", Shape::Plain(Kind::Text)),
            ("ids", Shape::List(Box::new(Shape::Plain(Kind::Integer)))),
            ("from", part),
        ]
    }

    fn rows() -> Vec<Value> {
        vec![
            json!({"id": "a", "ids": [1, 2], "from": {"n": 0.5, "who": null}}),
            json!({"id": "b", "ids": [], "from": {"n": null, "who": "x"}}),
        ]
    }

    fn written(path: &Path) -> Result<Beside, String> {
        let mut file = RowsFile::create(path, &columns())?;
        rows().into_iter().try_for_each(|row| file.add(row))?;
        file.finish()
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rows.jsonl", "rows.parquet"] {
            let path = folder.path().join(name);
            check(&path).unwrap();
            let whole = written(&path).unwrap();
            assert!(!path.exists(), "it has no name yet");
            whole.rename().unwrap();
            let read = crate::questions::raw::read_rows(&path).unwrap();
            let read: Vec<Value> = read.map(|row| row.unwrap().value.unwrap()).collect();
            assert_eq!(read, rows(), "{name}");
            assert!(check(&path).unwrap_err().contains("is already there"));
        }
        assert!(check(&folder.path().join("rows.txt")).unwrap_err().contains(".jsonl or .parquet"));
        assert!(written(&folder.path().join("no/rows.jsonl")).err().unwrap().contains("cannot write"));
        assert_eq!(files(folder.path()), 2, "no halves are left");
    }

    #[test]
    fn what_is_let_go_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rows.jsonl", "rows.parquet"] {
            let mut file = RowsFile::create(&folder.path().join(name), &columns()).unwrap();
            rows().into_iter().try_for_each(|row| file.add(row)).unwrap();
            assert_eq!(files(folder.path()), 1);
            drop(file);
            assert_eq!(files(folder.path()), 0, "{name}");
            drop(written(&folder.path().join(name)).unwrap());
            assert_eq!(files(folder.path()), 0, "{name}, whole but without its name");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rows.jsonl", "rows.parquet"] {
            std::os::unix::fs::symlink("/dev/full", folder.path().join(format!("{name}.partial"))).unwrap();
            let error = written(&folder.path().join(name)).err().unwrap();
            assert!(error.contains("cannot write") && error.contains(name), "{error}");
            assert_eq!(files(folder.path()), 0, "{name}");
        }
    }
}
