//! What rendering writes: text with marks in the places of values, and where each part of it comes from.
//!
//! A mark begins with characters of its own and a secret of the rendering, so that nothing that stands in a template or
//! in a value can be taken for one, not even by way of an escape in YAML.

use std::cell::OnceCell;
use std::rc::Rc;

use serde_json::Value;

use super::tree::At;

/// Begins a mark; the secret and the number of its value follow.
pub(super) const OPEN: char = '\u{e000}';
/// Ends a mark.
pub(super) const CLOSE: char = '\u{e001}';
/// Ends the mark of a map that is alone on its line; `: ~` follows.
pub(super) const CLOSE_MAP: char = '\u{e002}';
/// Ends the mark of a list that is alone on its line; `- ` stands before it.
pub(super) const CLOSE_LIST: char = '\u{e003}';

/// A value that was interpolated.
#[derive(Debug)]
pub(super) struct Mark {
    pub value: Value,
    /// How it is written in the template.
    pub text: Rc<str>,
    pub file: Rc<str>,
    pub at: At,
}

/// Where a part of the text comes from.
struct Origin {
    offset: usize,
    file: Rc<str>,
    at: At,
    /// Whether columns go on from there.
    is_text: bool,
}

/// The text as it grows.
pub(super) struct Output {
    pub text: String,
    pub marks: Vec<Mark>,
    origins: Vec<Origin>,
    /// What lines begin with now.
    pub indent: String,
    /// What only marks have in them.
    pub secret: Rc<str>,
    /// Where the lines begin, once the text is whole.
    lines: OnceCell<Vec<usize>>,
}

impl Output {
    pub fn new(secret: Rc<str>) -> Self {
        Self {
            text: String::new(),
            marks: Vec::new(),
            origins: Vec::new(),
            indent: String::new(),
            secret,
            lines: OnceCell::new(),
        }
    }

    /// Says what it takes to write a text: each of its lines is indented and knows where it comes from.
    pub fn cost(&self, text: &str) -> usize {
        let lines = memchr::memchr_iter(b'\n', text.as_bytes()).count() + 1;
        let each = self.indent.len().saturating_add(size_of::<Origin>());
        text.len().saturating_add(lines.saturating_mul(each))
    }

    /// Says what it takes to write a mark, besides its value.
    pub fn mark_cost(&self) -> usize {
        size_of::<Mark>() + size_of::<Origin>() + self.secret.len() + self.indent.len()
    }

    fn origin(&mut self, file: &Rc<str>, at: At, is_text: bool) {
        self.origins.push(Origin {
            offset: self.text.len(),
            file: Rc::clone(file),
            at,
            is_text,
        });
    }

    fn begin(&mut self) {
        if !self.indent.is_empty() && (self.text.is_empty() || self.text.ends_with('\n')) {
            self.text.push_str(&self.indent);
        }
    }

    /// Writes text of a template.
    pub fn text(&mut self, text: &str, file: &Rc<str>, at: At) {
        let mut at = at;
        for line in text.split_inclusive('\n') {
            if !matches!(line, "\n" | "\r\n") {
                self.begin();
            }
            self.origin(file, at, true);
            self.text.push_str(line);
            at = At {
                line: at.line.saturating_add(1),
                column: 1,
            };
        }
    }

    /// Writes text that a value gave.
    pub fn raw(&mut self, text: &str, file: &Rc<str>, at: At) {
        for line in text.split_inclusive('\n') {
            if !matches!(line, "\n" | "\r\n") {
                self.begin();
            }
            self.origin(file, at, false);
            self.text.push_str(line);
        }
    }

    /// Writes the mark of a value.
    pub fn mark(&mut self, mark: Mark) {
        self.begin();
        self.origin(&Rc::clone(&mark.file), mark.at, false);
        let number = self.marks.len();
        self.marks.push(mark);
        self.text.push_str(&format!("{OPEN}{}{number}{CLOSE}", self.secret));
    }

    /// Finds where a place of the text comes from; `None` when nothing was written.
    pub fn source(&self, line: u32, column: u32) -> Option<(Rc<str>, At)> {
        let lines = self.lines.get_or_init(|| {
            let after = memchr::memchr_iter(b'\n', self.text.as_bytes()).map(|at| at + 1);
            std::iter::once(0).chain(after).collect()
        });
        let index = (line.max(1) as usize - 1).min(lines.len() - 1);
        let start = lines[index];
        let text = &self.text[start..lines.get(index + 1).copied().unwrap_or(self.text.len())];
        let within = text
            .char_indices()
            .nth(column.max(1) as usize - 1)
            .map_or(text.len(), |(at, _)| at);
        let offset = start + within;
        let index = self.origins.partition_point(|origin| origin.offset <= offset);
        let origin = self.origins.get(index.saturating_sub(1))?;
        let mut at = origin.at;
        if origin.is_text && origin.offset <= offset {
            let passed = self
                .text
                .get(origin.offset..offset)
                .map_or(0, |text| text.chars().count());
            at.column = at.column.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX));
        }
        Some((Rc::clone(&origin.file), at))
    }

    /// Gives the text as YAML can parse it: maps and lists that are alone on their lines become entries and items.
    pub fn yaml(&self) -> String {
        let mut out = String::with_capacity(self.text.len() + 16);
        for line in self.text.split_inclusive('\n') {
            match self.alone(line) {
                Some((indent, number, rest, Value::Object(_))) => {
                    out.push_str(&format!("{indent}{OPEN}{}{number}{CLOSE_MAP}: ~{rest}", self.secret));
                }
                Some((indent, number, rest, Value::Array(_))) => {
                    out.push_str(&format!("{indent}- {OPEN}{}{number}{CLOSE_LIST}{rest}", self.secret));
                }
                _ => out.push_str(line),
            }
        }
        out
    }

    /// Takes a line apart that is a mark and at most a comment.
    fn alone<'l>(&self, line: &'l str) -> Option<(&'l str, usize, &'l str, &Value)> {
        let trimmed = line.trim_start_matches(' ');
        let indent = &line[..line.len() - trimmed.len()];
        let (number, rest) = trimmed
            .strip_prefix(OPEN)?
            .strip_prefix(&*self.secret)?
            .split_once(CLOSE)?;
        let after = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let is_comment = after.starts_with('#') && rest.starts_with([' ', '\t']);
        if !after.is_empty() && !is_comment {
            return None;
        }
        let number: usize = number.parse().ok()?;
        Some((indent, number, rest, &self.marks.get(number)?.value))
    }
}
