//! A job of a Slurm cluster: a script for `sbatch`, the job that it becomes, and how that stands. The store's folder must be
//! one that all machines see at the same place. A job that is under way is found again by the number that is kept beside it.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use divvy_core::records::TrainNews;

use crate::{
    error::{LaunchError, at},
    failure,
    job::Folder,
    local::{Tell, pass_on},
    metrics::Tail,
    python::Python,
    words::{self, Crew, quoted},
};

/// Between two looks at the log, and between two questions to the scheduler, which serves others too.
const PAUSE: Duration = Duration::from_millis(500);
const ASK: Duration = Duration::from_secs(10);
/// Where machines meet when nothing else is said.
const PORT: &str = "29500";

/// What is asked of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slurm {
    pub crew: Crew,
    /// Further options of `sbatch`.
    pub options: Vec<String>,
    /// For what people see in the queue.
    pub name: String,
}

/// Submits, or finds what is submitted, and follows it to its end.
///
/// # Errors
/// [`LaunchError::Left`] when the waiting was broken off; the job goes on, and the same call finds it again.
pub fn train(folder: &Folder, python: &Python, slurm: &Slurm, tell: &mut Tell<'_>) -> Result<(), LaunchError> {
    let mut tail = Tail::new(folder.metrics());
    let job = match running(folder) {
        Some(job) => {
            let _ = tell(TrainNews::Note(&format!("slurm: job {job} is under way already")));
            job
        }
        None => submit(folder, python, slurm, tell)?,
    };
    let mut asked = Instant::now();
    loop {
        let wanted = pass_on(&mut tail, tell)?;
        if folder.result().is_dir() {
            let _ = fs::remove_file(number(folder));
            return Ok(());
        }
        if wanted.is_break() {
            return Err(LaunchError::Left { what: format!("slurm job {job}"), stop: format!("scancel {job}") });
        }
        if asked.elapsed() >= ASK {
            asked = Instant::now();
            if !is_queued(&job) && !folder.result().is_dir() {
                let _ = fs::remove_file(number(folder));
                let how = format!("ended as slurm job {job}");
                return Err(LaunchError::Failed(failure::tell(folder, &how, false)));
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Stops a job that [`train`] left. Its checkpoint is kept.
pub fn stop(folder: &Folder) -> bool {
    let Some(job) = running(folder) else { return false };
    let cancelled = Command::new("scancel").arg(&job).status().is_ok_and(|status| status.success());
    if cancelled {
        let _ = fs::remove_file(number(folder));
    }
    cancelled
}

/// What `sbatch` reads.
#[must_use]
pub fn script(folder: &Folder, python: &Python, slurm: &Slurm) -> String {
    let Slurm { crew, options, name } = slurm;
    let mut head = vec![
        format!("--job-name={}", quoted(name)),
        format!("--nodes={}", crew.nodes),
        "--ntasks-per-node=1".to_owned(),
        format!("--output={}", quoted(&folder.log().display().to_string())),
        // So that a step and its checkpoint come to their end before the job's time does.
        "--signal=TERM@180".to_owned(),
    ];
    head.extend(options.iter().cloned());
    let head: String = head.iter().map(|option| format!("#SBATCH {option}\n")).collect();
    let one = Crew { nodes: 1, meet: None, ..crew.clone() };
    let mut command = words::line(&words::words(python, folder, &one, 0));
    if crew.nodes > 1 {
        let port = crew.meet.as_ref().and_then(|meet| meet.rsplit(':').next()).unwrap_or(PORT);
        // Each machine knows its number when it runs, and not before.
        command = format!(
            "first=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)\nexport first\n\
             srun --kill-on-bad-exit=1 bash -c {}",
            quoted(&format!(
                "exec {command} --nodes=\"$SLURM_NNODES\" --node=\"$SLURM_NODEID\" --meet=\"$first:{port}\""
            ))
        );
    } else {
        command = format!("srun {command}");
    }
    format!("#!/bin/bash\n{head}set -eu\nexport HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false\n{command}\n")
}

fn submit(folder: &Folder, python: &Python, slurm: &Slurm, tell: &mut Tell<'_>) -> Result<String, LaunchError> {
    let path = folder.path().join("job.sbatch");
    fs::write(&path, script(folder, python, slurm)).map_err(at(&path))?;
    let written = quoted(&path.display().to_string());
    let submitted = Command::new("sbatch").arg("--parsable").arg(&path).output().map_err(|_| {
        LaunchError::Failed(format!(
            "slurm: there is no `sbatch` on this machine; run `sbatch {written}` where there is one, and this command again \
             when the job has ended"
        ))
    })?;
    if !submitted.status.success() {
        let said = String::from_utf8_lossy(&submitted.stderr).trim().to_owned();
        return Err(LaunchError::Failed(format!("slurm: sbatch refused {written}: {said}")));
    }
    // `number`, or `number;cluster`.
    let said = String::from_utf8_lossy(&submitted.stdout).into_owned();
    let job = said.trim().split(';').next().unwrap_or_default().to_owned();
    fs::write(number(folder), &job).map_err(at(&number(folder)))?;
    let _ = tell(TrainNews::Note(&format!(
        "slurm: job {job} is submitted; what it says will be in {}",
        folder.log().display()
    )));
    Ok(job)
}

/// The job that was submitted for this folder, if it is still known to the queue.
fn running(folder: &Folder) -> Option<String> {
    let job = fs::read_to_string(number(folder)).ok().filter(|job| !job.is_empty())?;
    is_queued(&job).then_some(job)
}

fn is_queued(job: &str) -> bool {
    let Ok(listed) = Command::new("squeue").args(["--noheader", "--jobs", job, "--format=%T"]).output() else {
        // The scheduler does not answer: that is no end.
        return true;
    };
    // An unknown number is an error; a scheduler that is away is one too, and tells so.
    let away = String::from_utf8_lossy(&listed.stderr).contains("nable to contact");
    away || (listed.status.success() && !String::from_utf8_lossy(&listed.stdout).trim().is_empty())
}

fn number(folder: &Folder) -> PathBuf {
    folder.path().join("slurm-job")
}

#[cfg(test)]
mod tests;
