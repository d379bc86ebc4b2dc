//! Students that differ in their seed alone, and the arms that they fill: what a report tells of all of them together.

use super::{Plan, StudentPlan};
use crate::arm::Arm;

impl Plan {
    /// Who fills a part of an arm, if it is a student of this plan; of one with several seeds, under the name of all, the
    /// first.
    #[must_use]
    pub fn student(&self, part: &str) -> Option<&StudentPlan> {
        let name = part.strip_prefix("student:")?;
        let of_all = || self.students.iter().find(|(each, _)| without_seed(each) == Some(name));
        self.students.get(name).or_else(|| of_all().map(|(_, student)| student))
    }

    /// The arm that stands for all seeds of its students; `None` where they have one.
    #[must_use]
    pub fn pool(&self, arm: &Arm) -> Option<Arm> {
        let solver = self.pooled(&arm.solver);
        let decomposer = arm.decomposer.as_deref().and_then(|name| self.pooled(name));
        (solver.is_some() || decomposer.is_some()).then(|| Arm {
            solver: solver.map_or_else(|| arm.solver.clone(), str::to_owned),
            decomposer: decomposer.map(str::to_owned).or_else(|| arm.decomposer.clone()),
            ..arm.clone()
        })
    }

    fn pooled<'n>(&self, part: &'n str) -> Option<&'n str> {
        let seed = self.students.get(part.strip_prefix("student:")?)?.seed?;
        let (name, told) = part.rsplit_once('#')?;
        (told == seed.to_string()).then_some(name)
    }
}

