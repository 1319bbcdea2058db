//! Texts that others wrote, as part of a line of ours.

/// Returns a text on one line, and no longer than this many characters.
pub(crate) fn brief(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        let gap = usize::from(count > 0);
        for c in std::iter::repeat_n(' ', gap).chain(word.chars()) {
            if count + 1 >= limit {
                out.push('…');
                return out;
            }
            out.push(c);
            count += 1;
        }
    }
    out
}

/// Returns the singular or the plural.
pub(crate) fn plural<'a>(count: i64, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_short_line() {
        assert_eq!(brief(" a\n\tb  c\u{7} ", 80), "a b c");
        assert_eq!(brief("äöü äöü", 5), "äöü …");
        assert_eq!(brief("", 5), "");
    }
}
