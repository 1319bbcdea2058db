//! What stands within the braces: names, literals, calls and their arguments.

use std::rc::Rc;

use super::super::tree::{At, Call, Expr, ExprKind, Partial, Path};
use super::{DEPTH_LIMIT, Fault, Parser};
use crate::value::Value;

/// How much of an expression errors show, in bytes.
const SHOWN: usize = 120;

/// The arguments of a tag.
#[derive(Default)]
struct Arguments {
    params: Vec<Expr>,
    hash: Vec<(String, Expr)>,
    names: Vec<String>,
}

impl<'s> Parser<'s> {
    pub(super) fn opening(&mut self) -> Result<(Call, Vec<String>), Fault> {
        self.blanks();
        let start = self.pos;
        let name = self.word().to_owned();
        if name.is_empty() {
            return self.fault(start, "the name of a helper is missing");
        }
        let arguments = self.arguments(0)?;
        if let Some((key, value)) = arguments.hash.first() {
            return Err((value.at, format!("{name} has no argument {key}")));
        }
        let call = Call {
            at: self.at(start),
            name,
            params: arguments.params,
        };
        Ok((call, arguments.names))
    }

    pub(super) fn partial(&mut self, at: At) -> Result<Partial, Fault> {
        self.blanks();
        let start = self.pos;
        let name = if self.rest().starts_with(['(', '"', '\'']) {
            self.operand(0)?
        } else {
            let length = self.rest().find(|c: char| c.is_whitespace() || "~}=()|".contains(c));
            self.pos += length.unwrap_or(self.rest().len());
            let text = &self.source[start..self.pos];
            Expr {
                at: self.at(start),
                text: shown(text),
                kind: ExprKind::Literal(Value::from(text)),
            }
        };
        let mut arguments = self.arguments(0)?;
        if arguments.params.len() > 1 {
            return self.fault(start, "a partial takes one context, and named values");
        }
        if !arguments.names.is_empty() {
            return self.fault(start, "a partial gives no names: `as |…|` is for each and with");
        }
        Ok(Partial {
            at,
            name,
            context: arguments.params.pop(),
            hash: arguments.hash,
            indent: String::new(),
        })
    }

    /// Parses what `{{…}}` has the value of.
    pub(super) fn value(&mut self) -> Result<Expr, Fault> {
        self.blanks();
        let start = self.pos;
        let first = self.operand(0)?;
        self.called(first, start, 0)
    }

    /// Makes a call of a name that has arguments.
    fn called(&mut self, first: Expr, start: usize, depth: usize) -> Result<Expr, Fault> {
        let arguments = self.arguments(depth)?;
        if let Some((key, value)) = arguments.hash.first() {
            return Err((value.at, format!("{} has no argument {key}", first.text)));
        }
        if !arguments.names.is_empty() {
            return Err((
                first.at,
                "a value gives no names: `as |…|` is for each and with".to_owned(),
            ));
        }
        if arguments.params.is_empty() {
            return Ok(first);
        }
        let ExprKind::Path(Path {
            up: 0,
            is_data: false,
            is_this: false,
            names,
        }) = &first.kind
        else {
            return Err((first.at, format!("{} is no helper", first.text)));
        };
        let [name] = names.as_slice() else {
            return Err((first.at, format!("{} is no helper", first.text)));
        };
        let kind = ExprKind::Call(Call {
            at: first.at,
            name: name.clone(),
            params: arguments.params,
        });
        Ok(Expr {
            at: first.at,
            text: shown(self.source[start..self.pos].trim()),
            kind,
        })
    }

    fn arguments(&mut self, depth: usize) -> Result<Arguments, Fault> {
        let mut found = Arguments::default();
        loop {
            self.blanks();
            let rest = self.rest();
            if rest.is_empty() || rest.starts_with(['}', ')', '~']) {
                return Ok(found);
            }
            let start = self.pos;
            let word = self.word();
            self.blanks();
            if word == "as" && self.take("|") {
                loop {
                    self.blanks();
                    if self.take("|") {
                        break;
                    }
                    let name = self.word();
                    if name.is_empty() {
                        return self.fault(self.pos, "names are missing after `as |`");
                    }
                    found.names.push(name.to_owned());
                }
                continue;
            }
            if !word.is_empty() && self.take("=") {
                let key = word.to_owned();
                self.blanks();
                let value = self.operand(depth)?;
                found.hash.push((key, value));
                continue;
            }
            self.pos = start;
            let param = self.operand(depth)?;
            found.params.push(param);
        }
    }

