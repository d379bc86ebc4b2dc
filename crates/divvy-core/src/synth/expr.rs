//! The small expression language of the problem families: exact arithmetic, comparison, and a few functions that pick
//! an answer out of a passage.
//!
//! `trays * rolls - 5`, `left >= 2`, `argmax(a, x.name, b, y.name)`, `over(20, a, x.name, b, y.name)` (every span with
//! more than 20), `count_over(20, a, b)`, `max`, `min`, `doy(day, month)` (day of a common year), `date(d, m, y)`.

use super::{
    calendar,
    value::{Ratio, Value},
};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Value(Value),
    /// A drawn variable (`trays`), a column of a drawn row (`city.country`) or an earlier step (`left`).
    Var(String),
    Binary(Box<Expr>, Op, Box<Expr>),
    Call(String, Vec<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Equal,
    Differ,
}

/// Operators by strength, weakest first; the longer spelling of two stands first.
const LEVELS: [&[(&str, Op)]; 3] = [
    &[
        ("<=", Op::LessEq),
        (">=", Op::GreaterEq),
        ("==", Op::Equal),
        ("!=", Op::Differ),
        ("<", Op::Less),
        (">", Op::Greater),
    ],
    &[("+", Op::Add), ("-", Op::Sub)],
    &[("*", Op::Mul), ("/", Op::Div), ("%", Op::Rem)],
];

