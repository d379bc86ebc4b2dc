//! `divvy prompts`: which prompts a recipe asks with, what a model really receives, and how two of them differ. Nothing is
//! asked or fetched.

use std::sync::Arc;

use divvy_core::{
    arm::{Arm, Variant},
    chat::{Message, Role},
    plan::Plan,
    prompts::{Demonstration, PromptName, Prompts, Usage, diff, template::Place as Placeholder},
    question::Question,
    recipe::{EvalSplit, Recipe, nearest},
};
use divvy_flow::{
    demonstrations::{self, Shown},
    split::Splits,
};
use divvy_student::model::Speech;
use serde_json::{Value, json};

use crate::{
    cli::Place,
    models,
    output::{Usage as Mistake, print},
    questions,
    session::{Access, Session, read_recipe},
};

/// What is asked of `divvy prompts`.
pub(crate) struct Asked {
    pub(crate) show: Option<String>,
    pub(crate) question: Option<String>,
    pub(crate) model: Option<String>,
    /// One name, or two.
    pub(crate) diff: Vec<String>,
    pub(crate) json: bool,
}

/// Stands before the name of a prompt that is meant as divvy ships it.
const BUILT_IN: &str = "built-in:";

pub(crate) async fn run(place: &Place, asked: Asked) -> anyhow::Result<()> {
    let (recipe, plan) = read_recipe(place)?;
    let questions = questions::load(&recipe, place)?;
    let mut desk = Desk { place, shown: Shown::of(&plan, &questions), recipe, plan, questions, entries: Vec::new() };
    desk.entries = desk.entries().await;
    match (&asked.diff[..], &asked.show) {
        ([], None) if asked.question.is_none() && asked.model.is_none() => desk.list(asked.json),
        ([], None) => desk.show(desk.entries.iter().filter(|entry| !entry.places.is_empty()).collect(), &asked),
        ([], Some(name)) => desk.show(vec![desk.find(name, "--show")?], &asked),
        ([one], _) => desk.diff(&format!("{BUILT_IN}{one}"), one, &asked),
        ([one, other, ..], _) => desk.diff(one, other, &asked),
    }
}

struct Desk<'a> {
    place: &'a Place,
    recipe: Recipe,
    plan: Plan,
    questions: Splits,
    shown: Shown,
    entries: Vec<Entry>,
}

/// A prompt, as it is asked or could be.
struct Entry {
    usage: Usage,
    /// Who is asked with it.
    places: Vec<String>,
    /// Why they are not known yet, where they are not.
    shots: Result<Vec<Demonstration>, String>,
}