    /// Takes a name.
    pub(super) fn word(&mut self) -> &'s str {
        let rest = self.rest();
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        self.pos += length;
        &rest[..length]
    }

    fn operand(&mut self, depth: usize) -> Result<Expr, Fault> {
        if depth > DEPTH_LIMIT {
            return self.fault(self.pos, format!("expressions nest deeper than {DEPTH_LIMIT} levels"));
        }
        let start = self.pos;
        let kind = if self.take("(") {
            self.blanks();
            let inner = self.pos;
            let first = self.operand(depth + 1)?;
            let bare = match &first.kind {
                ExprKind::Path(Path {
                    up: 0,
                    is_data: false,
                    is_this: false,
                    names,
                }) if names.len() == 1 => names.first().cloned(),
                _ => None,
            };
            let value = self.called(first, inner, depth + 1)?;
            self.blanks();
            if !self.take(")") {
                return self.fault(self.pos, ") is missing, or something here is out of place");
            }
            match (bare, value.kind) {
                // In parentheses a name alone is a helper.
                (Some(name), ExprKind::Path(_)) => ExprKind::Call(Call {
                    at: value.at,
                    name,
                    params: Vec::new(),
                }),
                (_, kind) => kind,
            }
        } else if self.rest().starts_with(['"', '\'']) {
            ExprKind::Literal(Value::from(self.string()?))
        } else {
            self.literal_or_path()?
        };
        Ok(Expr {
            at: self.at(start),
            text: shown(&self.source[start..self.pos]),
            kind,
        })
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.pos;
        let mut chars = self.rest().char_indices();
        let quote = chars.next().map(|(_, c)| c);
        let mut out = String::new();
        while let Some((offset, c)) = chars.next() {
            match c {
                c if Some(c) == quote => {
                    self.pos = start + offset + 1;
                    return Ok(out);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('r') => out.push('\r'),
                    Some(c @ ('"' | '\'' | '\\' | '/')) => out.push(c),
                    _ => {
                        return self.fault(
                            start + offset,
                            "this escape is not known; there are \\n \\t \\r \\\" \\' \\\\",
                        );
                    }
                },
                c => out.push(c),
            }
        }
        self.fault(start, "this text has no end")
    }

    fn literal_or_path(&mut self) -> Result<ExprKind, Fault> {
        let start = self.pos;
        let length = self
            .rest()
            .find(|c: char| !is_name(c) && c != '.')
            .unwrap_or(self.rest().len());
        let text = &self.rest()[..length];
        let literal = match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" | "undefined" => Some(Value::Nil),
            text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                text.parse().ok().map(Value::int).or_else(|| {
                    text.parse()
                        .ok()
                        .filter(|number: &f64| number.is_finite())
                        .map(Value::Float)
                })
            }
            _ => None,
        };
        if let Some(literal) = literal {
            self.pos += length;
            return Ok(ExprKind::Literal(literal));
        }
        let mut path = Path {
            is_data: self.take("@"),
            ..Path::default()
        };
        while self.take("../") {
            path.up += 1;
        }
        if self.take("..") {
            path.up += 1;
            return Ok(ExprKind::Path(path));
        }
        if self.take("./") {
            path.is_this = true;
        } else if self.rest().starts_with('.') {
            self.pos += 1;
            path.is_this = true;
            return Ok(ExprKind::Path(path));
        }
        loop {
            if self.take("[") {
                let Some(end) = self.rest().find(']') else {
                    return self.fault(self.pos, "] is missing");
                };
                path.names.push(self.rest()[..end].to_owned());
                self.pos += end + 1;
            } else {
                let name = self.word();
                match name {
                    "" => {
                        let shown: String = self.rest().chars().take(1).collect();
                        let what = if shown.is_empty() {
                            "the end".to_owned()
                        } else {
                            format!("{shown:?}")
                        };
                        return self.fault(self.pos, format!("a value is expected here, not {what}"));
                    }
                    "this" if path.names.is_empty() && !path.is_data => path.is_this = true,
                    name => path.names.push(name.to_owned()),
                }
            }
            if !self.take(".") && !self.take("/") {
                break;
            }
        }
        debug_assert!(self.pos > start);
        Ok(ExprKind::Path(path))
    }
}

/// Cuts what is long: every value keeps how it was written.
fn shown(text: &str) -> Rc<str> {
    if text.len() <= SHOWN {
        return Rc::from(text);
    }
    let end = text.floor_char_boundary(SHOWN);
    Rc::from(format!("{}…", &text[..end]))
}

/// Says whether a character can be part of a name.
fn is_name(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"!\"#%&'()*+,./;<=>@[\\]^`{|}~".contains(c)
}
