//! Several data sets on one page: the arms side by side, then each data set as a page of one would tell it.

use super::{OF_A_SET, Section, Told, made};
use crate::{
    html::{escape::text, table, verdict},
    sets,
};

pub(super) fn sections(told: Told<'_>) -> Vec<Section> {
    let overview = sets::overview(told.results).as_ref().map(table::html).unwrap_or_default();
    let mut sections = vec![Section::new("data-sets-section", "Data sets", overview)];
    for (number, (set, one)) in (1..).zip(told.results.by_data_set()) {
        let body = of_set(Told { results: &one, ..told });
        sections.push(Section::new(&format!("set-{number}"), set, numbered(&body, number)));
    }
    sections
}

fn of_set(told: Told<'_>) -> String {
    let part = |Section { title, body, .. }: &Section| format!("<h3>{}</h3>{body}", text(title));
    let parts: String = made(&OF_A_SET, told).iter().map(part).collect();
    format!("{}{parts}", verdict::of_set(told.results))
}

/// Ids are unique on a page: those of a data set get its number. Ids are ours, and no text from outside has a bare quote.
fn numbered(body: &str, number: usize) -> String {
    let mut numbered = String::with_capacity(body.len());
    for (at, part) in body.split('"').enumerate() {
        let is_id = at % 2 == 1 && (numbered.ends_with(r#" id=""#) || numbered.ends_with(r#" aria-labelledby=""#));
        numbered.push_str(part);
        if is_id {
            numbered.push_str(&format!("-{number}"));
        }
        numbered.push('"');
    }
    numbered.pop();
    numbered
}
