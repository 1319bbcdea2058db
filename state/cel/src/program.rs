//! Compiled expressions.

use std::sync::Arc;

use crate::ast::{Ast, Expr};
use crate::check::{self, Checked, Reference};
use crate::declare::Declaration;
use crate::functions::{self, Failure, Meter, Patterns};
use crate::source::Issues;
use crate::types::Type;
use crate::value::Value;
use crate::{estimate, eval, parser};

/// What an expression may refer to: variables and their types.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(Box<str>, Type)>,
    declarations: Vec<Option<Arc<Declaration>>>,
}

impl Environment {
    /// Adds a variable of a declared type.
    pub fn declare(mut self, name: &str, declaration: &Arc<Declaration>) -> Environment {
        self.variables.push((name.into(), declaration.kind.clone()));
        self.declarations.push(Some(declaration.clone()));
        self
    }

    /// Adds a variable that holds a value of a declared type, or nothing.
    pub fn declare_optional(mut self, name: &str, declaration: &Arc<Declaration>) -> Environment {
        self.variables
            .push((name.into(), Type::optional(declaration.kind.clone())));
        self.declarations.push(Some(declaration.clone()));
        self
    }

    /// Adds a variable of any type.
    pub fn variable(mut self, name: &str, kind: Type) -> Environment {
        self.variables.push((name.into(), kind));
        self.declarations.push(None);
        self
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// It came to an error, worded as cel-go words it.
    #[error("{0}")]
    Error(String),
    /// It cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
}

/// What came of an evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The value, or why there is none.
    pub value: Result<Value, EvaluationError>,
    /// What it cost, in Kubernetes' units.
    pub cost: u64,
}

/// An expression that is parsed and checked. It can be run any number of times, from any thread.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) ast: Ast,
    pub(crate) checked: Checked,
    environment: Environment,
    patterns: Arc<Patterns>,
    /// The values of nodes that are the same in every run, by node; they cost nothing.
    pub(crate) constants: Vec<Option<Value>>,
}

impl Program {
    /// Compiles an expression.
    ///
    /// Errors: everything that is wrong with it, with places.
    pub fn compile(text: &str, environment: &Environment) -> Result<Program, Issues> {
        let mut ast = parser::parse(text)?;
        let checked = check::check(&mut ast, &environment.variables).map_err(|faults| Issues::new(text, faults))?;
        let mut program = Program {
            ast,
            checked,
            environment: environment.clone(),
            patterns: Arc::default(),
            constants: Vec::new(),
        };
        program.compile_patterns();
        program.fold_constants();
        Ok(program)
    }

    /// Compiles the patterns that are literals; a wrong one is an error where it is used.
    fn compile_patterns(&mut self) {
        let mut patterns = Patterns::new();
        for id in 0..self.ast.len() {
            let (Expr::Call { args, .. }, Reference::Function(function, _)) =
                (self.ast.expr(id), &self.checked.references[id])
            else {
                continue;
            };
            if !matches!(functions::function(*function).name, "matches" | "find" | "findAll") {
                continue;
            }
            for arg in args {
                if let Expr::Literal(Value::String(source)) = self.ast.expr(*arg)
                    && let Ok(pattern) = functions::compile_pattern(source)
                {
                    patterns.insert(source.clone(), Arc::new(pattern));
                }
            }
        }
        self.patterns = Arc::new(patterns);
    }

    /// Finds what is constant: literals, lists and maps of constants, types, and conversions of constants.
    fn fold_constants(&mut self) {
        let mut meter = Meter::new(crate::CALL_LIMIT, Arc::default());
        // A node's children come before it.
        for id in 0..self.ast.len() {
            let value = eval::constant(self, id, &mut meter);
            self.constants.push(value);
        }
    }

    /// Returns the type of what the expression gives.
    pub fn result_type(&self) -> &Type {
        &self.checked.types[self.ast.root]
    }

    /// Returns whether the expression refers to a variable.
    pub fn uses(&self, variable: &str) -> bool {
        let index = self
            .environment
            .variables
            .iter()
            .position(|(name, _)| **name == *variable);
        index.is_some_and(|index| self.checked.references.contains(&Reference::Global(index)))
    }

    pub(crate) fn variable(&self, index: usize) -> &str {
        self.environment.variables.get(index).map_or("", |(name, _)| name)
    }

    pub(crate) fn declaration(&self, name: &str) -> Option<&Arc<Declaration>> {
        let index = self
            .environment
            .variables
            .iter()
            .position(|(known, _)| **known == *name)?;
        self.environment.declarations.get(index)?.as_ref()
    }

    /// Returns the most that a run can cost, given how large the data can be.
    pub fn worst_cost(&self) -> u64 {
        estimate::worst(self)
    }

    /// Runs the expression with values for its variables, in the order of their declaration.
    ///
    /// It ends when it cost more than `limit`, and in any case before long.
    pub fn run(&self, variables: &[Option<Value>], limit: u64) -> Evaluation {
        let mut meter = Meter::new(limit, self.patterns.clone());
        let value = eval::run(self, variables, &mut meter).map_err(|failure| match failure {
            Failure::Error(problem) => EvaluationError::Error(problem),
            Failure::Budget => EvaluationError::CostLimit,
        });
        Evaluation {
            value,
            cost: meter.cost,
        }
    }
}
