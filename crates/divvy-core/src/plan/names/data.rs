//! `[data]`: which data sets there are, and what each of them needs.

use std::collections::BTreeMap;

use super::{super::DataPlan, Names};
use crate::recipe::{self, RecipeError};

impl Names<'_> {
    pub(in crate::plan) fn data(&self) -> Result<DataPlan, RecipeError> {
        let data = &self.recipe.data;
        self.data_set("data.train", &data.train)?;
        if let Some(test) = &data.test {
            self.data_set("data.test", test)?;
        }
        Ok(DataPlan {
            train: data.train.dataset.clone(),
            test: data.test.as_ref().map(|test| test.dataset.clone()),
            dev_rows: data.dev_rows,
            content: BTreeMap::new(),
        })
    }

    fn data_set(&self, key: &str, set: &recipe::DataSet) -> Result<(), RecipeError> {
        const KNOWN: [&str; 6] = ["synth", "gsm8k", "drop", "bamboogle", "rows", "traffic"];
        let name = set.dataset.as_str();
        if !KNOWN.contains(&name) {
            return self
                .fail(&format!("{key}.dataset"), format!("unknown data set `{name}`; there are {}", KNOWN.join(", ")));
        }
        if set.lines.is_some() && name != "traffic" {
            return self
                .fail(&format!("{key}.lines"), "this key is for `traffic` alone; `rows` takes some of any data set");
        }
        match name {
            "traffic" if key == "data.test" => {
                self.fail(&format!("{key}.dataset"), "`traffic` has no gold answers, so nothing can be scored on it")
            }
            "traffic" => Ok(()),
            "synth" if set.rows.is_none() => {
                self.fail(&format!("{key}.rows"), "`synth` makes as many rows as you say: write rows = 400")
            }
            "synth" => Ok(()),
            _ if set.files.is_empty() => {
                self.fail(&format!("{key}.files"), format!("`{name}` is read from files: write files = [\"…\"]"))
            }
            "rows" if set.columns.is_none() => self.fail(
                &format!("{key}.columns"),
                "`rows` needs to know its columns: columns = { question = \"…\", answer = \"…\" }",
            ),
            _ => Ok(()),
        }
    }
}
