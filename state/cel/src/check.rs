//! The type check: what every node is, and what its name or function refers to.

mod literals;
mod unify;

use crate::ast::{ACCUMULATOR, Ast, Expr, Fold, Id};
use crate::functions::{self, FunctionId};
use crate::source::Fault;
use crate::types::Type;
use crate::value::Value;
use unify::{Bindings, most_general, rename};

/// How many parts a type may have: types that are written small can stand for enormous ones.
const PARTS: usize = 2_000;

/// What a node refers to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Reference {
    #[default]
    None,
    /// A variable of the environment.
    Global(usize),
    /// A variable of a loop: a place on the stack.
    Local(usize),
    /// A type as a value.
    Type(Box<str>),
    /// A function, with those of its signatures that may be meant.
    Function(FunctionId, Vec<usize>),
}

/// What the check found out, by node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    pub types: Vec<Type>,
    pub references: Vec<Reference>,
}

/// Checks an expression; it may rewrite nodes whose names turn out to be qualified.
pub(crate) fn check(ast: &mut Ast, variables: &[(Box<str>, Type)]) -> Result<Checked, Vec<Fault>> {
    let size = ast.len();
    let mut checker = Checker {
        ast,
        variables,
        out: Checked {
            types: vec![Type::Error; size],
            references: vec![Reference::None; size],
        },
        scopes: Vec::new(),
        bindings: Bindings::default(),
        faults: Vec::new(),
    };
    let root = checker.ast.root;
    checker.check(root);
    if checker.faults.is_empty() {
        let resolved: Vec<Type> = checker
            .out
            .types
            .iter()
            .map(|kind| checker.bindings.substitute(kind, true))
            .collect();
        checker.out.types = resolved;
        literals::check(checker.ast, &checker.out, &mut checker.faults);
    }
    if checker.faults.is_empty() {
        Ok(checker.out)
    } else {
        Err(checker.faults)
    }
}

