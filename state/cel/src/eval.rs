//! Runs a checked expression under a budget.
//!
//! Every node that is evaluated costs what cel-go charges for it; what Kubernetes does not charge for but takes time all the
//! same is bounded apart ([`Meter::work`]). The tree is no higher than the parser lets it be, so that evaluation may recurse.

mod cost;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Expr, Fold, Id};
use crate::check::Reference;
use crate::functions::{self, Failure, Meter, Outcome, missing, no_overload, whole};
use crate::program::Program;
use crate::value::{Key, Value};

/// Evaluates a program with its variables; a variable that is absent is an error where it is used.
pub(crate) fn run(program: &Program, globals: &[Option<Value>], meter: &mut Meter) -> Outcome {
    let mut machine = Machine {
        program,
        globals,
        stack: Vec::new(),
        meter,
    };
    machine.eval(program.ast.root)
}

/// Functions whose values follow from a constant argument; Kubernetes charges nothing for these.
const CONVERSIONS: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "duration",
    "int",
    "string",
    "timestamp",
    "uint",
];

/// Returns a node's value if it is the same in every run; those of its children are known already.
pub(crate) fn constant(program: &Program, id: Id, meter: &mut Meter) -> Option<Value> {
    let known = |id: &Id| program.constants.get(*id)?.clone();
    match program.ast.expr(id) {
        Expr::Literal(value) => Some(value.clone()),
        Expr::Ident(_) => match &program.checked.references[id] {
            Reference::Type(name) => Some(Value::Type((**name).into())),
            _ => None,
        },
        Expr::List(items) if !items.is_empty() => {
            let items = items.iter().map(|(item, optional)| known(item).filter(|_| !optional));
            items.collect::<Option<Vec<_>>>().map(Value::list)
        }
        Expr::Map(entries) if !entries.is_empty() => {
            let mut out = BTreeMap::new();
            for (key, value, optional) in entries {
                let (key, value) = (Key::of(&known(key)?)?, known(value)?);
                if *optional || out.insert(key, value).is_some() {
                    return None;
                }
            }
            Some(Value::map(out))
        }
        Expr::Call { target: None, args, .. } => match (&program.checked.references[id], &args[..]) {
            (Reference::Function(function, _), [arg]) => {
                let function = functions::function(*function);
                let value = known(arg).filter(|_| CONVERSIONS.contains(&function.name))?;
                (function.run)(&[value], meter).ok()
            }
            _ => None,
        },
        _ => None,
    }
}

struct Machine<'a> {
    program: &'a Program,
    globals: &'a [Option<Value>],
    /// The variables of the loops around; one whose value is broken is an error where it is read.
    stack: Vec<Value>,
    meter: &'a mut Meter,
}

