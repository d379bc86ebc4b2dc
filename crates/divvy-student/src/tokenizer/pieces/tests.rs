//! Two small vocabularies against SentencePiece's own encoder and Hugging Face's `tokenizers`
//! (`tests/fixtures/make_sentencepiece_fixtures.py`), and what must be refused.

use std::collections::BTreeMap;
use std::path::Path;

use divvy_core::chat::Message;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::gguf::{Header, Value};
use crate::template::ChatTemplate;
use crate::testing::fixture;
use crate::tokenizer::{SpecialToken, TextTokenizer};

#[derive(Deserialize)]
struct Reference {
    tokens: Vec<String>,
    scores: Vec<f64>,
    types: Vec<i64>,
    add_space_prefix: bool,
    rows: Vec<Row>,
    directory: Json,
    special: Vec<Row>,
    first: Option<First>,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    ids: Vec<u32>,
    #[serde(default)]
    decoded: String,
}

#[derive(Deserialize)]
struct First {
    pre_tokenizer: Json,
    special: Vec<Row>,
}

const NAMES: [&str; 2] = ["llama", "gemma"];

fn reference(name: &str) -> Reference {
    let text = std::fs::read_to_string(fixture(&format!("tokenizer-sp-{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn metadata(from: &Reference) -> BTreeMap<String, Value> {
    let entries = [
        ("model", Value::Text("llama".into())),
        ("tokens", Value::Texts(from.tokens.clone())),
        ("scores", Value::Floats(from.scores.clone())),
        ("token_type", Value::Ints(from.types.clone())),
        ("add_space_prefix", Value::Bool(from.add_space_prefix)),
        ("bos_token_id", Value::Int(1)),
        ("eos_token_id", Value::Int(2)),
    ];
    entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect()
}

fn load(metadata: BTreeMap<String, Value>) -> Result<TextTokenizer, String> {
    let header = Header { file: "m.gguf".into(), metadata, tensors: Default::default(), divisors: None };
    TextTokenizer::from_gguf(&header, 520).map_err(|error| error.to_string())
}

fn of_gguf(name: &str) -> TextTokenizer {
    load(metadata(&reference(name))).unwrap()
}

/// A directory with this `tokenizer.json`.
fn of_file(file: &Json) -> Result<TextTokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, json: &Json| std::fs::write(folder.path().join(name), json.to_string()).unwrap();
    write("tokenizer.json", file);
    write("tokenizer_config.json", &json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } }));
    TextTokenizer::from_directory(folder.path(), 520).map_err(|error| error.to_string())
}

fn check_rows(tokenizer: &TextTokenizer, rows: &[Row]) {
    assert!(rows.len() > 190);
    for Row { text, ids, decoded } in rows {
        assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids), *decoded, "{text:?}");
    }
}

fn check_special(tokenizer: &TextTokenizer, rows: &[Row]) {
    for Row { text, ids, .. } in rows {
        assert_eq!(tokenizer.encode_template(text, str::to_owned).unwrap(), *ids, "{text:?}");
    }
}

#[test]
fn ids_and_texts_are_those_of_sentencepiece() {
    for name in NAMES {
        let reference = reference(name);
        let tokenizer = of_gguf(name);
        check_rows(&tokenizer, &reference.rows);
        check_special(&tokenizer, &reference.special);
        assert!(tokenizer.is_stop(2) && tokenizer.adds_bos && tokenizer.bos_text == "<s>", "{name}");
        let json = serde_json::to_value(&tokenizer.plain).unwrap();
        assert_eq!(json["model"]["merges"], reference.directory["model"]["merges"], "{name}");
    }
}

#[test]
fn a_directory_is_read_as_its_file_says() {
    for name in NAMES {
        let mut reference = reference(name);
        let tokenizer = of_file(&reference.directory).unwrap();
        check_rows(&tokenizer, &reference.rows);
        check_special(&tokenizer, &reference.special);
        assert_eq!((tokenizer.end_token(), &*tokenizer.bos_text), (2, "<s>"));
        if let Some(First { pre_tokenizer, special }) = reference.first {
            reference.directory["pre_tokenizer"] = pre_tokenizer;
            reference.directory["normalizer"] = Json::Null;
            check_special(&of_file(&reference.directory).unwrap(), &special);
        }
    }
}