struct Checker<'a> {
    ast: &'a mut Ast,
    variables: &'a [(Box<str>, Type)],
    out: Checked,
    scopes: Vec<(Box<str>, Type)>,
    bindings: Bindings,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    fn fault(&mut self, at: Id, message: String) {
        let offset = self.ast.offset(at);
        self.faults.push(Fault { offset, message });
    }

    fn set(&mut self, id: Id, kind: Type) {
        let mut room = PARTS;
        if !fits_in(&kind, &mut room) {
            self.fault(id, "the type of the expression is too large".to_owned());
            self.out.types[id] = Type::Error;
            return;
        }
        self.out.types[id] = kind;
    }

    fn kind(&self, id: Id) -> Type {
        self.out.types[id].clone()
    }

    fn resolved(&self, id: Id) -> Type {
        self.bindings.substitute(&self.out.types[id], false)
    }

    fn fit(&mut self, a: &Type, b: &Type) -> bool {
        self.bindings.fit(std::slice::from_ref(a), std::slice::from_ref(b))
    }

    fn check(&mut self, id: Id) {
        match self.ast.expr(id) {
            Expr::Literal(value) => {
                let kind = value.literal_type();
                self.set(id, kind);
            }
            Expr::Ident(name) => {
                let name = name.clone();
                self.ident(id, &name);
            }
            Expr::Select { .. } => self.select(id),
            Expr::Call { .. } => self.call(id),
            Expr::List(items) => {
                let items = items.clone();
                self.list(id, &items);
            }
            Expr::Map(entries) => {
                let entries = entries.clone();
                self.map(id, &entries);
            }
            Expr::Struct { name, .. } => {
                let name = name.clone();
                self.construct(id, &name);
            }
            Expr::Fold(fold) => {
                let fold = fold.clone();
                self.fold(id, &fold);
            }
        }
    }

    /// Finds a name: in the loops around, among the variables, among the types.
    fn resolve(&self, name: &str) -> Option<(Type, Reference)> {
        let plain = name.strip_prefix('.').unwrap_or(name);
        if plain == name
            && let Some(slot) = self.scopes.iter().rposition(|(known, _)| **known == *name)
        {
            return Some((self.scopes[slot].1.clone(), Reference::Local(slot)));
        }
        if let Some(index) = self.variables.iter().position(|(known, _)| **known == *plain) {
            return Some((self.variables[index].1.clone(), Reference::Global(index)));
        }
        let named = Type::named(plain)?;
        let reference = Reference::Type(named.runtime_name().into());
        Some((Type::Type(named.into()), reference))
    }

    fn ident(&mut self, id: Id, name: &str) {
        match self.resolve(name) {
            Some((kind, reference)) => {
                self.set(id, kind);
                self.out.references[id] = reference;
            }
            None => {
                self.undeclared(id, name);
            }
        }
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.fault(id, format!("undeclared reference to '{name}' (in container '')"));
        self.out.types[id] = Type::Error;
    }

    /// Returns `a.b.c` as one name, if the node is that.
    fn qualified(&self, id: Id) -> Option<String> {
        match self.ast.expr(id) {
            Expr::Ident(name) => Some(name.to_string()),
            Expr::Select {
                operand,
                field,
                test: false,
            } => Some(format!("{}.{field}", self.qualified(*operand)?)),
            _ => None,
        }
    }

    fn select(&mut self, id: Id) {
        let Expr::Select { operand, field, test } = self.ast.expr(id).clone() else {
            return;
        };
        if !test
            && let Some(name) = self.qualified(id)
            && let first = name.split('.').find(|part| !part.is_empty()).unwrap_or_default()
            && !self.scopes.iter().any(|(known, _)| **known == *first)
            && let Some((kind, reference)) = self.resolve(&name)
        {
            self.set(id, kind);
            self.out.references[id] = reference;
            self.ast.replace(id, Expr::Ident(name.into()));
            return;
        }
        self.check(operand);
        let result = self.field(id, operand, &field, false);
        self.set(id, if test { Type::Bool } else { result });
    }

    /// Returns the type of a field of an operand that is checked.
    fn field(&mut self, id: Id, operand: Id, field: &str, optional: bool) -> Type {
        let kind = self.resolved(operand);
        let (target, wrapped) = match &kind {
            Type::Optional(inner) => ((**inner).clone(), true),
            other => (other.clone(), false),
        };
        let result = match &target {
            Type::Map(_, values) => (**values).clone(),
            Type::Object(record) => match record.field(field) {
                Some(found) => found.declaration.kind.clone(),
                None => {
                    self.fault(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.fit(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.fault(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if wrapped || optional {
            Type::optional(result)
        } else {
            result
        }
    }

    fn call(&mut self, id: Id) {
        let Expr::Call { target, function, args } = self.ast.expr(id).clone() else {
            return;
        };
        if &*function == "_?._" && target.is_none() {
            return self.optional_select(id, &args);
        }
        for arg in &args {
            self.check(*arg);
        }
        let Some(target) = target else {
            let name = function.strip_prefix('.').unwrap_or(&function);
            return match functions::find(name) {
                Some(found) => self.overload(id, found, false, &args),
                None => self.undeclared(id, &function),
            };
        };
        // `sets.contains(a, b)` is written like a call on `sets`.
        if let Some(name) = self.qualified(target).map(|prefix| format!("{prefix}.{function}"))
            && let Some(found) = functions::find(&name)
        {
            let function = name.into();
            let call = Expr::Call {
                target: None,
                function,
                args: args.clone(),
            };
            self.ast.replace(id, call);
            return self.overload(id, found, false, &args);
        }
        self.check(target);
        match functions::find(&function) {
            Some(found) => {
                let all: Vec<Id> = std::iter::once(target).chain(args).collect();
                self.overload(id, found, true, &all);
            }
            None => self.undeclared(id, &function),
        }
    }

    fn optional_select(&mut self, id: Id, args: &[Id]) {
        let [operand, field] = args else { return };
        let Expr::Literal(Value::String(name)) = self.ast.expr(*field).clone() else {
            return;
        };
        self.check(*operand);
        self.out.types[*field] = Type::String;
        let kind = self.field(id, *operand, &name, true);
        self.set(id, kind);
        if let Some(found) = functions::find("_?._") {
            self.out.references[id] = Reference::Function(found, vec![0]);
        }
    }

    /// Finds the signatures that fit; the result is their common type, or `dyn`.
    fn overload(&mut self, id: Id, found: FunctionId, member: bool, args: &[Id]) {
        let function = functions::function(found);
        let kinds: Vec<Type> = args.iter().map(|arg| self.kind(*arg)).collect();
        if matches!(function.name, "_&&_" | "_||_") {
            let mut fits = true;
            for (arg, kind) in args.iter().zip(&kinds) {
                if !self.fit(kind, &Type::Bool) {
                    let shown = self.bindings.substitute(kind, true);
                    self.fault(*arg, format!("expected type 'bool' but found '{shown}'"));
                    fits = false;
                }
            }
            self.out.types[id] = if fits { Type::Bool } else { Type::Error };
            self.out.references[id] = Reference::Function(found, vec![0]);
            return;
        }
        let mut result: Option<Type> = None;
        let mut chosen = Vec::new();
        for (index, signature) in function.signatures.iter().enumerate() {
            if signature.member != member || signature.params.len() != kinds.len() {
                continue;
            }
            let variables = [self.bindings.fresh(), self.bindings.fresh()];
            let params: Vec<Type> = signature.params.iter().map(|kind| rename(kind, variables)).collect();
            if !self.bindings.fit(&kinds, &params) {
                continue;
            }
            chosen.push(index);
            let gives = self.bindings.substitute(&rename(&signature.result, variables), false);
            result = Some(match result {
                None => gives,
                Some(before) if before.is_dyn() || before == gives => before,
                Some(_) => Type::Dyn,
            });
        }
        match result {
            Some(result) => {
                self.set(id, result);
                self.out.references[id] = Reference::Function(found, chosen);
            }
            None => {
                let shown: Vec<String> = kinds
                    .iter()
                    .map(|kind| self.bindings.substitute(kind, true).to_string())
                    .collect();
                let applied = match (member, &shown[..]) {
                    (true, [target, rest @ ..]) => format!("{target}.({})", rest.join(", ")),
                    (_, all) => format!("({})", all.join(", ")),
                };
                self.fault(
                    id,
                    format!(
                        "found no matching overload for '{}' applied to '{applied}'",
                        function.name
                    ),
                );
                self.out.types[id] = Type::Error;
            }
        }
    }

    /// Returns the type that holds both; that literals hold one type alone is looked at later.
    fn join(&mut self, before: Option<Type>, kind: Type) -> Type {
        let Some(before) = before else { return kind };
        if self.fit(&before, &kind) {
            return most_general(&before, &kind).clone();
        }
        Type::Dyn
    }

    fn unwrap_optional(&mut self, at: Id, kind: Type) -> Type {
        match self.bindings.substitute(&kind, false) {
            Type::Optional(inner) => (*inner).clone(),
            open if open.is_open() => open,
            other => {
                self.fault(
                    at,
                    format!("expected type 'optional_type({other})' but found '{other}'"),
                );
                other
            }
        }
    }

    fn list(&mut self, id: Id, items: &[(Id, bool)]) {
        let mut joined = None;
        for (item, optional) in items {
            self.check(*item);
            let mut kind = self.kind(*item);
            if *optional {
                kind = self.unwrap_optional(*item, kind);
            }
            joined = Some(self.join(joined, kind));
        }
        let items = joined.unwrap_or_else(|| Type::Param(self.bindings.fresh()));
        self.set(id, Type::list(items));
    }

    fn map(&mut self, id: Id, entries: &[(Id, Id, bool)]) {
        let (mut keys, mut values) = (None, None);
        for (key, value, optional) in entries {
            self.check(*key);
            keys = Some(self.join(keys, self.kind(*key)));
            self.check(*value);
            let mut kind = self.kind(*value);
            if *optional {
                kind = self.unwrap_optional(*value, kind);
            }
            values = Some(self.join(values, kind));
        }
        let keys = keys.unwrap_or_else(|| Type::Param(self.bindings.fresh()));
        let values = values.unwrap_or_else(|| Type::Param(self.bindings.fresh()));
        self.set(id, Type::map(keys, values));
    }

    /// No type of ours can be written as `Name{...}`.
    fn construct(&mut self, id: Id, name: &str) {
        match Type::named(name.strip_prefix('.').unwrap_or(name)) {
            Some(_) => self.fault(id, format!("'{name}' is not a message type")),
            None => self.undeclared(id, name),
        }
        self.out.types[id] = Type::Error;
    }

    fn fold(&mut self, id: Id, fold: &Fold) {
        self.check(fold.range);
        self.check(fold.start);
        let range = self.resolved(fold.range);
        let (first, second) = match &range {
            Type::List(items) if fold.second.is_some() => (Type::Int, (**items).clone()),
            Type::List(items) => ((**items).clone(), Type::Dyn),
            Type::Map(keys, values) => ((**keys).clone(), (**values).clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.fit(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let why = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.fault(fold.range, format!("expression of type '{other}' {why}"));
                (Type::Error, Type::Error)
            }
        };
        let accumulated = self.kind(fold.start);
        self.scopes.push((fold.accumulator.clone(), accumulated.clone()));
        let inside = self.scopes.len();
        self.scopes.push((fold.first.clone(), first));
        if let Some(name) = &fold.second {
            self.scopes.push((name.clone(), second));
        }
        self.check(fold.condition);
        self.expect(fold.condition, &Type::Bool);
        self.check(fold.step);
        self.expect(fold.step, &accumulated);
        self.scopes.truncate(inside);
        self.check(fold.result);
        self.scopes.pop();
        let kind = self.resolved(fold.result);
        self.set(id, kind);
    }

    fn expect(&mut self, id: Id, wanted: &Type) {
        let found = self.kind(id);
        if !self.fit(wanted, &found) {
            let (wanted, found) = (
                self.bindings.substitute(wanted, true),
                self.bindings.substitute(&found, true),
            );
            self.fault(id, format!("expected type '{wanted}' but found '{found}'"));
        }
    }
}

/// Returns whether a type has no more parts than there is room for.
fn fits_in(kind: &Type, room: &mut usize) -> bool {
    if *room == 0 {
        return false;
    }
    *room -= 1;
    match kind {
        Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => fits_in(inner, room),
        Type::Map(keys, values) => fits_in(keys, room) && fits_in(values, room),
        _ => true,
    }
}

/// Returns the slot of the accumulator that a node is, if it is one.
pub(crate) fn accumulator(ast: &Ast, checked: &Checked, id: Id) -> Option<usize> {
    match (ast.expr(id), &checked.references[id]) {
        (Expr::Ident(name), Reference::Local(slot)) if &**name == ACCUMULATOR => Some(*slot),
        _ => None,
    }
}
