//! What macros stand for: each is written out as the loop that the specification gives for it.

use super::{Fault, Parsed, Parser};
use crate::ast::{ACCUMULATOR, Expr, Fold, Id, UNUSED};
use crate::value::Value;

impl Parser {
    /// Makes `name(args)`, or what the macro of that name stands for.
    pub(super) fn global_call(&mut self, name: &str, args: Vec<Id>, offset: usize) -> Parsed<Id> {
        if name == "has"
            && let [operand] = args[..]
        {
            let Expr::Select {
                operand,
                field,
                test: false,
            } = self.ast.expr(operand).clone()
            else {
                return Err(self.fault(args[0], "invalid argument to has() macro"));
            };
            let test = Expr::Select {
                operand,
                field,
                test: true,
            };
            return self.add(test, offset);
        }
        self.call(name, args, offset)
    }

    /// Makes `target.name(args)`, or what the macro of that name stands for.
    pub(super) fn member_call(&mut self, target: Id, name: &str, args: Vec<Id>, offset: usize) -> Parsed<Id> {
        let mut at = Expansion { parser: self, offset };
        match (name, &args[..]) {
            ("all" | "exists" | "exists_one" | "existsOne", [first, condition]) => {
                let names = at.names(*first, None)?;
                at.quantifier(name, target, names, *condition)
            }
            ("all" | "exists" | "exists_one" | "existsOne", [first, second, condition]) => {
                let names = at.names(*first, Some(*second))?;
                at.quantifier(name, target, names, *condition)
            }
            ("map", [first, item]) => {
                let names = at.one_name(*first, "argument is not an identifier")?;
                at.collect(target, names, None, *item)
            }
            ("map", [first, condition, item]) => {
                let names = at.one_name(*first, "argument is not an identifier")?;
                at.collect(target, names, Some(*condition), *item)
            }
            ("filter", [first, condition]) => {
                let names = at.one_name(*first, "argument is not an identifier")?;
                let item = at.add(Expr::Ident(names.0.clone()))?;
                at.collect(target, names, Some(*condition), item)
            }
            ("transformList", [first, second, rest @ ..]) if matches!(rest.len(), 1 | 2) => {
                let names = at.names(*first, Some(*second))?;
                let condition = (rest.len() == 2).then(|| rest[0]);
                at.collect(target, names, condition, rest[rest.len() - 1])
            }
            ("transformMap" | "transformMapEntry", [first, second, rest @ ..]) if matches!(rest.len(), 1 | 2) => {
                let names = at.names(*first, Some(*second))?;
                let condition = (rest.len() == 2).then(|| rest[0]);
                at.insert(target, names, condition, rest[rest.len() - 1], name == "transformMap")
            }
            ("optMap" | "optFlatMap", [variable, body]) => at.optional_map(target, name, *variable, *body),
            ("sortBy", [first, key]) => at.sort_by(target, *first, *key),
            _ => {
                let call = Expr::Call {
                    target: Some(target),
                    function: name.into(),
                    args,
                };
                self.add(call, offset)
            }
        }
    }

    fn fault(&self, at: Id, message: impl Into<String>) -> Fault {
        Fault {
            offset: self.ast.offset(at),
            message: message.into(),
        }
    }
}

/// The variables of a loop.
type Names = (Box<str>, Option<Box<str>>);

/// One macro that is being written out.
struct Expansion<'a> {
    parser: &'a mut Parser,
    offset: usize,
}

