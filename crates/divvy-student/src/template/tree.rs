//! A template's syntax tree, written anew so that whatever makes text or lists is counted while it runs
//! ([`super::growth`]).
//!
//! Minijinja counts a template's steps, not what a step makes: `x ~ x` doubles a text without bound, and joins constants
//! before a step is taken. So each such operation becomes the argument of a function that counts its result, and what a
//! template writes between its tags is written by an expression.

use minijinja::Value;
use minijinja::machinery::ast::{self, CallArg, Expr, Spanned, Stmt};
use minijinja::machinery::{Token, WhitespaceConfig, parse, tokenize};

use super::growth::{ATTRIBUTE, FACTOR, KEPT, NESTED};

/// Tokens of a tag, and `elif`s of a template: the parser and what follows recurse over them. Those of the models have
/// some hundred.
const MOST_TOKENS: usize = 500;
/// Of the template's text.
const WHITESPACE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

/// The tree of a template that counts what it makes.
///
/// # Errors
/// A syntax error with its line, or what no model's template has and would escape the counting.
pub(super) fn counted(text: &str) -> Result<Stmt<'_>, String> {
    shallow(text)?;
    let tree = parse(text, "chat", Default::default(), WHITESPACE).map_err(|error| error.to_string())?;
    statement(&tree)
}

/// That no tag is so long, nor so many `elif`s follow each other, that recursion over them would end the process.
fn shallow(text: &str) -> Result<(), String> {
    let (mut within, mut branches) = (0, 0);
    // What is no token, the parser tells with its line.
    for (token, span) in tokenize(text, false, Default::default(), WHITESPACE).map_while(Result::ok) {
        match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => within = 0,
            Token::Ident("elif") => branches += 1,
            _ => within += 1,
        }
        if within.max(branches) > MOST_TOKENS {
            return Err(format!("line {}: more than {MOST_TOKENS} parts in a tag or branches", span.start_line));
        }
    }
    Ok(())
}

fn statement<'a>(from: &Stmt<'a>) -> Result<Stmt<'a>, String> {
    Ok(match from {
        Stmt::Template(it) => Stmt::Template(Spanned::new(ast::Template { children: body(&it.children)? }, it.span())),
        Stmt::EmitExpr(it) => Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr: expression(&it.expr)? }, it.span())),
        Stmt::EmitRaw(it) => {
            let expr = Expr::Const(Spanned::new(ast::Const { value: Value::from(it.raw) }, it.span()));
            Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr }, it.span()))
        }
        Stmt::ForLoop(it) => Stmt::ForLoop(Spanned::new(for_loop(it)?, it.span())),
        Stmt::IfCond(it) => {
            let (true_body, false_body) = (body(&it.true_body)?, body(&it.false_body)?);
            let branch = ast::IfCond { expr: expression(&it.expr)?, true_body, false_body };
            Stmt::IfCond(Spanned::new(branch, it.span()))
        }
        Stmt::WithBlock(it) => {
            let assigned = |(name, value): &(Expr<'a>, Expr<'a>)| Ok((target(name)?, expression(value)?));
            let assignments = it.assignments.iter().map(assigned).collect::<Result<_, String>>()?;
            Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments, body: body(&it.body)? }, it.span()))
        }
        Stmt::Set(it) => Stmt::Set(Spanned::new(set(it)?, it.span())),
        Stmt::SetBlock(it) => {
            let (target, filter) = (target(&it.target)?, perhaps(it.filter.as_ref())?);
            Stmt::SetBlock(Spanned::new(ast::SetBlock { target, filter, body: body(&it.body)? }, it.span()))
        }
        Stmt::FilterBlock(it) => {
            let block = ast::FilterBlock { filter: expression(&it.filter)?, body: body(&it.body)? };
            Stmt::FilterBlock(Spanned::new(block, it.span()))
        }
        Stmt::Macro(it) => Stmt::Macro(Spanned::new(definition(it)?, it.span())),
        Stmt::CallBlock(it) => {
            let macro_decl = Spanned::new(definition(&it.macro_decl)?, it.macro_decl.span());
            Stmt::CallBlock(Spanned::new(ast::CallBlock { call: call(&it.call)?, macro_decl }, it.span()))
        }
        Stmt::Do(it) => Stmt::Do(Spanned::new(ast::Do { call: call(&it.call)? }, it.span())),
        Stmt::Continue(it) => Stmt::Continue(Spanned::new(ast::Continue, it.span())),
        Stmt::Break(it) => Stmt::Break(Spanned::new(ast::Break, it.span())),
        Stmt::AutoEscape(it) => return Err(foreign("autoescape", it.span().start_line)),
        Stmt::Block(it) => return Err(foreign("block", it.span().start_line)),
        Stmt::Import(it) => return Err(foreign("import", it.span().start_line)),
        Stmt::FromImport(it) => return Err(foreign("from", it.span().start_line)),
        Stmt::Extends(it) => return Err(foreign("extends", it.span().start_line)),
        Stmt::Include(it) => return Err(foreign("include", it.span().start_line)),
    })
}

