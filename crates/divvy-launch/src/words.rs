//! The words that train, for every place: the program, its folder, and how many take part. What is shown to people and put
//! into scripts is quoted for a shell.

use crate::{job::Folder, python::Python};

/// How many processes train together, and where they find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crew {
    /// On each machine.
    pub processes: u32,
    pub nodes: u32,
    /// `HOST:PORT`, for several nodes.
    pub meet: Option<String>,
}

impl Crew {
    /// A process on this machine.
    #[must_use]
    pub fn alone() -> Self {
        Self { processes: 1, nodes: 1, meet: None }
    }
}

/// What machine `node` of the crew runs, word by word.
#[must_use]
pub fn words(python: &Python, folder: &Folder, crew: &Crew, node: u32) -> Vec<String> {
    let mut words = python.words();
    words.push(folder.program().display().to_string());
    words.push(folder.path().display().to_string());
    if crew.processes > 1 {
        words.push(format!("--processes={}", crew.processes));
    }
    if crew.nodes > 1 {
        words.extend([format!("--nodes={}", crew.nodes), format!("--node={node}")]);
        words.extend(crew.meet.iter().map(|meet| format!("--meet={meet}")));
    }
    words
}

/// One line for a POSIX shell.
#[must_use]
pub fn line(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

pub(crate) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> Folder {
        Folder::new("/store/job".into())
    }

    #[test]
    fn each_machine_has_a_command_of_its_own() {
        let crew = Crew { processes: 4, nodes: 2, meet: Some("one:29500".into()) };
        let told = line(&words(&Python::Interpreter("/venv/python".into()), &folder(), &crew, 1));
        assert_eq!(
            told,
            "/venv/python -u /store/job/train.py /store/job --processes=4 --nodes=2 --node=1 --meet=one:29500"
        );
        let alone = line(&words(&Python::Uv("uv".into()), &folder(), &Crew::alone(), 0));
        assert_eq!(alone, "uv run --quiet --script /store/job/train.py /store/job");
    }

    #[test]
    fn a_shell_reads_what_was_meant() {
        for (word, expected) in
            [("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("$HOME", "'$HOME'"), ("a/b", "a/b")]
        {
            assert_eq!(quoted(word), expected);
        }
    }
}
