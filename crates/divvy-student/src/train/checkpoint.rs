//! A run on disk: parameters, moments and log in one file, written whole or not at all. It carries the fingerprint of
//! everything that decides the result, so that it is resumed by the same run only. The order of rows follows from seed
//! and step, hence the step is all the position there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::parameters::{Decay, Info, Parameters};
use super::rows::TrainRow;
use super::run::StepRecord;
use super::settings::{Activations, Base, TrainConfig, TrainError};
use super::stop::{EarlyStop, StopBy};
use crate::adapter::files::{TensorRef, read_tensors, write_atomic, write_tensors};

const FILE: &str = "checkpoint.safetensors";
/// Begins the names of files with a best step's weights.
const BEST: &str = "best-";

pub(crate) struct Checkpoint {
    path: PathBuf,
    fingerprint: String,
}

impl Checkpoint {
    pub(crate) fn new(folder: &Path, fingerprint: String) -> Result<Self, TrainError> {
        let failed = |source| TrainError::Io { file: folder.display().to_string(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        Ok(Self { path: folder.join(FILE), fingerprint })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&self, parameters: &Parameters, log: &[StepRecord]) -> Result<(), TrainError> {
        let log = serde_json::to_string(log).expect("numbers serialise");
        let Parameters { infos, values, m, v, .. } = parameters;
        self.put(&self.path, infos, &[("value", values), ("m", m), ("v", v)], Some(log))
    }

    fn put(
        &self,
        path: &Path,
        infos: &[Info],
        kinds: &[(&str, &Vec<Vec<f32>>)],
        log: Option<String>,
    ) -> Result<(), TrainError> {
        let log = log.map(|log| ("log".to_owned(), log));
        let metadata = [("fingerprint".to_owned(), self.fingerprint.clone())].into_iter().chain(log).collect();
        let mut tensors = Vec::with_capacity(kinds.len() * infos.len());
        for (kind, values) in kinds {
            for (info, values) in infos.iter().zip(*values) {
                tensors.push(TensorRef { name: format!("{kind}.{}", info.name), shape: info.shape.clone(), values });
            }
        }
        write_atomic(path, |out| write_tensors(out, &metadata, &tensors))
            .map_err(|source| TrainError::Io { file: path.display().to_string(), source })
    }

    /// One file a step: the checkpoint may be of a step before, whose best is still to be found when it is resumed.
    fn best(&self, step: u64) -> PathBuf {
        self.path.with_file_name(format!("{BEST}{step}.safetensors"))
    }

    /// The weights of what is the best step so far.
    pub(crate) fn write_best(&self, step: u64, parameters: &Parameters) -> Result<(), TrainError> {
        self.put(&self.best(step), &parameters.infos, &[("value", &parameters.values)], None)
    }

    /// Once a checkpoint knows of this step, those before are of no more use.
    pub(crate) fn forget_best_but(&self, step: u64) -> Result<(), TrainError> {
        let (folder, kept) = (self.path.parent().unwrap_or(Path::new(".")), self.best(step));
        let failed = |source| TrainError::Io { file: folder.display().to_string(), source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_best = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(BEST));
            if is_best && path != kept {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(crate) fn read_best(&self, step: u64, parameters: &mut Parameters) -> Result<(), TrainError> {
        let path = self.best(step);
        let file = path.display().to_string();
        let bytes = fs::read(&path).map_err(|source| TrainError::Io { file: file.clone(), source })?;
        let Parameters { infos, values, .. } = parameters;
        self.take(&bytes, &file, infos, [("value", values)]).map(drop)
    }

    /// Restores `parameters` and returns the log, whose length is the number of finished steps; `None` when there is no
    /// checkpoint yet.
    pub(crate) fn read(&self, parameters: &mut Parameters) -> Result<Option<Vec<StepRecord>>, TrainError> {
        let file = self.path.display().to_string();
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TrainError::Io { file, source }),
        };
        let damaged = |reason: String| TrainError::BadCheckpoint { file: file.clone(), reason };
        let Parameters { infos, values, m, v, .. } = parameters;
        let metadata = self.take(&bytes, &file, infos, [("value", values), ("m", m), ("v", v)])?;
        let log = metadata.get("log").ok_or_else(|| damaged("it has no log".into()))?;
        Ok(Some(serde_json::from_str(log).map_err(|e| damaged(format!("its log: {e}")))?))
    }

    /// Puts what a file of this run holds in its place, and returns what it says of itself.
    fn take<const N: usize>(
        &self,
        bytes: &[u8],
        file: &str,
        infos: &[Info],
        kinds: [(&str, &mut Vec<Vec<f32>>); N],
    ) -> Result<BTreeMap<String, String>, TrainError> {
        let damaged = |reason: String| TrainError::BadCheckpoint { file: file.to_owned(), reason };
        let mut stored = read_tensors(bytes).map_err(damaged)?;
        if stored.metadata.get("fingerprint") != Some(&self.fingerprint) {
            return Err(TrainError::OtherRun { file: file.to_owned() });
        }
        for (kind, into) in kinds {
            for (info, into) in infos.iter().zip(into) {
                let name = format!("{kind}.{}", info.name);
                let tensor = stored.tensors.remove(&name).ok_or_else(|| damaged(format!("{name} is missing")))?;
                if tensor.shape != info.shape {
                    return Err(damaged(format!("{name} has shape {:?}, not {:?}", tensor.shape, info.shape)));
                }
                *into = tensor.values;
            }
        }
        Ok(stored.metadata)
    }
}

/// Reads a checkpoint, and asks its log what a run asks it: see [`crate::fuzzing::checkpoint`].
pub(crate) fn read_any(folder: &Path) -> Result<(), TrainError> {
    let mut parameters = Parameters::default();
    parameters.push("w".into(), &[2, 3], Decay::Yes, vec![0.0; 6]);
    let log = Checkpoint::new(folder, "run".into())?.read(&mut parameters)?.unwrap_or_default();
    for stop in [StopBy::DevLoss, StopBy::Quality].map(|by| EarlyStop { by, patience: 1 }) {
        let best = stop.best(&log);
        assert!(best.is_some() || !stop.is_due(&log), "without a look, none is the last");
    }
    Ok(())
}

/// BLAKE3 of everything that decides the result: settings but cadence and memory policy, base, rows.
pub(crate) fn fingerprint(base: &Base<'_>, config: &TrainConfig, rows: &[TrainRow], dev_rows: &[TrainRow]) -> String {
    let decisive = TrainConfig {
        checkpoint_every_steps: 0,
        eval_every_steps: if config.early_stop.is_some() { config.eval_every_steps } else { 0 },
        activations: Activations::Keep,
        ..config.clone()
    };
    let mut hash = blake3::Hasher::new();
    hash.update(b"divvy-train/1");
    hash.update(&serde_json::to_vec(&(decisive, base.config, base.hash)).expect("settings serialise"));
    for set in [rows, dev_rows] {
        hash.update(&(set.len() as u64).to_le_bytes());
        for row in set {
            hash.update(&serde_json::to_vec(row).expect("rows serialise"));
        }
    }
    hash.finalize().to_hex().to_string()
}