fn foreign(tag: &str, line: u16) -> String {
    format!("line {line}: {{% {tag} %}} is for templates of several files, or of pages, and not supported")
}

fn body<'a>(from: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, String> {
    from.iter().map(statement).collect()
}

fn for_loop<'a>(from: &ast::ForLoop<'a>) -> Result<ast::ForLoop<'a>, String> {
    Ok(ast::ForLoop {
        target: target(&from.target)?,
        iter: expression(&from.iter)?,
        filter_expr: perhaps(from.filter_expr.as_ref())?,
        recursive: from.recursive,
        body: body(&from.body)?,
        else_body: body(&from.else_body)?,
    })
}

fn set<'a>(from: &ast::Set<'a>) -> Result<ast::Set<'a>, String> {
    let value = expression(&from.expr)?;
    let expr = if matches!(from.target, Expr::GetAttr(_)) { through(ATTRIBUTE, value) } else { value };
    Ok(ast::Set { target: target(&from.target)?, expr })
}

fn definition<'a>(from: &ast::Macro<'a>) -> Result<ast::Macro<'a>, String> {
    let args = from.args.iter().map(target).collect::<Result<_, _>>()?;
    Ok(ast::Macro { name: from.name, args, defaults: expressions(&from.defaults)?, body: body(&from.body)? })
}

/// What a value is given to: names, tuples of them, an attribute of a namespace.
fn target<'a>(from: &Expr<'a>) -> Result<Expr<'a>, String> {
    match from {
        Expr::List(it) => {
            let items = it.items.iter().map(target).collect::<Result<_, _>>()?;
            Ok(Expr::List(Spanned::new(ast::List { items }, it.span())))
        }
        other => expression(other),
    }
}

