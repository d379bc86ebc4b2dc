use super::*;

const SMALL: &str = r#"
name = "t"
[data.train]
dataset = "synth"
rows = 4
[collect]
teacher = "recorded"
"#;

#[test]
fn the_smallest_recipe_has_data_and_a_teacher() {
    let recipe = Recipe::parse(SMALL, "r.toml").unwrap();
    assert_eq!((recipe.seed, recipe.data.on_bad_row, recipe.data.train.all()[0].rows), (1, OnBadRow::Stop, Some(4)));
}

#[test]
fn an_unknown_key_is_refused_with_line_and_suggestion() {
    let text = SMALL.replace("teacher =", "teachr =");
    let error = Recipe::parse(&text, "r.toml").unwrap_err();
    assert_eq!(error.position.map(|p| p.0), Some(7));
    assert_eq!(error.hint.as_deref(), Some("did you mean `teacher`?"));
    assert!(error.to_string().starts_with("r.toml:7:1: unknown field `teachr`"), "{error}");
}

#[test]
fn an_unknown_value_is_refused_with_a_suggestion() {
    let text = format!("{SMALL}[students.s]\nbase = \"b\"\ntarget = \"SD-RR\"\n");
    let error = Recipe::parse(&text, "r.toml").unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("did you mean `SD-R`?"));
}

#[test]
fn one_of_something_or_several_and_a_mistake_inside_is_told_with_its_line() {
    let several = SMALL.replace("[data.train]", "[[data.train]]");
    let several = format!("{several}[[data.test]]\ndataset = \"synth\"\nstyle = \"facts\"\nrows = 2\n");
    let student = "[students.s]\nbase = \"b\"\ntarget = \"SD-T\"\n";
    let recipe =
        Recipe::parse(&format!("{several}{student}data = {{ synth = 0.5 }}\nrows = [1, 2]"), "r.toml").unwrap();
    assert_eq!((recipe.data.train.all().len(), recipe.data.test.all()[0].name()), (1, "synth"));
    let student = &recipe.students["s"];
    assert_eq!(student.data, Some(Mix::Weights([("synth".to_owned(), 0.5)].into())));
    assert_eq!(student.rows, Some(OneOrMany::Many(vec![1, 2])));
    for text in [SMALL, &several] {
        let error = Recipe::parse(&text.replace("rows = 4", "rowz = 4"), "r.toml").unwrap_err();
        assert_eq!(
            (error.position.map(|p| p.0), error.hint.as_deref()),
            (Some(5), Some("did you mean `rows`?")),
            "{error}"
        );
    }
    let error = Recipe::parse(&several.replace("\"facts\"", "\"fact\""), "r.toml").unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("did you mean `facts`?"), "{error}");
}

#[test]
fn a_missing_table_is_named() {
    let error = Recipe::parse("name = \"x\"", "r.toml").unwrap_err();
    assert!(error.to_string().contains("missing field `data`"), "{error}");
}

#[test]
fn a_key_in_a_url_is_suspected() {
    let with = |url: &str, further: &str| {
        let further = format!("[[models.m.endpoints]]\nurl = \"{further}\"\n");
        Recipe::parse(&format!("{SMALL}[models.m]\nsource = \"{url}\"\n{further}"), "r.toml").unwrap()
    };
    let plain = "https://a.example/v1";
    assert!(!with(plain, "https://b.example/v1?api-version=2024-06-01").may_hold_secrets());
    assert!(with("https://me:secret@a.example/v1", plain).may_hold_secrets());
    assert!(with(plain, "https://b.example/v1?key=secret").may_hold_secrets());
    assert!(with("https://a.example/v1?api-version=1&key=secret", plain).may_hold_secrets());
}

#[test]
fn a_store_is_a_server_and_holds_no_password() {
    let with = |store: &str| Recipe::parse(&format!("store = \"{store}\"\n{SMALL}"), "r.toml");
    assert_eq!(with("postgres://ann@db/runs").unwrap().store.as_deref(), Some("postgres://ann@db/runs"));
    for (store, word) in [
        ("runs", "--store"),
        ("postgres://ann:secret@db/runs", "PGPASSWORD"),
        ("postgresql://ann:secret@db", "PGPASSWORD"),
        ("postgres://db/runs?user=ann&password=secret", "PGPASSWORD"),
    ] {
        let error = with(store).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("secret"), "{error}");
    }
}
