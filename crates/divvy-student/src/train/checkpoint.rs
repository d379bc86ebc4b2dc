//! A run on disk: parameters, moments and log in one file, written whole or not at all. It carries the fingerprint of
//! everything that decides the result, so that it is resumed by the same run only. The order of rows follows from seed
//! and step, hence the step is all the position there is.

use std::fs;
use std::path::{Path, PathBuf};

use super::parameters::Parameters;
use super::rows::TrainRow;
use super::run::StepRecord;
use super::settings::{Activations, Base, TrainConfig, TrainError};
use crate::adapter::files::{TensorRef, read_tensors, write_atomic, write_tensors};

const FILE: &str = "checkpoint.safetensors";

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
        let metadata = [("fingerprint".to_owned(), self.fingerprint.clone()), ("log".to_owned(), log)].into();
        let mut tensors = Vec::with_capacity(3 * parameters.infos.len());
        for (kind, values) in [("value", &parameters.values), ("m", &parameters.m), ("v", &parameters.v)] {
            for (info, values) in parameters.infos.iter().zip(values) {
                tensors.push(TensorRef { name: format!("{kind}.{}", info.name), shape: info.shape.clone(), values });
            }
        }
        write_atomic(&self.path, |out| write_tensors(out, &metadata, &tensors))
            .map_err(|source| TrainError::Io { file: self.path.display().to_string(), source })
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
        let mut stored = read_tensors(&bytes).map_err(damaged)?;
        if stored.metadata.get("fingerprint") != Some(&self.fingerprint) {
            return Err(TrainError::OtherRun { file });
        }
        let log = stored.metadata.get("log").ok_or_else(|| damaged("it has no log".into()))?;
        let log = serde_json::from_str(log).map_err(|e| damaged(format!("its log: {e}")))?;
        let Parameters { infos, values, m, v, .. } = parameters;
        for (kind, into) in [("value", values), ("m", m), ("v", v)] {
            for (info, into) in infos.iter().zip(into) {
                let name = format!("{kind}.{}", info.name);
                let tensor = stored.tensors.remove(&name).ok_or_else(|| damaged(format!("{name} is missing")))?;
                if tensor.shape != info.shape {
                    return Err(damaged(format!("{name} has shape {:?}, not {:?}", tensor.shape, info.shape)));
                }
                *into = tensor.values;
            }
        }
        Ok(Some(log))
    }
}

/// BLAKE3 of everything that decides the result: settings but cadence and memory policy, base, rows.
pub(crate) fn fingerprint(base: &Base<'_>, config: &TrainConfig, rows: &[TrainRow], dev_rows: &[TrainRow]) -> String {
    let decisive = TrainConfig {
        checkpoint_every_steps: 0,
        eval_every_steps: 0,
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
