//! A student as a job of a Ray cluster: submitted, followed, found again by the number that is kept beside it. Where the
//! nodes see the store's folder, they train in it, on one machine or several. Else all that they need is sent, and what they
//! made comes back through the job's log, which is all that a cluster shows of a job.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use divvy_core::{digest::Digest, records::TrainNews};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    client::{Job, Ray, RayError, Request, Status, Token},
    package::{Content, Entry, Package},
    sent,
};
use crate::{
    error::{LaunchError, at},
    failure,
    job::Folder,
    local::{Tell, pass_on},
    metrics::Tail,
    python::Python,
    words::{self, Crew},
};

/// Between two looks at the log, and between two questions to the cluster.
const PAUSE: Duration = Duration::from_millis(200);
const ASK: Duration = Duration::from_secs(2);
/// How long a cluster may be away; the job goes on meanwhile.
const AWAY: Duration = Duration::from_secs(300);
/// After which somebody who waits is told what for.
const PENDING: Duration = Duration::from_secs(20);
/// Of the base's weights in one archive, and in all: the head keeps archives in its memory.
const PART: u64 = 64 << 20;
const MOST_SENT: u64 = 2 << 30;
/// For the end of a step and a checkpoint, after which Ray kills what it stops.
const GRACE_SECONDS: &str = "180";

/// What is asked of the cluster.
pub struct Place {
    /// Of its dashboard.
    pub address: String,
    pub token: Option<Token>,
    pub crew: Crew,
    /// On each machine.
    pub gpus: u32,
    /// Whether all machines see the folder at the same place.
    pub shared: bool,
    /// The nodes' own.
    pub python: PathBuf,
    /// The base's folder on this machine.
    pub base: PathBuf,
}

/// What is kept of a job while it is under way.
#[derive(Debug, Serialize, Deserialize)]
struct Submitted {
    id: String,
    address: String,
}

/// Submits, or finds what is submitted, and follows it to its end.
///
/// # Errors
/// [`LaunchError::Left`] when the waiting was broken off; the job goes on, and the same call finds it again.
pub fn train(folder: &Folder, place: &Place, tell: &mut Tell<'_>) -> Result<(), LaunchError> {
    let ray = Ray::connect(&place.address, place.token.clone())?;
    if let Some(warning) = ray.warning() {
        let _ = tell(TrainNews::Note(&warning));
    }
    let id = match under_way(folder, &ray)? {
        Some(id) => {
            let _ = tell(TrainNews::Note(&format!("ray: job {id} is under way already")));
            id
        }
        None => submit(folder, place, &ray, tell)?,
    };
    let followed = Follow { folder, place, ray: &ray, id: &id }.to_its_end(tell);
    // Who left it finds it again, and so does who could not reach it.
    if !matches!(followed, Err(LaunchError::Left { .. } | LaunchError::Ray(_))) {
        let _ = fs::remove_file(number(folder));
    }
    followed
}

/// Stops a job that [`train`] left; the next call submits another. With a shared folder its checkpoint is kept.
pub fn stop(folder: &Folder, place: &Place) -> bool {
    let stop = || {
        let submitted = kept(folder)?;
        Ray::connect(&submitted.address, place.token.clone()).ok()?.stop(&submitted.id).ok()
    };
    let stopped = stop() == Some(true);
    if stopped {
        let _ = fs::remove_file(number(folder));
    }
    stopped
}

fn submit(folder: &Folder, place: &Place, ray: &Ray, tell: &mut Tell<'_>) -> Result<String, LaunchError> {
    let _ = fs::remove_file(folder.log());
    let id = format!("divvy-{}", &new_id(folder)[..20]);
    let request = if place.shared { in_place(folder, place)? } else { elsewhere(folder, place, ray, tell)? };
    let kept = Submitted { id: id.clone(), address: ray.address().to_owned() };
    // Before it is submitted: whatever happens to this process, one that runs is found again.
    let text = serde_json::to_vec(&kept).map_err(|error| LaunchError::Failed(error.to_string()))?;
    fs::write(number(folder), text).map_err(at(&number(folder)))?;
    ray.submit(&Request { submission_id: id.clone(), ..request })?;
    let _ = tell(TrainNews::Note(&format!("ray: job {id} is submitted to {} (Ray {})", ray.address(), ray.version)));
    Ok(id)
}

/// Another one for every try.
fn new_id(folder: &Folder) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Digest::of("ray-job/1", &(folder.path(), now.to_string(), std::process::id())).hex().to_owned()
}

fn environment() -> Value {
    json!({
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_JOB_STOP_WAIT_TIME_S": GRACE_SECONDS,
    })
}

