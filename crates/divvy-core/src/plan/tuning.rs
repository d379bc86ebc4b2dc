//! What a student's training may add to the usual. Each key is left out of the plan, and so of its digest, where it is not
//! used: students of before are found.

use serde::{Deserialize, Serialize};

use crate::recipe::{EarlyStop, Method, RowWeights, StopOn, Student, Target};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Rank-stabilised scaling (Kalajdzievski 2023, arXiv:2312.03732).
    #[serde(default, skip_serializing_if = "is_false")]
    pub rslora: bool,
    /// LoRA+ (Hayou et al. 2024, arXiv:2402.12354): learning rate of the factors B over that of A.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub lora_plus: f64,
    #[serde(default, skip_serializing_if = "is_equal")]
    pub weights: RowWeights,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStop>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { rslora: false, lora_plus: one(), weights: RowWeights::Equal, early_stop: None }
    }
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_equal(value: &RowWeights) -> bool {
    *value == RowWeights::Equal
}

/// A student's, or the key that cannot be and why.
pub(super) fn of(student: &Student) -> Result<Tuning, (&'static str, String)> {
    let (full, ratio) = (student.method == Method::Full, student.lora_plus.unwrap_or(1.0));
    let lora_only = |key| Err((key, "this key is for method = \"lora\" alone".to_owned()));
    if full && student.rslora {
        return lora_only("rslora");
    }
    if full && student.lora_plus.is_some() {
        return lora_only("lora_plus");
    }
    if !(ratio.is_finite() && ratio > 0.0) {
        return Err(("lora_plus", "must be above 0; the paper takes 16".to_owned()));
    }
    if student.weights == RowWeights::PassRate && student.target != Target::SdR {
        let target = student.target.name();
        return Err((
            "weights",
            format!("pass-rate is for SD-R, whose rows were screened; {target} counts rows equally"),
        ));
    }
    if let Some(stop) = student.early_stop {
        if stop.patience == 0 {
            return Err(("early_stop", "patience = 0 would stop at the first look; write 1 at least".to_owned()));
        }
        if stop.on == StopOn::DecompositionQuality && !student.target.decomposes() {
            let target = student.target.name();
            return Err((
                "early_stop",
                format!("{target} writes no decompositions whose quality could be told; write on = \"loss\""),
            ));
        }
    }
    let (weights, early_stop) = (student.weights, student.early_stop);
    Ok(Tuning { rslora: student.rslora, lora_plus: ratio, weights, early_stop })
}