#[test]
fn it_survives_being_saved_and_exported() {
    for name in NAMES {
        let reference = reference(name);
        for tokenizer in [of_gguf(name), of_file(&reference.directory).unwrap()] {
            let folder = tempfile::tempdir().unwrap();
            tokenizer.save(folder.path(), "").unwrap();
            let saved = TextTokenizer::from_directory(folder.path(), 520).unwrap();
            let written = tokenizer.gguf_metadata(523).unwrap();
            assert_eq!(written["tokenizer.ggml.add_bos_token"], Value::Bool(false), "the template writes it");
            check_written(&written, &reference);
            let header = Header { file: "m".into(), metadata: written, tensors: Default::default(), divisors: None };
            let exported = TextTokenizer::from_gguf(&header, 523).unwrap();
            for again in [saved, exported] {
                check_rows(&again, &reference.rows);
                check_special(&again, &reference.special);
                assert_eq!((again.end_token(), &again.bos_text), (2, &tokenizer.bos_text));
            }
        }
    }
}

/// Tokens, scores and types are the file's own, but that a token for the unknown is a control token, and that rows without
/// a token are filled.
fn check_written(written: &BTreeMap<String, Value>, reference: &Reference) {
    let Value::Texts(tokens) = &written["tokenizer.ggml.tokens"] else { panic!("texts") };
    assert_eq!((&tokens[..520], &*tokens[520]), (&*reference.tokens, "[PAD520]"));
    let Value::Ints(types) = &written["tokenizer.ggml.token_type"] else { panic!("numbers") };
    let want: Vec<i64> = reference.types.iter().map(|&kind| if kind == 2 { 3 } else { kind }).chain([5; 3]).collect();
    assert_eq!(*types, want);
    let Value::Floats(scores) = &written["tokenizer.ggml.scores"] else { panic!("numbers") };
    assert_eq!((&scores[..520], &scores[520..]), (&*reference.scores, &[0.0; 3][..]));
    assert_eq!(written["tokenizer.ggml.add_space_prefix"], Value::Bool(reference.add_space_prefix));
}

#[test]
fn what_llama_cpp_has_no_form_for_is_not_exported() {
    let mut reference = reference("llama");
    let refused = |file: &Json| of_file(file).unwrap().gguf_metadata(520).unwrap_err();
    let metaspace = |scheme: &str| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme });
    let mut file = reference.directory.clone();
    file["normalizer"] = Json::Null;
    file["pre_tokenizer"] = metaspace("always");
    assert!(refused(&file).contains("stretches"), "{}", refused(&file));
    file["pre_tokenizer"] = metaspace("first");
    let first = of_file(&file).unwrap().gguf_metadata(520).unwrap();
    assert_eq!(first["tokenizer.ggml.add_space_prefix"], Value::Bool(false));
    // A piece that is made in two ways, the second of them behind all others; and one way fewer than pieces allow.
    let merges = reference.directory["model"]["merges"].as_array_mut().unwrap();
    let whole = |merge: &Json| format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
    let at = (1..merges.len()).find(|&at| whole(&merges[at]) == whole(&merges[at - 1])).expect("one has two ways");
    let second = merges.remove(at);
    assert!(refused(&reference.directory).contains("do not follow from scores"));
    reference.directory["model"]["merges"].as_array_mut().unwrap().push(second);
    assert!(refused(&reference.directory).contains("do not follow from scores"));
}

fn refused(change: impl Fn(&mut Reference), key: &str, value: Option<Value>) -> String {
    let mut reference = reference("llama");
    change(&mut reference);
    let mut metadata = metadata(&reference);
    metadata.remove(key);
    metadata.extend(value.map(|value| (key.to_owned(), value)));
    load(metadata).err().expect("must be refused")
}

