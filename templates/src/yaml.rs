//! YAML as `sigs.k8s.io/yaml` reads and writes it: by way of JSON, with the rules of YAML 1.1 as Go's yaml.v2 has them.

mod emit;
pub mod node;
mod read;
mod scalar;

use std::borrow::Cow;

pub use emit::{write, write_pretty};
pub use read::{documents, read, read_map};

#[cfg(test)]
mod tests;

/// How many bytes may be parsed again because of lines that stand too far to the left.
const AGAIN_LIMIT: usize = 32 << 20;
/// What such a line is indented by: more than anything it may stand in.
const INDENT: &str = "                                                                ";

/// Parses a text; where a line within quotes stands further left than YAML 1.2 allows, as it may in Go's YAML, that line
/// is indented and the text parsed again. Blanks at the beginning of such a line mean nothing.
fn parse_leniently<'t, T, E>(
    text: &'t str,
    parse: impl Fn(&str) -> Result<T, E>,
    line_to_indent: impl Fn(&E) -> Option<usize>,
) -> Result<T, E> {
    let mut text: Cow<'t, str> = Cow::Borrowed(text);
    let mut parsed = 0usize;
    loop {
        let error = match parse(&text) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        parsed = parsed.saturating_add(text.len());
        let line = line_to_indent(&error).filter(|_| parsed <= AGAIN_LIMIT);
        let start = line.and_then(|line| match line {
            1 => Some(0),
            line => memchr::memchr_iter(b'\n', text.as_bytes())
                .nth(line.checked_sub(2)?)
                .map(|newline| newline + 1),
        });
        // What is indented already is too deep for this.
        match start.filter(|start| !text[*start..].starts_with(INDENT)) {
            Some(start) => text.to_mut().insert_str(start, INDENT),
            None => return Err(error),
        }
    }
}

/// What the parser says of a line within quotes that stands too far to the left.
const TOO_FAR_LEFT: &str = "invalid indentation in multiline quoted scalar";

/// What the parser tells: data alone. Another crate of the same build may switch on that it tells of comments as well.
fn events() -> granit_parser::Options {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options
}