impl Expr {
    /// # Errors
    /// A sentence that shows where reading stopped.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim_start() };
        let expr = parser.level(0)?;
        if parser.rest.is_empty() { Ok(expr) } else { Err(format!("`{text}`: cannot read `{}`", parser.rest)) }
    }

    /// `None` where the instance makes no sense: division by zero, overflow, an empty cell, a tie for first place.
    pub(super) fn eval(&self, lookup: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
        match self {
            Self::Value(value) => Some(value.clone()),
            Self::Var(name) => lookup(name).filter(|value| *value != Value::Text(String::new())),
            Self::Binary(left, op, right) => apply(*op, &left.eval(lookup)?, &right.eval(lookup)?),
            Self::Call(name, args) => {
                let args = args.iter().map(|arg| arg.eval(lookup)).collect::<Option<Vec<_>>>()?;
                call(name, &args)
            }
        }
    }

    /// Calls `see` with every variable's name.
    pub(super) fn vars(&self, see: &mut dyn FnMut(&str)) {
        match self {
            Self::Value(_) => {}
            Self::Var(name) => see(name),
            Self::Binary(left, _, right) => {
                left.vars(see);
                right.vars(see);
            }
            Self::Call(_, args) => args.iter().for_each(|arg| arg.vars(see)),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn level(&mut self, level: usize) -> Result<Expr, String> {
        let Some(operators) = LEVELS.get(level) else { return self.atom() };
        let mut left = self.level(level + 1)?;
        while let Some((_, op)) = operators.iter().find(|(sign, _)| self.eat(sign)) {
            left = Expr::Binary(Box::new(left), *op, Box::new(self.level(level + 1)?));
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<Expr, String> {
        if self.eat("(") {
            let inner = self.level(0)?;
            return if self.eat(")") { Ok(inner) } else { Err(format!("no `)` before `{}`", self.rest)) };
        }
        let word = self.word();
        match word.chars().next() {
            None => Err(format!("a value is missing before `{}`", self.rest)),
            Some('0'..='9') => {
                Ratio::parse(word).map(|n| Expr::Value(Value::Number(n))).ok_or_else(|| format!("`{word}`: no number"))
            }
            Some(_) if self.eat("(") => Ok(Expr::Call(word.to_owned(), self.arguments()?)),
            Some(_) => Ok(Expr::Var(word.to_owned())),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, String> {
        let mut args = vec![self.level(0)?];
        while self.eat(",") {
            args.push(self.level(0)?);
        }
        if self.eat(")") { Ok(args) } else { Err(format!("no `)` before `{}`", self.rest)) }
    }

    fn eat(&mut self, sign: &str) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }
}

fn apply(op: Op, left: &Value, right: &Value) -> Option<Value> {
    let truth = |yes: bool| Some(Value::whole(i64::from(yes)));
    match op {
        Op::Equal => return truth(left == right),
        Op::Differ => return truth(left != right),
        _ => {}
    }
    let (a, b) = (left.number()?, right.number()?);
    let number = match op {
        Op::Add => a.add(b)?,
        Op::Sub => a.sub(b)?,
        Op::Mul => a.mul(b)?,
        Op::Div => a.div(b)?,
        Op::Rem => a.rem(b)?,
        Op::Less => return truth(a < b),
        Op::LessEq => return truth(a <= b),
        Op::Greater => return truth(a > b),
        Op::GreaterEq => return truth(a >= b),
        Op::Equal | Op::Differ => unreachable!("handled above"),
    };
    Some(Value::Number(number))
}

/// Names of the functions, for the check of the built-in families.
#[cfg(test)]
pub(super) const FUNCTIONS: [&str; 8] = ["max", "min", "argmax", "argmin", "over", "count_over", "doy", "date"];

fn call(name: &str, args: &[Value]) -> Option<Value> {
    let numbers = || args.iter().map(Value::number).collect::<Option<Vec<_>>>();
    match name {
        "max" => Some(Value::Number(numbers()?.into_iter().max()?)),
        "min" => Some(Value::Number(numbers()?.into_iter().min()?)),
        "argmax" => first_of(pairs(args)?, |a, b| a > b),
        "argmin" => first_of(pairs(args)?, |a, b| a < b),
        "over" => {
            let (limit, rest) = args.split_first()?;
            let limit = limit.number()?;
            let spans = pairs(rest)?.into_iter().filter(|(n, _)| *n > limit).map(|(_, span)| span.plain());
            Some(Value::Spans(spans.collect()))
        }
        "count_over" => {
            let numbers = numbers()?;
            let (limit, rest) = numbers.split_first()?;
            Some(Value::whole(i64::try_from(rest.iter().filter(|n| *n > limit).count()).ok()?))
        }
        "doy" => match numbers()?[..] {
            [day, month] => Some(Value::whole(calendar::day_of_year(day.integer()?, month.integer()?)?)),
            _ => None,
        },
        "date" => match numbers()?[..] {
            [day, month, year] => {
                calendar::date_names(day.integer()?, month.integer()?, year.integer()?).map(Value::Text)
            }
            _ => None,
        },
        _ => None,
    }
}

/// `(number, span)` pairs of a flat argument list.
fn pairs(args: &[Value]) -> Option<Vec<(Ratio, &Value)>> {
    args.chunks(2).map(|pair| Some((pair[0].number()?, pair.get(1)?))).collect()
}

/// The span whose number beats every other; `None` on a tie.
fn first_of(pairs: Vec<(Ratio, &Value)>, beats: impl Fn(Ratio, Ratio) -> bool) -> Option<Value> {
    let winner = pairs.iter().find(|(n, _)| pairs.iter().filter(|(other, _)| !beats(*n, *other)).count() == 1)?;
    Some(winner.1.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let lookup = |name: &str| match name {
            "a" => Some(Value::whole(12)),
            "b" => Some(Value::whole(5)),
            "x.name" => Some(Value::Text("Ann|Anna".into())),
            "y.name" => Some(Value::Text("Bo".into())),
            "empty" => Some(Value::Text(String::new())),
            _ => None,
        };
        let value = Expr::parse(text).unwrap().eval(&lookup);
        assert_eq!(value.map_or("-".to_owned(), |v| v.plain()), expect, "{text}");
    }

    #[test]
    fn expressions_mean_what_they_say() {
        check("a + b * 2", "22");
        check("(a + b) * 2 - 1 - 1", "32");
        check("a / 5", "2.40");
        check("a % b + 0", "2");
        check("a <= b + 7", "1");
        check("argmax(a, x.name, b, y.name)", "Ann");
        check("argmin(a, x.name, b, y.name)", "Bo");
        check("argmax(a, x.name, a, y.name)", "-");
        check("over(4, a, x.name, b, y.name)", "Ann, Bo");
        check("count_over(5, a, b)", "1");
        check("doy(1, 3)", "60");
        check("date(4, 7, 1901)", "4 July 1901");
        check("a / (b - 5)", "-");
        check("empty", "-");
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for bad in ["a +", "(a", "max(a", "a b", "", "3x"] {
            assert!(Expr::parse(bad).is_err(), "{bad}");
        }
    }
}
