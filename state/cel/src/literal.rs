//! What literals mean: escapes in strings and bytes, and numbers with their signs.

use crate::value::Value;

/// Reads what stands between the quotes of a string or bytes.
///
/// Errors: an escape that does not exist, or code points that are none.
pub(crate) fn unescape(text: &str, raw: bool, bytes: bool) -> Result<Value, String> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    // All line ends read as one.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' || raw {
            push(&mut out, c);
            continue;
        }
        let escape = chars
            .next()
            .ok_or("unable to unescape string, found '\\' as last character")?;
        let simple = match escape {
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '\\' | '\'' | '"' | '`' | '?' => Some(escape),
            _ => None,
        };
        if let Some(simple) = simple {
            push(&mut out, simple);
            continue;
        }
        let (digits, radix, first) = match escape {
            'x' | 'X' => (2, 16, None),
            'u' if !bytes => (4, 16, None),
            'U' if !bytes => (8, 16, None),
            '0'..='3' => (2, 8, Some(escape)),
            _ => return Err(format!("unable to unescape string: unknown escape sequence \\{escape}")),
        };
        let mut code: u32 = first.and_then(|c| c.to_digit(radix)).unwrap_or(0);
        for _ in 0..digits {
            let digit = chars.next().and_then(|c| c.to_digit(radix));
            let digit = digit.ok_or("unable to unescape string: too few digits in an escape sequence")?;
            code = code
                .checked_mul(radix)
                .and_then(|code| code.checked_add(digit))
                .ok_or("invalid unicode code point")?;
        }
        if bytes {
            out.push(u8::try_from(code).map_err(|_| "unable to unescape bytes: not a byte")?);
        } else {
            push(&mut out, char::from_u32(code).ok_or("invalid unicode code point")?);
        }
    }
    if bytes {
        return Ok(Value::Bytes(out.into()));
    }
    String::from_utf8(out)
        .map(Value::from)
        .map_err(|_| "invalid UTF-8".to_owned())
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Reads a whole number with its sign.
pub(crate) fn int(digits: &str, negative: bool) -> Option<i64> {
    let magnitude = uint(digits)?;
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Reads a whole number without a sign.
pub(crate) fn uint(digits: &str) -> Option<u64> {
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// Reads a double; one that is out of range is none.
pub(crate) fn double(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}
