//! The keys of `[train]`: what of them is part of a student, and what cannot be.

use serde::{Deserialize, Serialize};

use super::names::Names;
use crate::recipe::{Engine, Launch, Method, Precision, Quantised, RecipeError, RowWeights, StopOn, Student};

/// A student that PyTorch trains is another one than divvy's own engine makes: close, and not the same numbers. Where it is
/// trained, in how many processes and how memory is saved makes no student of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TorchPlan {
    pub precision: Precision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantised: Option<Quantised>,
}

impl Names<'_> {
    /// `None` for divvy's own engine.
    pub(super) fn torch(&self, name: &str, student: &Student) -> Result<Option<TorchPlan>, RecipeError> {
        let train = &self.recipe.train;
        if train.quantised.is_some() && student.method == Method::Full {
            let message =
                format!("students.{name} has method = \"full\", which changes the base; quantised goes with lora");
            return self.fail("train.quantised", message);
        }
        if train.micro_tokens == Some(0) {
            return self.fail("train.micro_tokens", "no row would fit; leave the line out for the default");
        }
        if train.engine == Engine::Native {
            self.stored(name, student)?;
            return match train.foreign_keys().next() {
                Some(key) => self.fail(&format!("train.{key}"), "this key is for engine = \"torch\" alone"),
                None => Ok(None),
            };
        }
        self.places()?;
        if train.quantised == Some(Quantised::Stored) {
            return self.fail("train.quantised", "`stored` is for engine = \"native\"; PyTorch has \"nf4\"");
        }
        self.alike(name, student)?;
        let precision = train.precision.unwrap_or_default();
        Ok(Some(TorchPlan { precision, quantised: train.quantised }))
    }

    /// What divvy's own engine cannot do with a base in its stored form.
    fn stored(&self, name: &str, student: &Student) -> Result<(), RecipeError> {
        match self.recipe.train.quantised {
            Some(Quantised::Nf4) => self.fail(
                "train.quantised",
                "`nf4` is for engine = \"torch\"; divvy's own engine keeps a base as its GGUF file has it: quantised = \"stored\"",
            ),
            Some(Quantised::Stored)
                if student.early_stop.as_ref().is_some_and(|stop| stop.on == StopOn::DecompositionQuality) =>
            {
                self.fail(
                    &format!("students.{name}.early_stop"),
                    "a base in its stored form writes too slowly to be judged by what it writes; stop on the loss, or leave out \
                     train.quantised",
                )
            }
            _ => Ok(()),
        }
    }

    /// What only divvy's own engine does with a student.
    fn alike(&self, name: &str, student: &Student) -> Result<(), RecipeError> {
        let own = [("weights", student.weights != RowWeights::Equal), ("early_stop", student.early_stop.is_some())];
        match own.iter().find(|(_, set)| *set) {
            Some((key, _)) => self.fail(&format!("students.{name}.{key}"), "this key is for engine = \"native\" alone"),
            None => Ok(()),
        }
    }

    /// Where it is trained, and in how many processes.
    fn places(&self) -> Result<(), RecipeError> {
        let train = &self.recipe.train;
        for (key, count) in [("processes", train.processes), ("nodes", train.nodes)] {
            match count {
                Some(0) => return self.fail(&format!("train.{key}"), "nobody would train; leave the line out for one"),
                Some(_) if train.launch == Launch::Local => {
                    return self
                        .fail(&format!("train.{key}"), "this key needs launch = \"torchrun\", \"slurm\" or \"ray\"");
                }
                _ => {}
            }
        }
        if train.slurm.is_some() && train.launch != Launch::Slurm {
            return self.fail("train.slurm", "this key needs launch = \"slurm\"");
        }
        if let Some(line) = train.slurm.iter().flatten().find(|line| !line.starts_with("--") || line.contains('\n')) {
            return self.fail("train.slurm", format!("`{line}` is no option of sbatch; write \"--partition=gpu\""));
        }
        self.ray()?;
        self.shares()?;
        let several = train.nodes.is_some_and(|nodes| nodes > 1);
        match &train.meet {
            Some(_) if train.launch == Launch::Ray => self.fail("train.meet", "Ray finds a place to meet by itself; leave the line out"),
            None if several && train.launch == Launch::Torchrun => self.fail(
                "train.meet",
                "machines need a place to meet: meet = \"HOST:29500\", this machine as the others call it and a free port",
            ),
            Some(meet) if meet.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) => {
                self.fail("train.meet", format!("`{meet}` is no HOST:PORT"))
            }
            Some(_) if !several => self.fail("train.meet", "this key is for several nodes"),
            _ => Ok(()),
        }
    }
}

