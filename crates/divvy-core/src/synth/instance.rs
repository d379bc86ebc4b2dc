//! One instance of a family: the drawn variables, the values of its steps, and the sentences written from them.

use std::collections::{BTreeMap, HashSet};

use super::{
    bank::{Cells, Table},
    family::{Draw, Family, Pool, Style},
    rng::Rng,
    template::{capitalised, fill},
    value::{Ratio, Value, preferred},
};
use crate::{digest::Digest, question::Split};

/// Draws before we give a family up; the tightest built-in family needs about a hundred.
const TRIES: usize = 20_000;

/// One instance of facts in six belongs to dev.
const DEV_SHARE: u64 = 6;

/// Numbers of an instance that decide between train and dev.
const DECIDING: usize = 4;

pub(super) struct Instance<'b> {
    pub(super) drawn: Drawn<'b>,
    /// Values of the steps, in order.
    pub(super) values: Vec<Value>,
}

/// The words of an instance.
pub(super) struct Wording {
    pub(super) premise: Option<String>,
    pub(super) text: String,
    pub(super) subquestions: Vec<String>,
}

/// What is known of a family's draws, by their numbers. When facts run out, nearly every draw is here: it is told before
/// anything is made of it.
#[derive(Default)]
pub(super) struct Spent {
    /// They led to an instance that there is already.
    pub(super) taken: HashSet<u64>,
    /// Of facts, which are few enough to remember: they lead to none.
    barren: HashSet<u64>,
}

impl<'b> Instance<'b> {
    /// Draws until every need holds and every step has a sensible value. `None` when that comes to a draw that is taken.
    ///
    /// # Panics
    /// If the family cannot be satisfied: a mistake in its declaration, which the tests of every family catch.
    pub(super) fn draw(
        family: &'b Family,
        tables: &'b BTreeMap<String, Table>,
        rng: &mut Rng,
        spent: &mut Spent,
    ) -> Option<Self> {
        let sizes: Vec<usize> = family.draws.iter().map(|draw| draw.from.size(tables)).collect();
        let mut places = Places::default();
        for _ in 0..TRIES {
            places.draw(&family.draws, &sizes, rng);
            let is_in = |numbers: &HashSet<u64>| places.number.is_some_and(|number| numbers.contains(&number));
            if is_in(&spent.taken) {
                return None;
            }
            if is_in(&spent.barren) {
                continue;
            }
            if let Some(instance) = Self::attempt(family, Drawn::at(&family.draws, &places, tables)) {
                return Some(instance);
            }
            if family.style == Style::Facts {
                spent.barren.extend(places.number);
            }
        }
        panic!("family {}: no instance in {TRIES} draws", family.name)
    }

    fn attempt(family: &Family, drawn: Drawn<'b>) -> Option<Self> {
        // A step before what was drawn, and the later of two.
        let known = |values: &[Value], name: &str| {
            let step = family.steps[..values.len()].iter().rposition(|step| step.name == name);
            step.map(|at| values[at].clone()).or_else(|| drawn.get(name))
        };
        let mut values = Vec::with_capacity(family.steps.len());
        for step in &family.steps {
            let value = step.value.eval(&|name| known(&values, name))?;
            if !sensible(&value, family.places) {
                return None;
            }
            values.push(value);
        }
        let holds = |value: Option<Value>| value == Some(Value::whole(1));
        let all_hold = family.needs.iter().all(|need| holds(need.eval(&|name| known(&values, name))));
        all_hold.then_some(Self { drawn, values })
    }

    /// See [`Drawn`].
    pub(super) fn number(&self) -> Option<u64> {
        self.drawn.number
    }

    /// What makes the instance itself, whatever its wording: of a story or passage the numbers that lead to the answer
    /// (the same sum told of other people is the same sum), of facts all that was drawn; in no order, so that swapping
    /// two names changes nothing.
    pub(super) fn key(&self, family: &Family) -> Digest {
        let mut parts: Vec<String> = match family.style {
            Style::Facts => self.drawn.texts(),
            _ => family.needed.iter().filter_map(|name| Some(self.drawn.get(name)?.plain())).collect(),
        };
        parts.sort_unstable();
        Digest::of("synth-instance/1", &(&family.name, parts))
    }

