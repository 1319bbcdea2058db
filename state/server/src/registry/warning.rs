//! The `Warning` headers of an answer, as many as a client's buffers hold.

use http::Response;
use http::header::{HeaderName, HeaderValue, WARNING};

/// So many letters all warnings of an answer may have; with more, each is cut.
const ALL: usize = 4096;
/// So many letters a warning has that is cut.
const EACH: usize = 256;

/// Adds `Warning: 299 - "text"` for each text, once.
pub(super) fn warn<B>(response: &mut Response<B>, warnings: &[String]) {
    for text in bounded(warnings) {
        let mut line = String::with_capacity(text.len() + 10);
        line.push_str("299 - \"");
        for letter in text.chars() {
            match letter {
                '"' | '\\' => line.extend(['\\', letter]),
                letter if letter.is_control() => line.push(' '),
                letter => line.push(letter),
            }
        }
        line.push('"');
        if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
            let name: HeaderName = WARNING;
            response.headers_mut().append(name, value);
        }
    }
}

/// The texts that are sent: each once, all of them whole if they fit, else cut and as many as fit.
fn bounded(warnings: &[String]) -> Vec<&str> {
    let mut texts: Vec<&str> = Vec::new();
    for warning in warnings {
        if !warning.is_empty() && !texts.contains(&warning.as_str()) {
            texts.push(warning);
        }
        // Kubernetes begins to cut with the first that does not fit; nothing after the bound is reached is sent.
        if texts.len() > ALL {
            break;
        }
    }
    let letters = |text: &str| text.chars().count();
    if texts.iter().map(|text| letters(text)).sum::<usize>() <= ALL {
        return texts;
    }
    let mut written = 0;
    let mut sent = Vec::new();
    for text in texts {
        if written >= ALL {
            break;
        }
        let cut = text.char_indices().nth(EACH).map_or(text, |(end, _)| &text[..end]);
        written += letters(cut);
        sent.push(cut);
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_cut_only_when_they_are_too_much_together() {
        let long = "é".repeat(4000);
        let fits = [long.clone(), "b".to_owned(), "b".to_owned(), String::new()];
        assert_eq!(bounded(&fits), [long.as_str(), "b"]);
        let more = [long.clone(), "b".repeat(97)];
        assert_eq!(bounded(&more), ["é".repeat(256), "b".repeat(97)]);
        let many: Vec<String> = (0..1000).map(|number| format!("{number:0>300}")).collect();
        let sent = bounded(&many);
        assert_eq!((sent.len(), sent[0].len()), (16, 256));
    }
}
