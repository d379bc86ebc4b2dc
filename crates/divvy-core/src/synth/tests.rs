use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{bank, expr::FUNCTIONS, family::Draw, family::Pool, template::holes, *};
use crate::digest::Digest;

const SEED: u64 = 20_250_101;
const INSTANCES: usize = 300;

/// Instances of a family with their words, not bound to a split.
fn instances(family: &'static Family, count: usize) -> Vec<(Instance<'static>, Wording)> {
    let mut rng = Rng::new(derive_seed(SEED, &family.name));
    let mut found = Vec::new();
    for _ in 0..count * 50 {
        let instance = Instance::draw(family, &BANK.tables, &mut rng, &mut Spent::default()).unwrap();
        let wording = instance.word(family, &mut rng);
        found.extend(wording.map(|wording| (instance, wording)));
        if found.len() == count {
            return found;
        }
    }
    panic!("family {}: only {} of {count} instances can be worded", family.name, found.len());
}

/// Whole numbers that stand in a text, commas removed.
fn numbers(text: &str) -> BTreeSet<String> {
    let plain: String = text.chars().filter(|c| *c != ',').collect();
    let runs = plain.split(|c: char| !c.is_ascii_digit() && c != '.').map(|run| run.trim_matches('.').to_owned());
    runs.filter(|run| !run.is_empty()).collect()
}

fn said(wording: &Wording) -> String {
    format!("{} {}", wording.premise.as_deref().unwrap_or_default(), wording.text)
}

#[test]
fn there_are_enough_families_of_every_style_on_both_sides() {
    bank::read().unwrap();
    let families = families();
    assert!(families.len() >= 40, "{}", families.len());
    let names: BTreeSet<&String> = families.iter().map(|f| &f.name).collect();
    assert_eq!(names.len(), families.len(), "a name is used twice, perhaps on both sides");
    for style in [Style::Arithmetic, Style::Passage, Style::Facts] {
        for side in [Side::Train, Side::Test] {
            let count = families.iter().filter(|f| f.style == style && f.side == side).count();
            assert!(count >= 5, "{style:?} {side:?}: {count}");
        }
    }
    let steps: BTreeSet<u32> = families.iter().map(|f| f.steps).collect();
    assert_eq!(steps, (1..=8).collect());
    for family in &families {
        assert!(family.wordings >= 3, "{}", family.name);
    }
}

#[test]
fn every_declaration_is_complete() {
    for family in &BANK.families {
        let drawn: BTreeSet<&str> = family.draws.iter().flat_map(|d| d.names.iter().map(String::as_str)).collect();
        let root = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
        let sentences = family.tell.iter().chain(&family.ask).chain(&family.noise);
        for sentence in sentences.chain(family.steps.iter().filter_map(|step| step.subquestion.as_ref())) {
            for hole in holes(sentence).unwrap() {
                assert!(drawn.contains(root(hole).as_str()), "{}: {{{hole}}} is not drawn", family.name);
            }
        }
        let last = family.steps.last().unwrap();
        assert_eq!(last.subquestion.is_some(), family.style == Style::Facts, "{}: last step", family.name);
        assert!(
            family.steps[..family.steps.len() - 1].iter().all(|step| step.subquestion.is_some()),
            "{}",
            family.name
        );
        assert_eq!(family.check.is_some(), family.style == Style::Arithmetic, "{}: check", family.name);
        assert_eq!(family.tell.is_empty(), family.style == Style::Facts, "{}: tell", family.name);
    }
}

#[test]
fn every_number_that_the_answer_needs_is_told() {
    for family in BANK.families.iter().filter(|f| f.style != Style::Facts) {
        for tell in &family.tell {
            for ask in &family.ask {
                let told: BTreeSet<&str> = holes(tell).unwrap().into_iter().chain(holes(ask).unwrap()).collect();
                for name in &family.needed {
                    assert!(told.contains(name.as_str()), "{}: `{name}` is not told in `{tell}`", family.name);
                }
            }
        }
    }
}

#[test]
fn every_function_called_exists() {
    let call_names = |text: &str| -> Vec<String> {
        let parts: Vec<&str> = text.split('(').collect();
        let word = |part: &&str| part.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
        parts[..parts.len() - 1].iter().filter_map(word).filter(|word| !word.is_empty()).collect()
    };
    for family in &BANK.families {
        for name in family.steps.iter().flat_map(|step| call_names(&format!("{:?}", step.value))) {
            let known = ["Binary", "Call", "Var", "Value", "Number", "Text"].contains(&name.as_str());
            assert!(known || FUNCTIONS.contains(&name.as_str()), "{}: {name}", family.name);
        }
    }
}

