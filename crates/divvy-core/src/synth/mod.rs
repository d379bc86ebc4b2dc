//! A seeded generator of compositional questions in the paper's three styles, with gold answers and gold
//! decompositions: what the quickstart trains and tests on. It is not a benchmark of anything but divvy itself.
//!
//! A *family* is a kind of problem (draws, steps, several wordings), declared in the text files beside this module;
//! an *instance* is a family with its variables drawn. Test families are other families than train's and dev's; train
//! and dev share families and no instance. One example, written out:
//!
//! ```text
//! synth/train/0  Nora bakes 6 trays of rolls with 8 rolls on each tray. She burns 5 of them and sells the rest for
//!                $2 each. How much money does Nora take?                                              gold: 86
//!   1. How many rolls does Nora bake?   2. How many rolls are left to sell?   3. How much money does Nora take?
//! ```

mod bank;
mod calendar;
mod expr;
mod family;
mod instance;
mod rng;
mod template;
mod value;

use std::collections::HashSet;

pub use family::{Side, Style};

use self::{
    bank::BANK,
    family::Family,
    instance::{Instance, Wording},
    rng::Rng,
    value::Value,
};
use crate::{
    decomposition::Decomposition,
    digest::derive_seed,
    question::{Gold, Question, QuestionId, ScorerKind, Split},
};

pub const DATASET: &str = "synth";

/// Half of the rows are stories, a quarter passages, a quarter facts, in this order again and again.
const MIX: [Style; 4] = [Style::Arithmetic, Style::Passage, Style::Arithmetic, Style::Facts];

/// The facts of the world are finite. A row that finds no new instance of its style in this many draws becomes a
/// story, of which there are millions.
const PATIENCE: usize = 40;

/// One train-side instance in six belongs to dev.
const DEV_SHARE: u64 = 6;

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
    let mut seen = HashSet::new();
    (0..rows).map(|row| question(split, row, seed, &mut seen)).collect()
}

fn question(split: Split, row: usize, seed: u64, seen: &mut HashSet<String>) -> Question {
    let id = QuestionId::new(DATASET, split, row);
    let mut rng = Rng::new(derive_seed(seed, &id.0));
    for attempt in 0_usize.. {
        let style = if attempt < PATIENCE { MIX[row % MIX.len()] } else { Style::Arithmetic };
        let serves = |family: &&Family| family.style == style && family.side == side(split);
        let candidates: Vec<&Family> = BANK.families.iter().filter(serves).collect();
        let family = *rng.pick(&candidates);
        let instance = Instance::draw(family, &BANK.tables, &mut rng);
        let key = instance.key(family);
        if !belongs(split, key.seed()) || seen.contains(key.hex()) {
            continue;
        }
        let Some(wording) = instance.word(family, &mut rng) else { continue };
        if seen.insert(format!("{:?} {}", wording.premise, wording.text)) {
            seen.insert(key.hex().to_owned());
            return assemble(id, split, family, &instance, wording);
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

fn belongs(split: Split, key: u64) -> bool {
    match split {
        Split::Train => !key.is_multiple_of(DEV_SHARE),
        Split::Dev => key.is_multiple_of(DEV_SHARE),
        Split::Test => true,
    }
}

fn assemble(id: QuestionId, split: Split, family: &Family, instance: &Instance, wording: Wording) -> Question {
    let answer = instance.values.last().expect("a family has steps");
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
    }
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
