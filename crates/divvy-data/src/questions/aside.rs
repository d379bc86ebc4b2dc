//! Questions set aside in a file, so that their number does not show in memory. The file has no name: it goes with the process,
//! however that ends. What was put last is in memory until there is enough of it to be worth a write, so that a small set
//! never has a file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use divvy_core::questions::Bodies;

/// What is put is written when there is more of it than this.
const MOST_IN_MEMORY: usize = 4 << 20;
/// Read at once: some dozens of questions that follow one another.
const BLOCK: usize = 16 << 10;
/// A body is preceded by its length.
const LENGTH: usize = 4;

/// Bodies in a file.
pub struct Aside {
    folder: PathBuf,
    most_in_memory: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    file: Option<File>,
    /// Bytes in the file; what follows them is in `tail`.
    written: u64,
    tail: Vec<u8>,
    /// A part of the file, as it was read last.
    block: Vec<u8>,
    block_begins: u64,
}

impl Aside {
    /// In `folder`, or in the one that it would lie in; where no file can be made there, with the temporary files.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(&folder);
        Self::with(there.to_owned(), MOST_IN_MEMORY)
    }

    fn with(folder: PathBuf, most_in_memory: usize) -> Self {
        Self { folder, most_in_memory, inner: Mutex::default() }
    }

    fn no_room(&self, error: &io::Error) -> io::Error {
        let folder = self.folder.display();
        io::Error::new(error.kind(), format!("`{folder}` has no room for the questions to be set aside: {error}"))
    }
}

impl Bodies for Aside {
    fn put(&self, body: &[u8]) -> io::Result<Range<u64>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let place = inner.written + inner.tail.len() as u64;
        inner.tail.extend_from_slice(&length.to_le_bytes());
        inner.tail.extend_from_slice(body);
        if inner.tail.len() > self.most_in_memory {
            inner.write(&self.folder).map_err(|error| self.no_room(&error))?;
        }
        Ok(place..place + (LENGTH + body.len()) as u64)
    }

    fn get(&self, place: u64, body: &mut Vec<u8>) -> io::Result<u64> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        body.clear();
        body.extend_from_slice(inner.find(place)?);
        Ok(place + (LENGTH + body.len()) as u64)
    }

    fn behind(&self, place: u64) -> io::Result<u64> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(place + (LENGTH + inner.find(place)?.len()) as u64)
    }

    fn another(&self) -> io::Result<Arc<dyn Bodies>> {
        Ok(Arc::new(Self::with(self.folder.clone(), self.most_in_memory)))
    }
}

impl Inner {
    fn write(&mut self, folder: &Path) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(folder).or_else(|_| tempfile::tempfile())?),
        };
        file.seek(SeekFrom::Start(self.written))?;
        file.write_all(&self.tail)?;
        self.written += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    fn find(&mut self, place: u64) -> io::Result<&[u8]> {
        if let Some(from) = place.checked_sub(self.written) {
            return framed(&self.tail, from).ok_or(io::ErrorKind::NotFound.into());
        }
        let here = place.checked_sub(self.block_begins).filter(|from| framed(&self.block, *from).is_some());
        if here.is_none() {
            self.read(place, BLOCK)?;
            if let Some(length) = length(&self.block).filter(|length| LENGTH + length > BLOCK) {
                self.read(place, LENGTH + length)?;
            }
        }
        framed(&self.block, here.unwrap_or(0)).ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads so many bytes of the file, or what it has.
    fn read(&mut self, place: u64, bytes: usize) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.seek(SeekFrom::Start(place))?;
        self.block.clear();
        self.block_begins = place;
        file.take(bytes as u64).read_to_end(&mut self.block)?;
        Ok(())
    }
}

/// The body that begins there, if all of it is here.
fn framed(bytes: &[u8], from: u64) -> Option<&[u8]> {
    let rest = bytes.get(usize::try_from(from).ok()?..)?;
    rest[LENGTH.min(rest.len())..].get(..length(rest)?)
}

fn length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.first_chunk::<LENGTH>()?)).ok()
}

#[cfg(test)]
mod tests {
    use divvy_core::{
        digest::{Digest, derive_seed},
        question::{Question, QuestionId, Split},
        questions::Questions,
        synth,
    };

    use super::*;

    /// Questions of all lengths, one of them longer than what is read at once.
    fn some() -> Vec<Question> {
        let mut all = synth::generate(Split::Train, 400, 7);
        all[250].text = "word ".repeat(BLOCK);
        all
    }

    fn kept_in(bodies: Aside, all: &[Question]) -> Questions {
        let mut questions = Questions::kept_in(Arc::new(bodies));
        all.iter().for_each(|question| questions.push(question).unwrap());
        questions
    }

    #[test]
    fn where_they_lie_changes_nothing() {
        let (folder, all) = (tempfile::tempdir().unwrap(), some());
        let in_memory: Questions = all.iter().cloned().collect();
        // Never written; written many times and not at the end; written at once.
        for most in [usize::MAX, 10_000, 0] {
            let aside = kept_in(Aside::with(folder.path().to_owned(), most), &all);
            assert_eq!(aside, in_memory);
            assert_eq!(aside.digest("questions/1"), Digest::of_list("questions/1", &all));
            assert!(all.iter().rev().all(|question| *aside.get(&question.id).unwrap() == *question));
            let draw = |id: &QuestionId| derive_seed(5, &id.0);
            let shuffled = aside.choose(aside.order_by(draw));
            assert_eq!(shuffled, in_memory.choose(in_memory.order_by(draw)));
            assert_eq!(shuffled.laid_out().unwrap(), shuffled);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn questions_that_are_read_can_still_be_joined_by_more() {
        let (folder, all) = (tempfile::tempdir().unwrap(), some());
        let mut questions = kept_in(Aside::with(folder.path().to_owned(), 3_000), &all[..200]);
        assert_eq!(*questions.at(0), all[0]);
        all[200..].iter().for_each(|question| questions.push(question).unwrap());
        assert!(questions.iter().zip(&all).all(|(read, put)| *read == *put));
    }

    #[test]
    fn the_file_lies_in_the_nearest_folder_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        for missing in ["", "runs", "runs/of/mine"] {
            assert_eq!(Aside::new(&folder.path().join(missing)).folder, folder.path());
        }
        // Nobody can make a file there.
        let questions = kept_in(Aside::with(folder.path().join("gone"), 0), &some());
        assert_eq!(questions.len(), some().len());
    }
}
