//! Endpoints that are not there, or refuse: the command stops at once, names the endpoint, and says what to change.

use divvy_testkit::{
    script::Step,
    teacher::{Asked, Bureau, Lesson},
};
use serde_json::json;

use crate::{
    bench::{Bench, files_below},
    school::{self, Manner, RECIPE, TRAIN},
};

const KEY_VARIABLE: &str = "DIVVY_TEST_API_KEY";
const KEY: &str = "sk-secret-4711";

fn with(line: &str) -> String {
    RECIPE.replace("concurrency = 4", &format!("concurrency = 4\n{line}"))
}

/// What was in flight, and what had taken the place of the first refused before the stage heard of it.
#[track_caller]
fn gave_up_at_once(bench: &Bench) {
    let asked = bench.teacher.asked().len();
    assert!(asked <= 2 * school::CONCURRENCY, "{asked} requests to an endpoint that refuses all");
}

#[test]
fn nobody_at_the_address() {
    let bench = Bench::new(school::lesson());
    // A port that was free a moment ago, and on which nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/v1");
    bench.recipe(&with("timeout_seconds = 1").replace("URL", &url));
    bench.run(&["run", "recipe.toml"]).complains(1, &[&url, "no connection", "is the server running"]);
    let with_password = url.replace("http://", &format!("http://me:{PASSWORD}@"));
    bench.recipe(&with("timeout_seconds = 1").replace("URL", &with_password));
    let ended = bench.run(&["run", "recipe.toml", "--verbose"]);
    assert!(ended.code == Some(1) && ended.stderr.contains(&format!(" at {url}: no connection")), "{ended:?}");
    assert!(!ended.stderr.contains(PASSWORD), "{ended:?}");
}

#[test]
fn a_refused_key_names_its_variable_and_never_itself() {
    let bench = Bench::new(Lesson { api_key: Some("sk-another".to_owned()), ..school::lesson() });
    bench.recipe(&with(&format!("api_key_env = \"{KEY_VARIABLE}\"")));
    let child = bench.command(&["run", "recipe.toml", "--verbose"]).env(KEY_VARIABLE, KEY).spawn().unwrap();
    let ended = crate::bench::ended(child);
    ended.complains(1, &["HTTP 401", KEY_VARIABLE]);
    assert!(!ended.stderr.contains(KEY), "the key is shown: {}", ended.stderr);
    gave_up_at_once(&bench);
}

/// A decomposer that repeats how it was asked, at such length that the store compresses its replies.
fn echo(asked: &Asked) -> String {
    let heard = format!("{:?}", asked.authorization);
    format!("{}\n{}{heard}", school::SUBQUESTIONS, "So much for that. ".repeat(100))
}

/// Neither in what is printed, nor in what the store tells, nor as it stands in any file but the recipe.
#[track_caller]
fn is_nowhere(bench: &Bench, secrets: &[&str]) {
    let all = bench.done(&["calls", "--last", "1000", "--json"]).stdout;
    let first: serde_json::Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
    let long = all.lines().any(|call| call.len() > 1024 && call.contains("[redacted]"));
    assert!(long && all.contains("raw_reply"), "what was repeated is there, without the secret: {all}");
    let commands: [&[&str]; 7] = [
        &["calls", "--failed", "--json"],
        &["calls", first["key"].as_str().unwrap()],
        &["calls", first["key"].as_str().unwrap(), "--json"],
        &["status", "recipe.toml"],
        &["status", "recipe.toml", "--rows", "--json"],
        &["report", "recipe.toml", "--json"],
        &["runs", "--json"],
    ];
    let shown = commands.map(|arguments| bench.run(arguments)).map(|ended| ended.stdout + &ended.stderr);
    for secret in secrets {
        let told = shown.iter().chain([&all]).find(|text| text.contains(secret));
        assert!(told.is_none(), "{secret} is shown: {told:?}");
        let files = files_below(bench.workspace.path());
        assert!(files.iter().any(|file| file.ends_with("divvy.db")));
        for file in files.into_iter().filter(|file| !file.ends_with("recipe.toml")) {
            let bytes = std::fs::read(&file).unwrap();
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{secret} is in {}", file.display());
        }
    }
}

#[test]
fn a_key_is_used_and_kept_nowhere() {
    let decompose = |asked: &Asked| if Manner::of(asked) == Manner::Decompose { echo(asked) } else { "42".to_owned() };
    let bench = Bench::new(Lesson { api_key: Some(KEY.to_owned()), rule: Box::new(decompose), ..school::lesson() });
    bench.recipe(&with(&format!("api_key_env = \"{KEY_VARIABLE}\"")));
    let child = bench.command(&["run", "recipe.toml", "--verbose"]).env(KEY_VARIABLE, KEY).spawn().unwrap();
    let ended = crate::bench::ended(child);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!(ended.stdout + &ended.stderr).contains(KEY));
    is_nowhere(&bench, &[KEY]);
}

const PASSWORD: &str = "sesame-4711-open";
/// A user's name and the password, as they are sent.
const LOGIN: &str = "bWU6c2VzYW1lLTQ3MTEtb3Blbg==";

