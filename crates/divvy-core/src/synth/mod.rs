//! A seeded generator of compositional questions in the paper's three styles, with gold answers and gold
//! decompositions: what the quickstart trains and tests on. It is not a benchmark of anything but divvy itself.
//!
//! A *family* is a kind of problem (draws, steps, several wordings), declared in the text files beside this module;
//! an *instance* is a family with its variables drawn. Test families are other families than train's and dev's; train
//! and dev share families and no instance. One example, written out:
//!
//! ```text
//! synth/train/0  A stall sells rolls for $3 apiece. Greta has worked there for 4 years. Today Greta baked 11 trays,
//!                each holding 7 rolls, but dropped 18 on the floor and threw them away. All the others were sold.
//!                How much money, in dollars, does Greta take?                                    gold: 177
//!   1. How many rolls does Greta bake?   2. How many rolls are left to sell?
//!   3. How much money, in dollars, does Greta take?
//! ```

mod bank;
mod calendar;
mod expr;
mod family;
mod instance;
mod rng;
mod template;
mod value;

use std::collections::{HashMap, HashSet};

pub use family::{Side, Style};
pub(crate) use template::SMALL as SMALL_NUMBERS;

use self::{
    bank::BANK,
    family::Family,
    instance::{Instance, Spent, Wording},
    rng::Rng,
    value::Value,
};
use crate::{
    decomposition::Decomposition,
    digest::{Digest, derive_seed},
    prompts::stepwise::{Known, filled_in},
    question::{Gold, Question, QuestionId, ScorerKind, Split, Worked},
};

pub const DATASET: &str = "synth";

/// Half of the rows are stories, a quarter passages, a quarter facts, in this order again and again.
const MIX: [Style; 4] = [Style::Arithmetic, Style::Passage, Style::Arithmetic, Style::Facts];

/// The facts of the world are finite. A row that finds no new instance of its style in this many draws becomes a
/// story, of which there are millions.
const PATIENCE: usize = 40;

/// Draws in a row that find nothing new, after which a style is taken to have no more.
const EXHAUSTED: usize = 2000;

/// Draws of one family until an instance belongs to the split.
const DRAWS: usize = 400;

/// A family as `divvy data` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyInfo {
    pub name: String,
    pub style: Style,
    pub side: Side,
    /// Reasoning steps, the same for every instance.
    pub steps: u32,
    /// Different wordings, not counting sentences of noise.
    pub wordings: usize,
}

/// Every family, in the order of the files.
#[must_use]
pub fn families() -> Vec<FamilyInfo> {
    let info = |family: &Family| FamilyInfo {
        name: family.name.clone(),
        style: family.style,
        side: family.side,
        steps: step_count(family),
        wordings: family.tell.len().max(1) * family.ask.len(),
    };
    BANK.families.iter().map(info).collect()
}

/// The first `rows` questions of a split: the same bytes for the same arguments, and a prefix of any longer request.
/// No two have the same instance or the same text.
#[must_use]
pub fn generate(split: Split, rows: usize, seed: u64) -> Vec<Question> {
    questions(split, seed).take(rows).collect()
}

/// [`generate`], one after another and without end.
pub fn questions(split: Split, seed: u64) -> impl Iterator<Item = Question> {
    let mut seen = Seen::default();
    (0..).map(move |row| question(split, row, seed, None, &mut seen).expect("there is always another story"))
}

/// Those of one style alone. Facts are finite.
pub fn of_style(style: Style, split: Split, seed: u64) -> impl Iterator<Item = Question> {
    let mut seen = Seen::default();
    (0..).map_while(move |row| question(split, row, seed, Some(style), &mut seen))
}

/// What the questions so far have used up.
#[derive(Default)]
struct Seen {
    /// Of instances and of texts.
    digests: HashSet<Digest>,
    /// By family.
    draws: HashMap<&'static str, Spent>,
}