impl Desk<'_> {
    /// Those that some stage asks with, then the others.
    async fn entries(&self) -> Vec<Entry> {
        let usages = self.plan.prompt_usages();
        let all = PromptName::ALL.into_iter().flat_map(|name| self.wordings(name));
        let unused = all.filter(|usage| !usages.contains_key(usage));
        let unused: Vec<(Usage, Vec<String>)> = unused.map(|usage| (usage, Vec::new())).collect();
        let mut entries = Vec::new();
        for (usage, places) in usages.into_iter().chain(unused) {
            let shots = self.shots(&usage, &places).await;
            entries.push(Entry { usage, places, shots });
        }
        entries
    }

    /// A prompt, and each variant of it.
    fn wordings(&self, name: PromptName) -> Vec<Usage> {
        let variants = self.plan.prompts.variants(name).map(|variant| {
            let variant = Variant { prompt: Some(variant.to_owned()), ..Variant::default() };
            Usage { variant, ..name.into() }
        });
        std::iter::once(Usage::from(name)).chain(variants).collect()
    }

    async fn shots(&self, usage: &Usage, places: &[String]) -> Result<Vec<Demonstration>, String> {
        let most = usage.variant.shots();
        // Stages and students show the same ones, which are known before anything is asked.
        let is_stage = |place: &String| matches!(&**place, "collect" | "screen") || place.starts_with("students.");
        if most > 0 && places.iter().any(is_stage) {
            return Ok(self.shown.staged(usage.shown_in(), most));
        }
        let shows = |arm: &&Arm| arm.variant.shots() == most && places.contains(&arm.slug());
        let arms = self.plan.evaluate.iter().flat_map(|evaluate| &evaluate.arms);
        let Some(arm) = arms.into_iter().find(shows).filter(|_| most > 0) else { return Ok(Vec::new()) };
        let foreseen = demonstrations::foreseen(&self.plan, &self.shown, arm);
        if foreseen.len() == most {
            return Ok(foreseen);
        }
        // They are made of what a teacher wrote.
        let session = Session::open(self.place, Access::Look).await.map_err(|error| error.to_string())?;
        demonstrations::of_arm(&session.context, arm).await.map_err(|error| error.to_string())
    }

    fn find(&self, name: &str, flag: &str) -> Result<&Entry, Mistake> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.usage.to_string() == name) {
            return Ok(entry);
        }
        let names: Vec<String> = self.entries.iter().map(|entry| entry.usage.to_string()).collect();
        let near = nearest(name, names.iter().map(String::as_str));
        let near = near.map_or_else(|| ".".to_owned(), |near| format!("; did you mean `{near}`?"));
        Err(Mistake(format!("{flag}: the recipe has no prompt `{name}`{near} It has {}", names.join(", "))))
    }

    fn list(&self, json: bool) -> anyhow::Result<()> {
        if json {
            let all: Vec<Value> = self.entries.iter().map(|entry| self.about(entry)).collect();
            return Ok(print(&serde_json::to_string_pretty(&all)?)?);
        }
        let width = self.entries.iter().map(|entry| entry.usage.to_string().len()).max().unwrap_or(0).max(6);
        print(&format!("{:<width$}  {:<12}  {:<8}  asked by", "prompt", "id", "wording"))?;
        for entry in &self.entries {
            let (name, id) =
                (entry.usage.to_string(), self.id(entry, &self.plan.prompts).unwrap_or_else(|_| "–".to_owned()));
            print(&format!("{name:<width$}  {id:<12.12}  {:<8}  {}", self.wording(entry), asked_by(&entry.places)))?;
        }
        Ok(())
    }

    fn wording(&self, entry: &Entry) -> &'static str {
        if entry.usage.wording(&self.plan.prompts).overrides(entry.usage.name) { "recipe" } else { "built-in" }
    }

    fn id(&self, entry: &Entry, prompts: &Prompts) -> Result<String, Mistake> {
        let shots = entry.shots.as_ref().map_err(|reason| unknown_yet(entry, reason))?;
        Ok(entry.usage.id(prompts, shots).0.hex().to_owned())
    }

    fn about(&self, entry: &Entry) -> Value {
        let (name, prompts) = (entry.usage.name, entry.usage.wording(&self.plan.prompts));
        let places = name.built_in().places.iter();
        let about =
            |place: &Placeholder| json!({ "name": place.name, "required": place.required, "is": place.meaning() });
        let places: Vec<Value> = places.map(about).collect();
        json!({
            "prompt": entry.usage.to_string(),
            "id": self.id(entry, &self.plan.prompts).ok(),
            "wording": self.wording(entry),
            "asked_by": entry.places,
            "shots": entry.usage.variant.shots(),
            "system": prompts.system(name),
            "template": prompts.template(name),
            "placeholders": places,
        })
    }

    /// What a model receives, role by role.
    fn show(&self, entries: Vec<&Entry>, asked: &Asked) -> anyhow::Result<()> {
        let question = self.question(asked.question.as_deref())?;
        let reader =
            asked.model.as_deref().map(|name| Ok::<_, anyhow::Error>((name, self.speech(name)?))).transpose()?;
        let mut all = Vec::new();
        for entry in entries {
            let shots = entry.shots.as_ref().map_err(|reason| unknown_yet(entry, reason))?;
            let messages = entry.usage.render(&self.plan.prompts, shots, &question);
            let read = reader.as_ref().map(|(name, speech)| Ok::<_, anyhow::Error>((*name, speech.read(&messages)?)));
            let read = read.transpose()?;
            if asked.json {
                let mut value = self.about(entry);
                value["question"] = json!(question.id);
                value["messages"] = json!(messages);
                if let Some((name, (text, tokens))) = read {
                    value["model"] = json!({ "name": name, "text": text, "tokens": tokens });
                }
                all.push(value);
            } else {
                let (id, places) = (self.id(entry, &self.plan.prompts)?, asked_by(&entry.places));
                let wording = self.wording(entry);
                print(&format!("prompt    {} ({id:.12}, {wording})\nasked by  {places}", entry.usage))?;
                print(&format!("{}question  {}\n", placeholders(entry), question.id))?;
                print(&spoken(&messages))?;
                if let Some((name, (text, tokens))) = read {
                    print(&format!("[as `{name}` reads it, {tokens} tokens]\n{text}\n"))?;
                }
            }
        }
        if asked.json { Ok(print(&serde_json::to_string_pretty(&all)?)?) } else { Ok(()) }
    }

    fn question(&self, wanted: Option<&str>) -> Result<Arc<Question>, Mistake> {
        let test = self.plan.evaluate.as_ref().is_some_and(|evaluate| evaluate.split == EvalSplit::Test);
        let Splits { train, dev, test: tested } = &self.questions;
        let first = if test { tested.first() } else { dev.first() };
        let first = first.or(train.first());
        match wanted {
            None => first.clone().ok_or_else(|| Mistake("the recipe has no questions".to_owned())),
            Some(id) => self.questions.all().find(|question| question.id.0 == id).ok_or_else(|| {
                let example = first.as_ref().map_or_else(String::new, |first| format!(" (one is {})", first.id));
                let recipe = self.place.recipe.display();
                Mistake(format!("--question: there is no `{id}`; `divvy data {recipe}` shows some{example}"))
            }),
        }
    }

    /// Template and tokenizer of a local model that is here already.
    fn speech(&self, name: &str) -> anyhow::Result<Speech> {
        let local = |model: &divvy_core::recipe::Model| !model.source.starts_with("http");
        let names: Vec<&str> =
            self.recipe.models.iter().filter(|(_, model)| local(model)).map(|(name, _)| name.as_str()).collect();
        if !names.contains(&name) {
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Mistake(format!(
                "--model: `{name}` is no local model of the recipe, whose template could be seen; there are {known}"
            ))
            .into());
        }
        let folder = self.place.recipe.parent().unwrap_or(std::path::Path::new(""));
        let path = models::path(&self.recipe, folder, name)?;
        Ok(Speech::load(&path)?)
    }

    fn diff(&self, one: &str, other: &str, asked: &Asked) -> anyhow::Result<()> {
        let question = self.question(asked.question.as_deref())?;
        let side = |name: &str| -> anyhow::Result<(String, String)> {
            let built_in = Prompts::default();
            let (entry, prompts) = match name.strip_prefix(BUILT_IN) {
                Some(bare) => (self.find(bare, "--diff")?, &built_in),
                None => (self.find(name, "--diff")?, &self.plan.prompts),
            };
            let shots = entry.shots.as_ref().map_err(|reason| unknown_yet(entry, reason))?;
            Ok((self.id(entry, prompts)?, spoken(&entry.usage.render(prompts, shots, &question))))
        };
        let ((one_id, before), (other_id, after)) = (side(one)?, side(other)?);
        let changed = diff::words(&before, &after);
        if asked.json {
            let sides = json!({ "a": { "prompt": one, "id": one_id }, "b": { "prompt": other, "id": other_id } });
            let all = json!({ "prompts": sides, "question": question.id, "same": one_id == other_id, "diff": changed });
            return Ok(print(&serde_json::to_string_pretty(&all)?)?);
        }
        print(&format!("[-{one} ({one_id:.12})-]\n{{+{other} ({other_id:.12})+}}\nquestion  {}\n", question.id))?;
        let same = || match one_id == other_id {
            true => "no difference".to_owned(),
            false => "no difference for this question; another may show it (--question)".to_owned(),
        };
        Ok(print(&changed.unwrap_or_else(same))?)
    }
}

