//! The certificates' ends.

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use x509_parser::pem::parse_x509_pem;

use super::{Finding, Findings, Subject};

const DAY: i64 = 24 * 3600;

/// The certificates; from how many days before its end on somebody should know.
const CERTIFICATES: &[(&str, &str, i64)] = &[
    // The daemon renews these long before (the authority when a sixth of its ten years is left, the others with a third of a
    // year): fewer days are left only when that fails, or when it does not run.
    ("ca", "the authority's", 580),
    ("serving", "the API's", 115),
    ("admin", "the administrator's", 115),
];

/// Looks at how long each certificate is good for.
pub fn certificates(subject: &Subject) -> Findings {
    let folder = subject.paths.pki();
    if !folder.exists() {
        return Ok(Vec::new());
    }
    CERTIFICATES
        .iter()
        .map(|(name, whose, soon)| {
            let path = folder.join(format!("{name}.crt"));
            let end = end_of(&path)?;
            Ok(judge(name, whose, end, subject.now, *soon, subject.daemon.is_some()))
        })
        .collect()
}

fn judge(name: &str, whose: &str, end: Timestamp, now: Timestamp, soon: i64, runs: bool) -> Finding {
    let days = (end.as_second() - now.as_second()).div_euclid(DAY);
    let text = match days {
        ..0 => format!("{whose} certificate has expired on {end}"),
        days => format!("{whose} certificate is good for {days} days"),
    };
    if days >= soon {
        return Finding::ok(text);
    }
    let advice = match (name, runs) {
        ("ca", _) if days < 0 => {
            "nothing that it signed is good any more: stop setpoint, remove the folder pki in the data directory, start it again and give everybody new kubeconfigs"
        }
        ("ca", false) => "start setpoint: it makes the next authority known, and later lets it sign; both take weeks",
        (_, false) => "the next start of setpoint makes a new one",
        (_, true) => "the running setpoint should have made a new one: its log says why it could not",
    };
    if days < 0 && (runs || name == "ca") {
        Finding::failed(text, advice)
    } else {
        Finding::warning(text, advice)
    }
}

fn end_of(path: &Path) -> anyhow::Result<Timestamp> {
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let damaged = || format!("{} is damaged", path.display());
    let (_, pem) = parse_x509_pem(&pem).ok().with_context(damaged)?;
    let certificate = pem.parse_x509().ok().with_context(damaged)?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).with_context(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_certificate_is_judged_by_the_days_that_are_left_and_by_who_renews_it() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let left = |days: i64| Timestamp::from_second(now.as_second() + days * DAY + 60).unwrap();
        let status = |name, days, runs| judge(name, "the", left(days), now, 28, runs).status;
        assert_eq!(status("serving", 28, true), Status::Ok);
        assert_eq!(status("serving", 27, true), Status::Warning);
        assert_eq!(status("serving", -2, true), Status::Failed);
        assert_eq!(
            status("serving", -2, false),
            Status::Warning,
            "the next start makes a new one"
        );
        assert_eq!(status("ca", -2, false), Status::Failed);
        assert!(judge("ca", "the", left(40), now, 90, false).what.contains("40 days"));
    }
}
