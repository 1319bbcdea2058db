//! Text to elements.

mod expression;

use super::tree::{At, Block, Call, Element, Partial};

/// How deep blocks and subexpressions may nest.
const DEPTH_LIMIT: usize = 100;

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Vec<Element>, Fault> {
    let mut parser = Parser {
        source,
        pos: 0,
        text_start: 0,
        lines: std::iter::once(0)
            .chain(source.match_indices('\n').map(|(at, _)| at + 1))
            .collect(),
        chars: source
            .as_bytes()
            .chunks(STRIDE)
            .scan(0, |before, chunk| {
                let chars = *before;
                *before += begun(chunk);
                Some(chars)
            })
            .collect(),
        blank: (usize::MAX, 0),
    };
    let (elements, stop) = parser.body(0)?;
    match stop {
        Stop::End => Ok(elements),
        Stop::Close(at, name) => Err((at, format!("{{{{/{name}}}}} closes what is not open"))),
        Stop::Else(at, _) => Err((at, "{{else}} stands outside of a block".to_owned())),
    }
}

/// How far apart the places are whose characters are counted beforehand.
const STRIDE: usize = 256;

/// Counts the characters that begin in a text.
fn begun(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// What is wrong, and where.
pub(super) type Fault = (At, String);

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
    /// How many characters there are before each place, [`STRIDE`] bytes apart: a line can be as long as the file.
    chars: Vec<usize>,
    /// A line that was looked at, and where it stops being blank.
    blank: (usize, usize),
}

impl<'s> Parser<'s> {
    fn at(&self, pos: usize) -> At {
        let line = self.lines.partition_point(|start| *start <= pos);
        let start = self.lines[line - 1];
        At {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(self.chars_before(pos) - self.chars_before(start) + 1).unwrap_or(u32::MAX),
        }
    }

    fn chars_before(&self, pos: usize) -> usize {
        let counted = self.chars.get(pos / STRIDE).copied();
        let from = pos / STRIDE * STRIDE;
        counted.map_or_else(
            || begun(&self.source.as_bytes()[..pos]),
            |counted| counted + begun(&self.source.as_bytes()[from..pos]),
        )
    }

    /// Says whether a line is blank up to a place.
    fn is_blank(&mut self, line: usize, upto: usize) -> bool {
        if self.blank.0 != line {
            let rest = &self.source[line..];
            self.blank = (line, self.source.len() - rest.trim_start().len());
        }
        self.blank.1 >= upto
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
        let next = self.lines.get(self.lines.partition_point(|line| *line <= self.pos));
        let tail = &self.source[self.pos..next.map_or(self.source.len(), |next| next - 1)];
        let alone = alone && self.is_blank(line, start) && tail.chars().all(char::is_whitespace);
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
            let close = if self.take("--") { "--" } else { "" };
            // The end is sought from brace to brace, so that this takes no longer than the comment is.
            let mut from = self.pos;
            let end = loop {
                let Some(found) = self.source[from..].find("}}") else {
                    return self.fault(start, "this comment has no end");
                };
                let inner = &self.source[self.pos..from + found];
                let inner = inner.strip_suffix('~').unwrap_or(inner);
                if let Some(inner) = inner.strip_suffix(close) {
                    break self.pos + inner.len() + close.len();
                }
                from += found + 1;
            };
            self.pos = end;
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
}
