//! Expressions as an arena of nodes.
//!
//! A node knows its children by index, so that dropping and copying a tree needs no stack. Macros are gone: a comprehension
//! is a loop over a range with an accumulator, as the CEL specification defines it.

use crate::value::Value;

/// A node of an [`Ast`].
pub(crate) type Id = usize;

/// The name of the accumulator of the standard macros; no identifier that a person writes can be this.
pub(crate) const ACCUMULATOR: &str = "@result";
/// The name of a loop variable that nothing reads.
pub(crate) const UNUSED: &str = "#unused";

/// One expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// A constant.
    Literal(Value),
    /// A name; a leading dot is kept.
    Ident(Box<str>),
    /// `operand.field`, or `has(operand.field)`.
    Select { operand: Id, field: Box<str>, test: bool },
    /// `function(args)` or `target.function(args)`; operators are functions too.
    Call {
        target: Option<Id>,
        function: Box<str>,
        args: Vec<Id>,
    },
    /// `[a, ?b]`; the flag says that an item is optional.
    List(Vec<(Id, bool)>),
    /// `{a: b, ?c: d}`; the flag says that an entry is optional.
    Map(Vec<(Id, Id, bool)>),
    /// `Name{field: value}`.
    Struct {
        name: Box<str>,
        fields: Vec<(Box<str>, Id)>,
    },
    /// A loop.
    Fold(Box<Fold>),
}

/// A loop over a range with an accumulator.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub range: Id,
    /// The variable of a list's item or a map's key; with `second`, of a list's index or a map's key.
    pub first: Box<str>,
    /// The variable of the value.
    pub second: Option<Box<str>>,
    pub accumulator: Box<str>,
    pub start: Id,
    pub condition: Id,
    pub step: Id,
    pub result: Id,
}

#[derive(Clone, Debug)]
struct Node {
    expr: Expr,
    /// Where it stands: in characters from the start of the text.
    offset: usize,
    /// How many nodes are on the longest way down.
    height: usize,
}

/// A parsed text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ast {
    nodes: Vec<Node>,
    pub root: Id,
}

impl Ast {
    /// Adds a node whose children are there already, and returns it.
    pub fn add(&mut self, expr: Expr, offset: usize) -> Id {
        let mut below = 0;
        children(&expr, |child| below = below.max(self.nodes[child].height));
        self.nodes.push(Node {
            expr,
            offset,
            height: below + 1,
        });
        self.nodes.len() - 1
    }

    pub fn expr(&self, id: Id) -> &Expr {
        &self.nodes[id].expr
    }

    pub fn offset(&self, id: Id) -> usize {
        self.nodes[id].offset
    }

    pub fn height(&self, id: Id) -> usize {
        self.nodes[id].height
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Visits a node's children.
    pub fn children(&self, id: Id, visit: impl FnMut(Id)) {
        children(&self.nodes[id].expr, visit);
    }

    /// Puts another expression in a node's place; its children are among those of the old one.
    pub fn replace(&mut self, id: Id, expr: Expr) {
        self.nodes[id].expr = expr;
    }

    /// Returns whether a node is the idiom that only gives a name to a value.
    pub fn is_bind(&self, fold: &Fold) -> bool {
        matches!(self.expr(fold.range), Expr::List(items) if items.is_empty())
            && matches!(self.expr(fold.condition), Expr::Literal(Value::Bool(false)))
            && &*fold.accumulator != ACCUMULATOR
    }
}

fn children(expr: &Expr, mut visit: impl FnMut(Id)) {
    match expr {
        Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select { operand, .. } => visit(*operand),
        Expr::Call { target, args, .. } => {
            target.iter().for_each(|id| visit(*id));
            args.iter().for_each(|id| visit(*id));
        }
        Expr::List(items) => items.iter().for_each(|(id, _)| visit(*id)),
        Expr::Map(entries) => entries.iter().for_each(|(key, value, _)| {
            visit(*key);
            visit(*value);
        }),
        Expr::Struct { fields, .. } => fields.iter().for_each(|(_, id)| visit(*id)),
        Expr::Fold(fold) => [fold.range, fold.start, fold.condition, fold.step, fold.result]
            .into_iter()
            .for_each(visit),
    }
}
