//! Many workers on one run, as what a cluster is given: an array of Slurm or a Job of Kubernetes. They share a store on a
//! server, claim their work there and take over from one that dies, so that each is started alike and none has a number. A
//! key is never written: only the names of variables are, whose values the cluster's own means bring to the workers.

use serde_json::{Value, json};

use crate::words::{line, quoted};

/// Where a pod finds the recipe.
const RECIPE_FOLDER: &str = "/recipe";
/// Where a pod's volume lies.
pub const VOLUME_FOLDER: &str = "/work";

/// What each of them does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// For people.
    pub name: String,
    pub count: u32,
    /// The command, word by word.
    pub words: Vec<String>,
    /// Names of environment variables that it needs.
    pub variables: Vec<String>,
}

/// A script for `sbatch`. It runs in `folder`, which all machines see.
#[must_use]
pub fn slurm(workers: &Workers, folder: &str, options: &[String]) -> String {
    let head = [
        format!("--job-name={}", quoted(&workers.name)),
        format!("--array=1-{}", workers.count),
        "--ntasks=1".to_owned(),
        format!("--output={}", quoted(&format!("{folder}/{}-%A-%a.log", label(&workers.name)))),
        // Time to give back what is in work before the job's own time is over.
        "--signal=B:INT@60".to_owned(),
    ];
    let head: String = head.iter().chain(options).map(|option| format!("#SBATCH {option}\n")).collect();
    let needed = |name: &String| format!(": \"${{{name}:?sbatch passes on what is exported where it is called}}\"\n");
    let needed: String = workers.variables.iter().map(needed).collect();
    format!("#!/bin/bash\n{head}set -eu\n{needed}cd {}\nexec {}\n", quoted(folder), line(&workers.words))
}

/// What a pod has besides the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub image: String,
    /// Name and text of the recipe's file.
    pub recipe: (String, String),
    /// A claim on a volume for data, models and what is trained.
    pub volume: Option<String>,
}

impl Pod {
    /// The recipe's path inside.
    #[must_use]
    pub fn recipe_path(&self) -> String {
        format!("{RECIPE_FOLDER}/{}", self.recipe.0)
    }
}

/// The secret that a manifest reads variables from.
#[must_use]
pub fn secret(workers: &Workers) -> String {
    format!("{}-env", label(&workers.name))
}

/// What `kubectl apply` reads: the recipe, and a Job with so many indexed completions.
#[must_use]
pub fn kubernetes(workers: &Workers, pod: &Pod) -> Value {
    let name = label(&workers.name);
    let recipe = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": format!("{name}-recipe") },
        "data": { pod.recipe.0.as_str(): pod.recipe.1 },
    });
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name },
        "spec": {
            "completionMode": "Indexed",
            "completions": workers.count,
            "parallelism": workers.count,
            // A worker that was killed is started anew, a few times; the others go on.
            "backoffLimitPerIndex": 3,
            "maxFailedIndexes": workers.count,
            "template": { "spec": pod_spec(workers, pod, &name) },
        },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [recipe, job] })
}

fn pod_spec(workers: &Workers, pod: &Pod, name: &str) -> Value {
    let from_secret = |variable: &String| {
        let key = json!({ "name": secret(workers), "key": variable });
        json!({ "name": variable, "valueFrom": { "secretKeyRef": key } })
    };
    let mut volumes = vec![json!({ "name": "recipe", "configMap": { "name": format!("{name}-recipe") } })];
    let mut mounts = vec![json!({ "name": "recipe", "mountPath": RECIPE_FOLDER, "readOnly": true })];
    if let Some(claim) = &pod.volume {
        volumes.push(json!({ "name": "work", "persistentVolumeClaim": { "claimName": claim } }));
        mounts.push(json!({ "name": "work", "mountPath": VOLUME_FOLDER }));
    }
    let mut container = json!({
        "name": "divvy",
        "image": pod.image,
        "command": workers.words,
        "env": workers.variables.iter().map(from_secret).collect::<Vec<_>>(),
        "volumeMounts": mounts,
    });
    if pod.volume.is_some() {
        container["workingDir"] = json!(VOLUME_FOLDER);
    }
    json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": volumes,
    })
}

/// A name as Kubernetes takes it: lower-case letters, digits and dashes, not too long for what is put behind it.
fn label(name: &str) -> String {
    let letters = name.chars().map(|letter| letter.to_ascii_lowercase());
    let letters: String = letters.map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let parts: Vec<&str> = letters.split('-').filter(|part| !part.is_empty()).collect();
    let mut joined = format!("divvy-{}", parts.join("-"));
    joined.truncate(50);
    joined.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers() -> Workers {
        Workers {
            name: "My Täsk_2".into(),
            count: 4,
            words: ["divvy", "collect", "/a b/r.toml"].map(str::to_owned).to_vec(),
            variables: vec!["API_KEY".into(), "DIVVY_STORE".into()],
        }
    }

    #[test]
    fn an_array_of_slurm() {
        assert_eq!(
            slurm(&workers(), "/work dir", &["--mem=2G".to_owned()]),
            "#!/bin/bash\n\
             #SBATCH --job-name='My Täsk_2'\n\
             #SBATCH --array=1-4\n\
             #SBATCH --ntasks=1\n\
             #SBATCH --output='/work dir/divvy-my-t-sk-2-%A-%a.log'\n\
             #SBATCH --signal=B:INT@60\n\
             #SBATCH --mem=2G\n\
             set -eu\n\
             : \"${API_KEY:?sbatch passes on what is exported where it is called}\"\n\
             : \"${DIVVY_STORE:?sbatch passes on what is exported where it is called}\"\n\
             cd '/work dir'\n\
             exec divvy collect '/a b/r.toml'\n"
        );
    }

    #[test]
    fn a_job_of_kubernetes() {
        let pod = Pod { image: "divvy:1".into(), recipe: ("r.toml".into(), "name = \"x\"\n".into()), volume: None };
        let manifest = kubernetes(&workers(), &pod);
        let [recipe, job] = [0, 1].map(|at| &manifest["items"][at]);
        assert_eq!(recipe["data"]["r.toml"], "name = \"x\"\n");
        assert_eq!(job["metadata"]["name"], "divvy-my-t-sk-2");
        let spec = &job["spec"];
        assert_eq!(
            (&spec["completionMode"], &spec["completions"], &spec["parallelism"]),
            (&json!("Indexed"), &json!(4), &json!(4))
        );
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!(
            container["env"][0],
            json!({ "name": "API_KEY", "valueFrom": { "secretKeyRef": { "name": "divvy-my-t-sk-2-env", "key": "API_KEY" } } })
        );
        assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 1);
        let with_volume = kubernetes(&workers(), &Pod { volume: Some("claim".into()), ..pod });
        let pod = &with_volume["items"][1]["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"][1]["persistentVolumeClaim"]["claimName"], "claim");
        assert_eq!(pod["containers"][0]["workingDir"], VOLUME_FOLDER);
    }

    #[test]
    fn names_are_what_kubernetes_takes() {
        for (name, expected) in [("gsm8k", "divvy-gsm8k"), ("--A__b--", "divvy-a-b"), ("", "divvy")] {
            assert_eq!(label(name), expected);
        }
        assert!(label(&"x-".repeat(90)).len() <= 50);
    }
}
