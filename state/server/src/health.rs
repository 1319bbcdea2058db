//! `/healthz`, `/livez`, `/readyz`: whether the server is well, for probes and people.

use axum::body::Body;
use http::{Response, StatusCode};
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
        return Ok(answer(well, "ok".to_owned(), format!("{name} check failed\n")));
    }
    let excluded: Vec<&str> = info.query.all("exclude").collect();
    let mut report = String::new();
    let mut well = true;
    for (name, good) in checks {
        if excluded.contains(&name) {
            continue;
        }
        well &= good;
        report += &format!(
            "[{}]{name} {}\n",
            if good { '+' } else { '-' },
            if good { "ok" } else { "failed" }
        );
    }
    let good = if info.query.get("verbose").is_some() {
        format!("{report}{endpoint} check passed\n")
    } else {
        "ok".to_owned()
    };
    Ok(answer(well, good, format!("{report}{endpoint} check failed\n")))
}

fn answer(well: bool, good: String, bad: String) -> Response<Body> {
    if well {
        respond::text(StatusCode::OK, good)
    } else {
        respond::text(StatusCode::INTERNAL_SERVER_ERROR, bad)
    }
}
