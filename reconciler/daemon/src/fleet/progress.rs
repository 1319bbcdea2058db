//! What the foreground shows: the roll-out of a repository until it is done, then what happens.
//!
//! On a terminal the roll-out's lines are redrawn; in a pipe each change is a line. A reader that stands still holds nobody up:
//! lines are written by a thread of their own, and what it has no room for is dropped.

use std::io::IsTerminal as _;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use setpoint_engine::api::{APP_LABEL, App, Repository};
use setpoint_engine::state::short;
use setpoint_engine::{Engine, Name, Notice, NoticeKind};
use setpoint_runtime::images::{ImageStore, Progress};
use tokio::sync::broadcast::error::RecvError;

use super::Source;
use crate::commands::image::pulled;
use crate::{apps, output};

/// How often a terminal is redrawn while a roll-out is under way.
const REDRAW: Duration = Duration::from_millis(100);
/// How many lines may wait to be written.
const LINES: usize = 256;

/// Shows the roll-out of a repository, if there is one, and then what happens; never returns.
pub async fn show(
    engine: &Engine,
    client: &kube::Client,
    images: &ImageStore,
    source: Option<&Source>,
    followed: Option<Name>,
) {
    let (lines, waiting) = sync_channel::<String>(LINES);
    std::thread::spawn(move || {
        while let Ok(line) = waiting.recv() {
            output::text(&line);
        }
    });
    let mut notices = engine.notices();
    if let (Some(source), Some(name)) = (source, followed) {
        roll_out(engine, client, images, (source, &name), &lines).await;
    }
    loop {
        match notices.recv().await {
            Ok(notice) => say(&lines, &told(&notice)),
            Err(RecvError::Lagged(missed)) => say(&lines, &format!("({missed} events were too fast to be shown)\n")),
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn say(lines: &SyncSender<String>, line: &str) {
    // Whoever does not read misses lines; the log has them.
    if lines.try_send(line.to_owned()).is_err() {
        tracing::debug!("a line was not shown: nobody reads");
    }
}

fn told(notice: &Notice) -> String {
    let (sign, code) = match notice.kind {
        NoticeKind::Commit => ("◆", "1"),
        NoticeKind::Begun => ("▸", "36"),
        NoticeKind::Healthy => ("✓", "32"),
        NoticeKind::Failed => ("✗", "31"),
        NoticeKind::Healed => ("↺", "33"),
        NoticeKind::Pruned => ("−", "33"),
    };
    let time = crate::wall_clock().strftime("%H:%M:%S");
    format!(
        "{time} {} {}: {}\n",
        output::paint(code, sign),
        notice.subject,
        notice.text
    )
}

/// Shows a roll-out until nothing of it is under way.
async fn roll_out(
    engine: &Engine,
    client: &kube::Client,
    images: &ImageStore,
    (source, name): (&Source, &Name),
    lines: &SyncSender<String>,
) {
    let terminal = std::io::stdout().is_terminal();
    let mut drawn = 0;
    let mut before: Vec<String> = Vec::new();
    let mut tick = tokio::time::interval(REDRAW);
    loop {
        tick.tick().await;
        let repository = engine.repository(name);
        let apps = engine.apps_of(name);
        let mut now: Vec<String> = apps.iter().map(|app| line(app)).collect();
        now.extend(
            images
                .pulls()
                .iter()
                .map(|(name, progress)| pulling(name, progress, terminal)),
        );
        if terminal && now != before {
            let mut text = if drawn > 0 {
                format!("\x1b[{drawn}A")
            } else {
                String::new()
            };
            for line in &now {
                text.push_str(&format!("\x1b[2K{line}\n"));
            }
            // Lines of pulls that have ended.
            text.push_str("\x1b[J");
            drawn = now.len();
            say(lines, &text);
        } else if !terminal {
            for line in now.iter().filter(|line| !before.contains(line)) {
                say(lines, &format!("{line}\n"));
            }
        }
        before = now;
        if let Some(status) = repository.as_ref().and_then(|repository| repository.status.as_ref())
            && !status.reason.is_empty()
        {
            say(lines, &format!("{} {}\n", output::paint("31", "✗"), status.reason));
            break;
        }
        if repository.as_deref().is_some_and(|repository| done(repository, &apps)) {
            break;
        }
    }
    let addresses = addresses(client, &engine.apps_of(name)).await;
    say(lines, &farther(source, &addresses));
}

/// Says whether every app of a repository has come to rest with the newest commit.
fn done(repository: &Repository, apps: &[std::sync::Arc<App>]) -> bool {
    let Some(status) = &repository.status else {
        return false;
    };
    let (Some(revision), Ok(count)) = (&status.revision, usize::try_from(status.apps)) else {
        return false;
    };
    status.in_force.as_ref() == Some(revision)
        && apps.len() == count
        && apps.iter().all(|app| {
            let (health, reason) = apps::standing(app);
            let taken = app.status.as_ref().and_then(|status| status.wanted.as_ref()) == Some(revision);
            let going_back = reason.contains("going back to");
            taken && !going_back && !matches!(health, "Progressing" | "Waiting" | "Unknown" | "")
        })
}

fn line(app: &App) -> String {
    let (health, reason) = apps::standing(app);
    let revision = app
        .status
        .as_ref()
        .and_then(|status| status.revision.clone())
        .unwrap_or_default();
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!("  {reason}")
    };
    format!(
        "  {:<20} {:<8} {}{reason}",
        app.name_any(),
        short(&revision),
        apps::coloured(health)
    )
}

/// Shows a pull; how far it is only where its line is redrawn.
fn pulling(name: &str, progress: &Progress, redrawn: bool) -> String {
    match redrawn {
        true => format!("  pulling {name}  {}", pulled(progress)),
        false => format!("  pulling {name}"),
    }
}

/// Returns how the apps' services are reached: name and URL.
async fn addresses(client: &kube::Client, apps: &[std::sync::Arc<App>]) -> Vec<(String, String)> {
    let api: Api<Service> = Api::all(client.clone());
    let services = match api.list(&ListParams::default().labels(APP_LABEL)).await {
        Ok(services) => services.items,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot list the services");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for service in services {
        let app = service.labels().get(APP_LABEL).cloned().unwrap_or_default();
        if !apps.iter().any(|known| known.name_any() == app) {
            continue;
        }
        let spec = service.spec.clone().unwrap_or_default();
        let address = spec.cluster_ip.filter(|address| address != "None");
        let port = spec.ports.and_then(|ports| ports.first().map(|port| port.port));
        if let (Some(address), Some(port)) = (address, port) {
            let port = if port == 80 { String::new() } else { format!(":{port}") };
            found.push((service.name_any(), format!("http://{address}{port}/")));
        }
    }
    found
}

fn farther(source: &Source, addresses: &[(String, String)]) -> String {
    let mut text = String::from("\n");
    for (name, url) in addresses {
        text.push_str(&format!("  {name:<12} curl {url}\n"));
    }
    match &source.clone {
        Some(clone) => {
            let clone = shown(clone);
            text.push_str(&format!(
                "\nNow change something: cd {clone}, edit, git commit -am \"Try it\", git push. README.md there says what to try.\n\n"
            ));
        }
        None => text.push_str(&format!("\nEach new commit of {} is deployed.\n\n", source.url)),
    }
    text
}

/// Shortens a path to how it is reached from here, where that is shorter.
fn shown(path: &std::path::Path) -> String {
    let here = std::env::current_dir().ok();
    match here.as_deref().and_then(|here| path.strip_prefix(here).ok()) {
        Some(relative) => format!("./{}", relative.display()),
        None => path.display().to_string(),
    }
}
