//! Who runs the program: an interpreter that the recipe names, or `uv`, which makes an environment of the program's own
//! header.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::error::LaunchError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Python {
    Interpreter(PathBuf),
    Uv(PathBuf),
}

impl Python {
    /// What the recipe names, else the `uv` of this machine.
    ///
    /// # Errors
    /// [`LaunchError::NoPython`] when there is neither.
    pub fn find(named: Option<PathBuf>) -> Result<Self, LaunchError> {
        let uv = || on_path("uv", env::var_os("PATH").as_deref()).map(Self::Uv);
        named.map(Self::Interpreter).or_else(uv).ok_or(LaunchError::NoPython)
    }

    /// The words that run a program's file, without that file.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Interpreter(path) => vec![path.display().to_string(), "-u".to_owned()],
            Self::Uv(path) => [&path.display().to_string(), "run", "--quiet", "--script"].map(str::to_owned).to_vec(),
        }
    }
}

fn on_path(name: &str, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let file = Path::new(name).with_extension(env::consts::EXE_EXTENSION);
    env::split_paths(path?).map(|folder| folder.join(&file)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_interpreter_goes_before_uv() {
        let python = Python::find(Some("venv/bin/python".into())).unwrap();
        assert_eq!(python.words(), ["venv/bin/python", "-u"]);
    }

    #[test]
    fn uv_is_found_where_programs_lie_and_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let uv = place.path().join("uv").with_extension(env::consts::EXE_EXTENSION);
        let path = env::join_paths([Path::new("/nowhere"), place.path()]).unwrap();
        assert_eq!(on_path("uv", Some(&path)), None);
        std::fs::write(&uv, "").unwrap();
        assert_eq!(on_path("uv", Some(&path)), Some(uv.clone()));
        assert_eq!(on_path("uv", None), None);
        assert_eq!(Python::Uv("uv".into()).words(), ["uv", "run", "--quiet", "--script"]);
    }
}
