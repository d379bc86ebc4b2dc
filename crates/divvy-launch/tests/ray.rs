//! A student as a job of the Ray stand-in, with nothing shared: what is sent, what comes back through the log, and what is
//! told when nothing does. Needs `python3`, for the program that receives it; says so loudly where there is none.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic; the lint spares only the tests themselves")]

use std::{
    fs,
    ops::ControlFlow,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use divvy_core::{recipe::Precision, records::TrainNews};
use divvy_launch::{
    LaunchError,
    job::{Folder, Row, Settings, Step},
    ray::{self, Place, Ray, Request, Token},
    words::Crew,
};
use divvy_testkit::{
    ray::{Cluster, Setup},
    workspace::Workspace,
};
use tokio::runtime::Runtime;

const TOKEN: &str = "hush-hush";
const VARIABLE: &str = "PATH";
/// Trains a student that is its base, as `train.py` would leave it.
const TRAINS: &str = r#"
import json, os, shutil, sys, time
folder = sys.argv[1]
job = json.load(open(folder + "/job.json"))
with open(folder + "/metrics.jsonl", "a") as log:
    for step in (1, 2):
        line = {"step": step, "total": 2, "loss": 2.5, "learning_rate": 1e-3, "grad_norm": 1, "tokens": 9}
        log.write(json.dumps(line | {"tokens_per_second": 3, "dev_loss": None}) + "\n")
        log.flush()
MORE
os.mkdir(folder + "/result.partial")
shutil.copy(folder + "/" + job["base"] + "/model.safetensors", folder + "/result.partial")
with open(folder + "/result.partial/told", "w") as told:
    told.write(" ".join(sys.argv[2:]) + os.environ["HF_HUB_OFFLINE"] + str(sorted(os.listdir(folder + "/start"))))
os.rename(folder + "/result.partial", folder + "/result")
"#;

struct Bench {
    workspace: Workspace,
    runtime: Runtime,
    cluster: Cluster,
    folder: Folder,
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn bench(more: &str, token: Option<&str>) -> Option<Bench> {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: nothing is sent to the stand-in of Ray; there is no python3");
        return None;
    }
    let workspace = Workspace::new();
    let setup = Setup { token: token.map(str::to_owned), ..Setup::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    fs::create_dir(workspace.file("cluster")).unwrap();
    let cluster = runtime.block_on(Cluster::start(&workspace.file("cluster"), setup)).unwrap();
    let folder = Folder::new(workspace.file("job"));
    let settings = Settings {
        base: workspace.file("base"),
        precision: Precision::F32,
        quantised: None,
        packing: true,
        gradient_checkpointing: false,
        fsdp: false,
        b_rate: 1.0,
        micro_tokens: 64,
        seed: 7,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
        checkpoint_every: 1,
        eval_every: 1,
    };
    let rows = [Row::new(&[1], &[2])];
    folder.write(&settings, &rows, &[], std::iter::once(Step { rows: vec![0], learning_rate: 0.5 })).unwrap();
    workspace.write("job/train.py", &TRAINS.replace("MORE", more));
    workspace.write("job/start/adapter_config.json", "{}");
    workspace.write("base/model.safetensors", &"weights ".repeat(1000));
    workspace.write("base/config.json", "{}");
    Some(Bench { workspace, runtime, cluster, folder })
}

/// `PATH` is the one variable that is set for sure; a test sets none.
fn token() -> Option<Token> {
    Token::find(Some(VARIABLE)).unwrap()
}

impl Bench {
    fn place(&self, token: Option<Token>) -> Place {
        Place {
            address: self.cluster.url(),
            token,
            crew: Crew { processes: 2, ..Crew::alone() },
            gpus: 0,
            shared: false,
            python: PathBuf::from("python3"),
            base: self.workspace.file("base"),
        }
    }

    fn train(&self, place: &Place) -> (Result<(), LaunchError>, Vec<u64>, Vec<String>) {
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        let trained = ray::train(&self.folder, place, &mut |news| {
            match news {
                TrainNews::Step(point, _) => steps.push(point.step),
                TrainNews::Note(note) => notes.push(note.to_owned()),
                TrainNews::Nothing => {}
            }
            ControlFlow::Continue(())
        });
        (trained, steps, notes)
    }

    /// Breaks off the waiting when something is so.
    fn left(&self, so: impl Fn() -> bool) -> String {
        let (place, began) = (self.place(None), Instant::now());
        let left = ray::train(&self.folder, &place, &mut |_| {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing happens");
            if so() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let error = left.unwrap_err();
        assert!(matches!(error, LaunchError::Left { .. }), "{error}");
        error.to_string()
    }

    fn runs(&self) -> bool {
        self.cluster.states().values().any(|state| state == "RUNNING")
    }
}

#[test]
fn all_is_sent_and_the_result_comes_back_through_the_log() {
    let value = std::env::var(VARIABLE).unwrap();
    let Some(bench) = bench("", Some(&value)) else { return };
    let (trained, steps, notes) = bench.train(&bench.place(token()));
    trained.unwrap();
    assert_eq!(steps, [1, 2]);
    assert!(
        notes.iter().any(|note| note.contains("MiB sent")) && notes.iter().any(|note| note.contains("2.60.0")),
        "{notes:?}"
    );
    let read = |name: &str| fs::read_to_string(bench.folder.result().join(name)).unwrap();
    assert_eq!(read("model.safetensors"), "weights ".repeat(1000));
    assert_eq!(read("told"), "--processes=21['adapter_config.json']");
    let [submitted] = &bench.cluster.submitted()[..] else { panic!("one job") };
    assert!(!submitted.to_string().contains(&value), "the token is in the job's description");
    assert_eq!((&submitted["entrypoint_num_cpus"], bench.cluster.uploads()), (&2.into(), 2));
    assert!(!bench.folder.path().join("ray-job").exists());
    // The same files are there already.
    fs::remove_dir_all(bench.folder.result()).unwrap();
    bench.train(&bench.place(token())).0.unwrap();
    assert_eq!((bench.cluster.submitted().len(), bench.cluster.uploads()), (2, 2));
}

#[test]
fn a_job_goes_on_without_divvy_and_is_found_again() {
    let Some(bench) = bench("while not os.path.exists('/GO'): time.sleep(0.05)", None) else { return };
    let go = bench.workspace.file("go");
    let program = bench.folder.path().join("train.py");
    fs::write(&program, fs::read_to_string(&program).unwrap().replace("/GO", &go.display().to_string())).unwrap();
    let told = bench.left(|| bench.runs());
    assert!(told.contains("goes on") && told.contains("ray job stop divvy-"), "{told}");
    fs::write(go, "").unwrap();
    let (trained, steps, notes) = bench.train(&bench.place(None));
    trained.unwrap();
    assert_eq!((steps, bench.cluster.submitted().len()), (vec![1, 2], 1));
    assert!(notes.iter().any(|note| note.contains("under way already")), "{notes:?}");
}

#[test]
fn a_job_that_others_stop_is_told_and_one_that_was_stopped_here_is_over() {
    let Some(bench) = bench("time.sleep(300)", None) else { return };
    bench.left(|| bench.runs());
    let id = bench.cluster.states().into_keys().next().unwrap();
    assert!(Ray::connect(&bench.cluster.url(), None).unwrap().stop(&id).unwrap());
    let told = bench.train(&bench.place(None)).0.unwrap_err().to_string();
    assert!(told.contains("was stopped") && bench.cluster.submitted().len() == 1, "{told}");
    bench.left(|| bench.runs());
    assert!(ray::stop(&bench.folder, &bench.place(None)));
    assert!(!ray::stop(&bench.folder, &bench.place(None)), "there is nothing more to stop");
    assert_eq!(bench.cluster.submitted().len(), 2);
}

#[test]
fn failures_are_told_with_the_last_words_and_the_way_out() {
    for (more, words) in [
        ("sys.exit('train.py: out of rows')", &["torch: out of rows", "begins anew"][..]),
        ("raise MemoryError('too much')", &["as ray job divvy-", "| MemoryError: too much", "micro_tokens"]),
        ("os.kill(os.getpid(), 9)", &["as ray job divvy-", "memory runs out", "micro_tokens"]),
    ] {
        let Some(bench) = bench(more, None) else { return };
        let (trained, steps, _) = bench.train(&bench.place(None));
        let told = trained.unwrap_err().to_string();
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
        assert_eq!(steps, [1, 2], "what it trained is on record");
        assert!(!told.contains("divvy-step"), "{told}");
    }
}

#[test]
fn a_cluster_is_asked_as_the_real_one_answers() {
    let Some(bench) = bench("", Some(TOKEN)) else { return };
    let told = |address: &str, token| Ray::connect(address, token).err().unwrap().to_string();
    for (token, word) in [(None, "Missing authentication token"), (token(), "Invalid authentication token")] {
        let told = told(&bench.cluster.url(), token);
        assert!(told.contains(word) && told.contains("token_env") && !told.contains(TOKEN), "{told}");
    }
    assert!(told("http://127.0.0.1:9", None).contains("does not answer"));
    let open = bench.workspace.file("open");
    fs::create_dir(&open).unwrap();
    let cluster = bench.runtime.block_on(Cluster::start(&open, Setup::default())).unwrap();
    let ray = Ray::connect(&cluster.url(), None).unwrap();
    assert_eq!(ray.job("nobody").unwrap(), None);
    let request =
        Request { entrypoint: "echo hello; exit 3".into(), submission_id: "one".into(), ..Request::default() };
    ray.submit(&request).unwrap();
    ray.submit(&request).unwrap();
    let began = Instant::now();
    let job = loop {
        let job = ray.job("one").unwrap().unwrap();
        if job.status.is_over() {
            break job;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{job:?}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((job.status, job.driver_exit_code), (ray::Status::Failed, Some(3)));
    assert!(job.message.unwrap().contains("last available logs") && ray.logs("one").unwrap().contains("hello"));
    assert!(!ray.stop("one").unwrap());
    assert_eq!((ray.jobs().unwrap().len(), cluster.submitted().len()), (1, 1));
}
