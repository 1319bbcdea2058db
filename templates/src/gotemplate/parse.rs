//! Items to trees.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::lex::{Item, Kind, lex};
use super::node::{Branch, Command, Expr, Node, Number, Operand, Pipe, Template};
use crate::value::{Str, go_quote};

/// How deep lists and parentheses may nest.
const DEPTH_LIMIT: usize = 500;

/// Reads one text; the templates that it defines are given by name, itself among them.
///
/// # Errors
/// `template: NAME:LINE: words`, as Go says it.
pub fn parse(name: &str, text: &str, is_function: &dyn Fn(&str) -> bool) -> Result<BTreeMap<String, Template>, String> {
    let mut parser = Parser {
        items: lex(text),
        at: 0,
        name: Rc::from(name),
        text: Rc::from(text),
        is_function,
        variables: vec!["$".to_owned()],
        range_depth: 0,
        depth: 0,
        found: BTreeMap::new(),
        blocks: HashSet::new(),
    };
    parser
        .top(name)
        .map_err(|words| format!("template: {name}:{}: {words}", parser.line()))?;
    Ok(parser.found)
}

struct Parser<'a> {
    items: Vec<Item>,
    at: usize,
    name: Rc<str>,
    text: Rc<str>,
    is_function: &'a dyn Fn(&str) -> bool,
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
    found: BTreeMap<String, Template>,
    blocks: HashSet<String>,
}

/// What ended a list of nodes.
enum End {
    End,
    /// `else`, with the word after it.
    Else(Option<&'static str>),
}

type Parsed<T> = Result<T, String>;

/// Shows an item as Go's `%s` does.
fn show(item: &Item) -> String {
    match item.kind {
        Kind::Eof => "EOF".to_owned(),
        Kind::Error => item.text.clone(),
        Kind::Keyword => format!("<{}>", item.text),
        _ if item.text.len() > 10 => {
            let head: String = item.text.chars().take(10).collect();
            format!("{}...", go_quote(head.as_bytes()))
        }
        _ => go_quote(item.text.as_bytes()),
    }
}

impl Parser<'_> {
    /// The line of the item read last, which is where Go puts the blame.
    fn line(&self) -> usize {
        let index = self.at.saturating_sub(1).min(self.items.len() - 1);
        self.items[index].line
    }

    fn next(&mut self) -> Item {
        let item = self.items[self.at.min(self.items.len() - 1)].clone();
        self.at += 1;
        item
    }

    fn next_non_space(&mut self) -> Item {
        loop {
            let item = self.next();
            if item.kind != Kind::Space {
                return item;
            }
        }
    }

    fn peek(&self) -> &Item {
        &self.items[self.at.min(self.items.len() - 1)]
    }

    fn peek_non_space(&mut self) -> &Item {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
        self.peek()
    }

