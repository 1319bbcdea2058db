//! What rendering writes: text with marks in the places of values, and where each part of it comes from.

use std::rc::Rc;

use serde_json::Value;

use super::tree::At;

/// Begins a mark; the number of its value follows.
pub(super) const OPEN: char = '\u{e000}';
/// Ends a mark.
pub(super) const CLOSE: char = '\u{e001}';
/// Ends the mark of a map that is alone on its line; `: ~` follows.
pub(super) const CLOSE_MAP: char = '\u{e002}';
/// Ends the mark of a list that is alone on its line; `- ` stands before it.
pub(super) const CLOSE_LIST: char = '\u{e003}';

/// Says whether a character is one of those that marks are made of.
pub(super) fn is_mark(c: char) -> bool {
    (OPEN..=CLOSE_LIST).contains(&c)
}

/// A value that was interpolated.
#[derive(Debug)]
pub(super) struct Mark {
    pub value: Value,
    /// How it is written in the template.
    pub text: String,
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
#[derive(Default)]
pub(super) struct Output {
    pub text: String,
    pub marks: Vec<Mark>,
    origins: Vec<Origin>,
    /// What lines begin with now.
    pub indent: String,
}

impl Output {
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
        self.text.push_str(&format!("{OPEN}{number}{CLOSE}"));
    }

    /// Finds where a place of the text comes from; `None` when nothing was written.
    pub fn source(&self, line: u32, column: u32) -> Option<(Rc<str>, At)> {
        let wanted = line.max(1) as usize - 1;
        let mut start = 0;
        let mut text = "";
        for (index, content) in self.text.split_inclusive('\n').enumerate() {
            start += text.len();
            text = content;
            if index == wanted {
                break;
            }
        }
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
                    out.push_str(&format!("{indent}{OPEN}{number}{CLOSE_MAP}: ~{rest}"));
                }
                Some((indent, number, rest, Value::Array(_))) => {
                    out.push_str(&format!("{indent}- {OPEN}{number}{CLOSE_LIST}{rest}"));
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
        let (number, rest) = trimmed.strip_prefix(OPEN)?.split_once(CLOSE)?;
        let after = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let is_comment = after.starts_with('#') && rest.starts_with([' ', '\t']);
        if !after.is_empty() && !is_comment {
            return None;
        }
        let number: usize = number.parse().ok()?;
        Some((indent, number, rest, &self.marks.get(number)?.value))
    }
}