/// The nodes see the folder: one of them trains in it, or a crew of them.
fn in_place(folder: &Folder, place: &Place) -> Result<Request, LaunchError> {
    let (crew, runtime_env) = (&place.crew, json!({ "env_vars": environment() }));
    let python = Python::Interpreter(place.python.clone());
    if crew.nodes == 1 {
        let entrypoint = format!("exec {}", words::line(&words::words(&python, folder, crew, 0)));
        let (entrypoint_num_cpus, entrypoint_num_gpus) = (crew.processes, place.gpus);
        return Ok(Request { entrypoint, runtime_env, entrypoint_num_cpus, entrypoint_num_gpus, ..Request::default() });
    }
    let program = folder.path().join("crew.py");
    fs::write(&program, include_str!("crew.py")).map_err(at(&program))?;
    let mut line = python.words();
    line.extend([program.display().to_string(), folder.path().display().to_string()]);
    let numbers = [("nodes", crew.nodes), ("processes", crew.processes), ("gpus", place.gpus)];
    line.extend(numbers.map(|(name, number)| format!("--{name}={number}")));
    Ok(Request { entrypoint: format!("exec {}", words::line(&line)), runtime_env, ..Request::default() })
}

/// The nodes see nothing: all that is needed is sent.
fn elsewhere(folder: &Folder, place: &Place, ray: &Ray, tell: &mut Tell<'_>) -> Result<Request, LaunchError> {
    // Lines of an earlier job would be read as this one's.
    let _ = fs::remove_file(folder.metrics());
    let (small, parts) = base_files(&place.base)?;
    let mut sent = 0;
    let mut bring = |package: Package| {
        sent += if ray.bring(&package)? { package.size() } else { 0 };
        Ok::<_, LaunchError>(package.uri())
    };
    let parts = parts.into_iter().map(|part| bring(Package::of(&[part])?)).collect::<Result<Vec<_>, _>>()?;
    let job = bring(Package::of(&job_files(folder, small)?)?)?;
    let _ =
        tell(TrainNews::Note(&format!("ray: {:.1} MiB sent to {}", sent as f64 / f64::from(1 << 20), ray.address())));
    let mut line = Python::Interpreter(place.python.clone()).words();
    line.extend(["sent.py".to_owned(), format!("--processes={}", place.crew.processes)]);
    Ok(Request {
        entrypoint: format!("exec {}", words::line(&line)),
        runtime_env: json!({ "working_dir": job, "py_modules": parts, "env_vars": environment() }),
        entrypoint_num_cpus: place.crew.processes,
        entrypoint_num_gpus: place.gpus,
        ..Request::default()
    })
}

/// Small files as they are, weights in parts.
fn base_files(base: &std::path::Path) -> Result<(Vec<Entry>, Vec<Entry>), LaunchError> {
    let mut files: Vec<_> = fs::read_dir(base).map_err(at(base))?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let (mut small, mut parts, mut total) = (Vec::new(), Vec::new(), 0);
    for file in files {
        let length = fs::metadata(&file).map_err(at(&file))?.len();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        total += length;
        if !name.ends_with(".safetensors") {
            small.push(Entry::file(&format!("job/base/{name}"), file));
            continue;
        }
        for (number, from) in (0..length).step_by(PART as usize).enumerate() {
            let content = Content::Part { file: file.clone(), from, length: PART };
            parts.push(Entry { name: format!("divvy_base/{name}.{number:04}"), content, program: false });
        }
    }
    if total > MOST_SENT {
        let [size, most] = [total, MOST_SENT].map(|bytes| bytes as f64 / 1e9);
        return Err(LaunchError::Failed(format!(
            "ray: the base has {size:.1} GB, and more than {most:.1} are not sent through the cluster's head: put the store into a \
             folder that all machines see at the same place (--store), and write shared = true under [train]"
        )));
    }
    Ok((small, parts))
}

/// The folder of the job, which finds its base beside it.
fn job_files(folder: &Folder, base: Vec<Entry>) -> Result<Vec<Entry>, LaunchError> {
    let path = folder.path().join("job.json");
    let text = fs::read(&path).map_err(at(&path))?;
    let mut settings: Value = serde_json::from_slice(&text).map_err(|error| LaunchError::Failed(error.to_string()))?;
    settings["base"] = json!("base");
    let mut entries = vec![
        Entry::text("sent.py", include_bytes!("sent.py")),
        Entry::text("job/job.json", settings.to_string().as_bytes()),
    ];
    for name in ["train.py", "rows.jsonl", "dev.jsonl", "steps.jsonl"] {
        entries.push(Entry::file(&format!("job/{name}"), folder.path().join(name)));
    }
    let mut start: Vec<_> =
        fs::read_dir(folder.start()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    start.sort();
    for file in start {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        entries.push(Entry::file(&format!("job/start/{name}"), file));
    }
    entries.extend(base);
    Ok(entries)
}

/// Somebody who waits for a job.
struct Follow<'a> {
    folder: &'a Folder,
    place: &'a Place,
    ray: &'a Ray,
    id: &'a str,
}

