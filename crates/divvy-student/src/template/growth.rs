//! What a template makes while it runs, counted in bytes: there is so much of it and no more.
//!
//! All that makes a text out of others is counted before it is made or, where it makes no more than its operands are
//! together, right behind ([`super::tree`] sees to that). A list counts too, item by item. A list or map that holds
//! others counts whole, and nothing holds a namespace: so nothing is much larger, or nested deeper, than what was
//! counted, and writing a value out ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use minijinja::value::{Object, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, escape_formatter, filters, functions};
use minijinja_contrib::pycompat;

/// Functions around operations, under names that no template can spell.
pub(super) const KEPT: &str = "(kept)";
pub(super) const NESTED: &str = "(nested)";
pub(super) const ATTRIBUTE: &str = "(attribute)";
pub(super) const FACTOR: &str = "(factor)";
/// The variable that is a rendering's [`Purse`].
pub(super) const PURSE: &str = "(purse)";

/// Bytes that an item of a list counts as, and a number written out.
const ITEM: usize = 4;
const NUMBER: usize = 40;
/// Lists in lists, and so on.
const DEEPEST: usize = 32;
/// Bytes that a byte of a text may become where it is written as part of a list, or by `escape`; as JSON; and that one of
/// a list may become as JSON, indented.
const QUOTED: usize = 8;
const JSON: usize = 12;
const INDENTED: usize = 80;
/// Columns that a filter indents by.
const WIDEST: i64 = 8;
/// Filters of minijinja that make much of little, and are in no model's template.
const REMOVED: [&str; 8] = ["batch", "slice", "groupby", "zip", "chain", "pprint", "format", "sum"];

/// What a rendering may still make.
#[derive(Debug)]
pub(super) struct Purse {
    bytes: AtomicUsize,
    empty: AtomicBool,
}

impl Object for Purse {}

impl Purse {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(bytes), empty: AtomicBool::new(false) })
    }

    /// Whether the template wanted more.
    pub(super) fn is_empty(&self) -> bool {
        self.empty.load(Ordering::Relaxed)
    }

    fn left(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn spend(&self, bytes: usize) -> Result<(), Error> {
        match self.left().checked_sub(bytes) {
            Some(left) => self.bytes.store(left, Ordering::Relaxed),
            None => self.empty.store(true, Ordering::Relaxed),
        }
        if self.is_empty() { Err(refused("the template makes too much text")) } else { Ok(()) }
    }
}

fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

fn purse(state: &State<'_, '_>) -> Result<Arc<Purse>, Error> {
    state.lookup(PURSE).and_then(|it| it.downcast_object::<Purse>()).ok_or_else(|| refused("nothing is counted"))
}

/// Has an environment count what its templates make.
pub(super) fn count(environment: &mut Environment<'static>) {
    environment.add_function(KEPT, kept);
    environment.add_function(NESTED, nested);
    environment.add_function(ATTRIBUTE, attribute);
    environment.add_function(FACTOR, factor);
    let make = Value::from_function(functions::namespace);
    environment.add_function("namespace", move |state: &State, arguments: Rest<Value>| {
        arguments.iter().try_for_each(nameless)?;
        make.call(state, &arguments)
    });
    // `dict` nests the maps that it merges; `debug` writes out all there is.
    ["dict", "debug"].iter().for_each(|name| environment.remove_global(name));
    REMOVED.iter().for_each(|name| environment.remove_filter(name));
    for (name, filter) in growing() {
        environment.add_filter(name, move |state: &State, arguments: Rest<Value>| {
            purse(state)?.spend(bound(name, &arguments, purse(state)?.left())?)?;
            let value = filter.call(state, &arguments)?;
            if name == "map" { nested(state, value) } else { kept(state, value) }
        });
    }
    environment.set_unknown_method_callback(method);
    environment.set_formatter(|out, state, value| {
        let purse = purse(state)?;
        purse.spend(shown(value, purse.left()))?;
        escape_formatter(out, state, value)
    });
}