fn expression<'a>(from: &Expr<'a>) -> Result<Expr<'a>, String> {
    let span = from.span();
    Ok(match from {
        Expr::Var(it) => Expr::Var(Spanned::new(ast::Var { id: it.id }, span)),
        Expr::Const(it) => Expr::Const(Spanned::new(ast::Const { value: it.value.clone() }, span)),
        Expr::Slice(it) => {
            let (start, stop, step) =
                (perhaps(it.start.as_ref())?, perhaps(it.stop.as_ref())?, perhaps(it.step.as_ref())?);
            let slice = ast::Slice { expr: expression(&it.expr)?, start, stop, step };
            through(KEPT, Expr::Slice(Spanned::new(slice, span)))
        }
        Expr::UnaryOp(it) => {
            let is_not = matches!(it.op, ast::UnaryOpKind::Not);
            let op = if is_not { ast::UnaryOpKind::Not } else { ast::UnaryOpKind::Neg };
            Expr::UnaryOp(Spanned::new(ast::UnaryOp { op, expr: expression(&it.expr)? }, span))
        }
        Expr::BinOp(it) => binary(it)?,
        Expr::Compare(it) => {
            let op = |it: &ast::CompareOp<'a>| Ok(ast::CompareOp { op: it.op, expr: expression(&it.expr)? });
            let ops = it.ops.iter().map(op).collect::<Result<_, String>>()?;
            Expr::Compare(Spanned::new(ast::Compare { expr: expression(&it.expr)?, ops }, span))
        }
        Expr::IfExpr(it) => {
            let (test_expr, true_expr) = (expression(&it.test_expr)?, expression(&it.true_expr)?);
            let false_expr = perhaps(it.false_expr.as_ref())?;
            Expr::IfExpr(Spanned::new(ast::IfExpr { test_expr, true_expr, false_expr }, span))
        }
        Expr::Filter(it) => {
            let (expr, args) = (perhaps(it.expr.as_ref())?, arguments(&it.args)?);
            Expr::Filter(Spanned::new(ast::Filter { name: it.name, expr, args }, span))
        }
        Expr::Test(it) => {
            let (expr, args) = (expression(&it.expr)?, arguments(&it.args)?);
            Expr::Test(Spanned::new(ast::Test { name: it.name, expr, args }, span))
        }
        Expr::GetAttr(it) => {
            Expr::GetAttr(Spanned::new(ast::GetAttr { expr: expression(&it.expr)?, name: it.name }, span))
        }
        Expr::GetItem(it) => {
            let (expr, subscript_expr) = (expression(&it.expr)?, expression(&it.subscript_expr)?);
            Expr::GetItem(Spanned::new(ast::GetItem { expr, subscript_expr }, span))
        }
        Expr::Call(it) => Expr::Call(call(it)?),
        Expr::List(it) => through(NESTED, Expr::List(Spanned::new(ast::List { items: expressions(&it.items)? }, span))),
        Expr::Map(it) => {
            let (keys, values) = (expressions(&it.keys)?, expressions(&it.values)?);
            through(NESTED, Expr::Map(Spanned::new(ast::Map { keys, values }, span)))
        }
    })
}

fn expressions<'a>(from: &[Expr<'a>]) -> Result<Vec<Expr<'a>>, String> {
    from.iter().map(expression).collect()
}

fn perhaps<'a>(from: Option<&Expr<'a>>) -> Result<Option<Expr<'a>>, String> {
    from.map(expression).transpose()
}

fn binary<'a>(from: &Spanned<ast::BinOp<'a>>) -> Result<Expr<'a>, String> {
    let (op, left, right) = (from.op, expression(&from.left)?, expression(&from.right)?);
    let of = |left, right| Expr::BinOp(Spanned::new(ast::BinOp { op, left, right }, from.span()));
    Ok(match op {
        ast::BinOpKind::Add | ast::BinOpKind::Concat => through(KEPT, of(left, right)),
        ast::BinOpKind::Mul => through(KEPT, of(through(FACTOR, left), through(FACTOR, right))),
        _ => of(left, right),
    })
}

fn call<'a>(from: &Spanned<ast::Call<'a>>) -> Result<Spanned<ast::Call<'a>>, String> {
    let call = ast::Call { expr: expression(&from.expr)?, args: arguments(&from.args)? };
    Ok(Spanned::new(call, from.span()))
}

fn arguments<'a>(from: &[CallArg<'a>]) -> Result<Vec<CallArg<'a>>, String> {
    let argument = |it: &CallArg<'a>| match it {
        CallArg::Pos(value) => Ok(CallArg::Pos(expression(value)?)),
        CallArg::Kwarg(name, value) => Ok(CallArg::Kwarg(name, expression(value)?)),
        CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
            Err(format!("line {}: arguments unpacked with * are not supported", value.span().start_line))
        }
    };
    from.iter().map(argument).collect()
}

/// `function(value)`, of a function that no template can name.
fn through<'a>(function: &'static str, value: Expr<'a>) -> Expr<'a> {
    let span = value.span();
    let expr = Expr::Var(Spanned::new(ast::Var { id: function }, span));
    Expr::Call(Spanned::new(ast::Call { expr, args: vec![CallArg::Pos(value)] }, span))
}