/// `sd-r@400` of `sd-r@400#2`; `None` for a student with one seed.
#[must_use]
pub fn without_seed(name: &str) -> Option<&str> {
    name.rsplit_once('#').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recipe::{EarlyStop, Recipe, StopOn};

    fn plan(students: &str, evaluate: &str) -> Result<Plan, String> {
        let text = format!(
            "name = \"t\"\n[data]\ndev_rows = 2\n[data.train]\ndataset = \"synth\"\nrows = 4\n[data.test]\ndataset = \"synth\"\nrows = 4\n\
             [models.small]\nsource = \"path:s\"\n[collect]\nteacher = \"recorded\"\n[screen]\nsolver = \"small\"\n{students}\n{evaluate}"
        );
        let recipe = Recipe::parse(&text, "r.toml").map_err(|error| error.to_string())?;
        Plan::resolve(&recipe, "r.toml").map_err(|error| error.to_string())
    }

    fn student(name: &str, lines: &str) -> String {
        format!("[students.{name}]\nbase = \"small\"\ntarget = \"SD-T\"\n{lines}\n")
    }

    const EVALUATE: &str =
        "[evaluate]\nsolvers = [\"small\"]\nstrategies = [\"two-stage\"]\ndecomposers = [\"student:s\", \"teacher\"]\n";

    fn slugs(plan: &Plan) -> Vec<String> {
        plan.evaluate.iter().flat_map(|evaluate| &evaluate.arms).map(Arm::slug).collect()
    }

    #[test]
    fn each_seed_is_a_student_and_the_name_stands_for_all() {
        let seeds = plan(&student("s", "seeds = [1, 7]\nrows = [2, 4]"), EVALUATE).unwrap();
        let told: Vec<_> = seeds.students.iter().map(|(name, one)| (name.as_str(), one.rows, one.seed)).collect();
        let expect = [
            ("s@2#1", Some(2), Some(1)),
            ("s@2#7", Some(2), Some(7)),
            ("s@4#1", Some(4), Some(1)),
            ("s@4#7", Some(4), Some(7)),
        ];
        assert_eq!(told, expect);
        let arms = ["s@2#1", "s@2#7", "s@4#1", "s@4#7", "teacher"].map(|name| format!("two-stage/{name}/small"));
        assert_eq!(slugs(&seeds), arms);
        let arms_of = seeds.evaluate.as_ref().unwrap().arms.iter();
        let pools: Vec<Option<String>> = arms_of.map(|arm| seeds.pool(arm).map(|pool| pool.slug())).collect();
        let [two, four] = ["two-stage/s@2/small", "two-stage/s@4/small"].map(|slug| Some(slug.to_owned()));
        assert_eq!(pools, [two.clone(), two, four.clone(), four, None]);
        assert_eq!(seeds.student("student:s@4").unwrap().rows, Some(4));
        assert_eq!(seeds.student("student:s"), None, "it has two sizes");
        let chosen = |decomposers: &str| {
            slugs(
                &plan(&student("s", "seeds = [1, 7]\nrows = [2, 4]"), &EVALUATE.replace("student:s", decomposers))
                    .unwrap(),
            )
        };
        assert_eq!(chosen("student:s@4")[..2], arms[2..4]);
        assert_eq!(chosen("student:s@4#7")[..1], arms[3..4]);
    }

    #[test]
    fn a_single_seed_is_a_setting_like_any_other() {
        let one = plan(&student("s", "seeds = 7"), EVALUATE).unwrap();
        assert_eq!((one.students["s"].seed, slugs(&one).len()), (Some(7), 2));
        assert_eq!(one.pool(&one.evaluate.as_ref().unwrap().arms[0]), None);
        let refused = |lines: &str, words: &str| {
            let told = plan(&student("s", lines), "").unwrap_err();
            assert!(told.contains(words), "{told}");
        };
        refused("seeds = []", "`students.s.seeds`: nothing would be trained");
        refused("seeds = [1, 2, 1]", "`students.s.seeds`: 1 stands there twice");
        refused("seeds = [-1]", "r.toml:");
    }

    #[test]
    fn patterns_and_comparisons_name_all_seeds_at_once() {
        let with = |lines: &str| plan(&student("s", "seeds = [1, 7]"), &format!("{EVALUATE}{lines}"));
        assert_eq!(slugs(&with("arms = [\"two-stage/s/small\"]").unwrap()).len(), 2);
        assert_eq!(slugs(&with("arms = [\"*/s#7/small\"]").unwrap()), ["two-stage/s#7/small"]);
        let pair = |a: &str| format!("comparisons = [{{ a = \"{a}\", b = \"two-stage/teacher/small\" }}]");
        assert!(with(&pair("two-stage/s/small")).is_ok());
        let told = with(&pair("two-stage/s#1/small")).unwrap_err();
        assert!(told.contains("did you mean `two-stage/s/small`?"), "{told}");
    }

    #[test]
    fn two_parts_with_seeds_go_together_seed_by_seed() {
        let solver = |seeds: &str| student("e", seeds).replace("SD-T", "SE-A-direct");
        let evaluate =
            "[evaluate]\nsolvers = [\"student:e\"]\nstrategies = [\"two-stage\"]\ndecomposers = [\"student:s\"]\n";
        let both = |left: &str, right: &str| plan(&format!("{}{}", student("s", left), solver(right)), evaluate);
        let paired = both("seeds = [1, 7]", "seeds = [1, 7]").unwrap();
        assert_eq!(slugs(&paired), ["two-stage/s#1/e#1", "two-stage/s#7/e#7"]);
        assert_eq!(paired.pool(&paired.evaluate.as_ref().unwrap().arms[1]).unwrap().slug(), "two-stage/s/e");
        assert_eq!(slugs(&both("seeds = [1, 7]", "").unwrap()), ["two-stage/s#1/e", "two-stage/s#7/e"]);
        let told = both("seeds = [1, 7]", "seeds = [1, 2]").unwrap_err();
        assert!(told.contains("have different `seeds`"), "{told}");
    }

    #[test]
    fn a_sweep_and_an_early_stop_need_dev() {
        let swept = plan(&student("s", "learning_rate = [0.003, 0.001]"), "").unwrap();
        assert_eq!((swept.students["s"].learning_rate, &*swept.students["s"].sweep), (0.001, &[0.001, 0.003][..]));
        let one = plan(&student("s", "learning_rate = [0.003]"), "").unwrap();
        assert_eq!(one.digest(), plan(&student("s", "learning_rate = 0.003"), "").unwrap().digest());
        let stop = |lines: &str| plan(&student("s", lines), "").map(|plan| plan.students["s"].tuning.early_stop);
        let quality = EarlyStop { on: StopOn::DecompositionQuality, patience: 2 };
        assert_eq!(stop("early_stop = { on = \"decomposition-quality\", patience = 2 }"), Ok(Some(quality)));
        assert_eq!(stop("early_stop = { patience = 3 }"), Ok(Some(EarlyStop { on: StopOn::Loss, patience: 3 })));
        let refused = |students: &str, words: &str| {
            let told = plan(students, "").unwrap_err();
            assert!(told.contains(words), "{told}");
        };
        refused(&student("s", "learning_rate = []"), "`students.s.learning_rate`: name at least one");
        refused(&student("s", "learning_rate = [0.1, 0.1]"), "stands there twice");
        refused(&student("s", "learning_rate = [0.1, -0.1]"), "`students.s.learning_rate`: must be above 0");
        refused(&student("s", "early_stop = { patience = 0 }"), "`students.s.early_stop`: patience = 0");
        refused(&student("s", "early_stop = { on = \"los\", patience = 1 }"), "did you mean `loss`?");
        refused(&student("s", "eval_every = 0\nearly_stop = { patience = 1 }"), "here never");
        let full = "method = \"full\"\nearly_stop = { on = \"decomposition-quality\", patience = 1 }";
        assert!(stop(full).is_ok(), "a whole model, too, can be asked while it is trained");
        let replies = student("s", "learning_rate = [0.1, 0.2]").replace("SD-T", "SE-A");
        refused(&replies, "SE-A has no rows there");
        let direct =
            student("s", "early_stop = { on = \"decomposition-quality\", patience = 1 }").replace("SD-T", "direct");
        refused(&direct, "direct writes no decompositions");
        let torch = format!("{}[train]\nengine = \"torch\"\n", student("s", "early_stop = { patience = 1 }"));
        refused(&torch, "`students.s.early_stop`: this key is for engine = \"native\" alone");
    }

    /// The plans in people's stores have no keys but these.
    #[test]
    fn a_plan_without_the_new_keys_is_what_it_was() {
        let plan = plan(&student("s", ""), EVALUATE).unwrap();
        let told = serde_json::to_value(&plan).unwrap();
        let collect = json!({
            "teacher": "recorded", "samples": 1, "temperature": 0.0, "max_tokens": 256, "max_subquestions": 10
        });
        assert_eq!(told["collect"], collect);
        let screen = json!({
            "solver": "small", "samples": 1, "temperature": 0.0, "max_tokens": 400, "rule": "any", "threshold": 0.0,
            "rows": null
        });
        assert_eq!(told["screen"], screen);
        let student = json!({
            "base": "small", "target": "SD-T", "style": told["students"]["s"]["style"], "method": "lora", "rank": 16,
            "alpha": 32.0, "epochs": 3, "learning_rate": 0.001, "batch_rows": 16, "warmup_ratio": 0.05,
            "weight_decay": 0.0, "max_grad_norm": 1.0, "max_row_tokens": 1024, "checkpoint_every": 25, "eval_every": 25
        });
        assert_eq!(told["students"]["s"], student);
        let evaluate = json!({
            "split": "test", "arms": told["evaluate"]["arms"], "direct_tokens": 48, "solve_tokens": 400,
            "decompose_tokens": 256, "max_subquestions": 10, "repetition_penalty": 1.0
        });
        assert_eq!(told["evaluate"], evaluate);
        assert_eq!(plan.digest().short(), "7ddeb720c6b1");
    }
}
