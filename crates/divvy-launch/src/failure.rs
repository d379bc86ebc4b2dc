//! Why a job ended without a result, for people: in its own words where it has some, else with the last lines of its log;
//! what is kept, and what can be done.

use std::fs;

use crate::{job::Folder, program};

/// Lines of a log that are shown.
const SHOWN: usize = 12;
/// What `train.py` begins its own messages with.
const SAID: &str = "train.py: ";

/// `how` it ended, and whether the system killed it with a signal that nobody can refuse.
pub(crate) fn tell(folder: &Folder, how: &str, killed: bool) -> String {
    let log = fs::read(folder.log()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let said = log.lines().rev().find_map(|line| line.strip_prefix(SAID));
    let head = match said {
        Some(said) => format!("torch: {said}"),
        None => format!("torch: training {how}{}", last_lines(&log, folder)),
    };
    let way_out = way_out(&log, killed).map_or_else(String::new, |way_out| format!("\n{way_out}"));
    format!("{head}{way_out}\n{}", kept(folder))
}

fn last_lines(log: &str, folder: &Folder) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(SHOWN)..].iter();
    let shown: String = last.map(|line| format!("\n  | {line}")).collect();
    if shown.is_empty() {
        return format!(" and left no word in {}", folder.log().display());
    }
    format!("; the last lines of {}:{shown}", folder.log().display())
}

fn way_out(log: &str, killed: bool) -> Option<String> {
    let has = |words: &[&str]| words.iter().any(|word| log.contains(word));
    if killed || has(&["OutOfMemoryError", "out of memory", "can't allocate memory", "MemoryError"]) {
        let reason = if killed { "most often the system does that when memory runs out" } else { "memory ran out" };
        return Some(format!(
            "{reason}: write gradient_checkpointing = true or a smaller micro_tokens under [train], or take a smaller base"
        ));
    }
    has(&["this Python lacks"]).then(|| {
        let needed = program::requirements().join(" ");
        format!(
            "install it where that Python is, with `PYTHON -m pip install {needed}`; on this machine `uv` does so where train.python is \
             left out"
        )
    })
}

fn kept(folder: &Folder) -> String {
    match folder.checkpoint() {
        Some(step) => format!("what was trained up to step {step} is kept: the same command goes on from there"),
        None => "nothing was saved yet (checkpoint_every says how often): the same command begins anew".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(log: &str, killed: bool, checkpoint: bool) -> String {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        fs::write(folder.log(), log).unwrap();
        if checkpoint {
            let kept = place.path().join("checkpoint/checkpoint-25");
            fs::create_dir_all(&kept).unwrap();
            fs::write(kept.join("whole"), "").unwrap();
        }
        tell(&folder, "ended with exit status: 1", killed)
    }

    #[track_caller]
    fn check(told: &str, has: &[&str], lacks: &[&str]) {
        for word in has {
            assert!(told.contains(word), "`{word}` is not in: {told}");
        }
        for word in lacks {
            assert!(!told.contains(word), "`{word}` is in: {told}");
        }
    }

    #[test]
    fn its_own_words_go_before_its_last_lines() {
        let log = "loading\ntrain.py: quantised = \"nf4\" needs a CUDA device\n  at exit\n";
        check(&told(log, false, false), &["torch: quantised", "nothing was saved"], &["loading", "exit status"]);
    }

    #[test]
    fn a_crash_shows_the_end_of_the_log_and_what_is_kept() {
        let log: String = (0..40).map(|line| format!("line {line}\n")).collect();
        let told = told(&log, false, true);
        check(&told, &["exit status: 1", "| line 39", "| line 28", "up to step 25 is kept"], &["line 27", "memory"]);
    }

    #[test]
    fn memory_that_ran_out_has_a_way_out() {
        for (log, killed) in [("torch.OutOfMemoryError: CUDA out of memory", false), ("", true)] {
            check(&told(log, killed, false), &["gradient_checkpointing = true", "micro_tokens"], &[]);
        }
    }

    #[test]
    fn what_is_not_installed_is_named_with_its_version() {
        let log = "train.py: No module named 'trl': this Python lacks what is listed on top of train.py\n";
        check(&told(log, false, false), &["No module named 'trl'", "pip install torch==", "trl==", "`uv`"], &["bits;"]);
    }
}