/// Online, in a stream and in batches; with tries that failed.
#[test]
fn a_password_in_the_address_is_used_and_kept_nowhere() {
    for recipe in [RECIPE.to_owned(), with("stall_seconds = 60"), school::in_batches("")] {
        let page = Step::Body { body: format!("<p>Who is me:{PASSWORD}?</p>") };
        let rule = |asked: &Asked| format!("{}\n{LOGIN} {PASSWORD}", echo(asked));
        let script = vec![page, Step::status(500)];
        let bureau = Some(Bureau::default());
        let bench = Bench::new(Lesson { script, rule: Box::new(rule), bureau, ..school::lesson() });
        let url = bench.teacher.url().replace("http://", &format!("http://me:{PASSWORD}@"));
        bench.recipe(&recipe.replace("URL", &url));
        let ended = bench.done(&["collect", "recipe.toml", "--verbose"]);
        assert!(!(ended.stdout + &ended.stderr).contains(PASSWORD));
        let login = Some(format!("Basic {LOGIN}"));
        assert!(bench.teacher.asked().iter().all(|asked| asked.authorization == login));
        let endpoint = bench.teacher.url();
        let call = bench.done(&["calls", "--last", "1", "--json"]).stdout;
        assert!(call.contains(&format!("\"endpoint\":\"{endpoint}")), "{call}");
        is_nowhere(&bench, &[PASSWORD, LOGIN]);
    }
}

/// In one piece and in a stream, in a reply and in a page that is none.
#[test]
fn a_key_that_the_endpoint_repeats_is_shown_nowhere() {
    for stream in ["", "\nstall_seconds = 60"] {
        let page = Step::Body { body: format!("<p>Authorization: Bearer {KEY}</p>") };
        let bench = Bench::new(Lesson { script: vec![page], rule: Box::new(echo), ..school::lesson() });
        bench.recipe(&with(&format!("api_key_env = \"{KEY_VARIABLE}\"{stream}")));
        let child = bench.command(&["collect", "recipe.toml", "--verbose"]).env(KEY_VARIABLE, KEY).spawn().unwrap();
        let collected = crate::bench::ended(child);
        let all = bench.done(&["calls", "--last", "1000", "--json"]).stdout;
        assert!(all.contains("Bearer [redacted]") && all.contains("raw_reply"), "{all}");
        let failed = bench.done(&["calls", "--failed", "--json"]).stdout;
        assert!(failed.contains("unreadable") && failed.contains("Bearer [redacted]</p>"), "{failed}");
        for shown in [all, failed, collected.stderr] {
            assert!(!shown.contains(KEY), "the key is shown: {shown}");
        }
    }
}

#[test]
fn a_key_that_is_wanted_and_not_named() {
    let bench = Bench::new(Lesson { api_key: Some(KEY.to_owned()), ..school::lesson() });
    bench.recipe(RECIPE).run(&["run", "recipe.toml"]).complains(1, &["HTTP 401", "api_key_env"]);
}

#[test]
fn a_key_variable_that_is_not_set() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&with(&format!("api_key_env = \"{KEY_VARIABLE}\"")));
    let ended = bench.run(&["run", "recipe.toml"]);
    ended.complains(1, &[KEY_VARIABLE, "is not set", "export"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

#[test]
fn a_model_that_is_not_served_is_answered_with_those_that_are() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&RECIPE.replace("model = \"teacher\"", "model = \"nobody\""));
    bench.run(&["run", "recipe.toml"]).complains(1, &["HTTP 404", "`nobody`", "it serves: `teacher`"]);
    gave_up_at_once(&bench);
}

#[test]
fn an_endpoint_that_says_nothing_at_all_stops_the_stage() {
    let bench = Bench::new(Lesson { rule: Box::new(|_| String::new()), ..school::lesson() });
    bench.recipe(&with("timeout_seconds = 1"));
    bench.run(&["run", "recipe.toml"]).complains(1, &["collect", "in a row failed", "the completion is empty"]);
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let failed = &status["failed_attempts"][0];
    assert_eq!(failed["outcome"], "empty-completion", "{status}");
    assert!(failed["tokens_in"].as_u64().unwrap() > 0, "what was charged for nothing is on record: {status}");
}

/// Too few rows to lose patience with, and none of them answered.
#[test]
fn an_arm_without_a_single_answer_is_an_error_however_few_its_rows() {
    let bench = Bench::new(Lesson { rule: Box::new(|_| String::new()), ..school::lesson() });
    bench.recipe(&with("timeout_seconds = 20").replace("concurrency = 4", "concurrency = 40"));
    bench.run(&["run", "recipe.toml"]).complains(1, &["collect: 12 requests", "the completion is empty"]);
}

#[test]
fn an_endpoint_that_is_a_web_page_is_recognised() {
    let page = Step::Body { body: "<html>Welcome</html>".to_owned() };
    let bench = Bench::new(Lesson { script: vec![page; 500], ..school::lesson() });
    bench.recipe(&with("timeout_seconds = 1"));
    bench.run(&["run", "recipe.toml"]).complains(1, &["no chat completion", "OpenAI-compatible"]);
}

/// Some words of one question set a firewall off: the others are asked, and the next command asks it again.
#[test]
fn a_question_that_a_firewall_keeps_out_fails_alone() {
    let page = Step::raw(403, "<html><title>Access denied</title><p>This request was blocked.</p></html>");
    let bench = Bench::new(Lesson { script: vec![page], ..school::lesson() });
    bench.recipe(RECIPE).done(&["collect", "recipe.toml"]);
    let states = json!({ "done": TRAIN - 1, "failed: blocked": 1, "pending": 0 });
    assert_eq!((bench.stage("collect")["states"].clone(), bench.teacher.asked().len()), (states, TRAIN));
    let failed = bench.done(&["calls", "--failed", "--json"]).stdout;
    assert!(failed.contains("whoever runs the firewall can let the API's requests through"), "{failed}");
    bench.done(&["collect", "recipe.toml"]);
    assert_eq!(bench.stage("collect")["states"], json!({ "done": TRAIN, "pending": 0 }));
    assert_eq!(bench.teacher.asked().len(), TRAIN + 1, "it alone");
}
