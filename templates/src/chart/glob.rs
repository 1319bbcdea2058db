//! Patterns of names: those of `.Files.Glob` and those of `.helmignore`.

use regex::Regex;

/// Makes a pattern of `.Files.Glob`: `*` stays within a path's element, `**` does not. Nothing where it is no pattern.
pub(crate) fn glob_regex(pattern: &str) -> Option<Regex> {
    let mut out = String::from("(?s)^");
    let mut chars = pattern.chars().peekable();
    let mut braces = 0;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                out.push_str(".*");
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '{' => {
                braces += 1;
                out.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                out.push(')');
            }
            ',' if braces > 0 => out.push('|'),
            '[' => {
                out.push('[');
                if chars.peek() == Some(&'!') {
                    chars.next();
                    out.push('^');
                }
                for c in chars.by_ref() {
                    if c == '[' || c == '&' || c == '~' {
                        out.push('\\');
                    }
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '\\' => {
                if let Some(c) = chars.next() {
                    out.push_str(&regex::escape(&c.to_string()));
                }
            }
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    Regex::new(&out).ok()
}

/// Makes a pattern as `filepath.Match` reads it.
pub(super) fn path_regex(pattern: &str) -> Option<Regex> {
    let plain: String = pattern
        .chars()
        .flat_map(|c| {
            if matches!(c, '{' | '}' | ',') {
                vec!['\\', c]
            } else {
                vec![c]
            }
        })
        .collect();
    glob_regex(&plain)
}
