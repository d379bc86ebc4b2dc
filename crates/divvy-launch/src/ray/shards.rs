//! Many workers on one run as jobs of a Ray cluster. What is known of them stands in the cluster alone, in the jobs'
//! metadata: whoever asks, from whatever machine, sees the same shards, and submits again those that died.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::json;

use super::client::{Job, Ray, RayError, Request, Status};
use crate::{
    words::{line, quoted},
    workers::Workers,
};

const RUN: &str = "divvy_run";
const SHARD: &str = "divvy_shard";
const TRY: &str = "divvy_try";
/// What divvy ends with when its command or recipe is wrong, and when its budget is spent: another try would end alike.
const WRONG: i32 = 2;
const SPENT: i32 = 3;

/// All that work on a run, on a cluster.
pub struct Crowd<'a> {
    pub ray: &'a Ray,
    /// Names the run: another plan or stage is another crowd.
    pub run: String,
}

/// One of them, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    pub number: u32,
    /// How often it was submitted.
    pub tries: u32,
    pub job: Job,
}

impl Shard {
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.job.status.is_over()
    }

    /// Ended otherwise than it was meant to; a further try may end better.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.job.status == Status::Failed && !matches!(self.job.driver_exit_code, Some(WRONG | SPENT))
    }

    #[must_use]
    pub fn is_at_its_budget(&self) -> bool {
        self.job.status == Status::Failed && self.job.driver_exit_code == Some(SPENT)
    }

    #[must_use]
    pub fn id(&self) -> &str {
        self.job.submission_id.as_deref().unwrap_or_default()
    }
}

impl Crowd<'_> {
    /// In order, each by its latest try.
    ///
    /// # Errors
    /// No answer of the cluster.
    pub fn shards(&self) -> Result<Vec<Shard>, RayError> {
        Ok(latest(&self.run, self.ray.jobs()?))
    }

    /// Submits so many as are missing or over.
    ///
    /// # Errors
    /// What the cluster says against it.
    pub fn submit(&self, workers: &Workers, package: &str, wanted: &[(u32, u32)]) -> Result<(), RayError> {
        wanted.iter().try_for_each(|(number, tries)| self.ray.submit(&self.request(workers, package, *number, *tries)))
    }

    /// How many of them are told to stop.
    ///
    /// # Errors
    /// No answer of the cluster.
    pub fn stop(&self) -> Result<usize, RayError> {
        let alive = self.shards()?.into_iter().filter(Shard::is_alive);
        let stopped = alive.map(|shard| self.ray.stop(shard.id())).collect::<Result<Vec<_>, _>>()?;
        Ok(stopped.into_iter().filter(|stopped| *stopped).count())
    }

    fn request(&self, workers: &Workers, package: &str, number: u32, tries: u32) -> Request {
        let metadata = [(RUN, self.run.clone()), (SHARD, number.to_string()), (TRY, tries.to_string())];
        Request {
            entrypoint: entrypoint(workers),
            // Two who submit at once submit the same.
            submission_id: format!("{}-{number}-{tries}", self.run),
            runtime_env: json!({
                "working_dir": package,
                // Time to give back what is in work.
                "env_vars": { "RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60" },
            }),
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
            // One that reserves nothing runs on the head.
            entrypoint_num_cpus: 1,
            entrypoint_num_gpus: 0,
        }
    }
}

/// The values are where the node was started; a job's description has the names alone.
fn entrypoint(workers: &Workers) -> String {
    let mut needed = String::new();
    for name in &workers.variables {
        let said = format!("{name} is not set on this node: export it where ray start is called");
        let _ = write!(needed, "[ -n \"${name}\" ] || {{ echo {} >&2; exit {WRONG}; }}; ", quoted(&said));
    }
    format!("{needed}exec {}", line(&workers.words))
}

fn latest(run: &str, jobs: Vec<Job>) -> Vec<Shard> {
    let mut shards: BTreeMap<u32, Shard> = BTreeMap::new();
    for job in jobs {
        let Some(metadata) = job.metadata.as_ref().filter(|metadata| metadata.get(RUN).is_some_and(|of| of == run))
        else {
            continue;
        };
        let number = |key: &str| metadata.get(key).and_then(|text| text.parse().ok());
        let (Some(number), Some(tries)) = (number(SHARD), number(TRY)) else { continue };
        if shards.get(&number).is_none_or(|known| known.tries < tries) {
            shards.insert(number, Shard { number, tries, job });
        }
    }
    shards.into_values().collect()
}

