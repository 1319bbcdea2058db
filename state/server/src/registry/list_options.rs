//! `meta/v1 ListOptions`: what a list or watch says in its query, beside its selectors.

use std::num::{IntErrorKind, ParseIntError};

use setpoint_api::Status;
use setpoint_api::validate::field::FieldError;

use crate::request::Query;

/// How `resourceVersion` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Exact,
    NotOlderThan,
}

/// What a list or watch says in its query.
#[derive(Debug)]
pub(crate) struct ListOptions<'q> {
    /// At most so many objects; 0 is all.
    pub(crate) limit: usize,
    /// The token of the page before.
    pub(crate) token: Option<&'q str>,
    /// The resourceVersion as it came.
    pub(crate) revision: Option<&'q str>,
    pub(crate) matching: Option<Match>,
    /// Whether a watch is to begin with what there is, if it says so.
    pub(crate) initial_events: Option<bool>,
    /// How long a watch lasts, in seconds; at most what it asks for.
    pub(crate) timeout: Option<u64>,
}

impl<'q> ListOptions<'q> {
    /// Reads the query of a list, or of a watch, whose rules differ.
    ///
    /// Errors: 400 for what is no number, 422 with everything that may not be said together.
    pub(crate) fn read(query: &'q Query, watch: bool) -> Result<ListOptions<'q>, Status> {
        let limit = integer(query, "limit")?.unwrap_or(0);
        let timeout = integer(query, "timeoutSeconds")?.unwrap_or(0);
        let options = ListOptions {
            limit: usize::try_from(limit).unwrap_or(0),
            token: query.non_empty("continue"),
            revision: query.non_empty("resourceVersion"),
            matching: match query.non_empty("resourceVersionMatch") {
                Some("Exact") => Some(Match::Exact),
                Some("NotOlderThan") => Some(Match::NotOlderThan),
                _ => None,
            },
            initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
            timeout: u64::try_from(timeout).ok().filter(|seconds| *seconds > 0),
        };
        let matching = query.non_empty("resourceVersionMatch");
        let errors = if watch {
            options.wrong_for_watch(matching)
        } else {
            options.wrong_for_list(matching)
        };
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors))
        }
    }

    fn wrong_for_list(&self, matching: Option<&str>) -> Vec<FieldError> {
        const FIELD: &str = "resourceVersionMatch";
        let mut errors = Vec::new();
        if let Some(matching) = matching {
            if self.revision.is_none() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(FieldError::forbidden(FIELD, why));
            }
            errors.extend(self.forbidden_by_token());
            if self.matching.is_none() {
                let known = ["Exact", "NotOlderThan", ""];
                errors.push(FieldError::not_supported_in_order(FIELD, matching, &known));
            }
            if self.matching == Some(Match::Exact) && self.revision == Some("0") {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(FieldError::forbidden(FIELD, why));
            }
        }
        if self.initial_events.is_some() {
            let why = "sendInitialEvents is forbidden for list";
            errors.push(FieldError::forbidden("sendInitialEvents", why));
        }
        errors
    }

    fn wrong_for_watch(&self, matching: Option<&str>) -> Vec<FieldError> {
        const FIELD: &str = "resourceVersionMatch";
        let mut errors = Vec::new();
        let fits = self.matching == Some(Match::NotOlderThan);
        if self.initial_events.is_some() && !fits {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(FIELD, why));
        }
        if let Some(matching) = matching {
            if self.initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(FieldError::forbidden(FIELD, why));
            }
            if !fits {
                errors.push(FieldError::not_supported(FIELD, matching, &["NotOlderThan"]));
            }
            errors.extend(self.forbidden_by_token());
        }
        errors
    }

    fn forbidden_by_token(&self) -> Option<FieldError> {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        self.token.map(|_| FieldError::forbidden("resourceVersionMatch", why))
    }
}

/// Reads a number of the query, as Go words its refusal.
pub(super) fn integer(query: &Query, key: &str) -> Result<Option<i64>, Status> {
    let Some(text) = query.non_empty(key) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(error) => Err(Status::bad_request(not_a_number("ParseInt", text, &error))),
    }
}

/// Reads a resourceVersion; "" and "0" are 0.
pub(crate) fn parse_revision(text: &str) -> Result<u64, FieldError> {
    let parsed = match text {
        "" => Ok(0),
        // Rust takes a sign, Go does not.
        signed if signed.starts_with('+') => "+".parse(),
        text => text.parse(),
    };
    parsed.map_err(|error| FieldError::invalid("resourceVersion", text, not_a_number("ParseUint", text, &error)))
}

/// The refusal of a resourceVersion by a list or a read.
pub(super) fn invalid_revision(error: &FieldError) -> Status {
    Status::bad_request(format!("invalid resource version: {error}"))
}

/// What Go's `strconv` says of a text that is no number.
fn not_a_number(function: &str, text: &str, error: &ParseIntError) -> String {
    let why = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_contradict_each_other_are_refused_with_all_that_is_wrong() {
        let unless =
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
        let token = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided";
        let zero =
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        let list = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
        let odd =
            "resourceVersionMatch: Unsupported value: \"odd\": supported values: \"Exact\", \"NotOlderThan\", \"\"";
        let needs =
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        let initial = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        let only = "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"";
        for (watch, query, wrong) in [
            (false, "", vec![]),
            (false, "resourceVersion=5&resourceVersionMatch=Exact&limit=4", vec![]),
            (false, "continue=x&resourceVersion=0", vec![]),
            (false, "resourceVersionMatch=Exact", vec![unless]),
            (false, "resourceVersionMatch=Exact&resourceVersion=0", vec![zero]),
            (
                false,
                "resourceVersionMatch=NotOlderThan&resourceVersion=4&continue=x",
                vec![token],
            ),
            (
                false,
                "resourceVersionMatch=odd&sendInitialEvents=false",
                vec![unless, odd, list],
            ),
            (true, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan", vec![]),
            (true, "sendInitialEvents=true", vec![needs]),
            (
                true,
                "resourceVersionMatch=Exact&continue=x",
                vec![initial, only, token],
            ),
        ] {
            let query = Query::parse(query);
            let said = match ListOptions::read(&query, watch) {
                Ok(_) => String::new(),
                Err(status) => {
                    assert_eq!(
                        (status.code, status.details.map(|d| d.causes.len())),
                        (422, Some(wrong.len()))
                    );
                    status.message
                }
            };
            let list = match wrong[..] {
                [] => String::new(),
                [one] => one.to_owned(),
                _ => format!("[{}]", wrong.join(", ")),
            };
            let head = if list.is_empty() {
                ""
            } else {
                "ListOptions.meta.k8s.io \"\" is invalid: "
            };
            assert_eq!(said, format!("{head}{list}"));
        }
    }

    #[test]
    fn what_is_no_number_is_refused_in_gos_words() {
        for (query, message) in [
            ("limit=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "timeoutSeconds=9223372036854775808",
                "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
            ),
        ] {
            let status = ListOptions::read(&Query::parse(query), false).unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (400, message));
        }
        for (text, why) in [
            ("abc", "invalid syntax"),
            ("-1", "invalid syntax"),
            ("+1", "invalid syntax"),
            ("18446744073709551616", "value out of range"),
        ] {
            assert_eq!(
                invalid_revision(&parse_revision(text).unwrap_err()).message,
                format!(
                    "invalid resource version: resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": {why}"
                )
            );
        }
        assert_eq!(parse_revision("0"), Ok(0));
    }
}
