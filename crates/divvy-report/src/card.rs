//! The model card of an exported student: what it is made of, what it learnt from, how it did, and under which licence.
//! Hugging Face reads the block on top; people read the rest.

use divvy_core::results::{ArmResult, Results, TrainingSummary};

use crate::{
    markdown::notes,
    number::count,
    roles,
    table::{self, clean},
    tables,
};

/// What results do not know about an exported student.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card<'a> {
    /// Name in the recipe.
    pub student: &'a str,
    /// `peft` or `transformers` or `gguf`: what reads it.
    pub library: &'a str,
    /// File → what it is, for the list of files.
    pub files: &'a [(String, String)],
    /// (what, digest) of everything it was made from.
    pub digests: &'a [(&'a str, String)],
    /// Of the base, where it is known.
    pub licence: Option<&'a str>,
    /// As written; none where it may hold a secret.
    pub recipe: Option<&'a str>,
}

/// Markdown.
#[must_use]
pub fn card(results: &Results, card: &Card<'_>) -> String {
    let training = results.training.iter().find(|training| training.student == card.student);
    let mut text = front_matter(results, card, training);
    text.push_str(&format!("# {} · {}\n\n", clean(&results.name), clean(card.student)));
    if let Some(training) = training {
        push_training(&mut text, results, training);
    }
    push_list(&mut text, "Files", card.files.iter().map(|(file, what)| format!("`{file}`: {what}")));
    push_list(&mut text, "Digests", card.digests.iter().map(|(what, digest)| format!("{what}: `{digest}`")));
    push_data(&mut text, results);
    push_evaluation(&mut text, results, card.student);
    push_licence(&mut text, card.licence);
    if let Some(recipe) = card.recipe {
        text.push_str(&format!("## Recipe\n\n{fence}toml\n{}\n{fence}\n", recipe.trim_end(), fence = fence(recipe)));
    }
    text
}

fn front_matter(results: &Results, card: &Card<'_>, training: Option<&TrainingSummary>) -> String {
    let mut lines = vec![format!("library_name: {}", card.library)];
    lines.extend(card.licence.map(|licence| format!("license: {}", licence.to_lowercase())));
    lines.extend(training.map(|training| format!("base_model: {}", quoted(source(results, &training.base)))));
    lines.push("tags: [divvy, question-decomposition]".to_owned());
    format!("---\n{}\n---\n\n", lines.join("\n"))
}

/// A YAML text in double quotes, in which JSON's escapes mean the same.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Where a model comes from, as the recipe writes it.
fn source<'r>(results: &'r Results, name: &'r str) -> &'r str {
    results.models.iter().find(|model| model.name == name).map_or(name, |model| &model.source)
}

fn push_training(text: &mut String, results: &Results, training: &TrainingSummary) {
    text.push_str(&format!(
        "`{}` ({}), trained by divvy {}: target {}, method {}, {} rows, {} epochs.",
        clean(&training.base),
        clean(source(results, &training.base)),
        results.divvy_version,
        training.target,
        training.method,
        count(training.rows),
        training.epochs,
    ));
    let left_out = [(training.too_long, "too long"), (training.unusable, "unusable")];
    for (rows, why) in left_out.into_iter().filter(|(rows, _)| *rows > 0) {
        text.push_str(&format!(" {} rows were {why} and left out.", count(rows)));
    }
    if let Some(last) = training.curve.last() {
        text.push_str(&format!(" Loss of the last step {:.3}", last.loss));
        text.push_str(&last.dev_loss.map_or(".".to_owned(), |loss| format!(", on dev {loss:.3}.")));
    }
    text.push_str("\n\n");
}

fn push_list(text: &mut String, title: &str, entries: impl Iterator<Item = String>) {
    let entries: Vec<String> = entries.map(|entry| format!("- {entry}\n")).collect();
    if !entries.is_empty() {
        text.push_str(&format!("## {title}\n\n{}\n", entries.concat()));
    }
}

fn push_data(text: &mut String, results: &Results) {
    let used =
        results.datasets.iter().map(|data| format!("{}, {}: {} questions", data.dataset, data.split, count(data.rows)));
    push_list(text, "Data", used.map(|line| clean(&line)));
    for table in [tables::collection(results), tables::screening(results)].iter().flatten() {
        text.push_str(&format!("{}:\n\n{}\n", clean(&table.caption), table::markdown(table)));
    }
}

/// The arms in which the student has a part, with the figures and notes of the report.
fn push_evaluation(text: &mut String, results: &Results, student: &str) {
    text.push_str("## Evaluation\n\n");
    let is = |name: &str| {
        let training = roles::trained(results, name);
        training.is_some_and(|training| training.student == student && !roles::stands_for_seeds(name, training))
    };
    let takes_part = |arm: &&ArmResult| is(&arm.solver) || arm.decomposer.as_deref().is_some_and(is);
    let arms: Vec<ArmResult> = results.arms.iter().chain(&results.seeds).filter(takes_part).cloned().collect();
    if arms.is_empty() {
        return text.push_str("Not evaluated.\n\n");
    }
    let own = Results { arms, comparisons: Vec::new(), ..results.clone() };
    text.push_str(&format!("{}\n", table::markdown(&tables::outcomes(&own))));
    for note in notes(&own).iter().take(2) {
        text.push_str(&format!("- {}\n", clean(note)));
    }
    text.push_str("\nWhat else was compared with it on the same questions, `divvy report` shows.\n\n");
}

fn push_licence(text: &mut String, licence: Option<&str>) {
    text.push_str("## Licence\n\n");
    text.push_str(&match licence {
        Some(licence) => format!("The base is under {licence}; weights made from it are bound by that."),
        None => "Not known: that of the base binds weights made from it.".to_owned(),
    });
    text.push_str(" A teacher's terms may say what its replies can be used for.\n\n");
}

/// A fence that does not occur in the text.
fn fence(text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    fence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::results;

    #[test]
    fn a_card_tells_what_it_is_made_of_and_how_it_did() {
        let results = results();
        let student = results.training[0].student.clone();
        let files = [("model.safetensors".to_owned(), "the merged weights".to_owned())];
        let digests = [("plan", results.plan.clone())];
        let text = card(
            &results,
            &Card {
                student: &student,
                library: "transformers",
                files: &files,
                digests: &digests,
                licence: Some("Apache-2.0"),
                recipe: Some("name = \"x\"\n# ``` in a comment"),
            },
        );
        for part in [
            "library_name: transformers\nlicense: apache-2.0\nbase_model: \"",
            &format!("· {student}\n"),
            "- `model.safetensors`: the merged weights",
            &format!("- plan: `{}`", results.plan),
            "under Apache-2.0",
            "````toml\nname = \"x\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| two-stage/")).collect();
        assert!(!rows.is_empty() && rows.iter().all(|row| row.contains(&student)), "{text}");
        assert!(!text.contains("| direct/"), "another's arm: {text}");
    }

    #[test]
    fn what_is_not_known_is_said() {
        let results = Results { arms: Vec::new(), ..results() };
        let text = card(&results, &Card { student: "sd-r", library: "peft", ..Card::default() });
        assert!(text.contains("Not evaluated.") && text.contains("Not known"), "{text}");
        assert!(!text.contains("license:") && !text.contains("## Recipe") && !text.contains("## Files"), "{text}");
    }
}
