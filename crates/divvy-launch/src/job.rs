//! What is handed over to PyTorch: a folder with settings, rows as token ids, and which rows each optimiser step takes at
//! which rate. Nothing that decides the result is left to the other side. `train.py` says what each file is.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use divvy_core::recipe::{Precision, Quantised};
use serde::Serialize;

use crate::{
    error::{LaunchError, at},
    program,
};

/// Labels of tokens that are read and not learnt.
const NO_LOSS: i64 = -100;

/// `job.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// The model that is trained, in Hugging Face's layout, as seen from the folder or from the root.
    pub base: PathBuf,
    pub precision: Precision,
    pub quantised: Option<Quantised>,
    pub packing: bool,
    pub gradient_checkpointing: bool,
    /// Whether each process keeps a share of the weights alone.
    pub fsdp: bool,
    /// LoRA+: the rate of the factors B over that of A.
    pub b_rate: f64,
    /// Most tokens in one forward and backward pass of a process.
    pub micro_tokens: usize,
    pub seed: u64,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
    pub checkpoint_every: u64,
    pub eval_every: u64,
}

/// A line of `rows.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub input_ids: Vec<u32>,
    pub labels: Vec<i64>,
}

impl Row {
    /// The loss is taken on the completion alone.
    #[must_use]
    pub fn new(prompt: &[u32], completion: &[u32]) -> Self {
        let unlearnt = prompt.iter().map(|_| NO_LOSS);
        Self {
            input_ids: [prompt, completion].concat(),
            labels: unlearnt.chain(completion.iter().map(|id| i64::from(*id))).collect(),
        }
    }
}

/// A line of `steps.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Places in `rows.jsonl`, from 0.
    pub rows: Vec<usize>,
    pub learning_rate: f64,
}

/// The folder of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// For LoRA: where the adapter before the first step is to lie.
    #[must_use]
    pub fn start(&self) -> PathBuf {
        self.0.join("start")
    }

    /// What training made: there if, and only if, it came to its end.
    #[must_use]
    pub fn result(&self) -> PathBuf {
        self.0.join("result")
    }

    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("log.txt")
    }

    #[must_use]
    pub(crate) fn program(&self) -> PathBuf {
        self.0.join("train.py")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// The step of the newest whole checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<u64> {
        let entries = fs::read_dir(self.0.join("checkpoint")).into_iter().flatten().flatten();
        let whole = entries.filter(|entry| entry.path().join("whole").exists());
        whole.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("checkpoint-")?.parse().ok()).max()
    }

    /// Writes everything but the adapter to start from. What is there already under these names is replaced.
    ///
    /// # Errors
    /// [`LaunchError::Io`] naming the file.
    pub fn write(
        &self,
        settings: &Settings,
        rows: &[Row],
        dev: &[Row],
        steps: impl Iterator<Item = Step>,
    ) -> Result<(), LaunchError> {
        fs::create_dir_all(&self.0).map_err(at(&self.0))?;
        self.whole("train.py", |out| out.write_all(program::TRAIN.as_bytes()))?;
        self.whole("rows.jsonl", |out| lines(out, rows.iter()))?;
        self.whole("dev.jsonl", |out| lines(out, dev.iter()))?;
        self.whole("steps.jsonl", |out| lines(out, steps))?;
        self.whole("job.json", |out| Ok(serde_json::to_writer_pretty(out, settings)?))
    }

    /// Beside, then renamed.
    fn whole(
        &self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<fs::File>) -> std::io::Result<()>,
    ) -> Result<(), LaunchError> {
        let (path, beside) = (self.0.join(name), self.0.join(format!("{name}.tmp")));
        let write = || {
            let mut out = BufWriter::new(fs::File::create(&beside)?);
            fill(&mut out)?;
            out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(at(&path))
    }
}

fn lines<T: Serialize>(out: &mut impl Write, values: impl Iterator<Item = T>) -> std::io::Result<()> {
    for value in values {
        serde_json::to_writer(&mut *out, &value)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            base: "../base".into(),
            precision: Precision::Bf16,
            quantised: Some(Quantised::Nf4),
            packing: true,
            gradient_checkpointing: false,
            fsdp: false,
            b_rate: 1.0,
            micro_tokens: 1024,
            seed: 7,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            checkpoint_every: 25,
            eval_every: 25,
        }
    }

    #[test]
    fn a_row_learns_its_completion_alone() {
        let row = Row::new(&[5, 6, 7], &[8, 9]);
        assert_eq!((row.input_ids, row.labels), (vec![5, 6, 7, 8, 9], vec![-100, -100, -100, 8, 9]));
    }

    #[test]
    fn the_folder_holds_all_that_decides_the_result() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("job"));
        let rows = [Row::new(&[1], &[2]), Row::new(&[3], &[4, 5])];
        let steps = [Step { rows: vec![1, 0], learning_rate: 0.5 }];
        folder.write(&settings(), &rows, &rows[..1], steps.into_iter()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            read("rows.jsonl"),
            "{\"input_ids\":[1,2],\"labels\":[-100,2]}\n{\"input_ids\":[3,4,5],\"labels\":[-100,4,5]}\n"
        );
        assert_eq!(read("dev.jsonl").lines().count(), 1);
        assert_eq!(read("steps.jsonl"), "{\"rows\":[1,0],\"learning_rate\":0.5}\n");
        let job: serde_json::Value = serde_json::from_str(&read("job.json")).unwrap();
        assert_eq!((&job["precision"], &job["quantised"]), (&"bf16".into(), &"nf4".into()));
        assert!(read("train.py").starts_with("# /// script\n"));
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 5, "something was left over");
    }

    #[test]
    fn a_checkpoint_that_is_not_whole_is_none() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        assert_eq!(folder.checkpoint(), None);
        for (step, whole) in [(2, true), (10, true), (12, false)] {
            let checkpoint = place.path().join(format!("checkpoint/checkpoint-{step}"));
            fs::create_dir_all(&checkpoint).unwrap();
            if whole {
                fs::write(checkpoint.join("whole"), "").unwrap();
            }
        }
        assert_eq!(folder.checkpoint(), Some(10));
    }
}
