//! Probes: when each is due and what its results mean (pure), and how one is run.
//!
//! Startup and readiness probes run at once and often until they succeed for the first time (and then `successThreshold` times a period apart): after 100 ms, doubling up to their period, so that a pod
//! is ready when it is and not a period later. Unless the probe has an initial delay of its own, nothing that fails in the first period counts, and
//! on the quick way at most one failure per period does: a container has `failureThreshold` whole periods to come up.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use setpoint_runtime::spec::ExecSpec;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::containers::Containers;
use crate::{grpc, http_client};

/// How often a probe is tried that could not be made.
const TRIES: u32 = 3;
/// The first pause of the quick way.
const QUICK: Duration = Duration::from_millis(100);
/// How much of a process' output is kept for a message.
const OUTPUT_LIMIT: u64 = 10 * 1024;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Whether the container has come up; the others wait for it.
    Startup,
    /// Whether it may be sent connections.
    Readiness,
    /// Whether it has to be restarted.
    Liveness,
}

impl Kind {
    /// Returns the word at the start of an event.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// Returns a container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// When one probe of one attempt of a container is due, and how it stands.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: Kind,
    period: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    pace: Duration,
    next: Option<Timestamp>,
    in_flight: bool,
    successes: u32,
    failures: u32,
    counted_at: Option<Timestamp>,
    passing: Option<bool>,
}

/// What a result means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The probe now passes or fails where it did not before.
    pub changed: Option<bool>,
    /// A failure that counts, to be told as an event.
    pub counted: bool,
}

impl Schedule {
    /// Plans a probe of a container that started at `started_at`; it begins at `now` at the earliest.
    pub fn new(kind: Kind, probe: &Probe, started_at: Timestamp, now: Timestamp) -> Self {
        let seconds = |value: Option<i32>| Duration::from_secs(u64::try_from(value.unwrap_or(0)).unwrap_or(0));
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .filter(|value| *value > 0)
                .unwrap_or(default)
        };
        let period = seconds(probe.period_seconds);
        let period = if period.is_zero() {
            Duration::from_secs(10)
        } else {
            period
        };
        let delay = seconds(probe.initial_delay_seconds);
        let begin = started_at.checked_add(delay).unwrap_or(now).max(now);
        let warm_up = if delay.is_zero() { period } else { Duration::ZERO };
        let liveness = kind == Kind::Liveness;
        let first = if liveness {
            begin.checked_add(warm_up).unwrap_or(begin)
        } else {
            begin
        };
        // As if a failure had just counted, so that the next counts when the program has warmed up.
        let counted_at = if liveness {
            None
        } else {
            begin.checked_sub(period - warm_up).ok()
        };
        Self {
            kind,
            period,
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            pace: if kind == Kind::Liveness {
                period
            } else {
                QUICK.min(period)
            },
            next: Some(first),
            in_flight: false,
            successes: 0,
            failures: 0,
            counted_at,
            passing: None,
        }
    }

    /// Returns when it is due next; `None` while it runs and when it is done for good.
    pub fn next(&self) -> Option<Timestamp> {
        self.next.filter(|_| !self.in_flight)
    }

    /// Returns whether it is due, and takes it as begun.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        let due = self.next().is_some_and(|next| next <= now);
        self.in_flight |= due;
        due
    }

    /// Takes a result.
    pub fn observe(&mut self, success: bool, now: Timestamp) -> Verdict {
        self.in_flight = false;
        let mut verdict = Verdict::default();
        if success {
            self.successes = self.successes.saturating_add(1);
            self.failures = 0;
            self.counted_at = None;
            // What has come up is looked at as often as it asks for.
            self.pace = self.period;
            if self.successes >= self.success_threshold && self.passing != Some(true) {
                self.passing = Some(true);
                verdict.changed = Some(true);
            }
        } else {
            self.successes = 0;
            let counts = self
                .counted_at
                .and_then(|at| at.checked_add(self.period).ok())
                .is_none_or(|again| again <= now);
            if counts {
                self.counted_at = Some(now);
                self.failures = self.failures.saturating_add(1);
                verdict.counted = true;
            }
            if self.failures >= self.failure_threshold && self.passing != Some(false) {
                self.passing = Some(false);
                verdict.changed = Some(false);
            }
        }
        let over = self.kind == Kind::Startup && self.passing.is_some();
        self.next = if over { None } else { now.checked_add(self.pace).ok() };
        self.pace = (self.pace * 2).min(self.period);
        verdict
    }
}

/// What a probe or hook talks to.
pub struct Target<'a> {
    /// The runtime.
    pub containers: &'a Arc<dyn Containers>,
    /// The sandbox.
    pub sandbox: &'a str,
    /// The attempt's id.
    pub container_id: &'a str,
    /// The container's definition, for the names of ports.
    pub definition: &'a Container,
    /// The pod's address (the host's own for a pod on the host's network).
    pub ip: Ipv4Addr,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All is well.
    Passed,
    /// It passes, with something to be said.
    Warned(String),
    /// It fails, and what it said.
    Failed(String),
    /// It could not be made, and why; counts as a failure.
    Errored(String),
}

