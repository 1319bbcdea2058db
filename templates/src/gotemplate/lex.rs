//! Text to items.

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The text ends.
    Eof,
    /// Something that is no template; the item's text says what.
    Error,
    /// Plain text.
    Text,
    /// `{{`
    LeftDelim,
    /// `}}`
    RightDelim,
    /// Blanks between operands.
    Space,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `|`
    Pipe,
    /// `(`
    LeftParen,
    /// `)`
    RightParen,
    /// Another character, such as a comma.
    Char,
    /// A character constant.
    CharConstant,
    /// A number.
    Number,
    /// A string in double quotes.
    String,
    /// A string in backquotes.
    RawString,
    /// `true` or `false`
    Bool,
    /// `.`
    Dot,
    /// `.name`
    Field,
    /// `$name`
    Variable,
    /// A name.
    Identifier,
    /// One of the language's words.
    Keyword,
    /// `nil`
    Nil,
}

/// One item.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub pos: usize,
    /// Its text, or the words of an error.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
}

const KEYWORDS: [&str; 10] = [
    "block", "break", "continue", "define", "else", "end", "if", "range", "template", "with",
];

struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    line: usize,
    start: usize,
    start_line: usize,
    parens: usize,
    items: Vec<Item>,
}

/// Takes the text apart; the last item is the end or an error.
pub fn lex(input: &str) -> Vec<Item> {
    let mut lexer = Lexer {
        input,
        pos: 0,
        line: 1,
        start: 0,
        start_line: 1,
        parens: 0,
        items: Vec::new(),
    };
    lexer.run();
    lexer.items
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self, bytes: usize) {
        let text = &self.input.as_bytes()[self.pos..self.pos + bytes];
        self.line += text.iter().filter(|b| **b == b'\n').count();
        self.pos += bytes;
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.advance(c.len_utf8());
        Some(c)
    }

    fn ignore(&mut self) {
        self.start = self.pos;
        self.start_line = self.line;
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.input[self.start..self.pos].to_owned();
        self.items.push(Item {
            kind,
            pos: self.start,
            text,
            line: self.start_line,
        });
        self.ignore();
    }

    fn error(&mut self, text: impl Into<String>) {
        self.items.push(Item {
            kind: Kind::Error,
            pos: self.start,
            text: text.into(),
            line: self.start_line,
        });
    }

    fn run(&mut self) {
        while self.text() {
            if !self.inside() {
                return;
            }
        }
    }

    /// Takes text up to the next `{{` and that itself; false where the text or an error ends it all.
    fn text(&mut self) -> bool {
        loop {
            let Some(at) = self.rest().find("{{") else {
                self.advance(self.input.len() - self.pos);
                if self.pos > self.start {
                    self.emit(Kind::Text);
                }
                self.emit(Kind::Eof);
                return false;
            };
            let after = &self.input.as_bytes()[self.pos + at + 2..];
            let trims = after.first() == Some(&b'-') && after.get(1).copied().is_some_and(is_space);
            let text = &self.input[self.pos..self.pos + at];
            let kept = if trims {
                text.trim_end_matches([' ', '\t', '\r', '\n']).len()
            } else {
                text.len()
            };
            let trimmed = text.len() - kept;
            self.advance(kept);
            if self.pos > self.start {
                self.emit(Kind::Text);
            }
            self.advance(trimmed);
            self.ignore();
            let marker = if trims { 2 } else { 0 };
            if self.input[self.pos + 2 + marker..].starts_with("/*") {
                self.advance(2 + marker);
                self.ignore();
                if !self.comment() {
                    return false;
                }
                continue;
            }
            self.advance(2);
            self.emit(Kind::LeftDelim);
            self.advance(marker);
            self.ignore();
            self.parens = 0;
            return true;
        }
    }

    /// Says whether the right delimiter stands here, and whether it trims.
    fn right_delim(&self) -> Option<bool> {
        let bytes = self.rest().as_bytes();
        if bytes.first().copied().is_some_and(is_space) && bytes[1..].starts_with(b"-}}") {
            return Some(true);
        }
        bytes.starts_with(b"}}").then_some(false)
    }

    fn trim_left(&mut self) {
        let blanks = self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.advance(blanks);
        self.ignore();
    }

    fn comment(&mut self) -> bool {
        let Some(end) = self.rest().find("*/") else {
            self.error("unclosed comment");
            return false;
        };
        self.advance(end + 2);
        match self.right_delim() {
            None => {
                self.error("comment ends before closing delimiter");
                false
            }
            Some(trims) => {
                self.advance(if trims { 4 } else { 2 });
                self.ignore();
                if trims {
                    self.trim_left();
                }
                true
            }
        }
    }

    /// Takes the items of one action; false after an error.
    fn inside(&mut self) -> bool {
        loop {
            if let Some(trims) = self.right_delim() {
                if self.parens > 0 {
                    self.error("unclosed left paren");
                    return false;
                }
                if trims {
                    self.advance(2);
                    self.ignore();
                }
                self.advance(2);
                self.emit(Kind::RightDelim);
                if trims {
                    self.trim_left();
                }
                return true;
            }
            let Some(c) = self.next() else {
                self.error("unclosed action");
                return false;
            };
            let good = match c {
                ' ' | '\t' | '\r' | '\n' => {
                    self.space();
                    true
                }
                '=' => self.simple(Kind::Assign),
                ':' => {
                    if self.next() == Some('=') {
                        self.simple(Kind::Declare)
                    } else {
                        self.error("expected :=");
                        false
                    }
                }
                '|' => self.simple(Kind::Pipe),
                '"' => self.quoted('"', Kind::String, "unterminated quoted string"),
                '`' => self.raw(),
                '$' => self.name(Kind::Variable),
                '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
                '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => self.name(Kind::Field),
                '.' | '+' | '-' | '0'..='9' => self.number(),
                c if c == '_' || c.is_alphanumeric() => self.identifier(),
                '(' => {
                    self.parens += 1;
                    self.simple(Kind::LeftParen)
                }
                ')' => {
                    if self.parens == 0 {
                        self.error("unexpected right paren");
                        false
                    } else {
                        self.parens -= 1;
                        self.simple(Kind::RightParen)
                    }
                }
                c if c.is_ascii_graphic() => self.simple(Kind::Char),
                c => {
                    self.error(format!("unrecognized character in action: {}", unicode(c)));
                    false
                }
            };
            if !good {
                return false;
            }
        }
    }

    fn simple(&mut self, kind: Kind) -> bool {
        self.emit(kind);
        true
    }

    fn space(&mut self) {
        // A blank before "-}}" belongs to the delimiter.
        loop {
            let bytes = self.rest().as_bytes();
            if !bytes.first().copied().is_some_and(is_space) {
                break;
            }
            self.advance(1);
        }
        if self.rest().starts_with("-}}") {
            self.pos -= 1;
            if self.input.as_bytes()[self.pos] == b'\n' {
                self.line -= 1;
            }
            if self.pos == self.start {
                return;
            }
        }
        self.emit(Kind::Space);
    }

    fn quoted(&mut self, quote: char, kind: Kind, complaint: &str) -> bool {
        loop {
            match self.next() {
                Some('\\') => {
                    if !matches!(self.next(), Some(c) if c != '\n') {
                        self.error(complaint);
                        return false;
                    }
                }
                None | Some('\n') => {
                    self.error(complaint);
                    return false;
                }
                Some(c) if c == quote => return self.simple(kind),
                Some(_) => {}
            }
        }
    }

    fn raw(&mut self) -> bool {
        loop {
            match self.next() {
                None => {
                    self.error("unterminated raw quoted string");
                    return false;
                }
                Some('`') => return self.simple(Kind::RawString),
                Some(_) => {}
            }
        }
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None => true,
            Some(c) => {
                matches!(c, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(')
                    || self.rest().starts_with("}}")
            }
        }
    }

    fn word(&mut self) -> bool {
        while let Some(c) = self.peek() {
            if c != '_' && !c.is_alphanumeric() {
                break;
            }
            self.advance(c.len_utf8());
        }
        if self.at_terminator() {
            return true;
        }
        let c = self.peek().unwrap_or_default();
        self.error(format!("bad character {}", unicode(c)));
        false
    }

    fn name(&mut self, kind: Kind) -> bool {
        if self.at_terminator() {
            return self.simple(if kind == Kind::Variable { kind } else { Kind::Dot });
        }
        self.word() && self.simple(kind)
    }

    fn identifier(&mut self) -> bool {
        if !self.word() {
            return false;
        }
        let kind = match &self.input[self.start..self.pos] {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        };
        self.simple(kind)
    }

    fn number(&mut self) -> bool {
        self.pos = self.start;
        let bytes = self.rest().as_bytes();
        let mut end = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
        let lower: Vec<u8> = bytes[end..].iter().take(2).map(u8::to_ascii_lowercase).collect();
        let (digits, exponent): (fn(u8) -> bool, u8) = match lower.as_slice() {
            b"0x" => (|b| b.is_ascii_hexdigit() || b == b'_', b'p'),
            b"0o" => (|b| matches!(b, b'0'..=b'7' | b'_'), 0),
            b"0b" => (|b| matches!(b, b'0' | b'1' | b'_'), 0),
            _ => (|b| b.is_ascii_digit() || b == b'_', b'e'),
        };
        if matches!(lower.as_slice(), b"0x" | b"0o" | b"0b") {
            end += 2;
        }
        let accept = |mut end: usize| {
            while bytes.get(end).copied().is_some_and(digits) {
                end += 1;
            }
            end
        };
        end = accept(end);
        if bytes.get(end) == Some(&b'.') {
            end = accept(end + 1);
        }
        if exponent != 0 && bytes.get(end).map(u8::to_ascii_lowercase) == Some(exponent) {
            end += 1;
            end += usize::from(matches!(bytes.get(end), Some(b'+' | b'-')));
            while bytes.get(end).is_some_and(|b| b.is_ascii_digit() || *b == b'_') {
                end += 1;
            }
        }
        self.advance(end);
        match self.peek() {
            Some(c) if c == '_' || c.is_alphanumeric() => {
                self.advance(c.len_utf8());
                let text = self.input[self.start..self.pos].to_owned();
                self.error(format!(
                    "bad number syntax: {}",
                    crate::value::go_quote(text.as_bytes())
                ));
                false
            }
            _ => self.simple(Kind::Number),
        }
    }
}

fn unicode(c: char) -> String {
    format!("U+{:04X} '{c}'", c as u32)
}
