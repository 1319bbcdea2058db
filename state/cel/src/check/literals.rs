//! What a look at literals tells before anything runs: arguments that can never work, templates that their arguments do not
//! fit, lists and maps of several types.

use super::{Checked, Reference};
use crate::ast::{Ast, Expr, Id};
use crate::functions::{self, Piece};
use crate::source::Fault;
use crate::types::Type;
use crate::value::{Moment, Value, text};

pub(super) fn check(ast: &Ast, checked: &Checked, faults: &mut Vec<Fault>) {
    let mut look = Look { ast, checked, faults };
    let exempt = look.inside_formats();
    for (id, exempt) in exempt.into_iter().enumerate() {
        match ast.expr(id) {
            Expr::Call { target, args, .. } => look.call(id, *target, args),
            Expr::List(items) if !exempt => look.one_type(items.iter().copied()),
            Expr::Map(entries) if !exempt => {
                look.one_type(entries.iter().map(|(key, _, _)| (*key, false)));
                look.one_type(entries.iter().map(|(_, value, optional)| (*value, *optional)));
            }
            _ => {}
        }
    }
}

struct Look<'a> {
    ast: &'a Ast,
    checked: &'a Checked,
    faults: &'a mut Vec<Fault>,
}

impl Look<'_> {
    fn fault(&mut self, at: Id, message: String) {
        let offset = self.ast.offset(at);
        self.faults.push(Fault { offset, message });
    }

    fn name(&self, id: Id) -> &'static str {
        match &self.checked.references[id] {
            Reference::Function(function, _) => functions::function(*function).name,
            _ => "",
        }
    }

    /// Returns which nodes are below a call of `format`, whose arguments may be of several types.
    fn inside_formats(&self) -> Vec<bool> {
        let mut inside = vec![false; self.ast.len()];
        // A node's children come before it.
        for id in (0..self.ast.len()).rev() {
            if inside[id] || self.name(id) == "format" {
                self.ast.children(id, |child| inside[child] = true);
            }
        }
        inside
    }

    fn call(&mut self, id: Id, target: Option<Id>, args: &[Id]) {
        let (name, Some(last)) = (self.name(id), args.last()) else {
            return;
        };
        if let ("format", Some(target)) = (name, target) {
            return self.format(id, target, *last);
        }
        let Expr::Literal(Value::String(literal)) = self.ast.expr(*last) else {
            return;
        };
        let wrong = match name {
            "duration" => text::parse_duration(literal).is_none(),
            "timestamp" => Moment::parse(literal).is_none(),
            "matches" => functions::pattern_fault(literal).is_some(),
            _ => false,
        };
        if wrong {
            self.fault(*last, format!("invalid {name} argument"));
        }
    }

    fn format(&mut self, id: Id, target: Id, list: Id) {
        let (Expr::Literal(Value::String(template)), Expr::List(items)) = (self.ast.expr(target), self.ast.expr(list))
        else {
            return;
        };
        let items = items.clone();
        let pieces = match functions::pieces(template) {
            Ok(pieces) => pieces,
            Err(problem) => return self.fault(id, problem),
        };
        let mut clauses = 0;
        for piece in pieces {
            let Piece::Clause(clause, _) = piece else { continue };
            let Some((item, _)) = items.get(clauses) else {
                return self.fault(id, format!("index {clauses} out of range"));
            };
            clauses += 1;
            let kind = &self.checked.types[*item];
            if !takes(clause, kind) {
                return self.fault(*item, functions::refusal(clause, kind.runtime_name()));
            }
        }
        if items.len() > clauses {
            let count = items.len();
            self.fault(
                id,
                format!("too many arguments supplied to string.format (expected {clauses}, got {count})"),
            );
        }
    }

    fn one_type(&mut self, items: impl Iterator<Item = (Id, bool)>) {
        let mut first: Option<Type> = None;
        for (id, optional) in items {
            let mut kind = &self.checked.types[id];
            if let (true, Type::Optional(inner)) = (optional, kind) {
                kind = inner;
            }
            match &first {
                None => first = Some(kind.clone()),
                Some(first) if first == kind => {}
                Some(first) => {
                    let message = format!("expected type '{first}' but found '{kind}'");
                    return self.fault(id, message);
                }
            }
        }
    }
}

/// Returns whether a clause of a template takes values of a type.
fn takes(clause: char, kind: &Type) -> bool {
    match (clause, kind) {
        (_, Type::Dyn) => true,
        ('d' | 'o', kind) => matches!(kind, Type::Int | Type::Uint),
        ('f' | 'e', kind) => matches!(kind, Type::Double | Type::String),
        ('b', kind) => matches!(kind, Type::Int | Type::Uint | Type::Bool),
        ('x' | 'X', kind) => matches!(kind, Type::Int | Type::Uint | Type::String | Type::Bytes),
        (_, kind) => !matches!(kind, Type::Optional(_) | Type::Named(_) | Type::Object(_) | Type::Error),
    }
}
