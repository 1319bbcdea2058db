//! `pods/log`: the lines of a container as a stream of text.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{HeaderValue, Response, StatusCode};
use setpoint_api::{FieldError, Status};

use crate::cache::Cache;
use crate::pods;
use crate::registry::Now;
use crate::request::{Query, RequestInfo};
use crate::respond;
use crate::streams::{LogRequest, LogSource, PodStreams};

/// What `stream` may be.
const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// Answers a request for a log.
pub(crate) async fn serve(
    cache: &Cache,
    streams: &Arc<dyn PodStreams>,
    now: &Now,
    info: &RequestInfo,
) -> Result<Response<Body>, Status> {
    if info.verb != "get" {
        return Err(Status::method_not_allowed());
    }
    let mut request = read(&info.query, info.name.as_deref().unwrap_or_default(), now())?;
    let (target, container) = pods::target(cache, info)?;
    request.container = Some(container);
    let limit = request.limit_bytes;
    let lines = streams
        .logs(&target.node, &target.namespace, &target.name, request)
        .await
        .map_err(|error| pods::failure(&error))?;
    let body = match limit {
        Some(limit) => Body::from_stream(limited(lines, limit)),
        None => Body::from_stream(lines),
    };
    Ok(respond::bytes(
        StatusCode::OK,
        HeaderValue::from_static("text/plain"),
        body,
    ))
}

/// Reads the options from the query; `pod` is who a refusal is about.
fn read(query: &Query, pod: &str, now: jiff::Timestamp) -> Result<LogRequest, Status> {
    let mut errors = Vec::new();
    let mut number = |key: &str, least: i64| -> Result<Option<i64>, Status> {
        let Some(text) = query.non_empty(key) else {
            return Ok(None);
        };
        // The words are those of Go's strconv.
        let value: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = match error.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        })?;
        if value < least {
            let detail = if least == 0 {
                "must be greater than or equal to 0"
            } else {
                "must be greater than 0"
            };
            errors.push(FieldError::invalid(key, value, detail));
        }
        Ok(Some(value))
    };
    let tail = number("tailLines", 0)?;
    let limit = number("limitBytes", 1)?;
    let time = query
        .non_empty("sinceTime")
        .map(|text| {
            text.parse::<jiff::Timestamp>().map_err(|_| {
                Status::bad_request(format!(
                    "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": it is no time as in RFC 3339"
                ))
            })
        })
        .transpose()?;
    // Both together are wrong whatever the seconds are.
    let seconds = if time.is_some() && query.non_empty("sinceSeconds").is_some() {
        errors.push(FieldError::forbidden(
            "",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
        None
    } else {
        number("sinceSeconds", 1)?
    };
    let stream = query.non_empty("stream").unwrap_or("All");
    if !STREAMS.contains(&stream) {
        errors.push(FieldError::not_supported("stream", stream, &STREAMS));
    }
    if stream != "All" && tail.is_some() {
        errors.push(FieldError::forbidden(
            "",
            "`tailLines` and specific `stream` are mutually exclusive for now",
        ));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", pod, &errors));
    }
    let ago = |seconds: i64| {
        now.checked_sub(jiff::SignedDuration::from_secs(seconds))
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    };
    Ok(LogRequest {
        container: None,
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        since: time.or(seconds.map(ago)),
        tail_lines: tail.and_then(|lines| usize::try_from(lines).ok()),
        timestamps: query.flag("timestamps"),
        limit_bytes: limit.and_then(|bytes| u64::try_from(bytes).ok()),
        stream: match stream {
            "Stdout" => Some(LogSource::Stdout),
            "Stderr" => Some(LogSource::Stderr),
            _ => None,
        },
    })
}

/// Ends a stream after so many bytes.
fn limited(lines: crate::streams::ByteStream, limit: u64) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send {
    stream::unfold(Some((lines, limit)), |state| async move {
        let (mut lines, left) = state?;
        match lines.next().await? {
            Ok(mut bytes) => {
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if size >= left {
                    bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    Some((Ok(bytes), None))
                } else {
                    Some((Ok(bytes), Some((lines, left - size))))
                }
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_checked() {
        let now: jiff::Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let good = read(
            &Query::parse("follow=true&tailLines=5&sinceSeconds=60&timestamps=true&limitBytes=10"),
            "web",
            now,
        )
        .expect("good options");
        assert!(good.follow && good.timestamps && !good.previous);
        assert_eq!(good.tail_lines, Some(5));
        assert_eq!(good.limit_bytes, Some(10));
        assert_eq!(good.since, Some("2026-01-01T00:00:00Z".parse().expect("a time")));
        let bad = |query: &str| read(&Query::parse(query), "web", now).expect_err("bad options");
        for (query, message) in [
            (
                "tailLines=-1",
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
            (
                "sinceSeconds=0",
                "sinceSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                "sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z",
                "<nil>: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            (
                "stream=x",
                "stream: Unsupported value: \"x\": supported values: \"All\", \"Stderr\", \"Stdout\"",
            ),
            (
                "stream=Stdout&tailLines=1",
                "<nil>: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
            ),
        ] {
            let status = bad(query);
            assert_eq!(status.message, format!("PodLogOptions \"web\" is invalid: {message}"));
            assert_eq!(status.code, 422);
        }
        let word = bad("tailLines=x");
        assert_eq!(
            (word.code, word.message.as_str()),
            (400, "strconv.ParseInt: parsing \"x\": invalid syntax")
        );
        assert_eq!(bad("sinceTime=yesterday").code, 400);
        let errors = read(&Query::parse("stream=Stderr"), "web", now).expect("good options");
        assert_eq!(errors.stream, Some(LogSource::Stderr));
    }

    #[tokio::test]
    async fn a_limit_cuts_the_stream_at_the_byte() {
        let lines = stream::iter(["abc", "def", "ghi"].map(|text| Ok(Bytes::from(text)))).boxed();
        let parts: Vec<Bytes> = limited(lines, 5).map(|part| part.expect("bytes")).collect().await;
        assert_eq!(parts.concat(), b"abcde");
    }
}