/// `None` when there is no further one of the style that was asked for.
fn question(split: Split, row: usize, seed: u64, only: Option<Style>, seen: &mut Seen) -> Option<Question> {
    let id = QuestionId::new(DATASET, split, row);
    let mut rng = Rng::new(derive_seed(seed, &id.0));
    for attempt in 0_usize.. {
        let style = match only {
            Some(Style::Arithmetic) => Style::Arithmetic,
            Some(_) if attempt == EXHAUSTED => return None,
            Some(style) => style,
            None if attempt < PATIENCE => MIX[row % MIX.len()],
            None => Style::Arithmetic,
        };
        let serves = |family: &&Family| family.style == style && family.side == side(split);
        let candidates: Vec<&'static Family> = BANK.families.iter().filter(serves).collect();
        let family = *rng.pick(&candidates);
        let spent = seen.draws.entry(&family.name).or_default();
        let Some(instance) = draw(family, split, &mut rng, spent) else { continue };
        let key = instance.key(family);
        if seen.digests.contains(&key) {
            // Drawn the other way round.
            spent.taken.extend(instance.number());
            continue;
        }
        let Some(wording) = instance.word(family, &mut rng) else { continue };
        let text = Digest::of_bytes(format!("{:?} {}", wording.premise, wording.text).as_bytes());
        if seen.digests.insert(text) {
            seen.digests.insert(key);
            spent.taken.extend(instance.number());
            return Some(assemble(id, split, family, &instance, wording));
        }
    }
    unreachable!("the loop has no end but a question")
}

fn side(split: Split) -> Side {
    match split {
        Split::Train | Split::Dev => Side::Train,
        Split::Test => Side::Test,
    }
}

/// An instance for the split. `None` when it is not found soon, or is `taken`: another family has its turn.
fn draw(family: &'static Family, split: Split, rng: &mut Rng, spent: &mut Spent) -> Option<Instance<'static>> {
    let belongs = |instance: &Instance| split == Split::Test || instance.side_split(family) == Some(split);
    for _ in 0..DRAWS {
        // What is taken belongs: it is a question of the split.
        let instance = Instance::draw(family, &BANK.tables, rng, spent)?;
        if belongs(&instance) {
            return Some(instance);
        }
    }
    None
}

fn assemble(id: QuestionId, split: Split, family: &Family, instance: &Instance<'_>, wording: Wording) -> Question {
    let answer = instance.values.last().expect("a family has steps");
    let worked = worked(instance, &wording.subquestions);
    Question {
        id,
        dataset: DATASET.to_owned(),
        split,
        premise: wording.premise,
        text: wording.text,
        golds: golds(answer),
        scorer: match family.style {
            Style::Arithmetic => ScorerKind::Numeric,
            Style::Passage => ScorerKind::Drop,
            Style::Facts => ScorerKind::Exact,
        },
        steps: Some(step_count(family)),
        recorded: Some(Decomposition::from_texts(wording.subquestions)),
        cluster: Some(family.name.clone()),
        worked,
    }
}

/// Every step with the answers before it filled in, and its own behind it.
fn worked(instance: &Instance<'_>, subquestions: &[String]) -> Vec<Worked> {
    let mut known: Vec<Known> = Vec::new();
    for (subquestion, value) in subquestions.iter().zip(&instance.values) {
        let subquestion = filled_in(subquestion, &known);
        known.push(Known { subquestion, answer: Some(value.plain()) });
    }
    let step = |Known { subquestion, answer }: Known| Worked {
        text: format!("{subquestion} {}", answer.as_deref().unwrap_or_default()),
        answer,
    };
    known.into_iter().map(step).collect()
}

fn golds(answer: &Value) -> Vec<Gold> {
    match answer {
        Value::Number(_) => vec![Gold::single(answer.plain())],
        Value::Text(names) => names.split('|').map(Gold::single).collect(),
        Value::Spans(spans) => vec![Gold(spans.clone())],
    }
}

fn step_count(family: &Family) -> u32 {
    u32::try_from(family.steps.len()).expect("a handful of steps")
}

#[cfg(test)]
mod tests;
