//! What of the template language a payload may use: all of it but what puts lists together.
//!
//! minijinja's fuel pays for instructions, for bytes, and for the items that loops and filters visit. A list that is added to
//! itself or repeated costs one instruction and is made when somebody looks at it, and a list of the same list twice is shown and
//! compared as a tree: some dozen steps then stand for more work and memory than any machine has. So `+` and `*` take what is
//! certainly no list, a list holds numbers and texts alone, and the functions that join lists do not exist.
//!
//! The engine's parser bounds how deep brackets and blocks lie, and nothing bounds how many operators, filters or branches follow one
//! another, each of which is a level of the tree that parser, compiler and this file walk down. So a tag has a number of words, and a
//! text one of branches.

use std::collections::BTreeSet;

use minijinja::Environment;
use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt};
use minijinja::machinery::{Token, parse, tokenize};
use minijinja::value::ValueKind;

/// Filters whose result holds the same list twice, or one behind the other.
const JOINING_FILTERS: [&str; 2] = ["chain", "zip"];
/// Functions that make something that can be changed, hold lists, or tell of the engine.
const JOINING_FUNCTIONS: [&str; 3] = ["namespace", "dict", "debug"];

/// Filters that give a number, a text or a truth value, whatever they are given.
const SCALAR_FILTERS: [&str; 20] = [
    "int",
    "float",
    "round",
    "abs",
    "length",
    "count",
    "string",
    "bool",
    "upper",
    "lower",
    "title",
    "capitalize",
    "trim",
    "join",
    "replace",
    "escape",
    "e",
    "urlencode",
    "format",
    "indent",
];

/// What a loop tells of itself that is a number or a truth value.
const SCALARS_OF_LOOP: [&str; 8] = ["index", "index0", "revindex", "revindex0", "length", "depth", "first", "last"];

/// Words, signs and values of one tag. A level of the tree takes up to two KiB of the stack, and a tag may stand in 150 blocks.
const TAG_TOKENS: usize = 400;

/// Branches (`elif`) of one text: each is a level that takes some five KiB.
const BRANCHES: usize = 50;

/// A use of the language that payloads may not make.
#[derive(Debug)]
pub(super) struct Unfit {
    pub line: usize,
    pub problem: String,
}

/// Take what joins lists out of an environment.
pub(super) fn restrict(environment: &mut Environment<'_>) {
    JOINING_FILTERS.iter().for_each(|name| environment.remove_filter(name));
    JOINING_FUNCTIONS.iter().for_each(|name| environment.remove_global(name));
}

/// Refuse a template that may put lists together; `is_list` says which inputs are lists, where that is known. A template that
/// cannot be parsed is left to the engine, which says why.
pub(super) fn check(template: &str, is_list: &dyn Fn(&str) -> bool) -> Result<(), Unfit> {
    insist_on_flat(template)?;
    let Ok(root) = parse(template, "<payload>", Default::default()) else { return Ok(()) };
    let mut assigned = BTreeSet::new();
    visit(&root, &mut |statement| {
        match statement {
            Stmt::Set(set) => note_names(&set.target, &mut assigned),
            Stmt::ForLoop(of) => note_names(&of.target, &mut assigned),
            Stmt::WithBlock(with) => with.assignments.iter().for_each(|(target, _)| note_names(target, &mut assigned)),
            // A captured block is a text, until a filter makes a list of it.
            Stmt::SetBlock(set) if set.filter.is_some() => note_names(&set.target, &mut assigned),
            _ => {}
        }
        Ok(())
    })?;
    let walk = Walk { assigned, is_list };
    visit(&root, &mut |statement| walk.statement(statement))
}

/// Refuse what would be parsed to a tree that is too deep for the stack.
fn insist_on_flat(template: &str) -> Result<(), Unfit> {
    let (mut in_tag, mut branches) = (0, 0);
    for token in tokenize(template, false, Default::default()) {
        // The engine says what is wrong with it, and reads no further.
        let Ok((token, span)) = token else { return Ok(()) };
        match token {
            Token::VariableStart | Token::BlockStart => in_tag = 0,
            _ => in_tag += 1,
        }
        branches += usize::from(in_tag == 1 && matches!(token, Token::Ident("elif")));
        let problem = if in_tag > TAG_TOKENS {
            format!("one tag has more than {TAG_TOKENS} words, signs and values; give parts of it names with `set`")
        } else if branches > BRANCHES {
            format!(
                "more than {BRANCHES} `elif`; look the value up in the input, or send another audience another payload"
            )
        } else {
            continue;
        };
        return Err(Unfit { line: span.start_line as usize, problem });
    }
    Ok(())
}

/// Visit a statement and all within it.
fn visit<'t>(statement: &Stmt<'t>, look: &mut dyn FnMut(&Stmt<'t>) -> Result<(), Unfit>) -> Result<(), Unfit> {
    look(statement)?;
    let bodies: [&[Stmt<'t>]; 2] = match statement {
        Stmt::Template(of) => [&of.children, &[]],
        Stmt::ForLoop(of) => [&of.body, &of.else_body],
        Stmt::IfCond(of) => [&of.true_body, &of.false_body],
        Stmt::WithBlock(of) => [&of.body, &[]],
        Stmt::SetBlock(of) => [&of.body, &[]],
        Stmt::AutoEscape(of) => [&of.body, &[]],
        Stmt::FilterBlock(of) => [&of.body, &[]],
        _ => [&[], &[]],
    };
    bodies.into_iter().flatten().try_for_each(|inner| visit(inner, look))
}

/// The names that a target of an assignment binds.
fn note_names(target: &Expr<'_>, names: &mut BTreeSet<String>) {
    match target {
        Expr::Var(var) => drop(names.insert(var.id.to_owned())),
        Expr::List(list) => list.items.iter().for_each(|item| note_names(item, names)),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| note_names(item, names)),
        _ => {}
    }
}

