//! What calls can cost, by their functions.

use super::range::{Range, scale};
use super::{Estimator, Id};
use crate::ast::Expr;
use crate::functions::LONGEST_PATTERN;
use crate::types::{CIDR, FORMAT, IP, QUANTITY, SEMVER, Type, URL};
use crate::value::Value;

const TRAVERSAL: f64 = 0.1;
const PATTERN: f64 = 0.25;
const ONE: Range = Range::exactly(1);
/// A call that makes a list.
const NEW_LIST: Range = Range::exactly(11);

/// A call with one of its signatures.
pub(super) struct Call<'a> {
    pub id: Id,
    pub name: &'static str,
    pub params: &'a [Type],
    pub target: Option<Id>,
    pub args: &'a [Id],
    pub arg_costs: &'a [Range],
}

impl Call<'_> {
    fn args_cost(&self) -> Range {
        self.arg_costs.iter().fold(Range::ZERO, |sum, cost| sum.plus(*cost))
    }

    fn texts(&self) -> bool {
        matches!(self.params.first(), Some(Type::String | Type::Bytes))
    }
}

type Cost = (Range, Option<Range>);

impl Estimator<'_> {
    /// Returns what a call can cost, its arguments included, and how large its result can be.
    pub(super) fn overload(&mut self, call: &Call<'_>) -> Cost {
        if let Some((cost, size)) = self.of_library(call).or_else(|| self.kubernetes(call)) {
            return (cost.plus(call.args_cost()), size);
        }
        self.language(call)
    }

    fn target_size(&mut self, call: &Call<'_>) -> Range {
        call.target.map_or(Range::UNKNOWN, |target| self.known_size(target))
    }

    fn arg_size(&mut self, call: &Call<'_>, index: usize) -> Range {
        call.args.get(index).map_or(Range::UNKNOWN, |arg| self.known_size(*arg))
    }

    /// Returns the size of an argument of Kubernetes' libraries.
    fn known_size(&mut self, id: Id) -> Range {
        if let Some(size) = self.size(id) {
            return size;
        }
        self.declared_size(&self.argument_path(id)).unwrap_or(Range::UNKNOWN)
    }

    fn item_size(&mut self, list: Id) -> Option<(Type, Range)> {
        let kind = match self.kind(list) {
            Type::List(items) | Type::Optional(items) => (**items).clone(),
            Type::Map(keys, _) => (**keys).clone(),
            _ => return None,
        };
        let mut path = self.argument_path(list);
        let declared = if path.is_empty() {
            None
        } else {
            path.push("@items".into());
            self.declared_size(&path)
        };
        Some((kind, declared.unwrap_or(Range::UNKNOWN)))
    }

    fn literal_uint(&self, call: &Call<'_>, index: usize, otherwise: u64) -> u64 {
        match call.args.get(index).map(|arg| self.expr(*arg)) {
            Some(Expr::Literal(Value::Int(number))) => u64::try_from(*number).unwrap_or(otherwise),
            Some(Expr::Literal(Value::Uint(number))) => *number,
            _ => otherwise,
        }
    }

    /// cel-go's extensions that have costs of their own.
    fn of_library(&mut self, call: &Call<'_>) -> Option<Cost> {
        let new_list = |factor: f64, size: Range| (size.scaled(factor).plus(NEW_LIST), Some(size));
        Some(match call.name {
            "sets.contains" | "sets.intersects" | "sets.equivalent" => {
                let factor = if call.name == "sets.equivalent" { 2.0 } else { 1.0 };
                let (a, b) = (self.arg_size(call, 0), self.arg_size(call, 1));
                (a.times(b).scaled(factor).plus(ONE), None)
            }
            "slice" => {
                let most = self.target_size(call).max;
                let (start, end) = (self.literal_uint(call, 0, 0), self.literal_uint(call, 1, most));
                new_list(1.0, Range::exactly(end.saturating_sub(start)))
            }
            "lists.range" => new_list(1.0, Range::exactly(self.literal_uint(call, 0, u64::MAX))),
            "reverse" => new_list(1.0, self.target_size(call)),
            "flatten" => {
                let depth = if call.args.is_empty() {
                    1
                } else {
                    self.literal_uint(call, 0, u64::MAX)
                };
                #[allow(clippy::cast_precision_loss)]
                new_list(depth as f64, self.target_size(call))
            }
            "distinct" => {
                let size = self.target_size(call);
                new_list(2.0, size.times(size))
            }
            "sort" | "@sortByAssociatedKeys" => {
                let keys = if call.name == "sort" {
                    self.target_size(call)
                } else {
                    self.arg_size(call, 0)
                };
                let text = matches!(call.params.last(), Some(Type::List(items)) if matches!(**items, Type::String | Type::Bytes));
                new_list(if text { 2.0 + TRAVERSAL } else { 2.0 }, keys.times(keys))
            }
            _ => return None,
        })
    }

    /// Kubernetes' libraries, and what it prices itself.
    fn kubernetes(&mut self, call: &Call<'_>) -> Option<Cost> {
        Some(match call.name {
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
                let target = call.target?;
                let size = self.known_size(target);
                match self.item_size(target) {
                    Some((Type::String | Type::Bytes, item)) => (size.times(ONE.plus(item.scaled(TRAVERSAL))), None),
                    Some(_) => (size, None),
                    None if call.name == "includes" => (size, None),
                    None => (size.scaled(TRAVERSAL), None),
                }
            }
            "url" => {
                let size = self.arg_size(call, 0);
                (size.scaled(TRAVERSAL), Some(size))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let size = self.target_size(call);
                (size.scaled(TRAVERSAL), Some(size))
            }
            "replace" => self.replace(call),
            "split" => {
                let size = self.target_size(call);
                let most = self.literal_uint(call, 1, size.max);
                (size.scaled(2.0 * TRAVERSAL), Some(Range::up_to(most)))
            }
            "join" => {
                let list = call.target?;
                let count = self.known_size(list);
                let mut size = match self.item_size(list) {
                    Some((_, item)) => count.times(item),
                    None => Range::ZERO,
                };
                if !call.args.is_empty() {
                    let between = Range {
                        min: count.min.saturating_sub(1),
                        max: count.max.saturating_sub(1),
                    };
                    size = size.plus(self.arg_size(call, 0).times(between));
                }
                (size.scaled(TRAVERSAL), Some(size))
            }
            "find" | "findAll" => {
                let size = self.target_size(call);
                let pattern = self.arg_size(call, 0).scaled(PATTERN);
                (
                    size.plus(ONE).scaled(TRAVERSAL).times(pattern),
                    Some(Range::up_to(size.max)),
                )
            }
            "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                (self.arg_size(call, 0).scaled(TRAVERSAL), None)
            }
            "ip" if call.target.is_some() => (ONE, None),
            "ip" => (self.arg_size(call, 0).scaled(TRAVERSAL), None),
            "ip.isCanonical" => (self.arg_size(call, 0).scaled(2.0 * TRAVERSAL), None),
            "containsIP" | "containsCIDR" => {
                let address = Range { min: 4, max: 16 };
                let mut cost = address.plus(address).scaled(TRAVERSAL);
                if call.name == "containsCIDR" {
                    cost = cost.plus(address.scaled(TRAVERSAL)).plus(ONE);
                }
                if matches!(call.params.last(), Some(Type::String)) {
                    cost = cost.plus(self.arg_size(call, 0).scaled(TRAVERSAL));
                }
                (cost, None)
            }
            "validate" => {
                #[allow(clippy::cast_precision_loss)]
                let pattern = LONGEST_PATTERN as f64 * PATTERN;
                (self.arg_size(call, 0).scaled(TRAVERSAL).scaled(pattern), None)
            }
            "_==_" => return self.equality(call),
            _ => return None,
        })
    }

    /// Values of Kubernetes' types compare in constant time.
    fn equality(&self, call: &Call<'_>) -> Option<Cost> {
        let [left, right] = call.args else { return None };
        let kind = self.kind(*left);
        if kind != self.kind(*right) {
            return None;
        }
        if [IP, CIDR, QUANTITY, SEMVER].contains(kind) {
            return Some((ONE, None));
        }
        if *kind == FORMAT {
            return Some((Range { min: 1, max: 64 }.scaled(TRAVERSAL), None));
        }
        let size = self.sizes.get(right).map_or(1, |size| size.max);
        (*kind == URL).then(|| (Range { min: 1, max: size }.scaled(TRAVERSAL), None))
    }

    fn replace(&mut self, call: &Call<'_>) -> Cost {
        let (text, old, new) = (self.target_size(call), self.arg_size(call, 0), self.arg_size(call, 1));
        let (mut count, mut kept) = (Range::ZERO, Range::ZERO);
        if old.min == 0 {
            count.max = text.max.saturating_add(1);
            kept.max = text.max;
        } else if new.max <= old.min {
            kept.max = text.max;
        } else {
            #[allow(clippy::cast_precision_loss)]
            let each = 1.0 / old.min as f64;
            count.max = scale(text.max, each);
        }
        if old.max == 0 {
            count.min = text.min.saturating_add(1);
            kept.min = text.min;
        } else if old.max <= new.min {
            kept.min = text.min;
        } else {
            #[allow(clippy::cast_precision_loss)]
            let each = 1.0 / old.max as f64;
            count.min = scale(text.min, each);
        }
        (text.scaled(2.0 * TRAVERSAL), Some(count.times(new).plus(kept)))
    }

    /// The language itself.
    fn language(&mut self, call: &Call<'_>) -> Cost {
        let args = call.args_cost();
        let size_of = |estimator: &mut Self, index: usize| {
            call.args
                .get(index)
                .map_or(Range::UNKNOWN, |arg| estimator.size_or_unknown(*arg))
        };
        let target = |estimator: &mut Self| {
            call.target
                .map_or(Range::UNKNOWN, |target| estimator.size_or_unknown(target))
        };
        match (call.name, call.arg_costs) {
            ("format", _) => (target(self).scaled(TRAVERSAL).plus(args), None),
            ("bytes", [_]) if matches!(call.params, [Type::String]) => {
                let size = size_of(self, 0);
                let result = Range {
                    min: size.min,
                    max: size.max.saturating_mul(4),
                };
                (size.scaled(TRAVERSAL).plus(args), Some(result))
            }
            ("string", [_]) if matches!(call.params, [Type::Bytes]) => {
                let size = size_of(self, 0);
                (
                    size.scaled(TRAVERSAL).plus(args),
                    Some(Range {
                        min: size.min / 4,
                        max: size.max,
                    }),
                )
            }
            ("strings.quote", [_]) => {
                let size = size_of(self, 0);
                let result = Range {
                    min: size.min.saturating_add(2),
                    max: size.max.saturating_mul(2).saturating_add(2),
                };
                (size.scaled(TRAVERSAL).plus(args), Some(result))
            }
            ("startsWith" | "endsWith", [_]) => (size_of(self, 0).scaled(TRAVERSAL).plus(args), None),
            ("@in", [_, _]) if matches!(call.params, [_, Type::List(_)]) => (size_of(self, 1).plus(args), None),
            ("matches", [_]) if call.target.is_some() => {
                let text = target(self).plus(ONE).scaled(TRAVERSAL);
                (text.times(size_of(self, 0).scaled(PATTERN)).plus(args), None)
            }
            ("contains", [_]) => {
                let text = target(self).scaled(TRAVERSAL);
                (text.times(size_of(self, 0).scaled(TRAVERSAL)).plus(args), None)
            }
            ("_||_" | "_&&_", [left, right]) => (
                Range {
                    min: left.min,
                    max: left.plus(*right).max,
                },
                None,
            ),
            ("_?_:_", [condition, then, otherwise]) => {
                let size = size_of(self, 1).union(size_of(self, 2));
                if let (Some(a), Some(b)) = (self.entries(call.args[1]), self.entries(call.args[2])) {
                    self.entries.insert(call.id, a.union(b));
                }
                (condition.plus(then.union(*otherwise)), Some(size))
            }
            ("_+_", [_, _]) if call.texts() || matches!(call.params, [Type::List(_), _]) => {
                let size = size_of(self, 0).plus(size_of(self, 1));
                if let (Some(a), Some(b)) = (self.entries(call.args[0]), self.entries(call.args[1])) {
                    self.entries.insert(call.id, a.union(b));
                }
                let cost = if call.texts() { size.scaled(TRAVERSAL) } else { ONE };
                (cost.plus(args), Some(size))
            }
            ("_==_" | "_!=_", [_, _]) => (self.comparison(call).plus(args), None),
            ("_<_" | "_<=_" | "_>_" | "_>=_", [_, _])
                if matches!(call.params, [Type::String, _] | [Type::Bytes, _]) =>
            {
                (self.comparison(call).plus(args), None)
            }
            _ => (ONE.plus(args), None),
        }
    }

    fn comparison(&mut self, call: &Call<'_>) -> Range {
        let most = call
            .args
            .iter()
            .map(|arg| self.size_or_unknown(*arg).max)
            .min()
            .unwrap_or(u64::MAX);
        Range {
            min: u64::from(most > 0),
            max: most,
        }
        .scaled(TRAVERSAL)
    }
}