    /// The split of train and dev that the instance belongs to, `None` for neither.
    ///
    /// A dev story must not be a train story with one number changed. So of two neighbouring values of a variable one
    /// counts for train and one for dev (a hash says which); dev takes the instances whose first numbers all count for
    /// dev, train those where all but one count for train, and nobody the mixed ones. Facts have no such neighbours:
    /// there the instance's own hash decides.
    pub(super) fn side_split(&self, family: &Family) -> Option<Split> {
        if family.style == Style::Facts {
            let is_dev = self.key(family).seed().is_multiple_of(DEV_SHARE);
            return Some(if is_dev { Split::Dev } else { Split::Train });
        }
        let numbers: Vec<(&String, usize)> =
            family.needed.iter().filter_map(|name| Some((name, self.drawn.place(name)?))).take(DECIDING).collect();
        let counts_for_train = |(name, place): &&(&String, usize)| {
            let pair = family
                .name
                .bytes()
                .chain(name.bytes())
                .fold(*place as u64 / 2, |sum, b| sum * 31 % (1 << 40) + u64::from(b));
            (place + Rng::new(pair).below(2)) % 2 == 1
        };
        let train = numbers.iter().filter(counts_for_train).count();
        match train {
            0 => Some(Split::Dev),
            _ if train + 1 >= numbers.len() => Some(Split::Train),
            _ => None,
        }
    }

    /// Picks a wording. `None` when a sentence would have an empty cell.
    ///
    /// # Panics
    /// If a sentence names an unknown variable: a mistake in the declaration, caught by the tests of every family.
    pub(super) fn word(&self, family: &Family, rng: &mut Rng) -> Option<Wording> {
        let ask = self.sentence(rng.pick::<String>(&family.ask))?;
        let body = match family.tell.as_slice() {
            [] => None,
            tell => Some(self.body(rng.pick::<String>(tell), &family.noise, rng)?),
        };
        let subquestion = |step: &super::family::Step| match &step.subquestion {
            Some(text) => self.sentence(text),
            None => Some(ask.clone()),
        };
        let subquestions = family.steps.iter().map(subquestion).collect::<Option<Vec<_>>>()?;
        let (premise, text) = match (family.style, body) {
            (Style::Passage, body) => (body, ask),
            (_, Some(body)) => (None, format!("{body} {ask}")),
            (_, None) => (None, ask),
        };
        Some(Wording { premise, text, subquestions })
    }

    /// A telling, with a sentence of noise at every other `~` on average.
    fn body(&self, tell: &str, noise: &[String], rng: &mut Rng) -> Option<String> {
        let mut noise: Vec<&String> = noise.iter().collect();
        let mut sentences = Vec::new();
        for (index, part) in tell.split('~').enumerate() {
            if index > 0 && !noise.is_empty() && rng.below(2) == 0 {
                let chosen = noise.swap_remove(rng.below(noise.len()));
                sentences.push(self.sentence(chosen)?);
            }
            sentences.push(self.sentence(part.trim())?);
        }
        sentences.retain(|sentence| !sentence.is_empty());
        Some(sentences.join(" "))
    }

    fn sentence(&self, template: &str) -> Option<String> {
        let filled = fill(template, &|name| self.drawn.get(name));
        filled.unwrap_or_else(|mistake| panic!("{mistake}")).map(|text| sentence_case(&text))
    }
}

/// A capital at the beginning and after every `. ` or `? `, whatever word a hole put there. The stop after a capital
/// letter (`Washington, D.C. as`) ends no sentence.
fn sentence_case(text: &str) -> String {
    let ends = |before: &str| match before.trim_end().strip_suffix(['.', '?']) {
        Some(rest) => !rest.ends_with(char::is_uppercase),
        None => false,
    };
    let mut cased = String::with_capacity(text.len());
    for piece in text.split_inclusive(' ') {
        let opens = cased.is_empty() || ends(&cased);
        cased.push_str(&if opens { capitalised(piece) } else { piece.to_owned() });
    }
    cased
}

/// Answers are positive, of a size that a person would use, and written exactly.
fn sensible(value: &Value, places: u32) -> bool {
    match value {
        Value::Number(number) => Ratio::whole(0) < *number && *number < Ratio::whole(10_000_000) && number.fits(places),
        Value::Text(text) => !text.is_empty(),
        Value::Spans(spans) => !spans.is_empty(),
    }
}