#[test]
fn the_steps_reach_what_one_expression_says() {
    for family in &BANK.families {
        let Some(check) = &family.check else { continue };
        for (instance, wording) in instances(family, INSTANCES) {
            let value = check.eval(&|name| instance.drawn.get(name));
            assert_eq!(value.as_ref(), instance.values.last(), "{}: {}", family.name, wording.text);
        }
    }
}

#[test]
fn every_instance_is_a_sound_question() {
    for family in &BANK.families {
        for (instance, wording) in instances(family, INSTANCES) {
            let context = format!("{}: {} / {:?}", family.name, said(&wording), wording.subquestions);
            assert_eq!(wording.subquestions.len(), family.steps.len(), "{context}");
            if family.style != Style::Facts {
                assert!(wording.text.ends_with(wording.subquestions.last().unwrap()), "{context}");
            }
            for text in wording.subquestions.iter().chain(&wording.premise).chain([&wording.text]) {
                let sound = !text.is_empty() && !text.contains(['{', '}', '~', '|']) && !text.contains("  ");
                assert!(sound && text.trim() == text, "{context}");
                assert!(text.chars().next().is_some_and(|c| !c.is_lowercase()), "no capital: {context}");
            }
            for text in wording.subquestions.iter().chain([&wording.text]) {
                assert!(text.ends_with(['?', '.']), "{context}");
            }
            let golds = golds(instance.values.last().unwrap());
            assert!(!golds.is_empty() && golds.iter().all(|g| !g.0.is_empty() && g.0.iter().all(|s| !s.is_empty())));
            assert!(family.style != Style::Passage || wording.premise.is_some(), "{context}");
        }
    }
}

/// A subquestion is written before anything is answered: a number in it comes from the question or is `#k`.
#[test]
fn no_subquestion_gives_an_answer_away() {
    for family in &BANK.families {
        for (instance, wording) in instances(family, INSTANCES) {
            let question = said(&wording);
            let known = numbers(&question);
            for (index, text) in wording.subquestions.iter().enumerate() {
                let mut without_refs = text.clone();
                for k in 1..=index {
                    without_refs = without_refs.replace(&format!("#{k}"), "");
                }
                assert!(!without_refs.contains('#'), "{}: a reference forward: {text}", family.name);
                let new: Vec<String> = numbers(&without_refs).difference(&known).cloned().collect();
                assert!(new.is_empty(), "{}: {new:?} in `{text}` is not in `{question}`", family.name);
            }
            if family.style == Style::Facts {
                check_no_early_name(family, &instance, &wording);
            }
        }
    }
}

fn check_no_early_name(family: &Family, instance: &Instance<'_>, wording: &Wording) {
    for (index, value) in instance.values.iter().enumerate() {
        let Value::Text(names) = value else { continue };
        let name = value::preferred(names);
        for text in wording.subquestions[..=index].iter().filter(|text| text.contains(name)) {
            assert!(wording.text.contains(name), "{}: `{text}` tells {name}", family.name);
        }
    }
}

#[test]
fn the_same_arguments_give_the_same_bytes_and_a_prefix_of_more() {
    for split in [Split::Train, Split::Dev, Split::Test] {
        let long = generate(split, 120, 7);
        assert_eq!(long[..50], generate(split, 50, 7));
        assert_ne!(long, generate(split, 120, 8));
        let ids: Vec<String> = (0..120).map(|row| format!("synth/{split}/{row}")).collect();
        assert_eq!(long.iter().map(|q| q.id.0.clone()).collect::<Vec<_>>(), ids);
    }
}

/// Recipes, students and stores are held to these questions by their digests. 6,000 are more than there are facts, so that the
/// end of a style is among them.
#[test]
fn the_questions_are_those_of_every_version_before() {
    let digest = |split| Digest::of("synth-test/1", &generate(split, 6_000, 7)).short();
    let known = ["db8c80db06b8", "d42d4dc55030", "e05e1035a854"];
    assert_eq!([Split::Train, Split::Dev, Split::Test].map(digest), known);
    let facts: Vec<Question> = of_style(Style::Facts, Split::Test, 7).collect();
    assert_eq!((facts.len(), Digest::of("synth-test/1", &facts).short()), (702, "7c37ebf2e341".to_owned()));
}