impl Expansion<'_> {
    fn add(&mut self, expr: Expr) -> Parsed<Id> {
        self.parser.add(expr, self.offset)
    }

    fn call(&mut self, function: &str, args: Vec<Id>) -> Parsed<Id> {
        self.parser.call(function, args, self.offset)
    }

    fn literal(&mut self, value: Value) -> Parsed<Id> {
        self.add(Expr::Literal(value))
    }

    fn accumulator(&mut self) -> Parsed<Id> {
        self.add(Expr::Ident(ACCUMULATOR.into()))
    }

    fn one_name(&mut self, at: Id, otherwise: &str) -> Parsed<Names> {
        match self.parser.ast.expr(at) {
            Expr::Ident(name) if name.starts_with('.') => Err(self.parser.fault(at, otherwise)),
            Expr::Ident(name) if &**name == "__result__" => Err(self
                .parser
                .fault(at, "iteration variable overwrites accumulator variable")),
            Expr::Ident(name) => Ok((name.clone(), None)),
            _ => Err(self.parser.fault(at, otherwise)),
        }
    }

    fn names(&mut self, first: Id, second: Option<Id>) -> Parsed<Names> {
        let simple = "argument must be a simple name";
        let (name, _) = self.one_name(first, simple)?;
        let Some(second) = second else { return Ok((name, None)) };
        let (value, _) = self.one_name(second, simple)?;
        if name == value {
            let message = format!("duplicate variable name: {name}");
            return Err(self.parser.fault(second, message));
        }
        Ok((name, Some(value)))
    }

    fn fold(&mut self, range: Id, names: Names, start: Id, condition: Id, step: Id, result: Id) -> Parsed<Id> {
        self.add(Expr::Fold(Box::new(Fold {
            range,
            first: names.0,
            second: names.1,
            accumulator: ACCUMULATOR.into(),
            start,
            condition,
            step,
            result,
        })))
    }

    fn quantifier(&mut self, name: &str, range: Id, names: Names, body: Id) -> Parsed<Id> {
        let so_far = self.accumulator()?;
        let so_far_again = self.accumulator()?;
        let result = self.accumulator()?;
        match name {
            "all" => {
                let start = self.literal(Value::Bool(true))?;
                let condition = self.call("@not_strictly_false", vec![so_far])?;
                let step = self.call("_&&_", vec![so_far_again, body])?;
                self.fold(range, names, start, condition, step, result)
            }
            "exists" => {
                let start = self.literal(Value::Bool(false))?;
                let not = self.call("!_", vec![so_far])?;
                let condition = self.call("@not_strictly_false", vec![not])?;
                let step = self.call("_||_", vec![so_far_again, body])?;
                self.fold(range, names, start, condition, step, result)
            }
            _ => {
                let start = self.literal(Value::Int(0))?;
                let condition = self.literal(Value::Bool(true))?;
                let one = self.literal(Value::Int(1))?;
                let more = self.call("_+_", vec![so_far, one])?;
                let step = self.call("_?_:_", vec![body, more, so_far_again])?;
                let only = self.literal(Value::Int(1))?;
                let result = self.call("_==_", vec![result, only])?;
                self.fold(range, names, start, condition, step, result)
            }
        }
    }

    /// A step that is only made where a condition holds.
    fn guarded(&mut self, condition: Option<Id>, step: Id) -> Parsed<Id> {
        match condition {
            None => Ok(step),
            Some(condition) => {
                let unchanged = self.accumulator()?;
                self.call("_?_:_", vec![condition, step, unchanged])
            }
        }
    }

    fn collect(&mut self, range: Id, names: Names, condition: Option<Id>, item: Id) -> Parsed<Id> {
        let start = self.add(Expr::List(Vec::new()))?;
        let always = self.literal(Value::Bool(true))?;
        let so_far = self.accumulator()?;
        let one = self.add(Expr::List(vec![(item, false)]))?;
        let step = self.call("_+_", vec![so_far, one])?;
        let step = self.guarded(condition, step)?;
        let result = self.accumulator()?;
        self.fold(range, names, start, always, step, result)
    }

    fn insert(&mut self, range: Id, names: Names, condition: Option<Id>, item: Id, keyed: bool) -> Parsed<Id> {
        let start = self.add(Expr::Map(Vec::new()))?;
        let always = self.literal(Value::Bool(true))?;
        let so_far = self.accumulator()?;
        let key = self.add(Expr::Ident(names.0.clone()))?;
        let args = if keyed {
            vec![so_far, key, item]
        } else {
            vec![so_far, item]
        };
        let step = self.call("cel.@mapInsert", args)?;
        let step = self.guarded(condition, step)?;
        let result = self.accumulator()?;
        self.fold(range, names, start, always, step, result)
    }

    /// Gives a value a name in an expression.
    fn bind(&mut self, name: Box<str>, value: Id, body: Id) -> Parsed<Id> {
        let range = self.add(Expr::List(Vec::new()))?;
        let condition = self.literal(Value::Bool(false))?;
        let step = self.add(Expr::Ident(name.clone()))?;
        self.add(Expr::Fold(Box::new(Fold {
            range,
            first: UNUSED.into(),
            second: None,
            accumulator: name,
            start: value,
            condition,
            step,
            result: body,
        })))
    }

    fn member(&mut self, target: Id, function: &str, args: Vec<Id>) -> Parsed<Id> {
        self.add(Expr::Call {
            target: Some(target),
            function: function.into(),
            args,
        })
    }

    fn optional_map(&mut self, target: Id, name: &str, variable: Id, body: Id) -> Parsed<Id> {
        let otherwise = format!("{name}() variable name must be a simple identifier");
        let (variable, _) = self.one_name(variable, &otherwise)?;
        // The target is asked twice, but written out only once: it has a name of its own.
        let held = self.add(Expr::Ident("@target".into()))?;
        let some = self.member(held, "hasValue", Vec::new())?;
        let held = self.add(Expr::Ident("@target".into()))?;
        let value = self.member(held, "value", Vec::new())?;
        let body = self.bind(variable, value, body)?;
        let body = if name == "optMap" {
            self.call("optional.of", vec![body])?
        } else {
            body
        };
        let none = self.call("optional.none", Vec::new())?;
        let whole = self.call("_?_:_", vec![some, body, none])?;
        self.bind("@target".into(), target, whole)
    }

    fn sort_by(&mut self, target: Id, first: Id, key: Id) -> Parsed<Id> {
        let names = self.one_name(first, "argument is not an identifier")?;
        let input: Box<str> = "@__sortBy_input__".into();
        let range = self.add(Expr::Ident(input.clone()))?;
        let keys = self.collect(range, names, None, key)?;
        let list = self.add(Expr::Ident(input.clone()))?;
        let sorted = self.member(list, "@sortByAssociatedKeys", vec![keys])?;
        self.bind(input, target, sorted)
    }
}
