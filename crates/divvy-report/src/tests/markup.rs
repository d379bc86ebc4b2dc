//! A small checker of HTML as we write it: tags balance, attributes are quoted, ids are unique, labels point somewhere, no
//! attribute runs script. Stricter than a browser, which forgives.

use std::collections::BTreeSet;

const VOID: [&str; 5] = ["meta", "input", "br", "wbr", "hr"];
const RAW: [&str; 2] = ["script", "style"];

/// Panics with the place of the first fault.
pub(super) fn check(page: &str) {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let (mut open, mut ids, mut wanted) = (Vec::<String>::new(), BTreeSet::new(), BTreeSet::new());
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let end = rest.find('>').unwrap_or_else(|| panic!("a tag never ends: {}", head(rest)));
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed here: {}", head(rest));
            continue;
        }
        let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
        assert!(!name.is_empty(), "a bare < before: {}", head(rest));
        for (key, value) in attributes(tag[name.len()..].trim_end_matches('/')) {
            assert!(!key.starts_with("on"), "an attribute runs script: {key}");
            match key.as_str() {
                "id" => assert!(ids.insert(value.clone()), "two elements with id {value}"),
                "aria-labelledby" => drop(wanted.insert(value)),
                "href" => drop(wanted.insert(value.trim_start_matches('#').to_owned())),
                _ => {}
            }
        }
        if RAW.contains(&name.as_str()) {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).expect("raw text ends") + close.len()..];
        } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    assert!(wanted.is_subset(&ids), "nothing has the id {:?}", wanted.difference(&ids).collect::<Vec<_>>());
}

fn attributes(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while !text.trim().is_empty() {
        text = text.trim_start();
        let key: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | ':')).collect();
        assert!(!key.is_empty(), "not an attribute: {}", head(text));
        text = &text[key.len()..];
        let value = match text.strip_prefix("=\"") {
            Some(quoted) => {
                let end = quoted.find('"').unwrap_or_else(|| panic!("a quote never ends: {}", head(quoted)));
                text = &quoted[end + 1..];
                quoted[..end].to_owned()
            }
            None => String::new(),
        };
        found.push((key, value));
    }
    found
}

fn head(text: &str) -> String {
    text.chars().take(120).collect()
}

#[test]
#[should_panic(expected = "closed here")]
fn a_tag_closed_out_of_order_is_found() {
    check("<!DOCTYPE html><p><b></p></b>");
}

#[test]
#[should_panic(expected = "runs script")]
fn a_handler_is_found() {
    check("<!DOCTYPE html><p onclick=\"x\"></p>");
}
