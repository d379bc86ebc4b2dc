//! The names of a plan's data sets. One stands alone, as it does in the plans of earlier versions; several are a list.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct SetNames(pub Vec<String>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    None,
    One(String),
    Several(Vec<String>),
}

impl From<Written> for SetNames {
    fn from(written: Written) -> Self {
        match written {
            Written::None => Self::default(),
            Written::One(name) => Self(vec![name]),
            Written::Several(names) => Self(names),
        }
    }
}

impl From<SetNames> for Written {
    fn from(SetNames(mut names): SetNames) -> Self {
        match names.len() {
            0 => Self::None,
            1 => Self::One(names.remove(0)),
            _ => Self::Several(names),
        }
    }
}

impl Deref for SetNames {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl std::fmt::Display for SetNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}