impl Names<'_> {
    /// Weights that are dealt out among processes.
    fn shares(&self) -> Result<(), RecipeError> {
        let train = &self.recipe.train;
        if train.fsdp != Some(true) {
            return Ok(());
        }
        if train.quantised.is_some() {
            let message = "weights in four bits stay whole in every process; leave out this line or `quantised`";
            return self.fail("train.fsdp", message);
        }
        match train.processes.unwrap_or(1).saturating_mul(train.nodes.unwrap_or(1)) {
            0 | 1 => self.fail("train.fsdp", "one process keeps all weights; write processes = 2 or more, one a GPU"),
            _ => Ok(()),
        }
    }

    /// What a Ray cluster is told, and nobody else.
    fn ray(&self) -> Result<(), RecipeError> {
        let train = &self.recipe.train;
        if train.launch != Launch::Ray {
            let written = [
                ("address", train.address.is_some()),
                ("token_env", train.token_env.is_some()),
                ("gpus", train.gpus.is_some()),
                ("shared", train.shared.is_some()),
            ];
            return match written.iter().find(|(_, written)| *written) {
                Some((key, _)) => self.fail(&format!("train.{key}"), "this key needs launch = \"ray\""),
                None => Ok(()),
            };
        }
        if train.address.is_none() {
            return self.fail(
                "train.address",
                "launch = \"ray\" needs the cluster's dashboard: address = \"http://HEAD:8265\"",
            );
        }
        if train.nodes.is_some_and(|nodes| nodes > 1) && train.shared != Some(true) {
            let message = "several machines write into one folder: put the store where all of them see it at the same place, and \
                           write shared = true";
            return self.fail("train.nodes", message);
        }
        match &train.token_env {
            Some(name) if !is_variable(name) => self
                .fail("train.token_env", "this is no name of an environment variable; a token is never written here"),
            _ => Ok(()),
        }
    }
}

