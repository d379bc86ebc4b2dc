//! Who trains the students, and how: divvy's own engine on the CPU, or PyTorch, on the same rows, token ids and steps.

use serde::{Deserialize, Serialize};

/// `[train]`: for all students.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    #[serde(default)]
    pub engine: Engine,
    /// QLoRA: how the frozen base is held; else in bf16.
    pub quantised: Option<Quantised>,
    // Everything below is for the engine `torch` alone.
    /// An interpreter that has PyTorch, TRL and PEFT: a program's name, or a path relative to the recipe; `uv` when absent.
    pub python: Option<String>,
    #[serde(default)]
    pub launch: Launch,
    /// For all but `local`: processes on each machine, one a GPU.
    pub processes: Option<u32>,
    /// For all but `local`: machines that see the store's folder at the same place.
    pub nodes: Option<u32>,
    /// For several `nodes`: `HOST:PORT`, a free port of the machine that divvy runs on; for `slurm` the port alone counts.
    pub meet: Option<String>,
    /// For `slurm`: more lines of the job's head, as in `["--partition=gpu", "--gres=gpu:4"]`.
    pub slurm: Option<Vec<String>>,
    /// For `ray`: the cluster's dashboard, `http://HEAD:8265`.
    pub address: Option<String>,
    /// For `ray`: the variable that holds the cluster's token.
    pub token_env: Option<String>,
    /// For `ray`: GPUs that are set aside on each machine.
    pub gpus: Option<u32>,
    /// For `ray`: the machines see the store's folder at the same place, so that nothing need be sent.
    pub shared: Option<bool>,
    pub precision: Option<Precision>,
    /// Rows end to end instead of side by side with padding.
    pub packing: Option<bool>,
    /// Each layer is run again on the way back: less memory, more work. For divvy's own engine, too.
    pub gradient_checkpointing: Option<bool>,
    /// For several processes: each keeps a share of the weights, and fetches a layer from the others when its turn comes.
    pub fsdp: Option<bool>,
    /// Most tokens in forward and backward passes at a time, of a process; bounds the memory. A longer row goes alone. For divvy's
    /// own engine, too.
    pub micro_tokens: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    #[default]
    Native,
    /// TRL and PEFT.
    Torch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Launch {
    /// One process on this machine.
    #[default]
    Local,
    /// Several, perhaps on several machines.
    Torchrun,
    /// A job of a Slurm cluster.
    Slurm,
    /// A job of a Ray cluster.
    Ray,
}

/// In what PyTorch computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Products in bf16, sums and what is trained in f32.
    #[default]
    Bf16,
    F32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantised {
    /// In four bits (Dettmers et al. 2023, arXiv:2305.14314): with the engine `torch`.
    Nf4,
    /// As its GGUF file has it, a matrix unpacked when its turn comes: with divvy's own engine. The student is the same, to the
    /// last bit, as beside a base in bf16.
    Stored,
}

impl Train {
    /// The keys that are written and mean nothing to divvy's own engine.
    pub(crate) fn foreign_keys(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("python", self.python.is_some()),
            ("launch", self.launch != Launch::Local),
            ("processes", self.processes.is_some()),
            ("nodes", self.nodes.is_some()),
            ("meet", self.meet.is_some()),
            ("slurm", self.slurm.is_some()),
            ("address", self.address.is_some()),
            ("token_env", self.token_env.is_some()),
            ("gpus", self.gpus.is_some()),
            ("shared", self.shared.is_some()),
            ("precision", self.precision.is_some()),
            ("packing", self.packing.is_some()),
            ("fsdp", self.fsdp.is_some()),
        ];
        keys.into_iter().filter(|(_, written)| *written).map(|(key, _)| key)
    }
}