    fn unexpected<T>(&mut self, item: &Item, context: &str) -> Parsed<T> {
        if item.kind == Kind::Error {
            return Err(item.text.clone());
        }
        Err(format!("unexpected {} in {context}", show(item)))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Item> {
        let item = self.next_non_space();
        if item.kind == kind {
            Ok(item)
        } else {
            self.unexpected(&item, context)
        }
    }

    fn add(&mut self, name: &str, root: Vec<Node>) -> Parsed<()> {
        let template = Template {
            name: name.to_owned(),
            parse_name: Rc::clone(&self.name),
            text: Rc::clone(&self.text),
            root,
        };
        match self.found.get(name) {
            Some(old) if !old.is_empty() => {
                if !template.is_empty() {
                    return Err(format!(
                        "template: multiple definition of template {}",
                        go_quote(name.as_bytes())
                    ));
                }
            }
            _ => {
                self.found.insert(name.to_owned(), template);
            }
        }
        Ok(())
    }

    fn top(&mut self, name: &str) -> Parsed<()> {
        let mut root = Vec::new();
        while self.peek().kind != Kind::Eof {
            if self.peek().kind == Kind::LeftDelim {
                let back = self.at;
                self.next();
                let item = self.next_non_space();
                if item.kind == Kind::Keyword && item.text == "define" {
                    self.definition()?;
                    continue;
                }
                self.at = back;
            }
            match self.text_or_action()? {
                Ok(node) => root.push(node),
                Err(End::End) => return Err("unexpected {{end}}".to_owned()),
                Err(End::Else(_)) => return Err("unexpected {{else}}".to_owned()),
            }
        }
        self.at += 1;
        self.add(name, root)
    }

    fn definition(&mut self) -> Parsed<()> {
        let name = self.next_non_space();
        let name = self.template_name(&name, "define clause")?;
        self.expect(Kind::RightDelim, "define clause")?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let (list, end) = self.list()?;
        if let End::Else(_) = end {
            return Err("unexpected {{else}} in define clause".to_owned());
        }
        self.variables = variables;
        self.range_depth = range_depth;
        self.add(&name, list)
    }

    fn list(&mut self) -> Parsed<(Vec<Node>, End)> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(format!("template nests deeper than {DEPTH_LIMIT} levels"));
        }
        let mut list = Vec::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Ok(node) => list.push(node),
                Err(end) => {
                    self.depth -= 1;
                    return Ok((list, end));
                }
            }
        }
        self.at += 1;
        Err("unexpected EOF".to_owned())
    }

    fn text_or_action(&mut self) -> Parsed<Result<Node, End>> {
        let item = self.next_non_space();
        match item.kind {
            Kind::Text => Ok(Ok(Node::Text(Str::from(item.text)))),
            Kind::LeftDelim => self.action(),
            _ => self.unexpected(&item, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Result<Node, End>> {
        let item = self.next_non_space();
        if item.kind != Kind::Keyword {
            self.at -= 1;
            let pos = self.peek().pos;
            let pipe = self.pipeline("command", Kind::RightDelim)?;
            return Ok(Ok(Node::Action(pos, pipe)));
        }
        match item.text.as_str() {
            "block" => self.block().map(Ok),
            "break" | "continue" => {
                let end = self.next_non_space();
                if end.kind != Kind::RightDelim {
                    return self.unexpected(&end, &format!("{{{{{}}}}}", item.text));
                }
                if self.range_depth == 0 {
                    return Err(format!("{{{{{}}}}} outside {{{{range}}}}", item.text));
                }
                Ok(Ok(if item.text == "break" {
                    Node::Break
                } else {
                    Node::Continue
                }))
            }
            "else" => {
                let next = self.peek_non_space().clone();
                match next.text.as_str() {
                    "if" if next.kind == Kind::Keyword => Ok(Err(End::Else(Some("if")))),
                    "with" if next.kind == Kind::Keyword => Ok(Err(End::Else(Some("with")))),
                    _ => {
                        self.expect(Kind::RightDelim, "else")?;
                        Ok(Err(End::Else(None)))
                    }
                }
            }
            "end" => {
                self.expect(Kind::RightDelim, "end")?;
                Ok(Err(End::End))
            }
            "if" => Ok(Ok(Node::If(self.control("if")?))),
            "with" => Ok(Ok(Node::With(self.control("with")?))),
            "range" => Ok(Ok(Node::Range(self.control("range")?))),
            "template" => {
                let name_item = self.next_non_space();
                let name = self.template_name(&name_item, "template clause")?;
                let pipe = if self.next_non_space().kind == Kind::RightDelim {
                    None
                } else {
                    self.at -= 1;
                    Some(self.pipeline("template clause", Kind::RightDelim)?)
                };
                Ok(Ok(Node::Template(name_item.pos, name, pipe)))
            }
            _ => self.unexpected(&item, "command"),
        }
    }

    fn control(&mut self, context: &'static str) -> Parsed<Branch> {
        let known = self.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        if context == "range" {
            self.range_depth += 1;
        }
        let (list, end) = self.list()?;
        if context == "range" {
            self.range_depth -= 1;
        }
        let otherwise = match end {
            End::End => None,
            End::Else(Some(word)) if word == context => {
                // "else if" is an "if" in the "else", which shares its "end".
                self.next_non_space();
                let inner = self.control(context)?;
                Some(vec![if context == "if" {
                    Node::If(inner)
                } else {
                    Node::With(inner)
                }])
            }
            End::Else(Some(word)) => {
                let item = self.next_non_space();
                return if context == "range" || word != context {
                    self.unexpected(&item, "else")
                } else {
                    Err("unreachable".to_owned())
                };
            }
            End::Else(None) => {
                let (list, end) = self.list()?;
                if let End::Else(_) = end {
                    return Err("expected end; found {{else}}".to_owned());
                }
                Some(list)
            }
        };
        self.variables.truncate(known);
        Ok(Branch {
            pos: pipe.pos,
            pipe,
            list,
            otherwise,
        })
    }

    fn block(&mut self) -> Parsed<Node> {
        let name_item = self.next_non_space();
        let name = self.template_name(&name_item, "block clause")?;
        let pipe = self.pipeline("block clause", Kind::RightDelim)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let (list, end) = self.list()?;
        if let End::Else(_) = end {
            return Err("unexpected {{else}} in block clause".to_owned());
        }
        self.variables = variables;
        self.blocks.insert(name.clone());
        self.add(&name, list)?;
        Ok(Node::Template(name_item.pos, name, Some(pipe)))
    }

    fn template_name(&mut self, item: &Item, context: &str) -> Parsed<String> {
        match item.kind {
            Kind::String | Kind::RawString => Ok(unquote(&item.text)?.text().into_owned()),
            _ => self.unexpected(item, context),
        }
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(format!("template nests deeper than {DEPTH_LIMIT} levels"));
        }
        let mut pipe = Pipe {
            pos: self.peek_non_space().pos,
            is_assign: false,
            decl: Vec::new(),
            cmds: Vec::new(),
        };
        self.declarations(context, &mut pipe)?;
        loop {
            let item = self.next_non_space();
            match item.kind {
                kind if kind == end => {
                    if pipe.cmds.is_empty() {
                        return Err(format!("missing value for {context}"));
                    }
                    for command in &pipe.cmds[1..] {
                        if let Expr::Bool(_) | Expr::Dot | Expr::Nil | Expr::Number(_) | Expr::Text(..) =
                            &command.args[0].expr
                        {
                            return Err(format!(
                                "non executable command in pipeline stage {}",
                                pipe.cmds.iter().position(|c| c.pos == command.pos).map_or(2, |i| i + 1)
                            ));
                        }
                    }
                    self.depth -= 1;
                    return Ok(pipe);
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.at -= 1;
                    let command = self.command()?;
                    pipe.cmds.push(command);
                }
                _ => return self.unexpected(&item, context),
            }
        }
    }

    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Parsed<()> {
        loop {
            if self.peek_non_space().kind != Kind::Variable {
                return Ok(());
            }
            let back = self.at;
            let variable = self.next();
            let next = self.peek_non_space().clone();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    self.next_non_space();
                    pipe.is_assign = next.kind == Kind::Assign;
                    if !pipe.is_assign {
                        self.variables.push(variable.text.clone());
                    } else if !self.variables.contains(&variable.text) {
                        return Err(format!("undefined variable {}", go_quote(variable.text.as_bytes())));
                    }
                    pipe.decl.push(variable.text);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    self.next_non_space();
                    if !(context == "range" && pipe.decl.len() < 2) {
                        return Err(format!("too many declarations in {context}"));
                    }
                    // Whether it is declared or assigned shows only after the second variable.
                    let declares = self.range_declares();
                    if declares {
                        self.variables.push(variable.text.clone());
                    }
                    pipe.decl.push(variable.text);
                    match self.peek_non_space().kind {
                        Kind::Variable | Kind::RightDelim | Kind::RightParen if pipe.decl.len() < 2 => {}
                        _ => return Err("range can only initialize variables".to_owned()),
                    }
                }
                _ => {
                    self.at = back;
                    return Ok(());
                }
            }
        }
    }

    fn range_declares(&self) -> bool {
        self.items[self.at..]
            .iter()
            .find(|item| !matches!(item.kind, Kind::Space | Kind::Variable))
            .is_none_or(|item| item.kind == Kind::Declare)
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut command = Command {
            pos: self.peek_non_space().pos,
            args: Vec::new(),
        };
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                command.args.push(operand);
            }
            let item = self.next();
            match item.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.at -= 1,
                Kind::Pipe => {}
                _ => return self.unexpected(&item, "operand"),
            }
            break;
        }
        if command.args.is_empty() {
            return Err("empty command".to_owned());
        }
        Ok(command)
    }

    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let Some(mut operand) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != Kind::Field {
            return Ok(Some(operand));
        }
        let pos = self.peek().pos;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(Str::from(&self.next().text[1..]));
        }
        match &mut operand.expr {
            Expr::Field(head) | Expr::Variable(_, head) => {
                head.append(&mut fields);
                operand.pos = pos;
                Ok(Some(operand))
            }
            Expr::Bool(_) | Expr::Text(..) | Expr::Number(_) | Expr::Nil | Expr::Dot => Err(format!(
                "unexpected . after term {}",
                go_quote(operand.to_string().as_bytes())
            )),
            _ => Ok(Some(Operand {
                pos,
                expr: Expr::Chain(Box::new(operand), fields),
            })),
        }
    }

    fn term(&mut self) -> Parsed<Option<Operand>> {
        let item = self.next_non_space();
        let expr = match item.kind {
            Kind::Identifier => {
                if !(self.is_function)(&item.text) {
                    return Err(format!("function {} not defined", go_quote(item.text.as_bytes())));
                }
                Expr::Identifier(item.text)
            }
            Kind::Dot => Expr::Dot,
            Kind::Nil => Expr::Nil,
            Kind::Variable => {
                if !self.variables.contains(&item.text) {
                    return Err(format!("undefined variable {}", go_quote(item.text.as_bytes())));
                }
                Expr::Variable(item.text, Vec::new())
            }
            Kind::Field => Expr::Field(vec![Str::from(&item.text[1..])]),
            Kind::Bool => Expr::Bool(item.text == "true"),
            Kind::CharConstant | Kind::Number => Expr::Number(number(&item)?),
            Kind::LeftParen => Expr::Pipe(self.pipeline("parenthesized pipeline", Kind::RightParen)?),
            Kind::String | Kind::RawString => {
                let value = unquote(&item.text)?;
                Expr::Text(item.text, value)
            }
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        };
        let pos = match &expr {
            Expr::Pipe(pipe) => pipe.pos,
            _ => item.pos,
        };
        Ok(Some(Operand { pos, expr }))
    }
}

