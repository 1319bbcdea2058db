//! Regular expressions in RE2's syntax, which Kubernetes' are, for the crate `regex`.
//!
//! The two differ in a few places: RE2's classes are of ASCII, a bracket in a class is a character like others, a brace that
//! begins no repetition is one too, and `\Q…\E` quotes. Both match in time linear in the text; here the size of what is
//! compiled is bounded.

use regex::{Regex, RegexBuilder};

/// The most memory of one compiled pattern, in bytes.
const SIZE: usize = 2 * 1024 * 1024;
/// How deep groups may nest.
const NESTING: u32 = 200;
/// RE2's limit on a repetition's count.
const REPEAT: u32 = 1000;

/// Compiles a pattern.
///
/// Errors: what is wrong with it, begun as Go begins it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern).map_err(|why| format!("error parsing regexp: {why}"))?;
    let built = RegexBuilder::new(&translated)
        .size_limit(SIZE)
        .dfa_size_limit(SIZE)
        .nest_limit(NESTING)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("error parsing regexp: expression nests or repeats too much: `{pattern}`")
        }
        other => {
            // The last line says what is wrong; those before it show where.
            let text = other.to_string();
            let reason = text
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            format!("error parsing regexp: {reason}: `{pattern}`")
        }
    })
}

/// Returns what is wrong with a pattern, or nothing.
pub fn fault(pattern: &str) -> Option<String> {
    compile(pattern).err()
}

