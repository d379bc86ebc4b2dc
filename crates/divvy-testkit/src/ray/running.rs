//! A job of the stand-in: a shell in a group of its own, whose output is its log.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Cursor, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use serde_json::{Value, json};

pub(super) struct Job {
    id: String,
    entrypoint: String,
    metadata: Value,
    runtime_env: Value,
    log: PathBuf,
    /// Of its group.
    process: Option<u32>,
    course: Arc<Mutex<Course>>,
}

struct Course {
    began: Instant,
    told_to_stop: bool,
    ended: Option<End>,
}

enum End {
    Exit(ExitStatus),
    /// Before there was a process.
    SetUp(String),
}

/// So long a job waits before it is seen running, as on a cluster with its hands full.
const WAITS: Duration = Duration::from_millis(50);
/// Of the log in a failed job's message.
const SHOWN: usize = 20_000;

impl Job {
    pub(super) fn start(
        folder: &Path,
        id: &str,
        wanted: &Value,
        environment: &[(String, String)],
        packages: &BTreeMap<String, Bytes>,
    ) -> Self {
        let course = Course { began: Instant::now(), told_to_stop: false, ended: None };
        let mut job = Self {
            id: id.to_owned(),
            entrypoint: wanted["entrypoint"].as_str().unwrap_or_default().to_owned(),
            metadata: wanted["metadata"].clone(),
            runtime_env: wanted["runtime_env"].clone(),
            log: folder.join(format!("job-driver-{id}.log")),
            process: None,
            course: Arc::new(Mutex::new(course)),
        };
        match unpack(folder, &job.runtime_env, packages) {
            Ok(places) => job.run(folder, &places, environment),
            Err(package) => {
                let said = format!(
                    "runtime_env setup failed: Failed to set up runtime environment.\n{package} was not found\n"
                );
                job.course().ended = Some(End::SetUp(said));
            }
        }
        job
    }

    /// The first of `places` is its working directory, if it has one.
    fn run(&mut self, folder: &Path, places: &[PathBuf], environment: &[(String, String)]) {
        let mut log = File::create(&self.log).expect("a log in the cluster's folder");
        writeln!(log, "Runtime env is setting up.\nRunning entrypoint for job {}: {}", self.id, self.entrypoint)
            .expect("a line in a log");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&self.entrypoint).process_group(0).stdin(std::process::Stdio::null());
        let own = places.first().filter(|_| self.runtime_env["working_dir"].is_string());
        command.current_dir(own.map_or(folder, PathBuf::as_path));
        command.envs(environment.iter().cloned());
        command.env("PYTHONPATH", std::env::join_paths(places).expect("paths without colons"));
        for (name, value) in self.runtime_env["env_vars"].as_object().into_iter().flatten() {
            command.env(name, value.as_str().unwrap_or_default());
        }
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let mut child = command.spawn().expect("a shell");
        self.process = Some(child.id());
        let course = Arc::clone(&self.course);
        thread::spawn(move || {
            let status = child.wait().expect("the shell is this thread's");
            course.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(End::Exit(status));
        });
    }

    fn course(&self) -> std::sync::MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> &'static str {
        let course = self.course();
        match &course.ended {
            _ if course.began.elapsed() < WAITS => "PENDING",
            None => "RUNNING",
            Some(End::Exit(_)) if course.told_to_stop => "STOPPED",
            Some(End::Exit(status)) if status.success() => "SUCCEEDED",
            Some(_) => "FAILED",
        }
    }

    pub(super) fn is_over(&self) -> bool {
        !matches!(self.state(), "PENDING" | "RUNNING")
    }

    pub(super) fn logs(&self) -> String {
        if self.state() == "PENDING" { String::new() } else { self.log_text() }
    }

    fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The process ends in its own time, as the real one's does.
    pub(super) fn stop(&self) -> bool {
        if self.is_over() {
            return false;
        }
        self.course().told_to_stop = true;
        let signal = self.runtime_env["env_vars"]["RAY_JOB_STOP_SIGNAL"].as_str().unwrap_or("SIGTERM");
        self.signal(&format!("-{}", signal.trim_start_matches("SIG")));
        true
    }

    /// To all of its processes.
    pub(super) fn signal(&self, name: &str) {
        let Some(group) = self.process.filter(|_| self.course().ended.is_none()) else { return };
        // One that is gone already is what is wanted.
        let _ = Command::new("kill").args([name, "--", &format!("-{group}")]).status();
    }

    pub(super) fn json(&self) -> Value {
        let state = self.state();
        let (code, message) = self.told(state);
        let course = self.course();
        let error = match &course.ended {
            Some(End::SetUp(_)) => json!("RUNTIME_ENV_SETUP_FAILURE"),
            _ => Value::Null,
        };
        json!({
            "type": "SUBMISSION", "job_id": null, "submission_id": self.id, "driver_info": null, "status": state,
            "entrypoint": self.entrypoint, "message": message, "error_type": error, "metadata": self.metadata,
            "runtime_env": self.runtime_env, "driver_exit_code": code,
        })
    }

    fn told(&self, state: &str) -> (Option<i32>, String) {
        let code = match &self.course().ended {
            // As Python tells of a signal.
            Some(End::Exit(status)) => status.code().or(status.signal().map(|signal| -signal)),
            Some(End::SetUp(said)) => return (None, said.clone()),
            None => None,
        };
        match state {
            "PENDING" => (None, "Job has not started yet. It may be waiting for resources.".to_owned()),
            "RUNNING" => (None, "Job is currently running.".to_owned()),
            "STOPPED" => (None, "Job was intentionally stopped.".to_owned()),
            "SUCCEEDED" => (code, "Job finished successfully.".to_owned()),
            _ => {
                let code = code.unwrap_or_default();
                let logs = self.log_text();
                let from = logs.char_indices().rev().nth(SHOWN - 1).map_or(0, |(at, _)| at);
                let head = format!("Job entrypoint command failed with exit code {code}, last available logs");
                (Some(code), format!("{head} (truncated to 20,000 chars):\n{}", &logs[from..]))
            }
        }
    }
}

/// Where the working directory and each further archive lie, shared by all jobs of the same; or what is missing.
fn unpack(folder: &Path, runtime_env: &Value, packages: &BTreeMap<String, Bytes>) -> Result<Vec<PathBuf>, String> {
    let modules = runtime_env["py_modules"].as_array().into_iter().flatten();
    let uris = std::iter::once(&runtime_env["working_dir"]).chain(modules).filter_map(Value::as_str);
    let one = |uri: &str| {
        let name = uri.strip_prefix("gcs://").ok_or_else(|| uri.to_owned())?;
        let bytes = packages.get(name).ok_or_else(|| uri.to_owned())?;
        let place = folder.join(name.trim_end_matches(".zip"));
        if !place.is_dir() {
            let archive = zip::ZipArchive::new(Cursor::new(bytes.clone()));
            archive.and_then(|mut archive| archive.extract(&place)).map_err(|error| format!("{uri}: {error}"))?;
        }
        Ok(place)
    };
    uris.map(one).collect()
}
