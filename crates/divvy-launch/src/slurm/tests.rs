//! Scripts as they are written, and bash's own opinion of them.

use super::*;

fn slurm(nodes: u32) -> Slurm {
    let crew = Crew { processes: 4, nodes, meet: None };
    Slurm { crew, options: vec!["--partition=gpu".into(), "--gres=gpu:4".into()], name: "divvy sd".into() }
}

fn script_of(nodes: u32) -> String {
    script(&Folder::new("/store/a b".into()), &Python::Interpreter("/venv/bin/python".into()), &slurm(nodes))
}

#[test]
fn a_script_of_one_machine() {
    assert_eq!(
        script_of(1),
        "#!/bin/bash\n\
         #SBATCH --job-name='divvy sd'\n\
         #SBATCH --nodes=1\n\
         #SBATCH --ntasks-per-node=1\n\
         #SBATCH --output='/store/a b/log.txt'\n\
         #SBATCH --signal=TERM@180\n\
         #SBATCH --partition=gpu\n\
         #SBATCH --gres=gpu:4\n\
         set -eu\n\
         export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false\n\
         srun /venv/bin/python -u '/store/a b/train.py' '/store/a b' --processes=4\n"
    );
}

/// Stand-ins for the cluster's programs: what every machine would be told.
#[cfg(unix)]
#[test]
fn every_machine_is_told_its_number_and_where_to_meet() {
    let place = tempfile::tempdir().unwrap();
    let programs = [
        ("scontrol", "echo node7\necho node8"),
        ("srun", "shift\nfor n in 0 1; do SLURM_NODEID=$n SLURM_NNODES=2 \"$@\"; done"),
        ("python", "echo \"$@\""),
    ];
    for (name, text) in programs {
        let path = place.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        Command::new("chmod").arg("755").arg(&path).status().unwrap();
    }
    let python = Python::Interpreter(place.path().join("python"));
    let text = script(&Folder::new("/store/a b".into()), &python, &slurm(2));
    let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
    let ran =
        Command::new("bash").args(["-c", &text]).env("PATH", path).env("SLURM_JOB_NODELIST", "node[7-8]").output();
    let ran = ran.unwrap();
    let told = String::from_utf8(ran.stdout).unwrap();
    let line = |node: u32| {
        format!("-u /store/a b/train.py /store/a b --processes=4 --nodes=2 --node={node} --meet=node7:29500\n")
    };
    assert_eq!(told, line(0) + &line(1), "{}", String::from_utf8_lossy(&ran.stderr));
}