impl Machine<'_> {
    fn eval(&mut self, id: Id) -> Outcome {
        let program = self.program;
        if let Some(Some(value)) = program.constants.get(id) {
            return Ok(value.clone());
        }
        match program.ast.expr(id) {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Ident(_) => self.ident(id),
            Expr::Select { operand, field, test } => self.select(*operand, field, *test),
            Expr::Call { target, args, .. } => self.call(id, *target, args),
            Expr::List(items) => self.list(items),
            Expr::Map(entries) => self.map(entries),
            Expr::Struct { .. } => no_overload(),
            Expr::Fold(fold) if program.ast.is_bind(fold) => self.bind(fold),
            Expr::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, id: Id) -> Outcome {
        self.meter.charge(cost::IDENT)?;
        match &self.program.checked.references[id] {
            Reference::Local(slot) => self.stack.get(*slot).map_or_else(no_overload, whole),
            Reference::Global(index) => match self.globals.get(*index) {
                Some(Some(value)) => whole(value),
                _ => Err(format!("no such attribute(s): {}", self.program.variable(*index)).into()),
            },
            Reference::Type(name) => Ok(Value::Type((**name).into())),
            Reference::None | Reference::Function(..) => no_overload(),
        }
    }

    fn select(&mut self, operand: Id, field: &str, test: bool) -> Outcome {
        let container = self.eval(operand)?;
        let key = Key::String(field.into());
        let (inner, optional) = match &container {
            Value::Optional(Some(inner)) => (&**inner, true),
            Value::Optional(None) => {
                return Ok(if test {
                    Value::Bool(false)
                } else {
                    Value::Optional(None)
                });
            }
            other => (other, false),
        };
        let Value::Map(map) = inner else {
            return no_overload();
        };
        let found = map.entries.get(&key);
        if test {
            return Ok(Value::Bool(found.is_some()));
        }
        self.meter.charge(cost::SELECT)?;
        match found {
            Some(value) if optional => whole(value).map(Value::some),
            Some(value) => whole(value),
            None if optional => Ok(Value::Optional(None)),
            None => Err(missing(inner, &Value::from(field))),
        }
    }

    fn call(&mut self, id: Id, target: Option<Id>, args: &[Id]) -> Outcome {
        let Reference::Function(function, _) = &self.program.checked.references[id] else {
            return no_overload();
        };
        let function = functions::function(*function);
        match (function.name, target, args) {
            ("_&&_", None, [left, right]) => self.logical(*left, *right, false),
            ("_||_", None, [left, right]) => self.logical(*left, *right, true),
            ("_?_:_", None, [condition, then, otherwise]) => match self.eval(*condition)? {
                Value::Bool(true) => self.eval(*then),
                Value::Bool(false) => self.eval(*otherwise),
                _ => no_overload(),
            },
            ("@not_strictly_false", None, [arg]) => match self.eval(*arg) {
                Err(Failure::Budget) => Err(Failure::Budget),
                Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
                _ => Ok(Value::Bool(true)),
            },
            ("or" | "orValue", Some(target), [other]) => self.otherwise(function.name, target, *other),
            ("_+_" | "cel.@mapInsert", None, [so_far, added @ ..]) => match self.append(*so_far, added) {
                Some(done) => done,
                None => self.plain(function, None, args),
            },
            ("@in", None, [wanted, list])
                if matches!(self.program.constants.get(*list), Some(Some(Value::List(_)))) =>
            {
                let values = [self.eval(*wanted)?, self.eval(*list)?];
                // Kubernetes charges nothing for a look into a list of constants.
                (function.run)(&values, self.meter)
            }
            _ => self.plain(function, target, args),
        }
    }

    fn plain(&mut self, function: &functions::Function, target: Option<Id>, args: &[Id]) -> Outcome {
        let mut values = Vec::with_capacity(args.len() + 1);
        for id in target.iter().chain(args) {
            values.push(self.eval(*id)?);
        }
        // A pattern costs by the lengths alone, known before it runs.
        let before = cost::known_before(function.name, &values);
        if let Some(cost) = before {
            self.meter.charge(cost)?;
        }
        let result = (function.run)(&values, self.meter)?;
        if before.is_none() {
            self.meter.charge(cost::of_call(function.name, &values, &result))?;
        }
        Ok(result)
    }

    /// `&&` and `||`: a side that decides makes an error of the other one not matter.
    fn logical(&mut self, left: Id, right: Id, decides: bool) -> Outcome {
        let first = self.eval(left);
        match &first {
            Ok(Value::Bool(value)) if *value == decides => return Ok(Value::Bool(decides)),
            Err(Failure::Budget) => return first,
            _ => {}
        }
        let second = self.eval(right);
        match &second {
            Ok(Value::Bool(value)) if *value == decides => return Ok(Value::Bool(decides)),
            Err(Failure::Budget) => return second,
            _ => {}
        }
        match (first, second) {
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok(Value::Bool(!decides)),
            (Err(failure), _) | (_, Err(failure)) => Err(failure),
            _ => no_overload(),
        }
    }

    /// `a.or(b)` and `a.orValue(b)` look at the second only where the first has nothing.
    fn otherwise(&mut self, name: &str, target: Id, other: Id) -> Outcome {
        match self.eval(target)? {
            Value::Optional(Some(inner)) if name == "orValue" => Ok((*inner).clone()),
            found @ Value::Optional(Some(_)) => Ok(found),
            Value::Optional(None) => match self.eval(other)? {
                other @ Value::Optional(_) => Ok(other),
                _ if name == "or" => no_overload(),
                other => Ok(other),
            },
            _ => no_overload(),
        }
    }

    /// Adds to the accumulator in place, if that is what the call does: building a list or map of n items is no n² of work.
    fn append(&mut self, so_far: Id, added: &[Id]) -> Option<Outcome> {
        let program = self.program;
        let slot = crate::check::accumulator(&program.ast, &program.checked, so_far)?;
        match (self.stack.get(slot)?, added) {
            (Value::List(_), [list]) => match program.ast.expr(*list) {
                Expr::List(items) if items.len() == 1 && !items[0].1 => Some(self.append_item(slot, items[0].0)),
                _ => None,
            },
            (Value::Map(_), added) => Some(self.append_entries(slot, added)),
            _ => None,
        }
    }

    fn append_item(&mut self, slot: usize, item: Id) -> Outcome {
        let value = self.eval(item)?;
        self.meter.charge(cost::IDENT + cost::LIST + 1)?;
        self.meter.work(1)?;
        let Some(Value::List(mut list)) = self.taken(slot) else {
            return no_overload();
        };
        Arc::make_mut(&mut list).items.push(value);
        Ok(Value::List(list))
    }

    fn append_entries(&mut self, slot: usize, added: &[Id]) -> Outcome {
        self.meter.charge(cost::IDENT)?;
        let added = added.iter().map(|id| self.eval(*id)).collect::<Result<Vec<_>, _>>()?;
        let added = functions::entries(&added)?;
        self.meter.work(added.len())?;
        let Some(Value::Map(mut map)) = self.taken(slot) else {
            return no_overload();
        };
        functions::insert_all(&mut Arc::make_mut(&mut map).entries, added)?;
        self.meter.charge(1)?;
        Ok(Value::Map(map))
    }

    /// Takes the accumulator, so that nobody else has it; the step's value takes its place right after.
    fn taken(&mut self, slot: usize) -> Option<Value> {
        let place = self.stack.get_mut(slot)?;
        Some(std::mem::replace(place, Value::Null))
    }

    fn list(&mut self, items: &[(Id, bool)]) -> Outcome {
        let mut out = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.eval(*item)?, optional) {
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(inner)), true) => out.push((*inner).clone()),
                (_, true) => return no_overload(),
                (value, false) => out.push(value),
            }
        }
        self.meter.charge(cost::LIST)?;
        Ok(Value::list(out))
    }

    fn map(&mut self, entries: &[(Id, Id, bool)]) -> Outcome {
        let mut out = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.eval(*key)?;
            let key = Key::of(&key).filter(|_| !matches!(key, Value::Double(_)));
            let Some(key) = key else {
                return Err("unsupported key type".into());
            };
            let value = match (self.eval(*value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => (*inner).clone(),
                (_, true) => return no_overload(),
                (value, false) => value,
            };
            if out.contains_key(&key) {
                return Err(format!("Failed with repeated key: {}", key.value().shown()).into());
            }
            out.insert(key, value);
        }
        self.meter.charge(cost::MAP)?;
        Ok(Value::map(out))
    }

    /// Evaluates a value that only gets a name.
    fn bind(&mut self, fold: &Fold) -> Outcome {
        let value = held(self.eval(fold.start))?;
        self.stack.push(value);
        let outcome = self.eval(fold.result);
        self.stack.pop();
        outcome
    }

    fn fold(&mut self, fold: &Fold) -> Outcome {
        let range = self.eval(fold.range)?;
        let start = held(self.eval(fold.start))?;
        let slot = self.stack.len();
        self.stack.push(start);
        let outcome = self.turns(fold, &range, slot);
        let outcome = outcome.and_then(|()| self.eval(fold.result));
        self.stack.truncate(slot);
        outcome
    }

    fn turns(&mut self, fold: &Fold, range: &Value, slot: usize) -> Result<(), Failure> {
        match range {
            Value::List(list) => {
                for (index, item) in list.items.iter().enumerate() {
                    let first = match &fold.second {
                        Some(_) => Value::Int(i64::try_from(index).unwrap_or(i64::MAX)),
                        None => item.clone(),
                    };
                    if !self.turn(fold, slot, first, || item.clone())? {
                        break;
                    }
                }
                Ok(())
            }
            Value::Map(map) => {
                for (key, value) in &map.entries {
                    if !self.turn(fold, slot, key.value(), || value.clone())? {
                        break;
                    }
                }
                Ok(())
            }
            _ => no_overload(),
        }
    }

    /// One turn of a loop; returns whether there may be another one.
    fn turn(
        &mut self,
        fold: &Fold,
        slot: usize,
        first: Value,
        second: impl FnOnce() -> Value,
    ) -> Result<bool, Failure> {
        self.meter.work(1)?;
        self.stack.push(first);
        if fold.second.is_some() {
            self.stack.push(second());
        }
        let outcome = self.step(fold);
        self.stack.truncate(slot + 1);
        match outcome? {
            Some(value) => {
                // Where nothing can absorb an error, it is the result.
                let broken = matches!(value, Value::Broken(_))
                    && matches!(self.program.ast.expr(fold.condition), Expr::Literal(_));
                if let Some(place) = self.stack.get_mut(slot) {
                    *place = value;
                }
                Ok(!broken)
            }
            None => Ok(false),
        }
    }

    fn step(&mut self, fold: &Fold) -> Result<Option<Value>, Failure> {
        match self.eval(fold.condition)? {
            Value::Bool(true) => held(self.eval(fold.step)).map(Some),
            Value::Bool(false) => Ok(None),
            _ => no_overload(),
        }
    }
}

/// Turns an error into a value that is an error where it is read; running out of budget stays what it is.
fn held(outcome: Outcome) -> Outcome {
    match outcome {
        Err(Failure::Error(problem)) => Ok(Value::Broken(problem.into())),
        other => other,
    }
}