impl Follow<'_> {
    fn to_its_end(&self, tell: &mut Tell<'_>) -> Result<(), LaunchError> {
        let mut tail = Tail::new(self.folder.metrics());
        let (began, mut heard, mut told) = (Instant::now(), Instant::now(), false);
        loop {
            match self.look() {
                Err(LaunchError::Ray(RayError::Away { .. })) if heard.elapsed() < AWAY => {}
                Err(error) => return Err(error),
                Ok(job) if job.status.is_over() => {
                    let ended = self.ended(&job);
                    // Steps that came with its end.
                    let _ = pass_on(&mut tail, tell)?;
                    return ended;
                }
                Ok(job) => {
                    heard = Instant::now();
                    if job.status == Status::Pending && !told && began.elapsed() > PENDING {
                        told = true;
                        let message = job.message.unwrap_or_default();
                        let _ = tell(TrainNews::Note(&format!("ray: job {}: {message}", self.id)));
                    }
                }
            }
            let asked = Instant::now();
            while asked.elapsed() < ASK {
                if pass_on(&mut tail, tell)?.is_break() {
                    return Err(self.left());
                }
                thread::sleep(PAUSE);
            }
        }
    }

    /// How it stands; with nothing shared, the steps of its log come along.
    fn look(&self) -> Result<Job, LaunchError> {
        let Some(job) = self.ray.job(self.id)? else {
            return Err(self.failed("is not known to the cluster any more: its head was started anew", None));
        };
        if !self.place.shared && job.status != Status::Pending {
            match self.ray.logs(self.id) {
                Ok(logs) => sent::take_in(self.folder, &logs)?,
                // Of a node that is gone there are no logs.
                Err(RayError::Refused(_)) => {}
                Err(away) => return Err(away.into()),
            }
        }
        Ok(job)
    }

    fn left(&self) -> LaunchError {
        let stop = format!("ray job stop {} --address {}", self.id, self.ray.address());
        LaunchError::Left { what: format!("ray job {}", self.id), stop }
    }

    fn ended(&self, job: &Job) -> Result<(), LaunchError> {
        if self.folder.result().is_dir() {
            return Ok(());
        }
        if self.place.shared {
            self.keep_log();
        }
        let message = job.message.as_deref().unwrap_or_default();
        Err(match job.status {
            Status::Succeeded if self.place.shared => self.failed(
                "ended without a result in this folder; unless it was told to stop, its nodes see another folder at this place: \
                 leave out shared = true",
                None,
            ),
            Status::Stopped => self.failed("was stopped", None),
            // The log is told already.
            _ if message.starts_with("Job entrypoint command failed") => self.failed("failed", job.driver_exit_code),
            _ => self.failed(&format!("ended: {}", brief(message)), job.driver_exit_code),
        })
    }

    /// What the job said, after what its crew wrote by itself.
    fn keep_log(&self) {
        let Ok(logs) = self.ray.logs(self.id) else { return };
        let path = self.folder.log();
        let before = fs::read_to_string(&path).unwrap_or_default();
        // Without it the reason is told by the cluster alone.
        let _ = fs::write(path, before + &logs);
    }

    fn failed(&self, how: &str, code: Option<i32>) -> LaunchError {
        let killed = matches!(code, Some(137 | -9));
        LaunchError::Failed(failure::tell(self.folder, &format!("as ray job {} {how}", self.id), killed))
    }
}

/// The telling end of a message, which may have a traceback in it.
fn brief(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => "without a word".to_owned(),
        [one] => (*one).to_owned(),
        [first, .., last] => format!("{first} … {last}"),
    }
}

/// The job that was submitted for this folder, unless it is over.
fn under_way(folder: &Folder, ray: &Ray) -> Result<Option<String>, LaunchError> {
    let Some(submitted) = kept(folder) else { return Ok(None) };
    if submitted.address != ray.address() {
        let Submitted { id, address } = submitted;
        return Err(LaunchError::Failed(format!(
            "ray: job {id} of {address} trains this student: write that address again, or stop it there and delete {}",
            number(folder).display()
        )));
    }
    // One that is over has something to tell, too: a result, or why there is none.
    Ok(ray.job(&submitted.id)?.map(|_| submitted.id))
}

fn kept(folder: &Folder) -> Option<Submitted> {
    serde_json::from_slice(&fs::read(number(folder)).ok()?).ok()
}

fn number(folder: &Folder) -> PathBuf {
    folder.path().join("ray-job")
}