fn number(item: &Item) -> Parsed<Number> {
    let bad = || format!("bad number syntax: {}", go_quote(item.text.as_bytes()));
    if item.kind == Kind::CharConstant {
        let value = unquote(&item.text).map_err(|_| format!("malformed character constant: {}", item.text))?;
        let text = value.text();
        let mut chars = text.chars();
        let (Some(c), None) = (chars.next(), chars.next()) else {
            return Err(format!("malformed character constant: {}", item.text));
        };
        let code = i64::from(c as u32);
        return Ok(Number {
            text: item.text.clone(),
            int: Some(code),
            uint: Some(code as u64),
            float: Some(code as f64),
            is_char: true,
        });
    }
    let plain = item.text.replace('_', "");
    let mut int = crate::value::parse_int(&plain, 0);
    let uint = int
        .and_then(|value| u64::try_from(value).ok())
        .or_else(|| plain.parse().ok());
    let mut float = plain.parse::<f64>().ok();
    if let Some(value) = int {
        float = Some(value as f64);
    } else if let Some(value) = float
        && value.fract() == 0.0
        && value.abs() < 9.2e18
        && plain.contains(['.', 'e', 'E'])
    {
        int = Some(value as i64);
    }
    if int.is_none() && uint.is_none() && float.is_none() {
        return Err(bad());
    }
    Ok(Number {
        text: item.text.clone(),
        int,
        uint,
        float,
        is_char: false,
    })
}

/// Reads a quoted string of Go.
fn unquote(source: &str) -> Parsed<Str> {
    let inner = &source[1..source.len() - 1];
    if source.starts_with('`') {
        return Ok(Str::from(inner.replace('\r', "")));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    let bad = || "invalid syntax".to_owned();
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next().ok_or_else(bad)?;
        rest = &rest[escape.len_utf8()..];
        let code = |rest: &mut &str, length: usize, radix: u32| -> Parsed<u32> {
            let digits = rest.get(..length).ok_or_else(bad)?;
            *rest = &rest[length..];
            u32::from_str_radix(digits, radix).map_err(|_| bad())
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            '"' if source.starts_with('"') => out.push(b'"'),
            '\'' if source.starts_with('\'') => out.push(b'\''),
            'x' => out.push(code(&mut rest, 2, 16)? as u8),
            'u' | 'U' => {
                let code = code(&mut rest, if escape == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(code).ok_or_else(bad)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '0'..='7' => {
                rest = &source[source.len() - 1 - rest.len() - 1..source.len() - 1];
                let code = code(&mut rest, 3, 8)?;
                out.push(u8::try_from(code).map_err(|_| bad())?);
            }
            _ => return Err(bad()),
        }
    }
    Ok(Str::from(out))
}