#[test]
fn splits_are_disjoint_by_family_and_by_text() {
    let [train, dev, test] =
        [(Split::Train, 3000), (Split::Dev, 300), (Split::Test, 600)].map(|(split, rows)| generate(split, rows, 3));
    let clusters = |set: &[Question]| set.iter().map(|q| q.cluster.clone().unwrap()).collect::<BTreeSet<_>>();
    assert!(clusters(&train).is_disjoint(&clusters(&test)) && clusters(&dev).is_disjoint(&clusters(&test)));
    assert!(clusters(&dev).is_subset(&clusters(&train)));
    let mut texts = HashMap::new();
    for q in train.iter().chain(&dev).chain(&test) {
        let other = texts.insert((q.premise.clone(), q.text.clone()), &q.id);
        assert!(other.is_none(), "{} and {other:?} are the same", q.id);
        assert_eq!(q.steps.unwrap() as usize, q.recorded.as_ref().unwrap().steps().len());
    }
}

#[test]
fn the_mix_of_styles_holds_at_the_size_of_the_quickstart() {
    for (split, rows) in [(Split::Train, 2000), (Split::Dev, 200), (Split::Test, 400)] {
        let mut counts = BTreeMap::new();
        let questions = generate(split, rows, 1);
        questions.iter().for_each(|q| *counts.entry(q.scorer).or_insert(0) += 1);
        println!("{split}: {counts:?}");
        assert!(counts[&ScorerKind::Exact] * 5 >= rows, "{split}: facts ran out: {counts:?}");
        assert_eq!(counts[&ScorerKind::Drop], rows / 4);
        let two_to_five = questions.iter().filter(|q| (2..=5).contains(&q.steps.unwrap())).count();
        assert!(two_to_five * 3 >= rows * 2, "{split}: {two_to_five} of {rows}");
    }
}

fn style_questions(style: Style, split: Split, rows: usize) -> Vec<Question> {
    of_style(style, split, 1).take(rows).collect()
}

#[test]
fn a_style_comes_alone_until_there_is_no_more_of_it() {
    let scorers = [
        (Style::Arithmetic, ScorerKind::Numeric),
        (Style::Passage, ScorerKind::Drop),
        (Style::Facts, ScorerKind::Exact),
    ];
    for ((style, scorer), split) in
        scorers.into_iter().flat_map(|style| [Split::Train, Split::Test].map(|split| (style, split)))
    {
        let questions = style_questions(style, split, 120);
        assert!(
            questions.len() == 120 && questions.iter().all(|question| question.scorer == scorer),
            "{style:?} {split}"
        );
        assert_eq!(questions[..40], style_questions(style, split, 40), "a prefix of more");
    }
    let facts = style_questions(Style::Facts, Split::Test, 1_000_000);
    println!("{} facts for test", facts.len());
    let texts: BTreeSet<&str> = facts.iter().map(|question| &*question.text).collect();
    assert!(facts.len() >= 200 && texts.len() == facts.len(), "{}", facts.len());
}

#[test]
fn the_world_is_consistent_with_itself() {
    let capitals: BTreeSet<&str> = BANK.tables["country"].rows.iter().map(|row| value::preferred(&row[1])).collect();
    assert_eq!(capitals.len(), BANK.tables["country"].rows.len(), "a capital names one country");
    for (name, table) in &BANK.tables {
        let firsts: BTreeSet<&str> = table.rows.iter().map(|row| value::preferred(&row[0])).collect();
        assert_eq!(firsts.len(), table.rows.len(), "table {name} has a row twice");
    }
    let asked = |draw: &Draw| match &draw.from {
        Pool::Table(table) => assert!(BANK.tables.contains_key(table), "no table {table}"),
        Pool::Words(words) => assert!(words.len() >= draw.names.len()),
        Pool::Range { low, high, .. } => assert!(low < high),
    };
    BANK.families.iter().flat_map(|family| &family.draws).for_each(asked);
}

/// Prints one question a family: `cargo test -p divvy-core synth::tests::show -- --ignored --nocapture`.
#[test]
#[ignore = "for reading"]
fn show() {
    for family in &BANK.families {
        let (instance, wording) = instances(family, 1).remove(0);
        println!("\n== {} ({} steps)\n{}", family.name, family.steps.len(), said(&wording));
        for (text, value) in wording.subquestions.iter().zip(&instance.values) {
            println!("   {text} -> {}", value.plain());
        }
    }
}