#[test]
fn bad_vocabularies_are_named() {
    let same = |_: &mut Reference| ();
    let (scores, space) = ("tokenizer.ggml.scores", "tokenizer.ggml.add_space_prefix");
    for (error, want) in [
        (refused(same, scores, None), "tokenizer.ggml.scores is missing"),
        (refused(same, scores, Some(Value::Floats(vec![1.0]))), "520 tokens with 1 scores"),
        (refused(same, scores, Some(Value::Ints(vec![0; 520]))), "floating-point"),
        (refused(same, space, Some(Value::Int(1))), "expected true or false"),
        (refused(|r| r.scores[300] = f64::NAN, "", None), "token 300 has the score NaN"),
        (refused(|r| r.scores[300] = 1e300, "", None), "token 300 has the score inf"),
        (refused(|r| r.tokens[300] = r.tokens[301].clone(), "", None), "tokens 300 and 301 are both"),
        (refused(|r| r.types[10] = 5, "", None), "no piece <0x07>"),
        (refused(|r| r.tokens[300] = "x".repeat(513), "", None), "token 300 has 513 bytes"),
        (refused(|r| r.types.truncate(9), "", None), "520 tokens with 9 types"),
        (refused(same, "tokenizer.ggml.eos_token_id", Some(Value::Int(520))), "end token 520"),
    ] {
        assert!(error.contains(want) && error.contains("m.gguf"), "{error}");
    }
}

#[test]
fn vocabularies_that_nobody_trained_are_refused_before_they_fill_the_memory() {
    let runs: Vec<String> = (1..=500).map(|length| "a".repeat(length)).collect();
    let pieces: Vec<(u32, &str, f32)> = runs.iter().zip(0..).map(|(run, id)| (id, run.as_str(), 0.0)).collect();
    let error = merges(&pieces).unwrap_err();
    assert!(error.contains("500 pieces have more than 8000 merges"), "{error}");
}

#[test]
fn of_equal_scores_the_longer_left_part_is_merged_first() {
    let pieces = [(0, "a", 0.0), (1, "aa", -1.0), (2, "aaa", -1.0), (3, "b", 0.0), (4, "ab", -0.0), (5, "ba", 0.0)];
    let merges = merges(&pieces).unwrap();
    let text: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    assert_eq!(text, ["a b", "b a", "aa a", "a aa", "a a"]);
}

