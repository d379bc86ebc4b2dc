//! A file of lines taken piece by piece, by as many threads as there are cores: each reads a piece, works on it, and writes what
//! came of it when its turn comes. Reading, work and writing go on together, the order stays, and no more than a piece for each
//! thread is in memory.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Stdout, Write as _},
    num::NonZero,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Bytes that a piece has at least: enough to wake a thread for, few enough that all threads end together.
const PIECE: usize = 32 << 10;

/// Whole lines.
#[derive(Default)]
pub(super) struct Piece {
    number: u64,
    /// Number of its first line in the file.
    pub(super) line: u64,
    pub(super) text: Vec<u8>,
}

/// Calls `work` for every piece, in any order and on any thread, with room for what is to be written to stdout. `took` gets what
/// it returns in the order of the file, until one fails; what that one has left to write is written. False where nobody
/// reads stdout to its end.
///
/// # Errors
/// `work`'s, or what reading and writing meet.
pub(super) fn each<T>(
    input: impl Read + Send,
    threads: usize,
    work: impl Fn(&Piece, &mut Vec<u8>) -> anyhow::Result<T> + Sync,
    took: impl FnMut(T) + Send,
) -> anyhow::Result<bool> {
    let source = Mutex::new(Source::new(input));
    let turn = Turn { place: Mutex::new(Place { next: 0, over: Ok(false), took }), moved: Condvar::new() };
    let worker = || {
        let (mut piece, mut out, stdout) = (Piece::default(), Vec::new(), io::stdout());
        loop {
            match lock(&source).next(&mut piece) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return turn.end(Err(error.into())),
            }
            out.clear();
            let made = work(&piece, &mut out);
            if !turn.take(piece.number, made, &stdout, &out) {
                break;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
    turn.place.into_inner().unwrap_or_else(PoisonError::into_inner).over.map(|over| !over)
}

/// One for a short file, which is done before another thread begins; a pipe has no length.
pub(super) fn threads(file: &File) -> usize {
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map_or(u64::MAX, |file| file.len());
    if length <= PIECE as u64 { 1 } else { thread::available_parallelism().map_or(1, NonZero::get) }
}

/// What has not been read yet.
struct Source<R> {
    input: R,
    /// The beginning of a line.
    rest: Vec<u8>,
    pieces: u64,
    line: u64,
}

impl<R: Read> Source<R> {
    fn new(input: R) -> Self {
        Self { input, rest: Vec::new(), pieces: 0, line: 1 }
    }

    /// False at the end of the file.
    fn next(&mut self, piece: &mut Piece) -> io::Result<bool> {
        piece.text.clear();
        piece.text.append(&mut self.rest);
        loop {
            let before = piece.text.len();
            if self.read(&mut piece.text)? == 0 {
                break;
            }
            if let Some(end) = piece.text[before..].iter().rposition(|byte| *byte == b'\n') {
                self.rest.extend_from_slice(&piece.text[before + end + 1..]);
                piece.text.truncate(before + end + 1);
                break;
            }
        }
        (piece.number, piece.line) = (self.pieces, self.line);
        self.pieces += 1;
        self.line += piece.text.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(!piece.text.is_empty())
    }

    fn read(&mut self, text: &mut Vec<u8>) -> io::Result<usize> {
        let before = text.len();
        text.resize(before + PIECE, 0);
        let read = loop {
            match self.input.read(&mut text[before..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        text.truncate(before + read.as_ref().map_or(0, |length| *length));
        read
    }
}

/// Whose piece is written next.
struct Turn<F> {
    place: Mutex<Place<F>>,
    moved: Condvar,
}

struct Place<F> {
    next: u64,
    /// Whether all is over before the end of the file, and why.
    over: anyhow::Result<bool>,
    took: F,
}

impl<F> Turn<F> {
    /// Writes a piece when all before it are written. False where there is no point in another one.
    fn take<T>(&self, number: u64, made: anyhow::Result<T>, stdout: &Stdout, out: &[u8]) -> bool
    where
        F: FnMut(T),
    {
        let place = lock(&self.place);
        let waiting = |place: &mut Place<F>| place.next < number && matches!(place.over, Ok(false));
        let mut place = self.moved.wait_while(place, waiting).unwrap_or_else(PoisonError::into_inner);
        if !matches!(place.over, Ok(false)) {
            return false;
        }
        match write(stdout, out).and_then(|wanted| made.map(|made| wanted.then_some(made))) {
            Ok(Some(made)) => (place.took)(made),
            // Whoever reads has seen enough.
            Ok(None) => place.over = Ok(true),
            Err(error) => place.over = Err(error),
        }
        place.next += 1;
        self.moved.notify_all();
        matches!(place.over, Ok(false))
    }

    fn end(&self, over: anyhow::Result<bool>) {
        lock(&self.place).over = over;
        self.moved.notify_all();
    }
}

/// False where nobody reads any more.
fn write(mut stdout: &Stdout, out: &[u8]) -> anyhow::Result<bool> {
    match stdout.write_all(out).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of a file with these contents, as one thread would get them.
    fn pieces(text: &str) -> Vec<(u64, String)> {
        let (mut source, mut piece, mut all) = (Source::new(text.as_bytes()), Piece::default(), Vec::new());
        while source.next(&mut piece).unwrap() {
            all.push((piece.line, String::from_utf8(piece.text.clone()).unwrap()));
        }
        all
    }

    #[test]
    fn pieces_are_whole_lines_and_all_of_them() {
        let lines: Vec<String> = (0..5000).map(|line| format!("{line} {}", "x".repeat(line % 40))).collect();
        for text in [lines.join("\n"), lines.join("\n") + "\n", "x".repeat(3 * PIECE) + "\ny", String::new()] {
            let pieces = pieces(&text);
            assert_eq!(pieces.iter().map(|piece| piece.1.as_str()).collect::<String>(), text);
            let mut line = 1;
            for (at, (first, piece)) in pieces.iter().enumerate() {
                assert_eq!(*first, line);
                assert!(piece.ends_with('\n') || at + 1 == pieces.len());
                line += piece.matches('\n').count() as u64;
            }
        }
    }

    #[test]
    fn what_was_made_comes_in_the_order_of_the_file() {
        let text: String = (1..20_000).map(|line| format!("{line}\n")).collect();
        let (mut lines, mut next) = (Vec::new(), 1);
        let work = |piece: &Piece, _: &mut Vec<u8>| Ok((piece.line, piece.text.clone()));
        assert!(each(text.as_bytes(), 3, work, |made| lines.push(made)).unwrap());
        for (line, text) in &lines {
            assert_eq!((*line, text.starts_with(format!("{next}\n").as_bytes())), (next, true));
            next += text.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        assert_eq!(next, 20_000);
    }
}
