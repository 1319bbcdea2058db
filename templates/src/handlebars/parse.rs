//! Text to elements.

use serde_json::{Number, Value};

use super::output::is_mark;

/// How deep blocks and subexpressions may nest.
const DEPTH_LIMIT: usize = 100;

/// Where something stands in its file: line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub line: u32,
    pub column: u32,
}

/// What is wrong, and where.
pub(super) type Fault = (At, String);

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Element {
    /// Text as it is.
    Text(String, At),
    /// `{{value}}`, or `{{{value}}}` which is written as it is.
    Value { value: Expr, raw: bool },
    /// `{{#name …}}…{{else}}…{{/name}}`
    Block(Block),
    /// `{{> name …}}`
    Partial(Partial),
}

/// A block.
#[derive(Debug)]
pub(super) struct Block {
    pub call: Call,
    /// The names after `as`.
    pub names: Vec<String>,
    pub body: Vec<Element>,
    pub otherwise: Vec<Element>,
}

/// A partial.
#[derive(Debug)]
pub(super) struct Partial {
    pub at: At,
    pub name: Expr,
    pub context: Option<Expr>,
    pub hash: Vec<(String, Expr)>,
    /// What stands before it where it is alone on its line: its lines get that too.
    pub indent: String,
}

/// What has a value.
#[derive(Debug)]
pub(super) struct Expr {
    pub at: At,
    /// How it is written.
    pub text: String,
    pub kind: ExprKind,
}

/// The kinds of expressions.
#[derive(Debug)]
pub(super) enum ExprKind {
    Literal(Value),
    Path(Path),
    Call(Call),
}

/// A helper with its arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub at: At,
    pub name: String,
    pub params: Vec<Expr>,
}

/// A way to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    /// How many `../` it begins with.
    pub up: usize,
    /// Whether it begins with `@`.
    pub is_data: bool,
    /// Whether it begins with `this` or `./`, so that only the context counts.
    pub is_this: bool,
    /// The names.
    pub names: Vec<String>,
}

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Vec<Element>, Fault> {
    let mut parser = Parser {
        source,
        pos: 0,
        text_start: 0,
        lines: std::iter::once(0)
            .chain(source.match_indices('\n').map(|(at, _)| at + 1))
            .collect(),
    };
    if let Some(at) = source.find(is_mark) {
        return Err((
            parser.at(at),
            "characters from U+E000 to U+E003 cannot be used in templates".to_owned(),
        ));
    }
    let (elements, stop) = parser.body(0)?;
    match stop {
        Stop::End => Ok(elements),
        Stop::Close(at, name) => Err((at, format!("{{{{/{name}}}}} closes what is not open"))),
        Stop::Else(at, _) => Err((at, "{{else}} stands outside of a block".to_owned())),
    }
}

/// What ends a body.
enum Stop {
    End,
    Close(At, String),
    Else(At, Option<(Call, Vec<String>)>),
}

struct Parser<'s> {
    source: &'s str,
    pos: usize,
    /// Where the text begins that is not yet an element.
    text_start: usize,
    lines: Vec<usize>,
}

/// The arguments of a tag.
#[derive(Default)]
struct Arguments {
    params: Vec<Expr>,
    hash: Vec<(String, Expr)>,
    names: Vec<String>,
}

impl<'s> Parser<'s> {
    fn at(&self, pos: usize) -> At {
        let line = self.lines.partition_point(|start| *start <= pos);
        let start = self.lines[line - 1];
        At {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(self.source[start..pos].chars().count() + 1).unwrap_or(u32::MAX),
        }
    }

