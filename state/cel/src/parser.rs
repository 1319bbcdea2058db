//! Tokens to an [`Ast`], with macros expanded.
//!
//! The text's length, how deep it nests and how high the tree grows are bounded: whoever walks the tree may recurse.

mod macros;

use crate::ast::{Ast, Expr, Id};
use crate::lexer::{self, Kind, Token};
use crate::literal;
use crate::source::{Fault, Issues};
use crate::value::Value;
use crate::words::RESERVED;

/// How long a text may be, in code points (cel-go's limit).
const LENGTH: usize = 100_000;
/// How deep a text may nest and how high its tree may be (cel-go's limit on recursion).
pub(crate) const DEPTH: usize = 250;
/// What may begin an expression, as a syntax error lists it.
const STARTS: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Parses a text.
///
/// Errors: every fault of spelling, and the first fault of syntax.
pub(crate) fn parse(text: &str) -> Result<Ast, Issues> {
    let length = text.chars().count();
    if length > LENGTH {
        let message = format!("expression code point size exceeds limit: size: {length}, limit {LENGTH}");
        // The text is not shown: it is too long.
        return Err(Issues::new("", vec![Fault { offset: 0, message }]));
    }
    let mut faults = Vec::new();
    let tokens = lexer::tokens(text, &mut faults);
    let mut parser = Parser {
        ast: Ast::default(),
        tokens,
        at: 0,
        depth: 0,
    };
    match parser.whole() {
        Ok(root) if faults.is_empty() => {
            parser.ast.root = root;
            Ok(parser.ast)
        }
        Ok(_) => Err(Issues::new(text, faults)),
        Err(fault) => {
            faults.push(fault);
            Err(Issues::new(text, faults))
        }
    }
}

struct Parser {
    ast: Ast,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, Fault>;

impl Parser {
    fn token(&self) -> &Token {
        // The last token is the end, and nothing moves past it.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn offset(&self) -> usize {
        self.token().offset
    }