/// Filters that make a text or a list; the others hand on what there is.
fn growing() -> Vec<(&'static str, Value)> {
    vec![
        ("upper", Value::from_function(filters::upper)),
        ("lower", Value::from_function(filters::lower)),
        ("title", Value::from_function(filters::title)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("trim", Value::from_function(filters::trim)),
        ("safe", Value::from_function(filters::safe)),
        ("escape", Value::from_function(filters::escape)),
        ("e", Value::from_function(filters::escape)),
        ("string", Value::from_function(filters::string)),
        ("replace", Value::from_function(filters::replace)),
        ("join", Value::from_function(filters::join)),
        ("indent", Value::from_function(filters::indent)),
        ("tojson", Value::from_function(filters::tojson)),
        ("split", Value::from_function(filters::split)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("reverse", Value::from_function(filters::reverse)),
        ("sort", Value::from_function(filters::sort)),
        ("unique", Value::from_function(filters::unique)),
        ("items", Value::from_function(filters::items)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("map", Value::from_function(filters::map)),
        ("select", Value::from_function(filters::select)),
        ("reject", Value::from_function(filters::reject)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
    ]
}

/// Methods as Python's texts and maps have them, counted as the filters are.
fn method(state: &State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let purse = purse(state)?;
    let all = || [std::slice::from_ref(value), arguments].concat();
    match (name, arguments.first()) {
        // It would pad to any width; and an empty text is found without end.
        ("format", _) => return Err(ErrorKind::UnknownMethod.into()),
        ("count", Some(what)) if what.as_str() == Some("") => return Err(refused("count() of an empty text")),
        ("join", Some(items)) => purse.spend(bound("join", &[items.clone(), value.clone()], purse.left())?)?,
        _ => purse.spend(bound(name, &all(), purse.left())?)?,
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}

/// Bytes that a filter or method makes at most. Where they are more than `most`, then something above it.
fn bound(name: &str, arguments: &[Value], most: usize) -> Result<usize, Error> {
    let Some(value) = arguments.first() else { return Ok(0) };
    let length = |at: usize| arguments.get(at).map_or(0, |value| shown(value, most));
    let (own, text) = (|| shown(value, most), value.as_str().map_or(0, str::len));
    Ok(match name {
        "upper" | "lower" | "title" | "capitalize" => own().saturating_mul(3),
        "trim" | "safe" | "string" | "strip" | "lstrip" | "rstrip" => own(),
        "escape" | "e" => own().saturating_mul(QUOTED),
        "replace" => {
            let places = own() / length(1).max(1) + 1;
            places.saturating_mul(length(2)).saturating_add(own())
        }
        "join" => joined(value, length(1), most)?,
        "indent" => (own() + 1).saturating_mul(narrow(arguments)?),
        "tojson" => {
            narrow(&arguments[1..])?;
            let factor = if holds(value) { INDENTED } else { JSON };
            weight(value, most, DEEPEST).map_or(usize::MAX, |weight| weight.saturating_mul(factor))
        }
        "list" | "lines" | "split" | "splitlines" | "reverse" => text.saturating_mul(ITEM),
        _ => 0,
    })
}

fn joined(values: &Value, between: usize, most: usize) -> Result<usize, Error> {
    let mut sum = 0_usize;
    for value in values.try_iter()? {
        sum = sum.saturating_add(shown(&value, most)).saturating_add(between);
        if sum > most {
            break;
        }
    }
    Ok(sum)
}

/// Columns to indent by, wherever among the arguments they stand.
fn narrow(arguments: &[Value]) -> Result<usize, Error> {
    let named = arguments.iter().filter(|it| it.kind() == ValueKind::Map).flat_map(values);
    let mut numbers = arguments.iter().cloned().chain(named).filter_map(|it| i64::try_from(it).ok());
    if numbers.any(|columns| columns > WIDEST) { Err(refused("indented too far")) } else { Ok(WIDEST as usize + 1) }
}

/// Bytes of a value written out, at most.
fn shown(value: &Value, most: usize) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => weight(value, most, DEEPEST).map_or(usize::MAX, |weight| weight.saturating_mul(QUOTED)),
    }
}

/// What a value counts as with all that is in it, unless that is more than `most` or nested too deep.
fn weight(value: &Value, most: usize, depth: usize) -> Option<usize> {
    if let Some(text) = value.as_str() {
        return Some(text.len());
    }
    if !holds(value) {
        return Some(NUMBER);
    }
    let mut sum = ITEM;
    for item in items(value) {
        sum += ITEM + weight(&item, most.checked_sub(sum)?, depth.checked_sub(1)?)?;
    }
    (sum <= most).then_some(sum)
}

fn holds(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
}

/// What is in a list or map, keys and values.
fn items(value: &Value) -> impl Iterator<Item = Value> {
    value.try_iter().into_iter().flatten().chain(values(value))
}

/// What is in a map under its keys.
fn values(value: &Value) -> impl Iterator<Item = Value> + use<> {
    let map = value.clone();
    let keys = (map.kind() == ValueKind::Map).then(|| map.try_iter().ok()).flatten();
    keys.into_iter().flatten().filter_map(move |key| map.get_item(&key).ok())
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// That a list or map holds no namespace: such a thing could hold itself.
fn nameless(value: &Value) -> Result<(), Error> {
    let within = holds(value) && items(value).any(|item| is_namespace(&item));
    if within { Err(refused("a namespace cannot be within a list or map")) } else { Ok(()) }
}

/// A value just made, counted: the bytes of a text, the items of a list, which is no promise of one any more.
fn kept(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return purse(state)?.spend(text.len()).map(|()| value);
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(value);
    }
    let purse = purse(state)?;
    let made: Vec<Value> = value.try_iter()?.take(purse.left() / ITEM + 1).collect();
    purse.spend(ITEM.saturating_mul(made.len()))?;
    let made = Value::from(made);
    nameless(&made).map(|()| made)
}

/// A list or map just made, counted with all that is in it.
fn nested(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let purse = purse(state)?;
    nameless(&value)?;
    purse.spend(weight(&value, purse.left(), DEEPEST).unwrap_or(usize::MAX))?;
    Ok(value)
}

/// What an attribute of a namespace is set to.
fn attribute(value: Value) -> Result<Value, Error> {
    if is_namespace(&value) { Err(refused("a namespace cannot be within another")) } else { Ok(value) }
}

/// An operand of `*`: a list's repetition is of any length.
fn factor(value: Value) -> Result<Value, Error> {
    if holds(&value) { Err(refused("a list cannot be repeated with *")) } else { Ok(value) }
}
