//! Training that is handed over, with a shell script in the place of Python and scripts in the place of Slurm's programs:
//! what is written for the other side, what comes back, and what is told when nothing does.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use divvy_testkit::checkpoint;
use serde_json::{Value, json};

use crate::{
    bench::{Bench, ended, files_below, interrupt, wait_for},
    school,
};

pub(crate) const RECIPE: &str = r#"
name = "handed"
seed = 7

[data]
dev_rows = 4

[data.train]
dataset = "synth"
rows = 12

[models.tiny]
source = "path:HERE/tiny"

[collect]
teacher = "recorded"

[students.sd]
base = "tiny"
target = "SD-T"
rank = 4
epochs = 2
batch_rows = 5
max_row_tokens = 3000

[train]
engine = "torch"
python = "python"
"#;

/// Says what it was called with, logs a step and gives back what it was given to begin with.
pub(crate) const TRAINS: &str = r#"echo "$@" >> HERE/asked
echo '{"step":1,"total":6,"loss":2.5,"learning_rate":0.001,"grad_norm":1,"tokens":9,"tokens_per_second":3,"dev_loss":2}' >> "$3/metrics.jsonl"
cp "$3"/*.json* HERE
cp -r "$3/start" "$3/result""#;

pub(crate) fn bench(recipe: &str, python: &str) -> Bench {
    let bench = Bench::idle();
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    program(&bench, "python", python);
    bench.recipe(recipe);
    bench
}

fn program(bench: &Bench, name: &str, text: &str) {
    let text = text.replace("HERE", &bench.workspace.path().display().to_string());
    let path = bench.workspace.write(name, &format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// With the programs of the workspace before all others.
fn train(bench: &Bench) -> Command {
    let mut command = bench.command(&["train", "recipe.toml"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", bench.workspace.path().display()));
    command
}

fn lines(bench: &Bench, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(bench.file(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_other_side_is_given_all_and_its_adapter_is_the_student() {
    let bench = bench(RECIPE, TRAINS);
    let told = ended(train(&bench).spawn().unwrap());
    assert_eq!(told.code, Some(0), "{told:?}");
    check_rows(&bench);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let training = &report["training"][0];
    assert_eq!((&training["rows"], &training["curve"][0]["dev_loss"]), (&json!(12), &json!(2.0)), "{training}");
    bench.done(&["export", "recipe.toml", "--student", "sd", "--out", "out"]);
    assert_eq!(files_below(&bench.file("out")).len(), 4, "weights, settings, manifest and model card");
    let bases = files_below(&bench.file("runs/bases"));
    assert!(bases.iter().any(|file| file.ends_with("model.safetensors")), "{bases:?}");
    assert!(!files_below(&bench.file("runs/students")).iter().any(|file| file.ends_with("train.py")), "left over");
    fs::remove_file(bench.file("python")).unwrap();
    assert_eq!(ended(train(&bench).spawn().unwrap()).code, Some(0), "a trained student was trained again");
}

/// The very ids that `divvy export --rows ids` shows, and every row once an epoch.
fn check_rows(bench: &Bench) {
    bench.done(&["export", "recipe.toml", "--student", "sd", "--rows", "ids", "--out", "ids.jsonl"]);
    let (given, exported) = (lines(bench, "rows.jsonl"), lines(bench, "ids.jsonl"));
    assert_eq!((given.len(), lines(bench, "dev.jsonl").len()), (12, 4));
    for (given, exported) in given.iter().zip(&exported) {
        assert_eq!((&given["input_ids"], &given["labels"]), (&exported["input_ids"], &exported["labels"]));
    }
    let steps = lines(bench, "steps.jsonl");
    assert_eq!(steps.len(), 2 * 3);
    let mut epoch: Vec<u64> = steps[..3]
        .iter()
        .flat_map(|step| step["rows"].as_array().unwrap().clone())
        .map(|row| row.as_u64().unwrap())
        .collect();
    epoch.sort_unstable();
    assert_eq!(epoch, (0..12).collect::<Vec<_>>());
    let job: Value = serde_json::from_str(&fs::read_to_string(bench.file("job.json")).unwrap()).unwrap();
    assert_eq!((&job["precision"], &job["packing"]), (&json!("bf16"), &json!(true)), "{job}");
}

/// Training and export make their rows each in its own way.
#[test]
fn what_every_target_is_given_is_what_is_exported_in_its_order() {
    const TARGETS: [&str; 8] = ["SD-T", "SD-R", "SE-T", "SE-A", "SE-T-direct", "SE-A-direct", "direct", "joint"];
    let bench = Bench::new(school::lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    program(
        &bench,
        "python",
        "mkdir -p HERE/given\ncp \"$3/rows.jsonl\" HERE/given/$(ls HERE/given | wc -l).jsonl\ncp -r \"$3/start\" \"$3/result\"",
    );
    let student = |(at, target)| {
        format!("[students.s{at}]\nbase = \"tiny\"\ntarget = \"{target}\"\nrank = 4\nmax_row_tokens = 3000\n")
    };
    let students: String = TARGETS.into_iter().enumerate().map(student).collect();
    let collect = school::RECIPE.replace("[collect]", "[collect]\nsamples = 2\ntemperature = 0.7");
    bench.recipe(&format!(
        "{collect}\n[models.tiny]\nsource = \"path:HERE/tiny\"\n{students}[train]\nengine = \"torch\"\npython = \"python\"\n"
    ));
    bench.done(&["screen", "recipe.toml"]);
    let told = ended(train(&bench).spawn().unwrap());
    assert_eq!(told.code, Some(0), "{told:?}");
    for (at, target) in TARGETS.into_iter().enumerate() {
        let out = format!("{at}.jsonl");
        bench.done(&["export", "recipe.toml", "--student", &format!("s{at}"), "--rows", "ids", "--out", &out]);
        let learnt = |name: &str| -> Vec<[Value; 2]> {
            lines(&bench, name).iter().map(|row| [row["input_ids"].clone(), row["labels"].clone()]).collect()
        };
        let (given, exported) = (learnt(&format!("given/{out}")), learnt(&out));
        assert!(given.len() > school::TRAIN / 2, "{target} has {} rows", given.len());
        assert!(given == exported, "{target}: {} rows are given, {} exported", given.len(), exported.len());
    }
}

#[test]
fn a_job_without_a_result_tells_why_and_the_way_out() {
    let bench = bench(RECIPE, "echo torch.OutOfMemoryError >&2; exit 1");
    ended(train(&bench).spawn().unwrap()).complains(1, &["sd", "OutOfMemoryError", "micro_tokens", "begins anew"]);
    program(&bench, "python", TRAINS);
    assert_eq!(ended(train(&bench).spawn().unwrap()).code, Some(0));
}

#[test]
fn without_python_the_way_out_is_told() {
    let bench = bench(&RECIPE.replace("python = \"python\"\n", ""), "");
    ended(train(&bench).spawn().unwrap()).complains(1, &["`uv`", "python = "]);
    bench.recipe(&RECIPE.replace("\"python\"", "\"no/python\""));
    ended(train(&bench).spawn().unwrap()).complains(1, &["train.python", "no/python"]);
}

#[test]
fn every_machine_of_a_crew_has_its_command() {
    let several = "launch = \"torchrun\"\nprocesses = 2\nnodes = 3\nmeet = \"one:29500\"\n";
    let bench = bench(&format!("{RECIPE}{several}"), TRAINS);
    let told = ended(train(&bench).spawn().unwrap());
    assert_eq!(told.code, Some(0), "{told:?}");
    for node in 1..3 {
        let words = format!("--processes=2 --nodes=3 --node={node} --meet=one:29500");
        assert!(told.stderr.contains(&words), "{words} is not in {told:?}");
    }
    assert!(fs::read_to_string(bench.file("asked")).unwrap().contains("--node=0 --meet=one:29500"));
}

/// A cluster of one machine: a job is a process, and its number is 42.
fn cluster(python: &str) -> Bench {
    let bench = bench(&format!("{RECIPE}launch = \"slurm\"\nslurm = [\"--mem=8G\"]\n"), python);
    program(&bench, "sbatch", "cp $2 HERE/script\nbash $2 > HERE/out 2>&1 &\necho $! > HERE/pid\necho '42;here'");
    program(&bench, "squeue", "kill -0 $(cat HERE/pid) && echo RUNNING");
    program(&bench, "scancel", "echo $1 > HERE/cancelled");
    program(&bench, "srun", "exec \"$@\"");
    bench
}

#[test]
fn a_job_of_slurm_goes_on_without_divvy_and_is_found_again() {
    let bench = cluster(&format!("while [ ! -e HERE/go ]; do sleep 0.02; done\n{TRAINS}"));
    let mut child = train(&bench).spawn().unwrap();
    wait_for(&mut child, || files_below(&bench.file("runs")).iter().any(|file| file.ends_with("slurm-job")));
    interrupt(&child);
    let told = ended(child);
    told.complains(130, &["slurm job 42 goes on", "scancel 42"]);
    assert!(!bench.file("cancelled").exists(), "nobody was there to say so");
    fs::write(bench.file("go"), "").unwrap();
    let again = ended(train(&bench).spawn().unwrap());
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(fs::read_to_string(bench.file("asked")).unwrap().lines().count(), 1, "it was submitted twice");
    let script = fs::read_to_string(bench.file("script")).unwrap();
    assert!(script.contains("#SBATCH --mem=8G\n") && script.contains("srun "), "{script}");
}

/// The same command at a terminal: util-linux's `script` types what it reads, and writes what is seen to `screen`.
fn at_a_terminal(bench: &Bench) -> Command {
    let command = train(bench);
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let mut script = Command::new("script");
    script.args(["-qfec", &line.join(" "), "screen"]).current_dir(bench.workspace.path());
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    script
}

#[test]
fn whoever_interrupts_at_a_terminal_is_asked_what_becomes_of_the_job() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    for (answer, told, stopped) in [("y\n", "slurm job 42 is stopped", true), ("n\n", "slurm job 42 goes on", false)] {
        let bench = cluster("while [ ! -e HERE/go ]; do sleep 0.02; done");
        let mut child = at_a_terminal(&bench).spawn().unwrap();
        let mut keyboard = child.stdin.take().unwrap();
        let screen = || fs::read_to_string(bench.file("screen")).unwrap_or_default();
        wait_for(&mut child, || files_below(&bench.file("runs")).iter().any(|file| file.ends_with("slurm-job")));
        keyboard.write_all(b"\x03").unwrap();
        wait_for(&mut child, || screen().contains("Stop it, too? [y/N]"));
        keyboard.write_all(answer.as_bytes()).unwrap();
        assert_eq!(ended(child).code, Some(130), "{}", screen());
        assert!(screen().contains(told), "{}", screen());
        assert_eq!(bench.file("cancelled").exists(), stopped, "{answer}");
        fs::write(bench.file("go"), "").unwrap();
    }
}

#[test]
fn a_job_of_slurm_that_fails_and_a_machine_without_slurm_are_told() {
    let bench = cluster("echo boom >&2; exit 1");
    let told = ended(train(&bench).spawn().unwrap());
    told.complains(1, &["slurm job 42", "begins anew"]);
    fs::remove_file(bench.file("sbatch")).unwrap();
    ended(train(&bench).spawn().unwrap()).complains(1, &["no `sbatch`", "job.sbatch"]);
}
