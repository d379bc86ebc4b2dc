//! `[data]`: which data sets there are, and what each of them needs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{DataPlan, SetNames},
    Names,
};
use crate::{
    datasets::DatasetKind,
    question::ScorerKind,
    recipe::{DataSet, RecipeError},
};

impl Names<'_> {
    pub(in crate::plan) fn data(&self) -> Result<DataPlan, RecipeError> {
        let data = &self.recipe.data;
        if data.train.all().is_empty() {
            return self.fail("data.train", "there is no training set; write [data.train], or [[data.train]] for each");
        }
        for (key, sets) in [("data.train", &data.train), ("data.test", &data.test)] {
            self.distinct_sets(key, sets.all())?;
            sets.all().iter().try_for_each(|set| self.data_set(key, set))?;
        }
        let names = |sets: &[DataSet]| SetNames(sets.iter().map(|set| set.name().to_owned()).collect());
        let dev_rows = data.train.all().iter().filter_map(|set| Some((set.name().to_owned(), set.dev_rows?)));
        Ok(DataPlan {
            train: names(data.train.all()),
            test: names(data.test.all()),
            dev_rows: data.dev_rows,
            dev_rows_of: dev_rows.collect(),
            content: BTreeMap::new(),
        })
    }

    /// Rows are known by the name of their set.
    fn distinct_sets(&self, key: &str, sets: &[DataSet]) -> Result<(), RecipeError> {
        let mut names = BTreeSet::new();
        for set in sets {
            let name = set.name();
            if name.trim() != name || name.is_empty() || name.contains(|c: char| c == '/' || c.is_control()) {
                return self
                    .fail(&format!("{key}.name"), format!("`{name}` is no name: it begins ids, as in gsm8k/test/17"));
            }
            if !names.insert(name) {
                let message = format!("two sets are called `{name}`; give each a name of its own: name = \"…\"");
                return self.fail(&format!("{key}.name"), message);
            }
        }
        Ok(())
    }

    fn data_set(&self, key: &str, set: &DataSet) -> Result<(), RecipeError> {
        let name = set.dataset.as_str();
        if let Err(error) = name.parse::<DatasetKind>() {
            return self.fail(&format!("{key}.dataset"), error);
        }
        if set.lines.is_some() && name != "traffic" {
            return self
                .fail(&format!("{key}.lines"), "this key is for `traffic` alone; `rows` takes some of any data set");
        }
        if set.style.is_some() && name != "synth" {
            return self.fail(&format!("{key}.style"), "this key is for `synth` alone");
        }
        self.scorer(key, set)?;
        self.learning(key, set)?;
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

    /// It becomes part of each question, and so of the plan's digest.
    fn scorer(&self, key: &str, set: &DataSet) -> Result<(), RecipeError> {
        let (key, name) = (format!("{key}.scorer"), set.dataset.as_str());
        let tests = set.columns.as_ref().is_some_and(|columns| columns.tests.is_some());
        match set.scorer {
            None => Ok(()),
            Some(_) if name != "rows" => {
                self.fail(&key, format!("this key is for `rows` alone; `{name}` brings its own scorers along"))
            }
            Some(_) if tests => self.fail(&key, "`columns.tests` makes answers programs, which nothing else grades"),
            Some(ScorerKind::Code) => {
                self.fail(&key, "programs are graded by their tests: name them in `columns.tests`")
            }
            Some(_) => Ok(()),
        }
    }

    /// Keys that mean something where a student learns.
    fn learning(&self, key: &str, set: &DataSet) -> Result<(), RecipeError> {
        let keys = [("weight", set.weight.is_some()), ("dev_rows", set.dev_rows.is_some())];
        match keys.iter().find(|(_, is_there)| *is_there) {
            Some((name, _)) if key == "data.test" => {
                self.fail(&format!("{key}.{name}"), "this key is for training sets alone")
            }
            _ => set.weight.map_or(Ok(()), |weight| self.weight(&format!("{key}.weight"), weight)),
        }
    }

    pub(super) fn weight(&self, key: &str, weight: f64) -> Result<(), RecipeError> {
        if weight > 0.0 && weight <= MOST {
            return Ok(());
        }
        self.fail(
            key,
            format!("`{weight}` is no weight: it is above 0 and at most {MOST}; a set that is not named is left out"),
        )
    }
}

/// No row needs to be learnt more often in one epoch.
const MOST: f64 = 100.0;