struct Walk<'w> {
    /// Names that the template binds itself; what they hold is not followed.
    assigned: BTreeSet<String>,
    is_list: &'w dyn Fn(&str) -> bool,
}

impl Walk<'_> {
    fn statement(&self, statement: &Stmt<'_>) -> Result<(), Unfit> {
        match statement {
            Stmt::EmitExpr(of) => self.expression(&of.expr),
            Stmt::ForLoop(of) => {
                self.expression(&of.iter)?;
                of.filter_expr.iter().try_for_each(|filter| self.expression(filter))
            }
            Stmt::IfCond(of) => self.expression(&of.expr),
            Stmt::WithBlock(of) => of.assignments.iter().try_for_each(|(_, value)| self.expression(value)),
            Stmt::Set(of) => self.expression(&of.expr),
            Stmt::SetBlock(of) => of.filter.iter().try_for_each(|filter| self.expression(filter)),
            Stmt::AutoEscape(of) => self.expression(&of.enabled),
            Stmt::FilterBlock(of) => self.expression(&of.filter),
            Stmt::Do(of) => self.arguments(&of.call.args),
            _ => Ok(()),
        }
    }

    fn expression(&self, expression: &Expr<'_>) -> Result<(), Unfit> {
        let line = expression.span().start_line as usize;
        match expression {
            Expr::Var(_) | Expr::Const(_) => Ok(()),
            Expr::Slice(of) => {
                self.expression(&of.expr)?;
                [&of.start, &of.stop, &of.step].into_iter().flatten().try_for_each(|part| self.expression(part))
            }
            Expr::UnaryOp(of) => self.expression(&of.expr),
            Expr::BinOp(of) => {
                let joins = matches!(of.op, BinOpKind::Add | BinOpKind::Mul);
                if joins && !(self.is_scalar(&of.left) && self.is_scalar(&of.right)) {
                    let sign = if matches!(of.op, BinOpKind::Add) { '+' } else { '*' };
                    return Err(Unfit {
                        line,
                        problem: format!(
                            "`{sign}` takes numbers and texts, and a side of it may be a list: write what it is behind it, e.g. \
                             `|int`, `|float` or `|string`"
                        ),
                    });
                }
                self.expression(&of.left)?;
                self.expression(&of.right)
            }
            Expr::Compare(of) => {
                self.expression(&of.expr)?;
                of.ops.iter().try_for_each(|part| self.expression(&part.expr))
            }
            Expr::IfExpr(of) => {
                self.expression(&of.test_expr)?;
                self.expression(&of.true_expr)?;
                of.false_expr.iter().try_for_each(|part| self.expression(part))
            }
            Expr::Filter(of) => {
                of.expr.iter().try_for_each(|of| self.expression(of))?;
                self.arguments(&of.args)
            }
            Expr::Test(of) => {
                self.expression(&of.expr)?;
                self.arguments(&of.args)
            }
            Expr::GetAttr(of) => self.expression(&of.expr),
            Expr::GetItem(of) => {
                self.expression(&of.expr)?;
                self.expression(&of.subscript_expr)
            }
            Expr::Call(of) => {
                self.expression(&of.expr)?;
                self.arguments(&of.args)
            }
            Expr::List(of) => self.items(line, &of.items),
            Expr::Tuple(of) => self.items(line, &of.items),
            Expr::Map(of) => {
                self.items(line, &of.keys)?;
                self.items(line, &of.values)
            }
        }
    }

    fn arguments(&self, arguments: &[CallArg<'_>]) -> Result<(), Unfit> {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) | CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                self.expression(value)
            }
        })
    }

    fn items(&self, line: usize, items: &[Expr<'_>]) -> Result<(), Unfit> {
        for item in items {
            self.expression(item)?;
            if !self.is_scalar(item) {
                let problem = "a list holds numbers and texts, and a part of this one may be a list itself: write what it is \
                               behind it, e.g. `|int`, `|float` or `|string`";
                return Err(Unfit { line, problem: problem.to_owned() });
            }
        }
        Ok(())
    }

    /// Whether an expression is certainly no list.
    fn is_scalar(&self, expression: &Expr<'_>) -> bool {
        match expression {
            Expr::Const(of) => !matches!(of.value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map),
            Expr::Var(of) => of.id != "loop" && !self.assigned.contains(of.id) && !(self.is_list)(of.id),
            Expr::UnaryOp(_) | Expr::Compare(_) | Expr::Test(_) => true,
            Expr::BinOp(of) => match of.op {
                BinOpKind::ScAnd | BinOpKind::ScOr => self.is_scalar(&of.left) && self.is_scalar(&of.right),
                // Those of lists are refused or fail.
                _ => true,
            },
            Expr::IfExpr(of) => {
                self.is_scalar(&of.true_expr) && of.false_expr.as_ref().is_none_or(|part| self.is_scalar(part))
            }
            Expr::Filter(of) if of.name == "default" || of.name == "d" => {
                let arguments = of.args.iter().all(|argument| match argument {
                    CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.is_scalar(value),
                    CallArg::PosSplat(_) | CallArg::KwargSplat(_) => false,
                });
                of.expr.as_ref().is_some_and(|of| self.is_scalar(of)) && arguments
            }
            Expr::Filter(of) => SCALAR_FILTERS.contains(&of.name),
            Expr::GetAttr(of) => {
                matches!(&of.expr, Expr::Var(var) if var.id == "loop") && SCALARS_OF_LOOP.contains(&of.name)
            }
            Expr::Slice(_) | Expr::GetItem(_) | Expr::Call(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => false,
        }
    }
}
