//! What an expression can cost at most, given how large the data can be.
//!
//! The rules are those of cel-go (`checker/cost.go`) with Kubernetes' own for its libraries (`cel/library/cost.go`): which
//! definitions are refused depends on them, so that they are followed to the letter, odd ones included.

mod calls;
mod range;

use std::collections::HashMap;

use crate::ast::{ACCUMULATOR, Expr, Fold, Id};
use crate::check::Reference;
use crate::declare::{Declaration, Shape};
use crate::functions;
use crate::program::Program;
use crate::types::Type;
use crate::value::Value;
use range::Range;

const IDENT: Range = Range::exactly(1);
const LIST: Range = Range::exactly(10);
const MAP: Range = Range::exactly(30);
const MESSAGE: Range = Range::exactly(40);

/// Returns the most that a program can cost.
pub(crate) fn worst(program: &Program) -> u64 {
    let mut estimator = Estimator {
        program,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        scopes: Vec::new(),
    };
    estimator.cost(program.ast.root).max
}

/// What is known of the keys and values of a list or map that was built.
#[derive(Clone, Copy, Debug)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(self, other: Entries) -> Entries {
        Entries {
            list: self.list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

/// A variable of a loop.
#[derive(Clone, Debug, Default)]
struct Local {
    path: Vec<Box<str>>,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Estimator<'a> {
    program: &'a Program,
    /// Where in the data a node's value comes from.
    paths: HashMap<Id, Vec<Box<str>>>,
    sizes: HashMap<Id, Range>,
    entries: HashMap<Id, Entries>,
    scopes: Vec<Local>,
}

impl Estimator<'_> {
    fn expr(&self, id: Id) -> &Expr {
        self.program.ast.expr(id)
    }

    fn kind(&self, id: Id) -> &Type {
        &self.program.checked.types[id]
    }

    fn local(&self, id: Id) -> Option<&Local> {
        match (self.expr(id), &self.program.checked.references[id]) {
            (Expr::Ident(_), Reference::Local(slot)) => self.scopes.get(*slot),
            _ => None,
        }
    }

    fn cost(&mut self, id: Id) -> Range {
        match self.expr(id) {
            Expr::Literal(_) => Range::ZERO,
            Expr::Ident(name) => {
                let path = self
                    .local(id)
                    .map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(id, path);
                IDENT
            }
            Expr::Select { operand, field, test } => {
                let (operand, field, test) = (*operand, field.clone(), *test);
                self.select(id, operand, field, test)
            }
            Expr::Call { .. } => self.call(id),
            Expr::List(items) => {
                let items: Vec<Id> = items.iter().map(|(item, _)| *item).collect();
                let (sum, value) = self.all(&items);
                let key = Range::exactly(1);
                self.entries.insert(id, Entries { list: true, key, value });
                sum.plus(LIST)
            }
            Expr::Map(entries) => {
                let (keys, values): (Vec<Id>, Vec<Id>) = entries.iter().map(|(key, value, _)| (*key, *value)).unzip();
                let (key_costs, key) = self.all(&keys);
                let (value_costs, value) = self.all(&values);
                self.entries.insert(
                    id,
                    Entries {
                        list: false,
                        key,
                        value,
                    },
                );
                key_costs.plus(value_costs).plus(MAP)
            }
            Expr::Struct { fields, .. } => {
                let values: Vec<Id> = fields.iter().map(|(_, value)| *value).collect();
                self.all(&values).0.plus(MESSAGE)
            }
            Expr::Fold(fold) => {
                let fold = fold.clone();
                if self.program.ast.is_bind(&fold) {
                    self.bind(id, &fold)
                } else {
                    self.fold(id, &fold)
                }
            }
        }
    }

    /// Returns what nodes cost together, and how large any of them can be.
    fn all(&mut self, ids: &[Id]) -> (Range, Range) {
        let mut sum = Range::ZERO;
        let mut size: Option<Range> = None;
        for id in ids {
            sum = sum.plus(self.cost(*id));
            let each = self.size_or_unknown(*id);
            size = Some(size.map_or(each, |before| before.union(each)));
        }
        (sum, size.unwrap_or(Range::ZERO))
    }

    fn select(&mut self, id: Id, operand: Id, field: Box<str>, test: bool) -> Range {
        let mut sum = self.cost(operand);
        if test {
            return sum;
        }
        if matches!(self.kind(operand), Type::Map(..) | Type::Object(_) | Type::Param(_)) {
            sum = sum.plus(IDENT);
        }
        let mut path = self.path(operand);
        path.push(field);
        self.paths.insert(id, path);
        sum
    }

    fn path(&self, id: Id) -> Vec<Box<str>> {
        match self.local(id) {
            Some(local) => local.path.clone(),
            None => self.paths.get(&id).cloned().unwrap_or_default(),
        }
    }

    /// Returns the path of an argument; what an accumulator holds comes from nowhere.
    fn argument_path(&self, id: Id) -> Vec<Box<str>> {
        let path = self.path(id);
        if path.first().is_some_and(|first| &**first == ACCUMULATOR) {
            Vec::new()
        } else {
            path
        }
    }

    /// Returns the declaration at a path: its first part is a variable, and every variable is of one type.
    fn declared(&self, path: &[Box<str>]) -> Option<&Declaration> {
        let (first, rest) = path.split_first()?;
        let mut at: &Declaration = self.program.declaration(first)?;
        for part in rest {
            at = match (&**part, &at.shape) {
                ("@items" | "@values", Shape::List(items, _)) => items,
                ("@items" | "@values", Shape::Map(values)) => values,
                (name, Shape::Object(record)) => &record.field(name)?.declaration,
                _ => return None,
            };
        }
        Some(at)
    }

    fn declared_size(&self, path: &[Box<str>]) -> Option<Range> {
        if let [parent @ .., last] = path
            && &**last == "@keys"
        {
            // Kubernetes gives the keys of a declared map no size.
            return matches!(self.declared(parent)?.shape, Shape::Map(_)).then_some(Range::ZERO);
        }
        self.declared(path).map(|declaration| Range::up_to(declaration.most))
    }

    fn size(&mut self, id: Id) -> Option<Range> {
        if let Some(known) = self.sizes.get(&id) {
            return Some(*known);
        }
        if let Some(exact) = literal_size(self.expr(id)) {
            return Some(Range::exactly(exact));
        }
        if let Some(declared) = self.declared_size(&self.path(id)) {
            self.sizes.insert(id, declared);
            return Some(declared);
        }
        if is_scalar(self.kind(id)) {
            return Some(Range::exactly(1));
        }
        self.local(id)?.size
    }

    fn size_or_unknown(&mut self, id: Id) -> Range {
        self.size(id).unwrap_or(Range::UNKNOWN)
    }

    fn entries(&self, id: Id) -> Option<Entries> {
        self.entries.get(&id).copied().or_else(|| self.local(id)?.entries)
    }

    fn call(&mut self, id: Id) -> Range {
        let Expr::Call { target, args, .. } = self.expr(id).clone() else {
            return Range::ZERO;
        };
        let Reference::Function(function, chosen) = self.program.checked.references[id].clone() else {
            return Range::ZERO;
        };
        let function = functions::function(function);
        if let ("dyn", [arg]) = (function.name, &args[..]) {
            let cost = self.cost(*arg).plus(IDENT);
            if let Some(size) = self.size(*arg) {
                self.sizes.insert(id, size);
            }
            if let Some(entries) = self.entries(*arg) {
                self.entries.insert(id, entries);
            }
            return cost;
        }
        let arg_costs: Vec<Range> = args.iter().map(|arg| self.cost(*arg)).collect();
        let before = target.map_or(Range::ZERO, |target| self.cost(target));
        let mut cost = Range { min: u64::MAX, max: 0 };
        let mut result: Option<Range> = None;
        for index in chosen {
            let Some(signature) = function.signatures.get(index) else {
                continue;
            };
            let call = calls::Call {
                id,
                name: function.name,
                params: &signature.params,
                target,
                args: &args,
                arg_costs: &arg_costs,
            };
            let (each, size) = self.overload(&call);
            cost = cost.union(each);
            if let Some(size) = size {
                result = Some(result.map_or(size, |before| before.union(size)));
            }
            if function.name == "_[_]"
                && let Some(container) = args.first()
                && let part @ ("@items" | "@values") = match &signature.params[0] {
                    Type::List(_) => "@items",
                    Type::Map(..) => "@values",
                    _ => "",
                }
            {
                result = self.entries(*container).map(|entries| entries.value);
                let mut path = self.path(*container);
                path.push(part.into());
                self.paths.insert(id, path);
            }
            if result.is_none() {
                result = self.size(id);
            }
        }
        if let Some(result) = result {
            self.sizes.insert(id, result);
        }
        before.plus(cost)
    }

    fn bind(&mut self, id: Id, fold: &Fold) -> Range {
        let mut sum = self.cost(fold.range).plus(self.cost(fold.start));
        let local = self.named(fold.start);
        self.scopes.push(local);
        sum = sum.plus(self.cost(fold.result));
        let (size, entries) = (self.size(fold.result), self.entries(fold.result));
        self.scopes.pop();
        if let Some(size) = size {
            self.sizes.insert(id, size);
        }
        if let Some(entries) = entries {
            self.entries.insert(id, entries);
        }
        sum
    }

    fn named(&mut self, id: Id) -> Local {
        Local {
            path: self.path(id),
            size: self.size(id),
            entries: self.entries(id),
        }
    }

    fn variable(&self, range: Id, key: bool) -> Local {
        let entries = self.entries(range);
        let list = entries.map_or(matches!(self.kind(range), Type::List(_)), |entries| entries.list);
        let part = match (key, list) {
            (true, true) => "@indices",
            (true, false) => "@keys",
            (false, true) => "@items",
            (false, false) => "@values",
        };
        let mut path = self.path(range);
        path.push(part.into());
        Local {
            path,
            size: entries.map(|entries| if key { entries.key } else { entries.value }),
            entries: None,
        }
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> Range {
        let mut sum = self.cost(fold.range).plus(self.cost(fold.start));
        let accumulator = self.named(fold.start);
        let outside = self.scopes.len();
        self.scopes.push(accumulator);
        let list = self
            .entries(fold.range)
            .map_or(matches!(self.kind(fold.range), Type::List(_)), |entries| entries.list);
        if fold.second.is_some() {
            let (first, second) = (self.variable(fold.range, true), self.variable(fold.range, false));
            self.scopes.push(first);
            self.scopes.push(second);
        } else {
            let only = self.variable(fold.range, !list);
            self.scopes.push(only);
        }
        let turn = self.cost(fold.condition).plus(self.cost(fold.step));
        let step_entries = self.entries(fold.step);
        self.scopes.truncate(outside + 1);
        sum = sum.plus(self.cost(fold.result));
        self.scopes.truncate(outside);
        let count = self.size_or_unknown(fold.range);
        match self.expr(fold.start) {
            Expr::Literal(_) => {
                if let Some(size) = self.size(fold.start) {
                    self.sizes.insert(id, size);
                }
            }
            Expr::List(_) | Expr::Map(_) => {
                self.sizes.insert(id, count);
                if let Some(entries) = step_entries {
                    self.entries.insert(id, entries);
                }
            }
            _ => {}
        }
        sum.plus(count.times(turn))
    }
}

fn literal_size(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::Literal(value @ (Value::String(_) | Value::Bytes(_))) => Some(value.size()),
        Expr::Literal(_) => Some(1),
        Expr::List(items) => Some(items.len() as u64),
        Expr::Map(entries) => Some(entries.len() as u64),
        _ => None,
    }
}

fn is_scalar(kind: &Type) -> bool {
    match kind {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}
