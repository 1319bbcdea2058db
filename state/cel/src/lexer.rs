//! Text to tokens.

use crate::literal;
use crate::source::Fault;
use crate::value::Value;
use crate::words::OPERANDS;

/// The sort of a token, with what it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A name, or a word that only some places allow as one.
    Ident(Box<str>),
    /// A number without its sign, which decides whether it fits.
    Int(Box<str>),
    Uint(Box<str>),
    Double(Box<str>),
    /// A string or bytes.
    Literal(Value),
    /// An operator, a bracket, or one of the words `in`, `true`, `false`, `null`.
    Sign(&'static str),
    End,
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub kind: Kind,
    /// Where it starts, in characters.
    pub offset: usize,
    /// As it was written.
    pub text: Box<str>,
}

/// Longest first.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*", "/", "%",
    "<", ">",
];

/// Cuts a text into tokens; the last one is the end.
pub(crate) fn tokens(text: &str, faults: &mut Vec<Fault>) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer { chars: &chars, at: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip();
        let offset = lexer.at;
        let Some(first) = lexer.peek(0) else {
            out.push(Token {
                kind: Kind::End,
                offset,
                text: "<EOF>".into(),
            });
            return out;
        };
        let found = lexer.token(first);
        let written: String = lexer.chars[offset..lexer.at].iter().collect();
        match found {
            Ok(kind) => out.push(Token {
                kind,
                offset,
                text: written.into(),
            }),
            Err(Some(message)) => {
                faults.push(Fault { offset, message });
                // A literal stands there, whatever it means: what follows is read as if it were right.
                out.push(Token {
                    kind: Kind::Literal(Value::Null),
                    offset,
                    text: written.into(),
                });
            }
            Err(None) => faults.push(Fault {
                offset,
                message: format!("Syntax error: token recognition error at: '{written}'"),
            }),
        }
    }
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> usize {
        let start = self.at;
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
        self.at - start
    }

    fn skip(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0c'));
            if self.peek(0) == Some('/') && self.peek(1) == Some('/') {
                self.take_while(|c| c != '\n');
            } else {
                return;
            }
        }
    }

    /// Reads one token; it ends where `at` is then. An error has a message of its own, or none.
    fn token(&mut self, first: char) -> Result<Kind, Option<String>> {
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) {
            return Ok(self.number());
        }
        if let Some(found) = self.string() {
            return found;
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let start = self.at;
            self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            let name: String = self.chars[start..self.at].iter().collect();
            return Ok(match OPERANDS.iter().find(|word| **word == name) {
                Some(word) => Kind::Sign(word),
                None => Kind::Ident(name.into()),
            });
        }
        let fits = |sign: &&&str| sign.chars().enumerate().all(|(at, c)| self.peek(at) == Some(c));
        match SIGNS.iter().find(fits) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Kind::Sign(sign))
            }
            None => {
                self.at += 1;
                Err(None)
            }
        }
    }

    fn number(&mut self) -> Kind {
        let start = self.at;
        if self.peek(0) == Some('0') && self.peek(1) == Some('x') && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit())
        {
            self.at += 2;
            self.take_while(|c| c.is_ascii_hexdigit());
            return self.whole(start);
        }
        self.take_while(|c| c.is_ascii_digit());
        let mut double = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            double = true;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if matches!(self.peek(0), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
            if self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit()) {
                double = true;
                self.at += 1 + sign;
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        if double {
            return Kind::Double(self.chars[start..self.at].iter().collect::<String>().into());
        }
        self.whole(start)
    }

    fn whole(&mut self, start: usize) -> Kind {
        let digits: String = self.chars[start..self.at].iter().collect();
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return Kind::Uint(digits.into());
        }
        Kind::Int(digits.into())
    }

    /// Reads a string or bytes, if there are any.
    fn string(&mut self) -> Option<Result<Kind, Option<String>>> {
        let (mut raw, mut bytes, mut prefix) = (false, false, 0);
        while let Some(c) = self.peek(prefix) {
            match c {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes && !raw => bytes = true,
                '"' | '\'' => break,
                _ => return None,
            }
            prefix += 1;
        }
        let quote = self.peek(prefix)?;
        let triple = self.peek(prefix + 1) == Some(quote) && self.peek(prefix + 2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        let body = self.at + prefix + width;
        let mut at = body;
        loop {
            match self.chars.get(at) {
                None => {
                    self.at = self.chars.len();
                    return Some(Err(None));
                }
                Some('\n' | '\r') if !triple => {
                    self.at = at;
                    return Some(Err(None));
                }
                Some('\\') if !raw => at += 2,
                Some(c) if *c == quote && (0..width).all(|more| self.chars.get(at + more) == Some(&quote)) => break,
                Some(_) => at += 1,
            }
        }
        let text: String = self.chars[body..at].iter().collect();
        self.at = at + width;
        Some(literal::unescape(&text, raw, bytes).map(Kind::Literal).map_err(Some))
    }
}