    fn rest(&self) -> &'s str {
        &self.source[self.pos..]
    }

    fn fault<T>(&self, pos: usize, message: impl Into<String>) -> Result<T, Fault> {
        Err((self.at(pos), message.into()))
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.pos += text.len();
        }
        found
    }

    fn blanks(&mut self) {
        self.pos += self.rest().len() - self.rest().trim_start().len();
    }

    /// Ends the text before a tag.
    fn text(&self, end: usize, elements: &mut Vec<Element>) {
        if self.text_start < end {
            let text = self.source[self.text_start..end].to_owned();
            elements.push(Element::Text(text, self.at(self.text_start)));
        }
    }

    /// Ends the text before a tag that stands at `start` and ends here, and begins the text after it. Gives what stands
    /// before the tag where it is alone on its line.
    fn around(
        &mut self,
        start: usize,
        trims: (bool, bool),
        alone: bool,
        elements: &mut Vec<Element>,
    ) -> Option<&'s str> {
        let line = self.lines[self.lines.partition_point(|line| *line <= start) - 1];
        let before = &self.source[line..start];
        let after = self.rest();
        let tail = after.split('\n').next().unwrap_or_default();
        let alone = alone && before.trim().is_empty() && tail.trim().is_empty();
        let end = match () {
            () if trims.0 => {
                self.text_start
                    + self.source[self.text_start..start.max(self.text_start)]
                        .trim_end()
                        .len()
            }
            () if alone => line.max(self.text_start),
            () => start,
        };
        self.text(end, elements);
        self.text_start = match () {
            () if trims.1 => self.source.len() - after.trim_start().len(),
            () if alone => self.pos + (tail.len() + 1).min(after.len()),
            () => self.pos,
        };
        self.pos = self.text_start;
        alone.then_some(before)
    }

    /// Parses up to the end of a block or of the source.
    fn body(&mut self, depth: usize) -> Result<(Vec<Element>, Stop), Fault> {
        if depth > DEPTH_LIMIT {
            return self.fault(self.pos, format!("blocks nest deeper than {DEPTH_LIMIT} levels"));
        }
        let mut elements = Vec::new();
        loop {
            let Some(found) = self.rest().find("{{") else {
                self.pos = self.source.len();
                self.text(self.pos, &mut elements);
                self.text_start = self.pos;
                return Ok((elements, Stop::End));
            };
            let start = self.pos + found;
            let text = &self.source[self.text_start..start];
            if text.ends_with('\\') {
                self.text(start - 1, &mut elements);
                self.text_start = start;
                if !text.ends_with("\\\\") {
                    self.pos = start + 2;
                    continue;
                }
            }
            self.pos = start;
            if let Some(stop) = self.tag(start, depth, &mut elements)? {
                return Ok((elements, stop));
            }
        }
    }

    fn tag(&mut self, start: usize, depth: usize, elements: &mut Vec<Element>) -> Result<Option<Stop>, Fault> {
        let at = self.at(start);
        if self.rest().starts_with("{{{{") {
            return self.fault(
                start,
                "raw blocks are not supported: write \\{{ for braces that are text",
            );
        }
        self.pos += 2;
        let left = self.take("~");
        if self.take("!") {
            let (open, close) = if self.take("--") {
                (self.pos, "--")
            } else {
                (self.pos, "")
            };
            let found = ["}}", "~}}"]
                .iter()
                .filter_map(|end| self.source[open..].find(&format!("{close}{end}")))
                .min();
            let Some(found) = found else {
                return self.fault(start, "this comment has no end");
            };
            self.pos = open + found + close.len();
            let right = self.take("~");
            self.pos += 2;
            self.around(start, (left, right), true, elements);
            return Ok(None);
        }
        if self.take("{") {
            let value = self.value()?;
            self.blanks();
            if !self.take("}") {
                return self.fault(self.pos, "}}} is missing");
            }
            let right = self.end()?;
            self.around(start, (left, right), false, elements);
            elements.push(Element::Value { value, raw: true });
            return Ok(None);
        }
        if self.take("#") {
            if self.rest().starts_with(['>', '*']) {
                return self.fault(start, "blocks of partials and inline partials are not supported");
            }
            let (call, names) = self.opening()?;
            let right = self.end()?;
            self.around(start, (left, right), true, elements);
            let block = self.block(call, names, false, depth)?;
            elements.push(Element::Block(block));
            return Ok(None);
        }
        if self.take("*") {
            return self.fault(start, "decorators are not supported");
        }
        if self.take(">") {
            let partial = self.partial(at)?;
            let right = self.end()?;
            let indent = self.around(start, (left, right), true, elements);
            let indent = indent.filter(|_| !left).unwrap_or_default().to_owned();
            elements.push(Element::Partial(Partial { indent, ..partial }));
            return Ok(None);
        }
        if self.take("/") {
            self.blanks();
            let name = self.word().to_owned();
            let right = self.end()?;
            self.around(start, (left, right), true, elements);
            return Ok(Some(Stop::Close(at, name)));
        }
        let inverse = self.take("^");
        self.blanks();
        let before = self.pos;
        if inverse || self.word() == "else" {
            self.blanks();
            let ends = self.rest().starts_with("}}") || self.rest().starts_with("~}}");
            if inverse && !ends {
                let (call, names) = self.opening()?;
                let right = self.end()?;
                self.around(start, (left, right), true, elements);
                let block = self.block(call, names, true, depth)?;
                elements.push(Element::Block(block));
                return Ok(None);
            }
            let chained = if ends { None } else { Some(self.opening()?) };
            let right = self.end()?;
            self.around(start, (left, right), true, elements);
            return Ok(Some(Stop::Else(at, chained)));
        }
        self.pos = before;
        let raw = self.take("&");
        let value = self.value()?;
        let right = self.end()?;
        self.around(start, (left, right), false, elements);
        elements.push(Element::Value { value, raw });
        Ok(None)
    }

    /// Takes the end of a tag; gives whether it trims.
    fn end(&mut self) -> Result<bool, Fault> {
        self.blanks();
        let trims = self.take("~");
        if self.take("}}") {
            return Ok(trims);
        }
        self.fault(self.pos, "}} is missing, or something here is out of place")
    }

    /// Parses the rest of a block whose opening tag is read.
    fn block(&mut self, call: Call, names: Vec<String>, inverted: bool, depth: usize) -> Result<Block, Fault> {
        let opened = call.name.clone();
        let block = self.branches(call, names, &opened, depth)?;
        Ok(if inverted {
            Block {
                body: block.otherwise,
                otherwise: block.body,
                ..block
            }
        } else {
            block
        })
    }

    fn branches(&mut self, call: Call, names: Vec<String>, opened: &str, depth: usize) -> Result<Block, Fault> {
        let (body, stop) = self.body(depth + 1)?;
        let mut otherwise = Vec::new();
        let stop = match stop {
            Stop::Else(_, None) => {
                let (elements, stop) = self.body(depth + 1)?;
                otherwise = elements;
                Some(stop)
            }
            Stop::Else(_, Some((inner, names))) => {
                // The inner block takes the closing tag of the outer one.
                otherwise.push(Element::Block(self.branches(inner, names, opened, depth + 1)?));
                None
            }
            stop => Some(stop),
        };
        match stop {
            None => {}
            Some(Stop::Close(_, name)) if name == opened => {}
            Some(Stop::Close(at, name)) => {
                return Err((
                    at,
                    format!("{{{{/{name}}}}} closes {{{{#{opened}}}}} of line {}", call.at.line),
                ));
            }
            Some(Stop::Else(at, _)) => return Err((at, "a block has one {{else}} only".to_owned())),
            Some(Stop::End) => return Err((call.at, format!("{{{{#{opened}}}}} is never closed"))),
        }
        Ok(Block {
            call,
            names,
            body,
            otherwise,
        })
    }

    fn opening(&mut self) -> Result<(Call, Vec<String>), Fault> {
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

    fn partial(&mut self, at: At) -> Result<Partial, Fault> {
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
                text: text.to_owned(),
                kind: ExprKind::Literal(Value::from(text)),
            }
        };
        let mut arguments = self.arguments(0)?;
        if arguments.params.len() > 1 {
            return self.fault(start, "a partial takes one context, and named values");
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
    fn value(&mut self) -> Result<Expr, Fault> {
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
            text: self.source[start..self.pos].trim().to_owned(),
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
    fn word(&mut self) -> &'s str {
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
            ExprKind::Literal(Value::String(self.string()?))
        } else {
            self.literal_or_path()?
        };
        Ok(Expr {
            at: self.at(start),
            text: self.source[start..self.pos].to_owned(),
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
            "null" | "undefined" => Some(Value::Null),
            text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text
                .parse::<i64>()
                .ok()
                .map(Value::from)
                .or_else(|| text.parse().ok().and_then(Number::from_f64).map(Value::Number)),
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

/// Says whether a character can be part of a name.
fn is_name(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"!\"#%&'()*+,./;<=>@[\\]^`{|}~".contains(c)
}
