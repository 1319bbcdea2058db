//! Every command of kubectl by three of its versions, and Helm's by two, held to transcripts of what they print on Kubernetes.
//!
//! A transcript in `matrix/` is run from its start to its end by each version, in a namespace of that version's own on one instance:
//!
//! ```text
//! # Words for whoever reads it.
//! $ kubectl create namespace a      a command for sh; `> ` goes on with it
//! $~ kubectl get pods               the same, again until its answer is as expected
//! $[1.33,1.37] kubectl events       the same, for these versions only
//! ? 1                               how it must end, unless with 0
//! namespace/a created               what it must print; [..] is anything within a line, runs of spaces are one
//! [1.27] old words                  … by this version
//! ...                               any number of lines
//! ```
//!
//! Standard error is part of what is printed. `$NS` is the namespace, `$NODE` the node, the folder is empty at the start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::harness::{DEADLINE, World, kubectl_path, pause, text};

/// The programs: the name that a transcript calls them by, their version, and the variable that says where they are.
type Client = (&'static str, &'static str, &'static str);

const KUBECTL: [Client; 3] = [
    ("kubectl", "1.37", "SETPOINT_TEST_KUBECTL"),
    ("kubectl", "1.33", "SETPOINT_TEST_KUBECTL_1_33"),
    ("kubectl", "1.27", "SETPOINT_TEST_KUBECTL_1_27"),
];
const HELM: [Client; 2] = [
    ("helm", "4.3", "SETPOINT_TEST_HELM"),
    ("helm", "3.12", "SETPOINT_TEST_HELM_3"),
];

/// Commands that no transcript holds, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    ("alpha", "experiments that come and go with each version"),
    ("plugin", "looks at this machine's PATH only"),
    ("kuberc", "edits a file of the client's own"),
    ("help", "talks to no server"),
];

struct Step {
    line: usize,
    versions: Vec<String>,
    until: bool,
    ends_with: i32,
    command: String,
    expected: Vec<(Vec<String>, String)>,
}

fn binary(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None if variable == "SETPOINT_TEST_KUBECTL" => kubectl_path(),
        None => panic!("{variable} is not set; install the clients: eval \"$(bash .ci/install)\""),
    }
}

/// Splits `[1.27,1.33] rest` off.
fn versions(line: &str) -> (Vec<String>, &str) {
    let list = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match list {
        Some((list, rest))
            if list.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ',')) && !list.starts_with('.') =>
        {
            (
                list.split(',').map(str::to_owned).collect(),
                rest.strip_prefix(' ').unwrap_or(rest),
            )
        }
        _ => (Vec::new(), line),
    }
}

fn parse(transcript: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in transcript.lines().enumerate() {
        let command = line.strip_prefix('$').filter(|rest| rest.starts_with([' ', '~', '[']));
        if let Some(rest) = command {
            let (until, rest) = rest.strip_prefix('~').map_or((false, rest), |rest| (true, rest));
            let (versions, command) = versions(rest);
            steps.push(Step {
                line: number + 1,
                versions,
                until,
                ends_with: 0,
                command: command.trim_start().to_owned(),
                expected: Vec::new(),
            });
            continue;
        }
        let Some(step) = steps.last_mut() else { continue };
        if let Some(more) = line.strip_prefix("> ") {
            step.command.push('\n');
            step.command.push_str(more);
        } else if let Some(code) = line.strip_prefix("? ") {
            step.ends_with = code.trim().parse().unwrap();
        } else if !line.starts_with("# ") && !line.trim().is_empty() {
            let (versions, wanted) = versions(line);
            step.expected.push((versions, wanted.to_owned()));
        }
    }
    steps
}

/// A line without colours, its runs of spaces made one.
fn squeezed(line: &str) -> String {
    let mut plain = String::new();
    let mut parts = line.split("\u{1b}[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn matches(pattern: &[String], lines: &[String]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((first, more)) if first == "..." => (0..=lines.len()).any(|skip| matches(more, &lines[skip..])),
        Some((first, more)) => lines
            .split_first()
            .is_some_and(|(line, rest)| line_matches(first, line) && matches(more, rest)),
    }
}

struct Shell<'w> {
    world: &'w World,
    client: Client,
    namespace: String,
    node: String,
    folder: PathBuf,
}

impl Shell<'_> {
    fn new(world: &World, client: Client) -> Shell<'_> {
        let (program, version, variable) = client;
        let folder = world.folder().join(format!("{program}-{version}"));
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir(folder.join("work")).unwrap();
        std::os::unix::fs::symlink(binary(variable), bin.join(program)).unwrap();
        if program != "kubectl" {
            std::os::unix::fs::symlink(kubectl_path(), bin.join("kubectl")).unwrap();
        }
        std::fs::copy(world.data_dir().join("kubeconfig"), folder.join("kubeconfig")).unwrap();
        let namespace = format!("by-{}", version.replace('.', "-"));
        world.kubectl(&["create", "namespace", &namespace]);
        let node = world.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let shell = Shell {
            world,
            client,
            namespace,
            node,
            folder,
        };
        let (code, said) = shell.run("kubectl config set-context --current --namespace=$NS");
        assert_eq!(code, 0, "{said}");
        shell
    }

    fn run(&self, command: &str) -> (i32, String) {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new("timeout")
            .args(["--kill-after=5", "60", "sh", "-c"])
            .arg(format!("exec 2>&1\n{command}\n"))
            .env("PATH", format!("{}:{path}", self.folder.join("bin").display()))
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .env("KUBECACHEDIR", self.folder.join("cache"))
            .env("HOME", &self.folder)
            .env("NS", &self.namespace)
            .env("NODE", &self.node)
            .env("DATA", self.world.data_dir())
            .current_dir(self.folder.join("work"))
            .output()
            .expect("timeout is part of coreutils");
        (output.status.code().unwrap_or(-1), text(&output.stdout))
    }

    /// Runs a step; what was wrong, if anything was.
    fn step(&self, step: &Step) -> Option<String> {
        let mine = |versions: &[String]| versions.is_empty() || versions.iter().any(|wanted| wanted == self.client.1);
        if !mine(&step.versions) {
            return None;
        }
        let wanted: Vec<String> = step
            .expected
            .iter()
            .filter(|(versions, _)| mine(versions))
            .map(|(_, line)| squeezed(&line.replace("$NS", &self.namespace).replace("$NODE", &self.node)))
            .collect();
        let start = Instant::now();
        loop {
            let (code, said) = self.run(&step.command);
            let lines: Vec<String> = said.lines().map(squeezed).filter(|line| !line.is_empty()).collect();
            if code == step.ends_with && matches(&wanted, &lines) {
                return None;
            }
            if !step.until || start.elapsed() > DEADLINE {
                return Some(format!(
                    "line {}, {} {}: $ {}\n-- wanted ({}):\n{}\n-- printed ({code}):\n{said}",
                    step.line,
                    self.client.0,
                    self.client.1,
                    step.command,
                    step.ends_with,
                    wanted.join("\n"),
                ));
            }
            pause();
        }
    }
}

