//! SHA-256 of files, the hash that model publishers use. (divvy's own identities are BLAKE3, see `divvy_core::digest`.)

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

/// Reads `path` once and returns 64 lower-case hex digits. `on_bytes` hears how many bytes were read so far.
///
/// # Errors
/// Whatever the file system says.
pub fn sha256_file(path: &Path, on_bytes: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
        done += read as u64;
        on_bytes(done);
    }
}

/// Lower-case hex digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
        out
    })
}

/// SHA-256 of several named files as one: what `sha256sum NAMES | sha256sum` prints, names sorted.
#[must_use]
pub fn sha256_listing(files: &[(String, String)]) -> String {
    let mut files: Vec<_> = files.iter().collect();
    files.sort();
    let mut hasher = Sha256::new();
    for (name, sha256) in files {
        hasher.update(format!("{sha256}  {name}\n").as_bytes());
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vector() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let mut seen = 0;
        let sha256 = sha256_file(&path, &mut |bytes| seen = bytes).unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(seen, 3);
    }

    #[test]
    fn listing_is_independent_of_order() {
        let a = ("a".to_owned(), "00".to_owned());
        let b = ("b".to_owned(), "11".to_owned());
        assert_eq!(sha256_listing(&[a.clone(), b.clone()]), sha256_listing(&[b, a]));
    }
}
