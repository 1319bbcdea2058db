//! Sets of the indexes of an indexed Job's pods: `1,3-5,7`.

use crate::validate::field::quote;

/// Counts the indexes of a set, each below `completions`; the error says what is wrong in Kubernetes' words.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let mut last: Option<i64> = None;
    let mut total = 0;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (start, end) = interval(part, completions)?;
        if let Some(last) = last
            && last >= start
        {
            return Err(format!("non-increasing order, previous: {last}, current: {start}"));
        }
        total += end - start + 1;
        last = Some(end);
    }
    Ok(total)
}

/// Returns the first index that is in both sets; parts that cannot be read are passed over.
pub(super) fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',')
            .filter_map(|part| interval(part, completions).ok())
            .collect()
    };
    let (one, other) = (read(one), read(other));
    let (mut at, mut other_at) = (0, 0);
    while let (Some(a), Some(b)) = (one.get(at), other.get(other_at)) {
        if a.0 <= b.1 && b.0 <= a.1 {
            return Some(a.0.max(b.0));
        }
        if a.0 <= b.0 {
            at += 1;
        } else {
            other_at += 1;
        }
    }
    None
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = text.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quote(text)
        ));
    }
    let read = |text: &str| -> Result<i64, String> {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {}", quote(text)))?;
        if number >= completions {
            return Err(format!("too large index: {}", quote(text)));
        }
        Ok(number)
    };
    let start = read(limits[0])?;
    let Some(end) = limits.get(1) else {
        return Ok((start, start));
    };
    let end = read(end)?;
    if start >= end {
        return Err(format!("non-increasing order, previous: {start}, current: {end}"));
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_indexes_are_read_as_on_kubernetes() {
        for (text, expected) in [("", 0), ("0", 1), ("1,3-5,7", 5), ("0-9", 10)] {
            assert_eq!(count(text, 10), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("3,1", "non-increasing order, previous: 3, current: 1"),
            ("5-3", "non-increasing order, previous: 5, current: 3"),
            ("10", "too large index: \"10\""),
            ("x", "cannot convert string to integer for index: \"x\""),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        ] {
            assert_eq!(count(text, 10).unwrap_err(), expected, "{text}");
        }
        assert_eq!(overlap("0-2,5", "3-5", 10), Some(5));
        assert_eq!(overlap("0-2,5", "3,4,6", 10), None);
    }
}