#[test]
fn bad_files_are_named() {
    let refused = |change: &dyn Fn(&mut Json)| {
        let mut file = reference("llama").directory;
        change(&mut file);
        of_file(&file).err().expect("must be refused")
    };
    for (error, want) in [
        (refused(&|file| *file = json!([])), "not a JSON object"),
        (refused(&|file| file["model"]["type"] = json!("Unigram")), "its model is \"Unigram\"; supported: BPE"),
        (refused(&|file| file["model"]["byte_fallback"] = json!(false)), "neither a byte-level BPE"),
        (refused(&|file| file["model"]["merges"] = json!([["the", "the"]])), "makes no token"),
        (refused(&|file| file["model"]["merges"] = json!([1])), "a merge is not two tokens"),
        (refused(&|file| file["model"]["continuing_subword_prefix"] = json!("long")), "continuing_subword_prefix"),
        (refused(&|file| drop(file["model"]["vocab"].as_object_mut().unwrap().remove("<0xFF>"))), "no piece <0xFF>"),
        (
            refused(&|file| file["normalizer"] = json!({ "type": "Prepend", "prepend": "x" })),
            "its normaliser has the step",
        ),
    ] {
        assert!(error.contains(want) && error.contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn a_model_file_alone_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let error = |folder: &Path| TextTokenizer::from_directory(folder, 520).err().unwrap().to_string();
    assert!(error(folder.path()).contains("tokenizer.json"));
    std::fs::write(folder.path().join("tokenizer.model"), b"\n").unwrap();
    assert!(error(folder.path()).contains("save_pretrained"), "{}", error(folder.path()));
}

#[test]
fn plain_text_holds_no_control_token_and_none_that_the_template_spells() {
    let text = "{{ bos_token }}<b>{{ messages[0].content }}\n</s>";
    let (template, mut tokenizer) = (ChatTemplate::new(text.into()).unwrap(), of_gguf("gemma"));
    let encode =
        |tokenizer: &TextTokenizer, content: &str| template.encode(&[Message::user(content)], tokenizer).unwrap();
    let bold = 14;
    assert_eq!(encode(&tokenizer, "<b>").iter().filter(|&&id| id == bold).count(), 2);
    tokenizer.reserve(text);
    for content in ["<b>", "</s>", "<s><b></s><turn>", "<", "\n\n  x", "<unk><0x41>"] {
        let ids = encode(&tokenizer, content);
        assert_eq!((ids[0], ids[1], ids[ids.len() - 1]), (1, bold, 2), "{content:?}");
        assert!(ids[2..ids.len() - 1].iter().all(|&id| id > 3 && id != bold), "{content:?}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids), format!("<b>{content}\n"), "nothing is lost or added");
    }
    // Line breaks are text wherever they stand: two of them are one token.
    assert!(encode(&tokenizer, "x\n").contains(&5));
    let folder = tempfile::tempdir().unwrap();
    tokenizer.save(folder.path(), text).unwrap();
    let mut saved = TextTokenizer::from_directory(folder.path(), 520).unwrap();
    saved.reserve(text);
    assert_eq!(encode(&saved, "<b>\n\n"), encode(&tokenizer, "<b>\n\n"));
}

#[test]
fn the_first_token_is_put_where_the_template_writes_none() {
    let tokenizer = of_gguf("llama");
    for (text, want) in [("x", "{{ bos_token }}x"), ("{{ bos_token }}x", "{{ bos_token }}x"), ("<s>x", "<s>x")] {
        let template = ChatTemplate::new(text.into()).unwrap().with_bos(&tokenizer).unwrap();
        assert_eq!(template.text(), want);
        assert_eq!(template.encode(&[Message::user("")], &tokenizer).unwrap()[0], 1);
    }
    let mut plain = metadata(&reference("llama"));
    plain.insert("tokenizer.ggml.add_bos_token".into(), Value::Bool(false));
    let without = load(plain).unwrap();
    let template = ChatTemplate::new("x".into()).unwrap().with_bos(&without).unwrap();
    assert_eq!(template.text(), "x");
    assert_eq!([tokenizer.first_token(), without.first_token()], [Some(1), None]);
}

#[test]
fn a_reply_begins_as_it_would_within_the_conversation() {
    let tokenizer = of_gguf("llama");
    let opens = |text: &str| ChatTemplate::new(text.into()).unwrap().opens_with_space(&tokenizer);
    assert!(opens("{{ '<|assistant|>\n' }}") && !opens("[INST] x [/INST]"));
    let whole = tokenizer.encode("of\napples").unwrap();
    let behind = tokenizer.encode_behind("apples").unwrap();
    assert!(whole.ends_with(&behind) && behind != tokenizer.encode("apples").unwrap());
    assert_eq!(tokenizer.decode(&behind), "apples");
    assert_eq!(tokenizer.decode(&tokenizer.encode("apples").unwrap()), "apples");
}

#[test]
fn a_reply_is_read_as_it_comes() {
    let tokenizer = of_gguf("llama");
    let ids: Vec<u32> = [1].into_iter().chain(tokenizer.encode("  € of").unwrap()).collect();
    let mut stream = tokenizer.detokeniser();
    let told: Vec<String> = ids.iter().map(|&id| stream.push(tokenizer.token_bytes(id))).collect();
    assert_eq!(told, ["", "", " ", " ", "", "", "€", " of"], "the first space is not the text's; bytes wait");
    let broken = tokenizer.encode("€").unwrap()[1..3].to_vec();
    assert_eq!(tokenizer.decode(&[broken, tokenizer.encode_behind("of").unwrap()].concat()), "\u{FFFD}of");
}

proptest! {
    #[test]
    fn any_text_comes_back(text in "(\\PC|[ \n\t▁<b>0xA]){0,60}") {
        for name in NAMES {
            let tokenizer = of_gguf(name);
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids), text.replace('▁', " "));
            prop_assert!(ids.iter().all(|&id| id > 2));
        }
    }

    #[test]
    fn damaged_vocabularies_never_panic(
        at in 0usize..520, text in "[<>0xA-Fa▁\n]{0,8}", kind in -1i64..8, score in any::<f64>()
    ) {
        let mut reference = reference("gemma");
        (reference.tokens[at], reference.types[at], reference.scores[at]) = (text, kind, score);
        if let Ok(tokenizer) = load(metadata(&reference)) {
            let _ = tokenizer.encode("of the <b> crates\n\n  x \u{1F600}").map(|ids| tokenizer.decode(&ids));
            let _ = tokenizer.gguf_metadata(520);
        }
    }
}

/// Whoever looks for a token by its spelling must find it once.
#[test]
fn no_token_is_special_twice() {
    let tokenizer = of_gguf("gemma");
    let mut ids: Vec<u32> = tokenizer.all_specials().map(|special: &SpecialToken| special.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..15).collect::<Vec<_>>());
}