impl Answer {
    /// Returns whether it counts as a success.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Passed | Self::Warned(_))
    }

    /// Returns the reason and message of its event, if it is worth one.
    pub fn event(&self, kind: Kind) -> Option<(&'static str, String)> {
        let word = kind.word();
        match self {
            Self::Passed => None,
            Self::Warned(said) => Some(("ProbeWarning", format!("{word} probe warning: {said}"))),
            Self::Failed(said) => Some(("Unhealthy", format!("{word} probe failed: {said}"))),
            Self::Errored(error) => {
                let message = format!("{word} probe errored and resulted in unknown state: {error}");
                Some(("Unhealthy", message))
            }
        }
    }

    fn of(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Passed)
    }
}

/// Runs a probe; one that could not be made is tried again at once, a few times.
pub async fn run(target: &Target<'_>, probe: &Probe) -> Answer {
    let mut tries = 1;
    loop {
        match once(target, probe).await {
            Answer::Errored(_) if tries < TRIES => tries += 1,
            answer => return answer,
        }
    }
}

async fn once(target: &Target<'_>, probe: &Probe) -> Answer {
    let seconds = probe
        .timeout_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .unwrap_or(1);
    let limit = Duration::from_secs(seconds);
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        return match exec_once(target, command, limit).await {
            Ok(Some((0, _))) => Answer::Passed,
            Ok(Some((_, output))) => Answer::Failed(output),
            Ok(None) => Answer::Failed(format!("command timed out: \"{shown}\" timed out after {seconds}s")),
            Err(failure) => Answer::Errored(failure),
        };
    }
    if let Some(http) = &probe.http_get {
        let request = match http_request(target, http) {
            Ok(request) => request,
            Err(error) => return Answer::Errored(error),
        };
        return match http_client::get(&request, limit).await {
            Ok(response) if (200..300).contains(&response.status) => Answer::Passed,
            Ok(response) if (300..400).contains(&response.status) => Answer::Warned(format!(
                "Probe terminated redirects, Response body: {}",
                String::from_utf8_lossy(&response.body)
            )),
            Ok(response) => Answer::Failed(format!("HTTP probe failed with statuscode: {}", response.status)),
            Err(error) => Answer::Failed(error.to_string()),
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| target.ip.to_string());
        let port = match port(target.definition, &tcp.port) {
            Ok(port) => port,
            Err(error) => return Answer::Errored(error),
        };
        let connected = http_client::connect(&host, port, limit).await;
        return Answer::of(connected.map(drop).map_err(|error| error.to_string()));
    }
    if let Some(grpc) = &probe.grpc {
        let Ok(port) = u16::try_from(grpc.port) else {
            return Answer::Errored(format!("invalid port number: {}", grpc.port));
        };
        let check = grpc::Check {
            host: target.ip.to_string(),
            port,
            service: grpc.service.clone().unwrap_or_default(),
            tls: grpc.mode.as_deref() == Some("TLS"),
        };
        return Answer::of(grpc::check(&check, limit).await);
    }
    Answer::Errored("missing probe handler".to_owned())
}

/// Returns the request of an HTTP probe or hook.
pub fn http_request(target: &Target<'_>, http: &HTTPGetAction) -> Result<http_client::Request, String> {
    let host = http
        .host
        .clone()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| target.ip.to_string());
    Ok(http_client::Request {
        tls: http
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host,
        port: port(target.definition, &http.port)?,
        path: http.path.clone().unwrap_or_default(),
        headers: http
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    })
}

/// Runs a process in the container; `None` when it took too long.
pub async fn exec_once(
    target: &Target<'_>,
    command: Vec<String>,
    limit: Duration,
) -> Result<Option<(i32, String)>, String> {
    let run = async {
        let spec = ExecSpec {
            command,
            tty: false,
            stdin: false,
        };
        let process = target
            .containers
            .exec(target.sandbox, target.container_id, spec)
            .await
            .map_err(|error| error.message)?;
        let (out, err, code) = tokio::join!(read_some(process.stdout), read_some(process.stderr), process.exit);
        let code = code.map_err(|error| crate::containers::chain(&error))?;
        Ok::<_, String>((code, format!("{out}{err}")))
    };
    match tokio::time::timeout(limit, run).await {
        Ok(result) => result.map(Some),
        Err(_) => Ok(None),
    }
}

async fn read_some(stream: Option<Box<dyn AsyncRead + Send + Unpin>>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut bytes = Vec::new();
    let mut first = (&mut stream).take(OUTPUT_LIMIT);
    // A stream that breaks gives what came before; the exit code tells the rest.
    if first.read_to_end(&mut bytes).await.is_ok() {
        // The process must be able to go on writing, or it would hang.
        let drained = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        drop(drained);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the number of a port that is given by number or by name.
pub fn port(definition: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = definition
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| match port {
            IntOrString::Int(number) => format!("invalid port number: {number}"),
            IntOrString::String(name) => format!("port {name} not found"),
        })
}

#[cfg(test)]
mod tests;
