//! A recipe's own prompts, demonstrations and caps: what is asked, what stands in the report, what `divvy prompts` shows.

use divvy_core::question::Split;
use divvy_testkit::teacher::{Asked, Lesson};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, Manner, RECIPE, TEST, TRAIN},
};

/// Evaluates alone, with the model as its own decomposer.
fn recipe(strategies: &str, more: &str) -> String {
    let recipe = RECIPE
        .replace("teacher = \"big\"", "teacher = \"recorded\"")
        .replace("[screen]\nsolver = \"big\"\n", "")
        .replace("\"direct\", \"cot\", \"two-stage\"", strategies)
        .replace("decomposers = [\"teacher\"]", "decomposers = [\"big\"]");
    format!("{recipe}\n{more}")
}

fn said(asked: &Asked, role: &str) -> Vec<String> {
    let messages = asked.body["messages"].as_array().unwrap().iter();
    let of = messages.filter(|message| message["role"] == role);
    of.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

fn arm<'r>(report: &'r Value, slug: &str) -> &'r Value {
    let arms = report["arms"].as_array().unwrap();
    arms.iter().find(|arm| arm["arm"] == slug).unwrap_or_else(|| panic!("no {slug}: {report}"))
}

#[test]
fn shots_are_training_questions_with_their_answers_the_same_for_every_question() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&recipe("\"cot\", \"cot+shots=3\"", "")).done(&["eval", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let shown: Vec<_> = asked.iter().filter(|asked| !said(asked, "assistant").is_empty()).collect();
    assert_eq!((asked.len(), shown.len()), (2 * TEST, TEST));
    let train = school::questions();
    let first = said(shown[0], "assistant");
    assert_eq!(first.len(), 3);
    for (reply, prompt) in first.iter().zip(said(shown[0], "user")) {
        let question =
            train[..TRAIN].iter().find(|question| prompt.contains(&question.text)).expect("a training question");
        assert!(reply.ends_with(&format!("The answer is: {}", question.golds[0])), "{reply}");
        assert!(reply.starts_with(&question.worked[0].text), "{reply}");
    }
    assert!(shown.iter().all(|asked| said(asked, "assistant") == first));
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!(arm(&report, "cot/big+shots=3")["variant"], json!({ "shots": 3 }));
    let compared = &report["comparisons"][0];
    assert_eq!((&compared["a"], &compared["family"]), (&json!("cot/big+shots=3"), &json!("prompt")), "{report}");
    assert!(bench.done(&["report", "recipe.toml"]).stdout.contains("cot/big+shots=3"));
}

#[test]
fn written_demonstrations_are_shown_and_too_few_are_refused() {
    let written = "[[prompts.decompose.demonstrations]]\nquestion = \"How far is it?\"\nreply = \"1. How fast?\\n2. How long at #1?\"\n";
    let bench = Bench::new(school::lesson());
    bench.recipe(&recipe("\"two-stage+shots=1\"", written)).done(&["eval", "recipe.toml"]);
    let decomposing = bench.teacher.asked().into_iter().filter(|asked| Manner::of(asked) == Manner::Decompose);
    for asked in decomposing {
        assert_eq!(said(&asked, "assistant"), ["1. How fast?\n2. How long at #1?"]);
        assert!(said(&asked, "user")[0].ends_with("Question: How far is it?"));
    }
    let refused = |strategies: &str, more: &str, words: &[&str]| {
        Bench::idle().recipe(&recipe(strategies, more)).run(&["eval", "recipe.toml"]).complains(2, words);
    };
    let wants = "1 are written, and `two-stage/big/big+shots=2` wants 2";
    refused("\"two-stage+shots=2\"", written, &["prompts.decompose.demonstrations", wants]);
    refused("\"two-stage\"", written, &["no strategy shows them", "two-stage+shots=1"]);
    refused("\"cot+shots=13\"", "", &["`cot/big+shots=13` shows 13 training questions", "there are 12"]);
    let silent =
        written.replace("prompts.decompose", "prompts.cot").replace("1. How fast?\\n2. How long at #1?", "Nine.");
    refused("\"cot+shots=1\"", &silent, &["number 1 marks no answer"]);
    refused("\"cot+shot=1\"", "", &["unknown option `shot`", "did you mean `shots`?"]);
}

/// However it is spelt, and before anybody is asked, by whatever command.
#[test]
fn a_written_demonstration_that_is_scored_is_refused() {
    let questions = school::questions();
    let of = |split| questions.iter().find(|one| one.split == split && one.premise.is_none()).unwrap();
    let shown = |question: &str| {
        let shot = |text: &str| {
            let text = json!(text);
            format!("[[prompts.cot.demonstrations]]\nquestion = {text}\nreply = \"So be it.\\nThe answer is: 1\"\n")
        };
        recipe("\"cot+shots=2\"", &format!("{}{}", shot("How far?"), shot(question)))
    };
    let (bench, test) = (Bench::idle(), of(Split::Test));
    bench.recipe(&shown(&test.text.to_uppercase().replace(' ', "  ")));
    for command in [&["run", "recipe.toml", "--dry-run"][..], &["collect", "recipe.toml"], &["eval", "recipe.toml"]] {
        bench.run(command).complains(2, &["prompts.cot.demonstrations: number 2 is", &test.id.0, "which is scored"]);
    }
    bench.recipe(&shown(&of(Split::Train).text)).done(&["run", "recipe.toml", "--dry-run"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

#[test]
fn a_teachers_own_decompositions_are_shown_those_that_were_kept() {
    let bench = Bench::new(school::lesson());
    let asks = RECIPE.replace("\"direct\", \"cot\", \"two-stage\"", "\"two-stage\", \"two-stage+shots=2\"");
    bench.recipe(&asks);
    let before = bench.run(&["prompts", "recipe.toml", "--show", "decompose+shots=2"]);
    before.complains(2, &["the demonstrations of `decompose+shots=2` are not known yet"]);
    bench.done(&["run", "recipe.toml"]);
    let shown = bench.done(&["prompts", "recipe.toml", "--show", "decompose+shots=2"]).stdout;
    assert_eq!(shown.matches("[assistant]\n1. Which facts matter here?").count(), 2, "{shown}");
    let asked = bench.teacher.asked();
    let few = asked.iter().filter(|asked| said(asked, "assistant").len() == 2).count();
    assert_eq!(few, TEST);
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked.len());
}

#[test]
fn self_ask_shows_what_was_asked_and_heard() {
    let steps = "[[prompts.self-ask.demonstrations]]\nquestion = \"How far?\"\nsteps = [{ subquestion = \"How fast?\", answer = \"9\" }]\n";
    let enough =
        |asked: &Asked| if asked.last().contains("one at a time") { "Enough" } else { "The answer is: 1" }.to_owned();
    let bench = Bench::new(Lesson { rule: Box::new(enough), ..Lesson::default() });
    bench.recipe(&recipe("\"self-ask+shots=1\"", steps)).done(&["eval", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let first = asked.iter().find(|asked| asked.last().contains("one at a time")).unwrap();
    assert_eq!(said(first, "assistant"), ["How fast?", "Enough"]);
    assert!(said(first, "user")[1].ends_with("1. How fast?\nAnswer: 9"));
    // "Enough" at once is no decomposition: one call of the solver, and a figure of its own.
    assert_eq!(asked.len(), 2 * TEST);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!(arm(&report, "self-ask/big/big+shots=1")["decompositions"]["declined"], TEST);
}

#[test]
fn caps_are_arms_and_the_decomposer_is_told() {
    let three = |asked: &Asked| match Manner::of(asked) {
        Manner::Decompose => "1. Who?\n2. When?\n3. Why in #1?\n3. Why in #1?".to_owned(),
        _ => "The answer is: 42".to_owned(),
    };
    let bench = Bench::new(Lesson { rule: Box::new(three), ..Lesson::default() });
    let strategies = "\"two-stage\", \"two-stage+max=2\", \"two-stage+max=1\"";
    bench.recipe(&recipe(strategies, "")).done(&["eval", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let told = |limit: &str| asked.iter().filter(|asked| asked.last().contains(limit)).count();
    assert_eq!((told("Write at most 2."), told("Write at most 1."), told("Write at most")), (TEST, TEST, 2 * TEST));
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    for (slug, mean) in [("two-stage/big/big", 3.0), ("two-stage/big/big+max=2", 2.0), ("two-stage/big/big+max=1", 1.0)]
    {
        assert_eq!(arm(&report, slug)["mean_subquestions"], mean, "{slug}");
    }
    let quality = &report["quality"];
    let [free, two, one] = [1, 2, 3].map(|at| &quality[at]["quality"]);
    assert_eq!(
        (&free["repeating"], &free["referring"]["count"], &free["n"]),
        (&json!(TEST), &json!(TEST), &json!(TEST))
    );
    assert_eq!((&two["referring"]["count"], &one["referring"]["of"]), (&json!(0), &json!(0)), "{quality}");
    assert_eq!((&quality[0]["stage"], &quality[0]["quality"]["n"]), (&json!("collect"), &json!(TRAIN)));
    assert_eq!(quality[0]["quality"]["leaking"]["count"], 0, "the generator gives nothing away");
    let text = bench.done(&["report", "recipe.toml"]).stdout;
    assert!(text.contains("big+max=2") && text.contains("Leaking") && text.contains("recorded (collected)"), "{text}");
}

#[test]
fn no_decomposition_is_solved_in_one_call_and_counted() {
    let declines = |asked: &Asked| match Manner::of(asked) {
        Manner::Decompose => "No decomposition".to_owned(),
        Manner::Cot => "The answer is: 42".to_owned(),
        other => panic!("{other:?} was asked"),
    };
    let bench = Bench::new(Lesson { rule: Box::new(declines), ..Lesson::default() });
    bench.recipe(&recipe("\"two-stage\"", "")).done(&["eval", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), 2 * TEST);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let quality = &arm(&report, "two-stage/big/big")["decompositions"];
    assert_eq!((&quality["declined"], &quality["well_formed"]), (&json!(TEST), &json!(TEST)), "{quality}");
    let html = bench.file("page.html");
    bench.done(&["report", "recipe.toml", "--html", html.to_str().unwrap()]);
    assert!(std::fs::read_to_string(html).unwrap().contains("No decomposition"));
}

#[test]
fn a_recipe_words_a_prompt_anew_and_the_plan_is_another() {
    let own = "[prompts.cot]\nsystem = \"Be quick.\"\ntemplate = \"\"\"\n{question}\n\nThink {{aloud}}. X: {answer_form}.\n\"\"\"\n";
    let bench = Bench::new(school::lesson());
    bench.recipe(&recipe("\"cot\"", "")).done(&["eval", "recipe.toml"]);
    bench.recipe(&recipe("\"cot\"", own)).done(&["eval", "recipe.toml"]);
    let asked = bench.teacher.asked();
    assert_eq!(asked.len(), 2 * TEST, "another prompt is another call");
    let last = asked.last().unwrap();
    assert_eq!(said(last, "system"), ["Be quick."]);
    assert!(said(last, "user")[0].contains("\n\nThink {aloud}. X: X is "), "{last:?}");

    let diff = bench.done(&["prompts", "recipe.toml", "--diff", "cot"]).stdout;
    assert!(diff.contains("[-You are a careful assistant.-]{+Be quick.+}"), "{diff}");
    let json = bench.json(&["prompts", "recipe.toml", "--diff", "built-in:cot", "cot", "--json"]);
    assert_eq!((&json["same"], json["diff"].is_string()), (&json!(false), true));
    let same = bench.done(&["prompts", "recipe.toml", "--diff", "direct"]).stdout;
    assert!(same.ends_with("no difference\n"), "{same}");
}

#[test]
fn mistakes_in_a_template_name_the_key_and_the_placeholders() {
    let refused = |template: &str, words: &[&str]| {
        let more = format!("[prompts.two-stage]\ntemplate = \"{template}\"\n");
        Bench::idle().recipe(&recipe("\"two-stage\"", &more)).run(&["eval", "recipe.toml"]).complains(2, words);
    };
    let key = "prompts.two-stage.template";
    refused(
        "{question} {subquestion}",
        &[key, "no placeholder `{subquestion}`", "{subquestions}", "{references} (may be left out)"],
    );
    refused("{question}", &[key, "`{subquestions}` is missing"]);
    refused("{question} {subquestions} {", &[key, "write `{{`"]);
    let other = |more: &str, words: &[&str]| {
        let recipe = recipe("\"two-stage+max=2\"", more);
        Bench::idle().recipe(&recipe).run(&["eval", "recipe.toml"]).complains(2, words);
    };
    other("[prompts.decompose]\ntemplate = \"{question}\"\n", &["prompts.decompose.template", "`{limit}` is missing"]);
    other("[prompts.decompos]\ntemplate = \"{question}\"\n", &["decompos", "did you mean `decompose`?"]);
    other("[prompts.cot]\n", &["prompts.cot", "it says nothing"]);
}

#[test]
fn prompts_are_listed_and_shown() {
    let bench = Bench::idle();
    bench.recipe(&recipe("\"cot\", \"two-stage\", \"direct+shots=2\"", "[prompts.cot]\nsystem = \"Be quick.\"\n"));
    let list = bench.done(&["prompts", "recipe.toml"]).stdout;
    let line = |name: &str| {
        list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {list}")).to_owned()
    };
    assert!(line("cot ").contains("recipe") && line("cot ").ends_with("cot/big"), "{list}");
    assert!(line("direct+shots=2").ends_with("direct/big+shots=2") && line("self-ask").ends_with("nobody"), "{list}");
    let json = bench.json(&["prompts", "recipe.toml", "--json"]);
    let ids: std::collections::HashSet<&str> =
        json.as_array().unwrap().iter().map(|prompt| prompt["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), json.as_array().unwrap().len(), "{json}");

    let shown = bench.done(&["prompts", "recipe.toml", "--show", "two-stage", "--question", "synth/test/3"]).stdout;
    let question = school::questions().into_iter().find(|question| question.id.0 == "synth/test/3").unwrap();
    assert!(
        shown.contains("[system]\n") && shown.contains(&question.text) && shown.contains("\nSubquestions:\n1. "),
        "{shown}"
    );
    let explained = ["template  {question}      the passage", "{references}    a sentence on what #1 stands for"];
    assert!(explained.iter().all(|words| shown.contains(words)), "{shown}");
    assert_eq!(shown.matches("(may be left out)").count(), 2, "{shown}");
    let json_of = bench.json(&["prompts", "recipe.toml", "--show", "two-stage", "--json"]);
    assert!(json_of[0]["placeholders"][0]["is"].as_str().unwrap().contains("passage"), "{json_of}");
    let all = bench.json(&["prompts", "recipe.toml", "--question", "synth/test/3", "--json"]);
    assert_eq!(all.as_array().unwrap().len(), 4, "those that are asked: {all}");
    assert_eq!(all[0]["messages"][0]["role"], "system");

    let wrong = |arguments: &[&str], words: &[&str]| {
        bench.run(&[&["prompts", "recipe.toml"], arguments].concat()).complains(2, words);
    };
    wrong(&["--show", "ctt"], &["--show", "no prompt `ctt`", "did you mean `cot`?", "direct+shots=2"]);
    wrong(&["--question", "synth/test/99"], &["--question", "synth/test/0"]);
    wrong(&["--show", "cot", "--model", "big"], &["--model", "`big` is no local model", "none"]);
    wrong(&["--diff", "cot", "--show", "cot"], &["--show"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

const TERSE: &str = "[prompts.cot.variants.terse]\ntemplate = \"{question} Short. X: {answer_form}.\"\n";

#[test]
fn two_wordings_of_one_prompt_are_two_arms() {
    let bench = Bench::new(school::lesson());
    let strategies = "\"cot\", \"cot+prompt=terse\", \"cot+shots=1+prompt=terse\"";
    bench.recipe(&recipe(strategies, TERSE)).done(&["eval", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let terse = |asked: &&Asked| asked.last().contains(" Short. X: X is");
    assert_eq!((asked.len(), asked.iter().filter(terse).count()), (3 * TEST, 2 * TEST));
    let with_shots = asked.iter().filter(terse).find(|asked| !said(asked, "assistant").is_empty()).unwrap();
    assert!(said(with_shots, "user")[0].contains(" Short. X: X is"), "demonstrations are asked in the same words");
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!(arm(&report, "cot/big+prompt=terse")["variant"], json!({ "prompt": "terse" }));
    let compared: Vec<_> =
        report["comparisons"].as_array().unwrap().iter().map(|pair| (&pair["a"], &pair["b"])).collect();
    let (plain, words, both) = (json!("cot/big"), json!("cot/big+prompt=terse"), json!("cot/big+shots=1+prompt=terse"));
    assert_eq!(compared, [(&words, &plain), (&both, &plain)]);

    let list = bench.done(&["prompts", "recipe.toml"]).stdout;
    let line = list.lines().find(|line| line.starts_with("cot+prompt=terse ")).unwrap();
    assert!(line.contains("recipe") && line.ends_with("cot/big+prompt=terse"), "{list}");
    let diff = bench.done(&["prompts", "recipe.toml", "--diff", "cot", "cot+prompt=terse"]).stdout;
    assert!(diff.contains("Reason step by step") && diff.contains(" Short. X: +}X is"), "{diff}");
    let shown = bench.done(&["prompts", "recipe.toml", "--show", "cot+prompt=terse"]).stdout;
    assert!(shown.contains(" Short. X: X is"), "{shown}");
    let before = asked.len();
    bench.recipe(&recipe("\"cot\"", "")).done(&["eval", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), before, "the plain prompt is what it was without a variant");
}

#[test]
fn a_variant_is_asked_of_models_and_not_of_students() {
    let bench = Bench::idle();
    divvy_testkit::checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let student = "[models.tiny]\nsource = \"path:HERE/tiny\"\n[students.sd]\nbase = \"tiny\"\ntarget = \"SD-T\"\n";
    let variants = "[prompts.decompose.variants.terse]\nsystem = \"Be quick.\"\n[prompts.two-stage.variants.terse]\nsystem = \"Brief.\"\n";
    let slugs = |more: &str| {
        let both = recipe("\"two-stage+prompt=terse\"", more).replace("[\"big\"]\n\n", "[\"big\", \"student:sd\"]\n\n");
        let plan = bench.recipe(&both).json(&["run", "recipe.toml", "--dry-run"]);
        let arms = plan["evaluate"]["arms"].as_array().unwrap().iter();
        arms.map(|arm| arm["decomposer"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(slugs(&format!("{student}{variants}")), ["big", "student:sd"]);
    let list = bench.done(&["prompts", "recipe.toml"]).stdout;
    let line =
        |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{list}")).to_owned();
    assert!(
        line("decompose ").ends_with("students.sd, two-stage/sd/big+prompt=terse"),
        "asked as it was trained: {list}"
    );
    assert!(line("decompose+prompt=terse ").ends_with("two-stage/big/big+prompt=terse"), "{list}");
    assert!(line("two-stage+prompt=terse ").contains("two-stage/big/big+prompt=terse, two-stage/sd/big"), "{list}");
    let (of_decomposers, _) = variants.split_once("[prompts.two-stage").unwrap();
    assert_eq!(slugs(&format!("{student}{of_decomposers}")), ["big"], "the student's arm would be the plain one");
}

#[test]
fn mistakes_in_a_variant_name_its_key() {
    let refused = |strategies: &str, more: &str, words: &[&str]| {
        Bench::idle().recipe(&recipe(strategies, more)).run(&["eval", "recipe.toml"]).complains(2, words);
    };
    refused(
        "\"cot+prompt=ters\"",
        TERSE,
        &["evaluate.strategies", "no prompt of `cot` has a variant `ters`", "did you mean `terse`?"],
    );
    refused(
        "\"direct+prompt=terse\"",
        TERSE,
        &["no prompt of `direct` has a variant `terse`", "[prompts.direct.variants.terse]"],
    );
    let key = "prompts.cot.variants.terse";
    refused("\"cot\"", "[prompts.cot.variants.terse]\n", &[key, "it says nothing"]);
    refused("\"cot\"", "[prompts.cot.variants.terse]\ntemplate = \"{quest}\"\n", &[key, "no placeholder `{quest}`"]);
    refused(
        "\"cot\"",
        "[prompts.cot.variants.\"a/b\"]\nsystem = \"S.\"\n",
        &["prompts.cot.variants.a/b", "letters, digits"],
    );
    let cap = "[prompts.decompose.variants.terse]\ntemplate = \"{question}\"\n";
    refused(
        "\"two-stage+max=2+prompt=terse\"",
        cap,
        &["prompts.decompose.variants.terse.template", "`{limit}` is missing"],
    );
}