/// Runs a transcript on an instance by all versions of a client.
fn hold(world: &World, transcript: &str, clients: &[Client]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e/matrix")
        .join(transcript);
    let steps = parse(&std::fs::read_to_string(&path).unwrap());
    assert!(!steps.is_empty());
    let mut wrong = String::new();
    for client in clients {
        let shell = Shell::new(world, *client);
        for step in &steps {
            if let Some(found) = shell.step(step) {
                writeln!(wrong, "{found}").unwrap();
            }
        }
        world.kubectl(&["delete", "namespace", &shell.namespace, "--wait=false"]);
    }
    assert!(wrong.is_empty(), "{}:\n{wrong}", path.display());
}

#[test]
fn what_is_created_is_said_as_kubernetes_says_it() {
    hold(&World::start(), "create.txt", &KUBECTL);
}

#[test]
fn what_is_read_is_shown_as_kubernetes_shows_it() {
    hold(&World::start(), "read.txt", &KUBECTL);
}

#[test]
fn what_is_changed_is_said_as_kubernetes_says_it() {
    hold(&World::start(), "change.txt", &KUBECTL);
}

#[test]
fn roll_outs_go_as_on_kubernetes() {
    hold(&World::start(), "rollout.txt", &KUBECTL);
}

#[test]
fn nodes_are_kept_as_on_kubernetes() {
    hold(&World::start(), "nodes.txt", &KUBECTL);
}

#[test]
fn rights_are_given_and_asked_for_as_on_kubernetes() {
    hold(&World::start(), "access.txt", &KUBECTL);
}

#[test]
fn pods_are_reached_as_on_kubernetes() {
    let world = World::start();
    crate::images::import_busybox(&world);
    hold(&world, "pods.txt", &KUBECTL);
}

#[test]
fn pods_and_nodes_are_debugged_as_on_kubernetes() {
    let world = World::start();
    crate::images::import_busybox(&world);
    hold(&world, "debug.txt", &KUBECTL);
}

#[test]
fn containers_end_log_and_are_resized_as_on_kubernetes() {
    let world = World::start();
    crate::images::import_busybox(&world);
    hold(&world, "containers.txt", &KUBECTL);
}

#[test]
fn the_client_finds_its_way_as_on_kubernetes() {
    hold(&World::start(), "client.txt", &KUBECTL);
}

#[test]
fn helm_installs_upgrades_and_goes_back_as_on_kubernetes() {
    hold(&World::start(), "helm.txt", &HELM);
}

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut within = false;
    for line in help.lines() {
        let heading = !line.starts_with(' ') && line.ends_with(':');
        if heading {
            within = line.contains("Commands");
        } else if within
            && let Some((name, _)) = line.strip_prefix("  ").and_then(|line| line.split_once("  "))
            && !name.is_empty()
            && !name.starts_with(' ')
        {
            found.push(name.trim().to_owned());
        }
    }
    found
}

#[test]
fn no_command_of_kubectl_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/matrix");
    let held: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .flat_map(|file| parse(&std::fs::read_to_string(file.unwrap().path()).unwrap()))
        .map(|step| squeezed(&step.command))
        .collect();
    let help = |path: &Path, of: &[&str]| {
        let output = Command::new(path).args(of).arg("--help").output().unwrap();
        listed(&text(&output.stdout))
    };
    let mut missing = Vec::new();
    for (_, version, variable) in KUBECTL {
        let path = binary(variable);
        let commands = help(&path, &[]);
        assert!(commands.len() > 30, "{commands:?}");
        for command in commands {
            if LEFT_OUT.iter().any(|(left, _)| *left == command) {
                continue;
            }
            let mut wanted: Vec<String> = help(&path, &[&command])
                .iter()
                .map(|sub| format!("kubectl {command} {sub}"))
                .collect();
            if wanted.is_empty() {
                wanted.push(format!("kubectl {command}"));
            }
            for wanted in wanted {
                let there = held.iter().any(|line| {
                    line.match_indices(&wanted).any(|(at, _)| {
                        let rest = &line[at + wanted.len()..];
                        rest.is_empty() || rest.starts_with(' ')
                    })
                });
                if !there && !missing.contains(&format!("{wanted} ({version})")) {
                    missing.push(format!("{wanted} ({version})"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no transcript has {missing:#?}");
}
