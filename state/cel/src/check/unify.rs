//! Which types fit which, and what type variables stand for.
//!
//! The rules are cel-go's: a variable takes the most general of the types that it meets, `dyn` fits everything.

use std::sync::Arc;

use crate::types::Type;

/// What the type variables stand for so far. What an attempt bound is taken back when it fails.
#[derive(Default)]
pub(super) struct Bindings {
    bound: Vec<Option<Type>>,
    trail: Vec<(u32, Option<Type>)>,
}

impl Bindings {
    /// Makes a new variable.
    pub fn fresh(&mut self) -> u32 {
        self.bound.push(None);
        u32::try_from(self.bound.len() - 1).unwrap_or(u32::MAX)
    }

    fn get(&self, variable: u32) -> Option<&Type> {
        self.bound.get(variable as usize)?.as_ref()
    }

    fn set(&mut self, variable: u32, to: Type) {
        if let Some(place) = self.bound.get_mut(variable as usize) {
            self.trail.push((variable, place.replace(to)));
        }
    }

    /// Returns whether every type fits its counterpart, and binds what has to be bound for that.
    pub fn fit(&mut self, left: &[Type], right: &[Type]) -> bool {
        let mark = self.trail.len();
        let fits = left.len() == right.len() && left.iter().zip(right).all(|(a, b)| self.assignable(a, b));
        if fits {
            self.trail.clear();
        } else {
            while self.trail.len() > mark {
                if let Some((variable, before)) = self.trail.pop()
                    && let Some(place) = self.bound.get_mut(variable as usize)
                {
                    *place = before;
                }
            }
        }
        fits
    }

    fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(variable) = b {
            let known = self.get(*variable).is_some();
            if self.bind(a, *variable) {
                return true;
            }
            if known {
                return false;
            }
        }
        if let Type::Param(variable) = a {
            return self.bind(b, *variable);
        }
        if a.is_open() || b.is_open() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => {
                matches!(
                    other,
                    Type::Null
                        | Type::Optional(_)
                        | Type::Object(_)
                        | Type::Duration
                        | Type::Timestamp
                        | Type::Named(_)
                )
            }
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.assignable(a, b),
            (Type::Map(keys, values), Type::Map(others, more)) => {
                self.assignable(keys, others) && self.assignable(values, more)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Lets a variable stand for a type, if it can.
    fn bind(&mut self, to: &Type, variable: u32) -> bool {
        if *to == Type::Param(variable) {
            return true;
        }
        if let Some(before) = self.get(variable).cloned() {
            if before == *to {
                return true;
            }
            if !self.assignable(to, &before) {
                return false;
            }
            let wider = most_general(to, &before).clone();
            if !self.mentions(variable, &wider) {
                self.set(variable, wider);
            }
            return true;
        }
        if self.mentions(variable, to) {
            return false;
        }
        self.set(variable, to.clone());
        true
    }

    /// Returns whether a variable is part of a type, as far as that is known.
    fn mentions(&self, variable: u32, within: &Type) -> bool {
        match within {
            Type::Param(other) if *other == variable => true,
            Type::Param(other) => self.get(*other).is_some_and(|to| self.mentions(variable, to)),
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.mentions(variable, inner),
            Type::Map(keys, values) => self.mentions(variable, keys) || self.mentions(variable, values),
            _ => false,
        }
    }

    /// Writes what variables stand for into a type; those that stand for nothing become `dyn` if that is asked for.
    pub fn substitute(&self, kind: &Type, open_as_dyn: bool) -> Type {
        let inner = |kind: &Type| Arc::new(self.substitute(kind, open_as_dyn));
        match kind {
            Type::Param(variable) => match self.get(*variable) {
                Some(to) => self.substitute(to, open_as_dyn),
                None if open_as_dyn => Type::Dyn,
                None => kind.clone(),
            },
            Type::List(items) => Type::List(inner(items)),
            Type::Optional(held) => Type::Optional(inner(held)),
            Type::Type(of) => Type::Type(inner(of)),
            Type::Map(keys, values) => Type::Map(inner(keys), inner(values)),
            other => other.clone(),
        }
    }
}

/// Returns the one of two types that says less.
pub(super) fn most_general<'a>(a: &'a Type, b: &'a Type) -> &'a Type {
    if says_no_more(a, b) { a } else { b }
}

fn says_no_more(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => says_no_more(a, b),
        (Type::Map(keys, values), Type::Map(others, more)) => says_no_more(keys, others) && says_no_more(values, more),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}

/// Returns a signature's type with its variables replaced by others.
pub(super) fn rename(kind: &Type, variables: [u32; 2]) -> Type {
    let inner = |kind: &Type| Arc::new(rename(kind, variables));
    match kind {
        Type::Param(0) => Type::Param(variables[0]),
        Type::Param(_) => Type::Param(variables[1]),
        Type::List(items) => Type::List(inner(items)),
        Type::Optional(held) => Type::Optional(inner(held)),
        Type::Type(of) => Type::Type(inner(of)),
        Type::Map(keys, values) => Type::Map(inner(keys), inner(values)),
        other => other.clone(),
    }
}