fn unknown_yet(entry: &Entry, reason: &str) -> Mistake {
    Mistake(format!("the demonstrations of `{}` are not known yet: {reason}", entry.usage))
}

/// Those that a template may have, and what comes in their place.
fn placeholders(entry: &Entry) -> String {
    let places = entry.usage.name.built_in().places;
    let width = places.iter().map(|place| place.name.len() + 2).max().unwrap_or(0);
    let line = |(at, place): (usize, &Placeholder)| {
        let (head, name) = (if at == 0 { "template" } else { "" }, format!("{{{}}}", place.name));
        let optional = if place.required { "" } else { " (may be left out)" };
        format!("{head:<9} {name:<width$}  {}{optional}\n", place.meaning())
    };
    places.iter().enumerate().map(line).collect()
}

fn asked_by(places: &[String]) -> String {
    const NAMED: usize = 4;
    let more = places.len().saturating_sub(NAMED);
    match places {
        [] => "nobody".to_owned(),
        _ if more == 0 => places.join(", "),
        _ => format!("{} and {more} more", places[..NAMED].join(", ")),
    }
}

fn spoken(messages: &[Message]) -> String {
    let role = |role: Role| match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    messages.iter().map(|message| format!("[{}]\n{}\n\n", role(message.role), message.content)).collect()
}