/// Which of `count` are to be submitted, and as the how manieth try: those that are missing or have failed or were stopped.
/// Where all have come to their end, all begin anew: there may be new work.
#[must_use]
pub fn missing(shards: &[Shard], count: u32) -> Vec<(u32, u32)> {
    let known: BTreeMap<u32, &Shard> = shards.iter().map(|shard| (shard.number, shard)).collect();
    let all_done =
        (1..=count).all(|number| known.get(&number).is_some_and(|shard| shard.job.status == Status::Succeeded));
    let next = |number: u32| match known.get(&number) {
        None => Some((number, 1)),
        Some(shard) if shard.is_alive() => None,
        Some(shard) if shard.job.status == Status::Succeeded && !all_done => None,
        Some(shard) => Some((number, shard.tries + 1)),
    };
    (1..=count).filter_map(next).collect()
}

/// A line each, for people.
#[must_use]
pub fn tell(shards: &[Shard]) -> String {
    let mut told = String::new();
    for shard in shards {
        let why = match shard.job.status {
            Status::Failed => format!("  {}", brief(&shard.job)),
            _ => String::new(),
        };
        let tries = if shard.tries > 1 { format!(" (try {})", shard.tries) } else { String::new() };
        let _ = writeln!(
            told,
            "shard {:>3}  {:<8} {}{tries}{why}",
            shard.number,
            shard.job.status.name(),
            quoted(shard.id())
        );
    }
    told
}

/// Why a job failed, in a line: its own last words, where it had a say.
fn brief(job: &Job) -> String {
    let message = job.message.as_deref().unwrap_or("without a word");
    let said = message.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match job.driver_exit_code {
        Some(code) => format!("exit code {code}: {said}"),
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(run: &str, number: u32, tries: u32, status: Status, code: Option<i32>) -> Job {
        let metadata = [(RUN, run.to_owned()), (SHARD, number.to_string()), (TRY, tries.to_string())];
        Job {
            submission_id: Some(format!("{run}-{number}-{tries}")),
            status,
            message: Some("Job entrypoint command failed\nerror: budget: spent\n".to_owned()),
            metadata: Some(metadata.map(|(key, value)| (key.to_owned(), value)).into()),
            driver_exit_code: code,
        }
    }

    #[test]
    fn each_shard_is_its_latest_try_and_others_are_left_alone() {
        let mut jobs = vec![
            job("r", 2, 1, Status::Running, None),
            job("r", 1, 2, Status::Running, None),
            job("r", 1, 1, Status::Failed, Some(137)),
            job("other", 3, 1, Status::Running, None),
        ];
        jobs.push(Job { submission_id: None, metadata: None, ..jobs[0].clone() });
        let shards = latest("r", jobs);
        let seen: Vec<_> = shards.iter().map(|shard| (shard.number, shard.tries, shard.is_alive())).collect();
        assert_eq!(seen, [(1, 2, true), (2, 1, true)]);
    }

    fn shards(of: &[(Status, Option<i32>)]) -> Vec<Shard> {
        let jobs = of.iter().zip(1..).map(|((status, code), number)| job("r", number, 1, *status, *code));
        latest("r", jobs.collect())
    }

    #[test]
    fn what_died_or_is_missing_is_submitted_and_what_lives_is_not() {
        let some = shards(&[
            (Status::Running, None),
            (Status::Succeeded, Some(0)),
            (Status::Failed, Some(-9)),
            (Status::Stopped, None),
        ]);
        assert_eq!(missing(&some, 5), [(3, 2), (4, 2), (5, 1)]);
        assert_eq!(missing(&some, 2), []);
        let done = shards(&[(Status::Succeeded, Some(0)); 2]);
        assert_eq!(missing(&done, 2), [(1, 2), (2, 2)]);
        assert_eq!(missing(&done, 3), [(3, 1)]);
    }

    #[test]
    fn a_spent_budget_and_a_wrong_recipe_are_no_death() {
        let ends =
            [(Some(3), false), (Some(2), false), (Some(137), true), (Some(-9), true), (None, true), (Some(1), true)];
        for (code, dead) in ends {
            assert_eq!(shards(&[(Status::Failed, code)])[0].is_dead(), dead, "{code:?}");
        }
        let told = tell(&shards(&[(Status::Failed, Some(3)), (Status::Pending, None)]));
        assert_eq!(told, "shard   1  failed   r-1-1  exit code 3: error: budget: spent\nshard   2  waiting  r-2-1\n");
    }

    #[test]
    fn an_entrypoint_has_names_and_no_values() {
        let workers = Workers {
            name: "x".into(),
            count: 2,
            words: ["./divvy", "collect", "a b.toml"].map(str::to_owned).to_vec(),
            variables: vec!["API_KEY".into()],
        };
        let line = entrypoint(&workers);
        assert!(line.starts_with("[ -n \"$API_KEY\" ] || { echo 'API_KEY is not set on this node"), "{line}");
        assert!(line.ends_with("; exec ./divvy collect 'a b.toml'"), "{line}");
    }
}
