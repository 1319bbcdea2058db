//! `/healthz`, `/livez`, `/readyz`: whether the server is well, for probes and people.

use std::collections::BTreeSet;

use axum::body::Body;
use http::header::X_CONTENT_TYPE_OPTIONS;
use http::{HeaderValue, Response, StatusCode};
use setpoint_api::Status;

use crate::cache::Cache;
use crate::request::RequestInfo;
use crate::respond;

/// Whether this path is one of health.
pub(crate) fn is_health(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next();
    matches!(first, Some("healthz" | "livez" | "readyz"))
}

/// Answers `/CHECKS` and `/CHECKS/CHECK`; anybody may ask.
pub(crate) fn serve(cache: &Cache, info: &RequestInfo) -> Result<Response<Body>, Status> {
    let mut segments = info.path.split('/').filter(|part| !part.is_empty());
    let endpoint = segments.next().unwrap_or_default();
    let checks = [("ping", true), ("log", cache.is_live()), ("cache", cache.is_live())];
    if let Some(name) = segments.next() {
        let (_, well) = checks
            .into_iter()
            .find(|(check, _)| *check == name)
            .ok_or_else(Status::no_such_resource)?;
        return Ok(answer(
            well,
            "ok".to_owned(),
            format!("internal server error: {name} check failed\n"),
        ));
    }
    let (well, report) = report(&checks, info.query.all("exclude"));
    let good = if info.query.get("verbose").is_some() {
        format!("{report}{endpoint} check passed\n")
    } else {
        "ok".to_owned()
    };
    Ok(answer(well, good, format!("{report}{endpoint} check failed\n")))
}

/// Whether all checks hold that are not excluded, and a line on each. Why one does not hold is for the log: anybody may ask.
fn report<'q>(checks: &[(&str, bool)], excluded: impl Iterator<Item = &'q str>) -> (bool, String) {
    let mut unknown: BTreeSet<&str> = excluded.collect();
    let mut text = String::new();
    let mut well = true;
    for (name, good) in checks {
        let (mark, how) = match (unknown.remove(name), good) {
            (true, _) => ('+', "excluded: ok"),
            (false, true) => ('+', "ok"),
            (false, false) => ('-', "failed: reason withheld"),
        };
        well &= mark == '+';
        text += &format!("[{mark}]{name} {how}\n");
    }
    if !unknown.is_empty() {
        let unknown: Vec<String> = unknown.into_iter().map(|name| format!("{name:?}")).collect();
        text += &format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
        );
    }
    (well, text)
}

fn answer(well: bool, good: String, bad: String) -> Response<Body> {
    let mut response = if well {
        respond::text(StatusCode::OK, good)
    } else {
        respond::text(StatusCode::INTERNAL_SERVER_ERROR, bad)
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_each_check_and_withholds_why_one_fails() {
        let checks = [("ping", true), ("log", false), ("cache", false)];
        for (excluded, well, text) in [
            (
                &[] as &[&str],
                false,
                "[+]ping ok\n[-]log failed: reason withheld\n[-]cache failed: reason withheld\n",
            ),
            (
                &["log", "cache"],
                true,
                "[+]ping ok\n[+]log excluded: ok\n[+]cache excluded: ok\n",
            ),
            (
                &["log", "cache", "b", "a", "b"],
                true,
                "[+]ping ok\n[+]log excluded: ok\n[+]cache excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"a\",\"b\"\n",
            ),
        ] {
            assert_eq!(report(&checks, excluded.iter().copied()), (well, text.to_owned()));
        }
    }
}
