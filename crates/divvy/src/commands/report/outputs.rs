//! Which forms are wanted, and where they go: from the flags to a list of files.

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;

use super::{Asked, file_name, usage};
use crate::cli::Format;

/// One form in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) format: Format,
    /// A folder for Inspect's logs, a file for any other.
    pub(super) path: PathBuf,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outputs {
    pub(super) files: Vec<Output>,
    pub(super) stdout: Option<Format>,
}

impl Outputs {
    /// Something is made of every row.
    pub(super) fn have_rows(&self) -> bool {
        self.stdout.is_some_and(|format| !format.is_of_figures())
            || self.files.iter().any(|output| !output.format.is_of_figures())
    }

    pub(super) fn path(&self, format: Format) -> Option<&Path> {
        self.files.iter().find(|output| output.format == format).map(|output| output.path.as_path())
    }
}

impl Format {
    /// Made of the figures alone.
    pub(super) fn is_of_figures(self) -> bool {
        matches!(self, Self::Md | Self::Json | Self::CsvArms | Self::Latex)
    }

    fn is_text(self) -> bool {
        self.is_of_figures() || matches!(self, Self::Csv | Self::Outcomes)
    }

    /// What its file is called in a folder.
    fn file(self, name: &str) -> String {
        match self {
            Self::Md => format!("{name}.md"),
            Self::Html => format!("{name}.html"),
            Self::Json => format!("{name}.json"),
            Self::Csv => format!("{name}-rows.csv"),
            Self::Parquet => format!("{name}-rows.parquet"),
            Self::CsvArms => format!("{name}-arms.csv"),
            Self::Outcomes => format!("{name}-outcomes.csv"),
            Self::Latex => format!("{name}.tex"),
            Self::Inspect => format!("{name}-inspect"),
        }
    }

    fn of_ending(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "md" => Some(Self::Md),
            "html" | "htm" => Some(Self::Html),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            "tex" => Some(Self::Latex),
            _ => None,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// `--html FILE` goes with any of the others.
pub(super) fn wanted(asked: &Asked, name: &str) -> anyhow::Result<Outputs> {
    let mut outputs = match &asked.out {
        Some(out) => Outputs { files: files(&asked.formats, out, name)?, stdout: None },
        None => Outputs { files: Vec::new(), stdout: Some(to_stdout(asked)?) },
    };
    if let Some(path) = &asked.html {
        if outputs.path(Format::Html).is_some() {
            return usage("--html names a page, and so does --out; give one of them".to_owned());
        }
        outputs.files.push(Output { format: Format::Html, path: path.clone() });
    }
    Ok(outputs)
}

fn to_stdout(asked: &Asked) -> anyhow::Result<Format> {
    match asked.formats[..] {
        [] if asked.json => Ok(Format::Json),
        [] => Ok(Format::Md),
        [format] if format.is_text() => Ok(format),
        [format] => usage(format!("--format {} needs --out PATH", format.name())),
        _ => usage("several forms need --out FOLDER".to_owned()),
    }
}

fn files(formats: &[Format], out: &Path, name: &str) -> anyhow::Result<Vec<Output>> {
    let is_folder = out.is_dir() || out.to_string_lossy().ends_with(['/', '\\']);
    match *formats {
        [] if is_folder => usage(format!("--out {} is a folder: name the forms with --format", out.display())),
        [] => match Format::of_ending(out) {
            Some(format) => Ok(vec![Output { format, path: out.to_owned() }]),
            None => usage(format!(
                "--out {}: no form has this ending (.md, .html, .json, .csv, .parquet, .tex); name one with --format",
                out.display()
            )),
        },
        [Format::Inspect] => Ok(vec![Output { format: Format::Inspect, path: out.to_owned() }]),
        [format] if !is_folder => Ok(vec![Output { format, path: out.to_owned() }]),
        _ if out.is_file() => usage(format!("--out {} is a file; several forms need a folder", out.display())),
        _ => {
            let mut files: Vec<Output> = Vec::new();
            for format in formats {
                let path = out.join(format.file(&file_name(name)));
                if files.iter().all(|output| output.format != *format) {
                    files.push(Output { format: *format, path });
                }
            }
            Ok(files)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(formats: &[Format], out: Option<&str>) -> Asked {
        Asked {
            run: None,
            formats: formats.to_vec(),
            out: out.map(PathBuf::from),
            json: false,
            html: None,
            compare: None,
            fail_on_regression: false,
        }
    }

    fn paths(formats: &[Format], out: &str) -> Vec<String> {
        let outputs = wanted(&asked(formats, Some(out)), "my run").unwrap();
        outputs.files.iter().map(|output| output.path.display().to_string()).collect()
    }

    #[test]
    fn one_form_is_a_file_several_are_files_of_a_folder() {
        assert_eq!(paths(&[], "x.parquet"), ["x.parquet"]);
        assert_eq!(paths(&[Format::Csv], "x.txt"), ["x.txt"]);
        assert_eq!(paths(&[Format::Csv], "nowhere/"), ["nowhere/my-run-rows.csv"]);
        assert_eq!(paths(&[Format::Inspect], "logs"), ["logs"]);
        assert_eq!(paths(&[Format::Outcomes], "nowhere/"), ["nowhere/my-run-outcomes.csv"]);
        let several = [Format::Md, Format::Inspect, Format::Md, Format::CsvArms];
        assert_eq!(paths(&several, "all"), ["all/my-run.md", "all/my-run-inspect", "all/my-run-arms.csv"]);
    }

    #[test]
    fn what_cannot_be_printed_needs_a_place() {
        let stdout = |formats: &[Format]| wanted(&asked(formats, None), "r").map(|outputs| outputs.stdout);
        assert_eq!(stdout(&[]).unwrap(), Some(Format::Md));
        assert_eq!(stdout(&[Format::Csv]).unwrap(), Some(Format::Csv));
        assert_eq!(stdout(&[Format::Outcomes]).unwrap(), Some(Format::Outcomes));
        for (formats, words) in [
            (&[Format::Parquet][..], "--format parquet needs --out PATH"),
            (&[Format::Md, Format::Csv], "several forms need --out FOLDER"),
        ] {
            assert_eq!(stdout(formats).unwrap_err().to_string(), words);
        }
        let no_form = wanted(&asked(&[], Some("report.docx")), "r").unwrap_err().to_string();
        assert!(no_form.contains("report.docx") && no_form.contains("--format"), "{no_form}");
    }
}
