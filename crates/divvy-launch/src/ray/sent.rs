//! What comes back through a job's log from a node that shares no folder: `sent.py` writes it, among what others say.

use std::{fs, io::Cursor};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zip::ZipArchive;

use crate::{
    error::{LaunchError, at},
    job::Folder,
};

const STEP: &str = "divvy-step: ";
const PART: &str = "divvy-part: ";
const WHOLE: &str = "divvy-whole: ";

/// Puts everything where it would be, had the job been in this folder: steps, what is for people, and a whole result.
pub(super) fn take_in(folder: &Folder, logs: &str) -> Result<(), LaunchError> {
    let (mut steps, mut said, mut archive, mut whole) = (String::new(), String::new(), Vec::new(), None);
    for line in logs.lines() {
        if let Some(step) = line.strip_prefix(STEP) {
            steps += &format!("{step}\n");
        } else if let Some(part) = line.strip_prefix(PART) {
            // A line that is not written to its end is none; the count tells.
            archive.extend(STANDARD.decode(part.trim()).unwrap_or_default());
        } else if let Some(bytes) = line.strip_prefix(WHOLE) {
            whole = bytes.trim().parse::<usize>().ok();
        } else {
            said += &format!("{line}\n");
        }
    }
    fs::write(folder.metrics(), whole_lines(&steps, logs)).map_err(at(&folder.metrics()))?;
    fs::write(folder.log(), said).map_err(at(&folder.log()))?;
    match whole {
        // At an earlier look.
        Some(_) if folder.result().is_dir() => Ok(()),
        Some(bytes) if bytes == archive.len() => unpack(folder, archive),
        Some(bytes) => Err(LaunchError::Failed(format!(
            "ray: of the {bytes} bytes that were trained {} came back through the job's log; the same command tries again",
            archive.len()
        ))),
        None => Ok(()),
    }
}

/// The last step may be in work.
fn whole_lines<'a>(steps: &'a str, logs: &str) -> &'a str {
    let cut = !logs.ends_with('\n') && logs.lines().next_back().is_some_and(|last| last.starts_with(STEP));
    if !cut {
        return steps;
    }
    let end = steps.trim_end().rfind('\n').map_or(0, |at| at + 1);
    &steps[..end]
}

/// Beside, then renamed.
fn unpack(folder: &Folder, archive: Vec<u8>) -> Result<(), LaunchError> {
    let damaged = |reason: String| LaunchError::Failed(format!("ray: what came back through the job's log: {reason}"));
    let mut archive = ZipArchive::new(Cursor::new(archive)).map_err(|error| damaged(error.to_string()))?;
    let beside = folder.path().join("result.partial");
    let _ = fs::remove_dir_all(&beside);
    fs::create_dir_all(&beside).map_err(at(&beside))?;
    for place in 0..archive.len() {
        let mut file = archive.by_index(place).map_err(|error| damaged(error.to_string()))?;
        let name = file.enclosed_name().filter(|name| name.components().count() == 1);
        let name = name.ok_or_else(|| damaged("it holds more than the files of a result".to_owned()))?;
        let path = beside.join(name);
        let mut out = fs::File::create(&path).map_err(at(&path))?;
        std::io::copy(&mut file, &mut out).map_err(|error| damaged(error.to_string()))?;
        out.sync_all().map_err(at(&path))?;
    }
    fs::rename(&beside, folder.result()).map_err(at(&folder.result()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn archive(name: &str) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(b"weights").unwrap();
        zip.finish().unwrap().into_inner()
    }

    fn came_back(name: &str, more: usize) -> (tempfile::TempDir, Folder, Result<(), LaunchError>) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        let archive = archive(name);
        let parts: String = archive.chunks(50).map(|part| format!("{PART}{}\n", STANDARD.encode(part))).collect();
        let logs = format!("loading\n{STEP}{{\"step\":1}}\nwarning\n{parts}{WHOLE}{}\n", archive.len() + more);
        let taken = take_in(&folder, &logs);
        (place, folder, taken)
    }

    #[test]
    fn steps_words_and_the_result_are_told_apart() {
        let (_place, folder, taken) = came_back("adapter_model.safetensors", 0);
        taken.unwrap();
        assert_eq!(fs::read_to_string(folder.metrics()).unwrap(), "{\"step\":1}\n");
        assert_eq!(fs::read_to_string(folder.log()).unwrap(), "loading\nwarning\n");
        assert_eq!(fs::read(folder.result().join("adapter_model.safetensors")).unwrap(), b"weights");
    }

    #[test]
    fn half_a_result_and_a_strange_one_are_none() {
        for (name, more, word) in [("a", 1, "came back"), ("../a", 0, "more than the files"), ("a/b", 0, "more than")] {
            let (_place, folder, taken) = came_back(name, more);
            let told = taken.unwrap_err().to_string();
            assert!(told.contains(word), "{told}");
            assert!(!folder.result().exists());
        }
    }

    #[test]
    fn a_step_that_is_being_written_is_left_for_the_next_look() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        take_in(&folder, &format!("{STEP}{{\"step\":1}}\n{STEP}{{\"st")).unwrap();
        assert_eq!(fs::read_to_string(folder.metrics()).unwrap(), "{\"step\":1}\n");
        take_in(&folder, &format!("{STEP}{{\"st")).unwrap();
        assert_eq!(fs::read_to_string(folder.metrics()).unwrap(), "");
    }
}
