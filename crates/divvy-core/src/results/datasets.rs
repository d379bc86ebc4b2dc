//! Figures by data set, where several were scored.

use serde::{Deserialize, Serialize};

use super::{ArmResult, ArmSlices, Comparison, DecomposerQuality, Results, Scoring, costs::Costs};

/// One data set: its arms, compared among themselves; adjusted with those of the other data sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetResults {
    pub dataset: String,
    pub arms: Vec<ArmResult>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<ArmResult>,
    pub comparisons: Vec<Comparison>,
    pub slices: Vec<ArmSlices>,
    /// Of the decompositions that its questions were answered by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<DecomposerQuality>,
    #[serde(default)]
    pub scoring: Option<Scoring>,
    #[serde(default)]
    pub costs: Option<Costs>,
}

impl Results {
    /// The results of each data set by itself, as if no other had been scored; these results where there is one.
    #[must_use]
    pub fn by_data_set(&self) -> Vec<(&str, Self)> {
        if self.by_dataset.is_empty() {
            let scored = self.datasets.iter().find(|used| used.split == self.split.name()).or(self.datasets.last());
            return vec![(scored.map_or("", |used| used.dataset.as_str()), self.clone())];
        }
        self.by_dataset.iter().map(|one| (one.dataset.as_str(), self.only(one))).collect()
    }

    fn only(&self, one: &DatasetResults) -> Self {
        let mut datasets = self.datasets.clone();
        datasets.retain(|used| used.split == "train" || used.dataset == one.dataset);
        Self {
            arms: one.arms.clone(),
            seeds: one.seeds.clone(),
            comparisons: one.comparisons.clone(),
            slices: one.slices.clone(),
            scoring: one.scoring.clone(),
            costs: one.costs.clone(),
            datasets,
            by_dataset: Vec::new(),
            quality: one.quality.clone(),
            ..self.clone()
        }
    }
}