fn translate(pattern: &str) -> Result<String, String> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut at = 0;
    while let Some(c) = chars.get(at).copied() {
        match c {
            '\\' => at = escape(&chars, at, false, &mut out)?,
            '[' => at = class(&chars, at, &mut out)?,
            '{' => {
                let end = repetition(&chars, at)?;
                if end.is_none() {
                    out.push('\\');
                }
                let end = end.unwrap_or(at + 1);
                out.extend(&chars[at..end]);
                at = end;
            }
            '}' => {
                out.push_str("\\}");
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Returns the end of a repetition such as `{2,3}`, or nothing if it is none.
fn repetition(chars: &[char], start: usize) -> Result<Option<usize>, String> {
    let Some(length) = chars[start..].iter().position(|c| *c == '}') else {
        return Ok(None);
    };
    let inner: String = chars[start + 1..start + length].iter().collect();
    let (least, most) = inner
        .split_once(',')
        .map_or((&*inner, None), |(least, most)| (least, Some(most)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(least) || most.is_some_and(|most| !most.is_empty() && !digits(most)) {
        return Ok(None);
    }
    for number in [Some(least), most]
        .into_iter()
        .flatten()
        .filter(|number| !number.is_empty())
    {
        if number.parse::<u32>().map_or(true, |number| number > REPEAT) {
            return Err(format!("invalid repeat count: `{{{inner}}}`"));
        }
    }
    Ok(Some(start + length + 1))
}

/// Writes an escape; returns where it ends.
fn escape(chars: &[char], start: usize, in_class: bool, out: &mut String) -> Result<usize, String> {
    let Some(c) = chars.get(start + 1).copied() else {
        return Err("trailing backslash at end of expression: ``".to_owned());
    };
    let classes = match c {
        'd' => Some("0-9"),
        'w' => Some("0-9A-Za-z_"),
        's' => Some("\\t\\n\\x0C\\r "),
        'D' => Some("^0-9"),
        'W' => Some("^0-9A-Za-z_"),
        'S' => Some("^\\t\\n\\x0C\\r "),
        _ => None,
    };
    if let Some(class) = classes {
        if in_class && !class.starts_with('^') {
            out.push_str(class);
        } else {
            out.push_str(&format!("[{class}]"));
        }
        return Ok(start + 2);
    }
    match c {
        'Q' if !in_class => {
            let rest = &chars[start + 2..];
            let end = rest.windows(2).position(|pair| pair == ['\\', 'E']);
            let quoted: String = rest[..end.unwrap_or(rest.len())].iter().collect();
            out.push_str(&regex::escape(&quoted));
            Ok(end.map_or(chars.len(), |end| start + 2 + end + 2))
        }
        'b' | 'B' if !in_class => {
            out.push_str(&format!("(?-u:\\{c})"));
            Ok(start + 2)
        }
        // Their braces belong to them: elsewhere a brace that begins no repetition is a character.
        'p' | 'P' | 'x' if chars.get(start + 2) == Some(&'{') => {
            let length = chars[start + 2..].iter().position(|c| *c == '}');
            let end = length.map_or(chars.len(), |length| start + 2 + length);
            let name: String = chars[start + 3..end].iter().collect();
            let (letter, name) = match (c, name.strip_prefix('^')) {
                ('p', Some(name)) => ('P', name),
                ('P', Some(name)) => ('p', name),
                _ => (c, &*name),
            };
            let close = if length.is_some() { "}" } else { "" };
            out.push_str(&format!("\\{letter}{{{name}{close}"));
            Ok(end + close.len())
        }
        // RE2 knows no others; `regex` would read these.
        'U' | 'u' | '<' | '>' | 'Z' => Err(format!("invalid escape sequence: `\\{c}`")),
        c if c.is_ascii_punctuation() => {
            out.push_str(&regex_escape(c));
            Ok(start + 2)
        }
        c => {
            out.push('\\');
            out.push(c);
            Ok(start + 2)
        }
    }
}

fn regex_escape(c: char) -> String {
    if matches!(
        c,
        '_' | '\'' | '"' | '/' | ',' | ':' | ';' | '=' | '@' | '!' | '%' | '`' | '<' | '>'
    ) {
        c.to_string()
    } else {
        format!("\\{c}")
    }
}

/// Writes a class; returns where it ends.
fn class(chars: &[char], start: usize, out: &mut String) -> Result<usize, String> {
    let unclosed = || {
        let shown: String = chars[start..].iter().collect();
        format!("missing closing ]: `{shown}`")
    };
    out.push('[');
    let mut at = start + 1;
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    loop {
        let c = chars.get(at).copied().ok_or_else(unclosed)?;
        match c {
            ']' if at > first => {
                out.push(']');
                return Ok(at + 1);
            }
            '\\' => at = escape(chars, at, true, out)?,
            '[' if chars.get(at + 1) == Some(&':') => {
                let rest: String = chars[at..].iter().collect();
                match rest.find(":]") {
                    Some(end) => {
                        out.push_str(&rest[..end + 2]);
                        at += rest[..end + 2].chars().count();
                    }
                    None => {
                        out.push_str("\\[");
                        at += 1;
                    }
                }
            }
            // These would begin or join classes.
            '[' | ']' | '&' | '~' => {
                out.push('\\');
                out.push(c);
                at += 1;
            }
            '-' if chars.get(at + 1) == Some(&'-') && at > first => {
                out.push('-');
                out.push_str("\\-");
                at += 2;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_re2() {
        let fits = |pattern: &str, text: &str| {
            compile(pattern)
                .unwrap_or_else(|why| panic!("{pattern}: {why}"))
                .is_match(text)
        };
        assert!(fits(r"^\d+$", "12") && !fits(r"^\d+$", "١٢"));
        assert!(fits(r"^[\d\w]+$", "a1_") && !fits(r"^\w$", "é"));
        assert!(fits(r"^[^\s]$", "x") && fits(r"^[\S]$", "x") && !fits(r"^[\S]$", " "));
        assert!(fits(r"^[a[b]+$", "a[b"));
        assert!(fits(r"^a{,5}$", "a{,5}") && fits(r"^a{2}$", "aa") && fits(r"^{$", "{"));
        assert!(fits(r"^\Qa.b\E$", "a.b") && !fits(r"^\Qa.b\E$", "axb"));
        assert!(fits(r"^[[:alpha:]-]+$", "a-b"));
        assert!(fits(r"^[&&]$", "&") && fits(r"^[]a]$", "]"));
        assert!(fits(r"\bfoo\b", "a foo b"));
        assert!(fits(r"^\/a\-b\_$", "/a-b_"));
        assert!(fits(r"^\p{L}+$", "aé") && !fits(r"^\p{L}$", "1") && fits(r"^\pL$", "é") && fits(r"^[\p{L}{]+$", "é{"));
        assert!(fits(r"^\P{Greek}$", "a") && !fits(r"^\P{Greek}$", "α") && fits(r"^\p{Greek}{2}$", "αβ"));
        assert!(fits(r"^\p{^Greek}$", "a") && fits(r"^[\P{^Greek}]$", "α") && !fits(r"^\p{^Greek}$", "α"));
        assert!(fits(r"^\x{2028}$", "\u{2028}") && fits(r"^[\x{61}-c]{2}$", "ab"));
        assert!(fault(r"\p{L").is_some() && fault(r"\x{").is_some() && fault(r"\p{Nothing}").is_some());
        assert!(fault("(").is_some() && fault("[a").is_some() && fault("a{1001}").is_some() && fault("\\").is_some());
        assert!(fault("(?=a)").is_some() && fault(r"(a)\1").is_some());
    }
}