fn is_variable(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    name.chars().all(plain) && name.starts_with(|first: char| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use crate::{
        plan::Plan,
        recipe::{Precision, Quantised, Recipe},
    };

    fn plan(train: &str, method: &str) -> Result<Plan, String> {
        let text = format!(
            "name = \"x\"\ndata.train = {{ dataset = \"synth\", rows = 4 }}\ncollect = {{ teacher = \"recorded\" }}\n\
             models.m.source = \"path:m\"\nstudents.s = {{ base = \"m\", target = \"SD-T\", method = \"{method}\" }}\n{train}"
        );
        let recipe = Recipe::parse(&text, "x.toml").map_err(|error| error.to_string())?;
        Plan::resolve(&recipe, "x.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn a_ray_cluster_is_no_part_of_the_student() {
        let torch = plan("[train]\nengine = \"torch\"", "lora").unwrap();
        let ray = "[train]\nengine = \"torch\"\nlaunch = \"ray\"\naddress = \"http://head:8265\"\ntoken_env = \"RAY_TOKEN\"\n\
                   shared = true\nnodes = 2\nprocesses = 4\ngpus = 4";
        assert_eq!(plan(ray, "lora").unwrap().digest(), torch.digest());
    }

    #[test]
    fn what_changes_the_numbers_is_part_of_the_student_and_nothing_else() {
        let native = plan("", "lora").unwrap();
        assert_eq!(native.students["s"].torch, None);
        for memory in ["quantised = \"stored\"", "gradient_checkpointing = true\nmicro_tokens = 512"] {
            assert_eq!(plan(&format!("[train]\n{memory}"), "lora").unwrap().digest(), native.digest());
        }
        assert!(!serde_json::to_string(&native).unwrap().contains("torch"), "an older student would be another one");
        let torch = plan("[train]\nengine = \"torch\"", "lora").unwrap();
        assert_eq!(torch.students["s"].torch.unwrap().precision, Precision::Bf16);
        let elsewhere = "[train]\nengine = \"torch\"\nlaunch = \"torchrun\"\nprocesses = 2\npython = \"p\"\npacking = false\n\
                         gradient_checkpointing = true\nfsdp = true\nmicro_tokens = 64";
        assert_eq!(plan(elsewhere, "lora").unwrap().digest(), torch.digest());
        let four_bits = plan("[train]\nengine = \"torch\"\nquantised = \"nf4\"", "lora").unwrap();
        assert_eq!(four_bits.students["s"].torch.unwrap().quantised, Some(Quantised::Nf4));
        assert_ne!(four_bits.digest(), torch.digest());
        assert_ne!(native.digest(), torch.digest());
    }

    #[track_caller]
    fn refused(train: &str, method: &str, words: &[&str]) {
        let told = plan(&format!("[train]\n{train}"), method).unwrap_err();
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        refused("packing = true", "lora", &["train.packing", "torch"]);
        refused("launch = \"slurm\"", "lora", &["train.launch", "torch"]);
        let torch = |more: &str| format!("engine = \"torch\"\n{more}");
        refused(&torch("processes = 2"), "lora", &["train.processes", "torchrun"]);
        let torchrun = |more: &str| torch(&format!("launch = \"torchrun\"\n{more}"));
        refused(&torchrun("processes = 0"), "lora", &["train.processes", "nobody"]);
        refused(&torchrun("nodes = 2"), "lora", &["train.meet", "HOST:29500"]);
        refused(&torchrun("nodes = 2\nmeet = \"here\""), "lora", &["train.meet", "HOST:PORT"]);
        refused(&torchrun("meet = \"here:1\""), "lora", &["train.meet", "several"]);
        refused(&torchrun("slurm = [\"--mem=8G\"]"), "lora", &["train.slurm", "launch"]);
        refused(&torch("launch = \"slurm\"\nslurm = [\"rm\"]"), "lora", &["train.slurm", "`rm`"]);
        refused("fsdp = true", "lora", &["train.fsdp", "torch"]);
        refused(&torch("fsdp = true"), "lora", &["train.fsdp", "processes = 2"]);
        refused(&torchrun("fsdp = true\nprocesses = 2\nquantised = \"nf4\""), "lora", &["train.fsdp", "quantised"]);
        refused(&torch("micro_tokens = 0"), "lora", &["train.micro_tokens"]);
        refused("micro_tokens = 0", "lora", &["train.micro_tokens"]);
        let ray = |more: &str| torch(&format!("launch = \"ray\"\n{more}"));
        let head = "address = \"http://head:8265\"\n";
        refused(&ray(""), "lora", &["train.address", "8265"]);
        refused(&torch(head), "lora", &["train.address", "launch = \"ray\""]);
        refused(&ray(&format!("{head}nodes = 2")), "lora", &["train.nodes", "shared = true"]);
        refused(&ray(&format!("{head}shared = true\nnodes = 2\nmeet = \"a:1\"")), "lora", &["train.meet"]);
        refused(&ray(&format!("{head}token_env = \"s3cr-et\"")), "lora", &["train.token_env", "never written"]);
        refused(&torch("quantised = \"nf4\""), "full", &["train.quantised", "students.s"]);
        refused("quantised = \"stored\"", "full", &["train.quantised", "students.s"]);
        refused("quantised = \"nf4\"", "lora", &["train.quantised", "torch", "\"stored\""]);
        refused(&torch("quantised = \"stored\""), "lora", &["train.quantised", "native", "\"nf4\""]);
        let stops =
            "lora\", eval_every = 2, early_stop = { on = \"decomposition-quality\", patience = 1 }, weights = \"equal";
        refused("quantised = \"stored\"", stops, &["students.s.early_stop", "train.quantised"]);
        refused(&torch("presicion = \"f32\""), "lora", &["presicion", "precision"]);
    }
}