/// Where in its range each variable was drawn.
#[derive(Default)]
struct Places {
    indices: Vec<usize>,
    /// The place of this draw among all that the family can draw; `None` where they are too many to be numbered.
    number: Option<u64>,
}

impl Places {
    /// Draws anew. `sizes`: of the ranges of `draws`.
    fn draw(&mut self, draws: &[Draw], sizes: &[usize], rng: &mut Rng) {
        self.indices.clear();
        self.number = Some(0);
        for (Draw { names, .. }, &size) in draws.iter().zip(sizes) {
            let first = self.indices.len();
            distinct(size, names.len(), rng, &mut self.indices);
            for &index in &self.indices[first..] {
                self.number = self.number.and_then(|number| number.checked_mul(size as u64)?.checked_add(index as u64));
            }
        }
    }
}

/// What was drawn, one thing for each variable. Most draws come to nothing, so that no value is made before it is asked for.
pub(super) struct Drawn<'b> {
    variables: Vec<(&'b str, Thing<'b>)>,
    /// See [`Places`].
    number: Option<u64>,
}

enum Thing<'b> {
    /// And where in its range it was drawn, from 0.
    Number(Ratio, usize),
    Word(&'b str),
    Row(&'b Cells),
}

impl<'b> Drawn<'b> {
    fn at(draws: &'b [Draw], places: &Places, tables: &'b BTreeMap<String, Table>) -> Self {
        let names = draws.iter().flat_map(|Draw { names, from }| names.iter().map(move |name| (name.as_str(), from)));
        let drawn = names.zip(&places.indices).map(|((name, from), &index)| (name, from.at(index, tables)));
        Self { variables: drawn.collect(), number: places.number }
    }

    fn thing(&self, name: &str) -> Option<&Thing<'b>> {
        self.variables.iter().find(|(variable, _)| *variable == name).map(|(_, thing)| thing)
    }

    /// Of a variable (`trays`), or of a column of a drawn row (`city.country`).
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let (variable, column) = name.split_once('.').map_or((name, None), |(name, column)| (name, Some(column)));
        match (self.thing(variable)?, column) {
            (Thing::Number(number, _), None) => Some(Value::Number(*number)),
            (Thing::Word(word), None) => Some(Value::Text((*word).to_owned())),
            (Thing::Row(cells), Some(column)) => {
                cells.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// Where in its range a number was drawn.
    fn place(&self, name: &str) -> Option<usize> {
        match self.thing(name)? {
            Thing::Number(_, place) => Some(*place),
            Thing::Word(_) | Thing::Row(_) => None,
        }
    }

    /// Every value that can be asked for, as plain text.
    fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        for (_, thing) in &self.variables {
            match thing {
                Thing::Number(number, _) => texts.push(number.plain()),
                Thing::Word(word) => texts.push(preferred(word).to_owned()),
                Thing::Row(cells) => texts.extend(cells.iter().map(|(_, value)| value.plain())),
            }
        }
        texts
    }
}

impl Pool {
    /// The value at this place.
    fn at<'b>(&'b self, index: usize, tables: &'b BTreeMap<String, Table>) -> Thing<'b> {
        match self {
            Self::Range { low, by, .. } => {
                let steps = Ratio::whole(i64::try_from(index).expect("a small range"));
                let value = by.mul(steps).and_then(|offset| low.add(offset)).expect("a small range");
                Thing::Number(value, index)
            }
            Self::Words(words) => Thing::Word(&words[index]),
            Self::Table(table) => Thing::Row(tables[table].cells(index)),
        }
    }

    /// How many values there are to draw from.
    fn size(&self, tables: &BTreeMap<String, Table>) -> usize {
        match self {
            Self::Range { low, high, by } => {
                let steps = high.sub(*low).and_then(|span| span.div(*by)).map_or(0, Ratio::floor);
                usize::try_from(steps + 1).expect("a range goes up")
            }
            Self::Words(words) => words.len(),
            Self::Table(table) => tables.get(table).unwrap_or_else(|| panic!("there is no table `{table}`")).rows.len(),
        }
    }
}

/// Adds `count` different indices below `n`.
fn distinct(n: usize, count: usize, rng: &mut Rng, indices: &mut Vec<usize>) {
    assert!(count <= n, "{count} different values asked of {n}");
    let first = indices.len();
    while indices.len() < first + count {
        let index = rng.below(n);
        if !indices[first..].contains(&index) {
            indices.push(index);
        }
    }
}