    fn advance(&mut self) -> Token {
        let token = self.token().clone();
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    fn sees(&self, sign: &str) -> bool {
        matches!(self.token().kind, Kind::Sign(found) if found == sign)
    }

    fn accept(&mut self, sign: &str) -> bool {
        let seen = self.sees(sign);
        if seen {
            self.at += 1;
        }
        seen
    }

    fn expect(&mut self, sign: &'static str) -> Parsed<()> {
        if self.accept(sign) {
            return Ok(());
        }
        Err(self.unexpected(&format!("'{sign}'")))
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let token = self.token();
        Fault {
            offset: token.offset,
            message: format!("Syntax error: mismatched input '{}' expecting {wanted}", token.text),
        }
    }

    fn too_deep(&self) -> Fault {
        Fault {
            offset: self.offset(),
            message: format!("expression recursion limit exceeded: {DEPTH}"),
        }
    }

    fn add(&mut self, expr: Expr, offset: usize) -> Parsed<Id> {
        let id = self.ast.add(expr, offset);
        if self.ast.height(id) > DEPTH {
            return Err(self.too_deep());
        }
        Ok(id)
    }

    fn call(&mut self, function: &str, args: Vec<Id>, offset: usize) -> Parsed<Id> {
        let function = function.into();
        let call = Expr::Call {
            target: None,
            function,
            args,
        };
        self.add(call, offset)
    }

    fn whole(&mut self) -> Parsed<Id> {
        let root = self.expression()?;
        let token = self.token();
        if token.kind != Kind::End {
            return Err(Fault {
                offset: token.offset,
                message: format!("Syntax error: extraneous input '{}' expecting <EOF>", token.text),
            });
        }
        Ok(root)
    }

    fn expression(&mut self) -> Parsed<Id> {
        if self.depth >= DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let outcome = self.conditional();
        self.depth -= 1;
        outcome
    }

    fn conditional(&mut self) -> Parsed<Id> {
        let condition = self.logical("||")?;
        let offset = self.offset();
        if !self.accept("?") {
            return Ok(condition);
        }
        let then = self.logical("||")?;
        self.expect(":")?;
        let otherwise = self.expression()?;
        self.call("_?_:_", vec![condition, then, otherwise], offset)
    }

    /// Parses a chain of `||`, whose terms are chains of `&&`; a chain becomes a balanced tree.
    fn logical(&mut self, sign: &'static str) -> Parsed<Id> {
        let mut terms = vec![self.term(sign)?];
        let mut offsets = Vec::new();
        while self.sees(sign) {
            offsets.push(self.advance().offset);
            terms.push(self.term(sign)?);
        }
        let function = if sign == "||" { "_||_" } else { "_&&_" };
        self.balance(function, &terms, &offsets)
    }

    fn term(&mut self, sign: &str) -> Parsed<Id> {
        if sign == "||" {
            self.logical("&&")
        } else {
            self.relation()
        }
    }

    fn balance(&mut self, function: &str, terms: &[Id], offsets: &[usize]) -> Parsed<Id> {
        if let [only] = terms {
            return Ok(*only);
        }
        let middle = terms.len() / 2;
        let left = self.balance(function, &terms[..middle], &offsets[..middle - 1])?;
        let right = self.balance(function, &terms[middle..], &offsets[middle..])?;
        self.call(function, vec![left, right], offsets[middle - 1])
    }

    fn relation(&mut self) -> Parsed<Id> {
        let mut left = self.sum()?;
        loop {
            let function = match self.token().kind {
                Kind::Sign("==") => "_==_",
                Kind::Sign("!=") => "_!=_",
                Kind::Sign("<") => "_<_",
                Kind::Sign("<=") => "_<=_",
                Kind::Sign(">") => "_>_",
                Kind::Sign(">=") => "_>=_",
                Kind::Sign("in") => "@in",
                _ => return Ok(left),
            };
            let offset = self.advance().offset;
            let right = self.sum()?;
            left = self.call(function, vec![left, right], offset)?;
        }
    }

    fn sum(&mut self) -> Parsed<Id> {
        let mut left = self.product()?;
        loop {
            let function = match self.token().kind {
                Kind::Sign("+") => "_+_",
                Kind::Sign("-") => "_-_",
                _ => return Ok(left),
            };
            let offset = self.advance().offset;
            let right = self.product()?;
            left = self.call(function, vec![left, right], offset)?;
        }
    }

    fn product(&mut self) -> Parsed<Id> {
        let mut left = self.unary()?;
        loop {
            let function = match self.token().kind {
                Kind::Sign("*") => "_*_",
                Kind::Sign("/") => "_/_",
                Kind::Sign("%") => "_%_",
                _ => return Ok(left),
            };
            let offset = self.advance().offset;
            let right = self.unary()?;
            left = self.call(function, vec![left, right], offset)?;
        }
    }

    /// Signs in a row cancel each other out.
    fn unary(&mut self) -> Parsed<Id> {
        let offset = self.offset();
        for (sign, function) in [("!", "!_"), ("-", "-_")] {
            if !self.sees(sign) {
                continue;
            }
            let mut count = 0;
            while self.accept(sign) {
                count += 1;
            }
            if sign == "-"
                && let Some(value) = self.number(count % 2 == 1)?
            {
                let literal = self.add(Expr::Literal(value), offset)?;
                return self.member(literal);
            }
            let operand = self.primary()?;
            let operand = self.member(operand)?;
            if count % 2 == 0 {
                return Ok(operand);
            }
            return self.call(function, vec![operand], offset);
        }
        let operand = self.primary()?;
        self.member(operand)
    }

    /// Reads a number that has a sign, if one is next.
    fn number(&mut self, negative: bool) -> Parsed<Option<Value>> {
        let token = self.token().clone();
        let fault = |what: &str| Fault {
            offset: token.offset,
            message: format!("invalid {what} literal"),
        };
        let value = match &token.kind {
            Kind::Int(digits) => Value::Int(literal::int(digits, negative).ok_or_else(|| fault("int"))?),
            Kind::Double(text) => {
                let number = literal::double(text).ok_or_else(|| fault("double"))?;
                Value::Double(if negative { -number } else { number })
            }
            Kind::Uint(digits) if !negative => Value::Uint(literal::uint(digits).ok_or_else(|| fault("uint"))?),
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(value))
    }

    fn member(&mut self, mut operand: Id) -> Parsed<Id> {
        loop {
            let offset = self.offset();
            if self.accept(".") {
                let optional = self.accept("?");
                let token = self.advance();
                let Kind::Ident(name) = token.kind else {
                    self.at = self.at.saturating_sub(usize::from(token.kind != Kind::End));
                    return Err(self.unexpected("IDENTIFIER"));
                };
                if optional {
                    let field = self.add(Expr::Literal(Value::from(&*name)), token.offset)?;
                    operand = self.call("_?._", vec![operand, field], offset)?;
                } else if self.sees("(") {
                    let offset = self.offset();
                    let args = self.arguments()?;
                    operand = self.member_call(operand, &name, args, offset)?;
                } else {
                    let select = Expr::Select {
                        operand,
                        field: name,
                        test: false,
                    };
                    operand = self.add(select, offset)?;
                }
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = self.expression()?;
                self.expect("]")?;
                let function = if optional { "_[?_]" } else { "_[_]" };
                operand = self.call(function, vec![operand, index], offset)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        self.expect("(")?;
        let mut args = Vec::new();
        if self.accept(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if !self.accept(",") {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed<Id> {
        let offset = self.offset();
        if let Some(value) = self.number(false)? {
            return self.add(Expr::Literal(value), offset);
        }
        let token = self.token().clone();
        let literal = match token.kind {
            Kind::Sign("(") => {
                self.at += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Kind::Sign("[") => return self.list(),
            Kind::Sign("{") => return self.map(),
            Kind::Sign(".") | Kind::Ident(_) => return self.name(),
            Kind::Sign("true") => Value::Bool(true),
            Kind::Sign("false") => Value::Bool(false),
            Kind::Sign("null") => Value::Null,
            Kind::Literal(value) => value,
            _ => return Err(self.unexpected(STARTS)),
        };
        self.at += 1;
        self.add(Expr::Literal(literal), offset)
    }

    fn list(&mut self) -> Parsed<Id> {
        let offset = self.advance().offset;
        let mut items = Vec::new();
        while !self.sees("]") {
            let optional = self.accept("?");
            items.push((self.expression()?, optional));
            if !self.accept(",") {
                break;
            }
        }
        self.expect("]")?;
        self.add(Expr::List(items), offset)
    }

    fn map(&mut self) -> Parsed<Id> {
        let offset = self.advance().offset;
        let mut entries = Vec::new();
        while !self.sees("}") {
            let optional = self.accept("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.accept(",") {
                break;
            }
        }
        self.expect("}")?;
        self.add(Expr::Map(entries), offset)
    }

    fn name(&mut self) -> Parsed<Id> {
        let start = self.at;
        let offset = self.offset();
        let rooted = self.accept(".");
        let token = self.advance();
        let Kind::Ident(word) = token.kind else {
            self.at = self.at.saturating_sub(usize::from(token.kind != Kind::End));
            return Err(self.unexpected("IDENTIFIER"));
        };
        if let Some(id) = self.message(start, offset)? {
            return Ok(id);
        }
        if RESERVED.contains(&&*word) {
            return Err(Fault {
                offset: token.offset,
                message: format!("reserved identifier: {word}"),
            });
        }
        let name: Box<str> = if rooted { format!(".{word}").into() } else { word };
        if self.sees("(") {
            let offset = self.offset();
            let args = self.arguments()?;
            return self.global_call(&name, args, offset);
        }
        self.add(Expr::Ident(name), offset)
    }

    /// Parses `a.b.C{...}` if that is what stands at a token.
    fn message(&mut self, start: usize, offset: usize) -> Parsed<Option<Id>> {
        let mut at = start;
        let mut name = String::new();
        loop {
            match self.tokens.get(at).map(|token| &token.kind) {
                Some(Kind::Sign(".")) => name.push('.'),
                Some(Kind::Ident(word)) => name.push_str(word),
                Some(Kind::Sign("{")) => break,
                _ => return Ok(None),
            }
            at += 1;
        }
        self.at = at + 1;
        let mut fields = Vec::new();
        while !self.sees("}") {
            self.accept("?");
            let token = self.advance();
            let Kind::Ident(field) = token.kind else {
                self.at = self.at.saturating_sub(usize::from(token.kind != Kind::End));
                return Err(self.unexpected("IDENTIFIER"));
            };
            self.expect(":")?;
            fields.push((field, self.expression()?));
            if !self.accept(",") {
                break;
            }
        }
        self.expect("}")?;
        self.add(
            Expr::Struct {
                name: name.into(),
                fields,
            },
            offset,
        )
        .map(Some)
    }
}
