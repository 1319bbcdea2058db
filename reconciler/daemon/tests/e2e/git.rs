//! Git drives it: push deploys, what breaks is put back, what fails goes back.

#[path = "git/broken.rs"]
mod broken;
#[path = "git/charts.rs"]
mod charts;
#[path = "git/commands.rs"]
mod commands;
#[path = "git/drift.rs"]
mod drift;
#[path = "git/quickstart.rs"]
mod quickstart;
#[path = "git/restart.rs"]
mod restart;
#[path = "git/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{DEADLINE, World, pause, text};

/// A git repository with a work tree, on a machine whose git has no configuration.
pub struct Fleet {
    path: PathBuf,
}

impl Fleet {
    /// Takes a work tree that is there.
    pub fn at(path: PathBuf) -> Fleet {
        Fleet { path }
    }

    /// Makes a repository of its own with these files.
    pub fn init(path: PathBuf, files: &[(&str, &str)]) -> Fleet {
        std::fs::create_dir_all(&path).unwrap();
        let fleet = Fleet { path };
        fleet.git(&["init", "--quiet", "--initial-branch", "main"]);
        fleet.git(&["config", "user.name", "Test"]);
        fleet.git(&["config", "user.email", "test@localhost"]);
        fleet.commit(files);
        fleet
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs git; it must succeed.
    pub fn git(&self, args: &[&str]) -> String {
        let output = self.try_git(args);
        assert!(
            output.status.success(),
            "git {}: {}",
            args.join(" "),
            text(&output.stderr)
        );
        text(&output.stdout).trim().to_owned()
    }

    fn try_git(&self, args: &[&str]) -> Output {
        Command::new("git")
            .args(args)
            .current_dir(&self.path)
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git is installed by .ci/install")
    }

    /// Writes files and commits everything; returns the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.path.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "Change it"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Writes files, commits and pushes; returns the commit.
    pub fn push(&self, files: &[(&str, &str)]) -> String {
        let commit = self.commit(files);
        self.git(&["push", "--quiet"]);
        commit
    }

    /// Reads a file of the work tree.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).unwrap()
    }
}

impl World {
    /// What `setpoint status -o json` says of an app.
    pub fn app(&self, name: &str) -> Option<Value> {
        let output = self.setpoint(&["status", "-o", "json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let apps = status["apps"].as_array().unwrap();
        apps.iter().find(|app| app["name"] == name).cloned()
    }

    /// Waits until an app is as wanted and returns it.
    pub fn until_app(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = std::time::Instant::now();
        loop {
            let app = self.app(name);
            if let Some(app) = app.as_ref().filter(|app| wanted(app)) {
                return app.clone();
            }
            assert!(
                start.elapsed() < DEADLINE,
                "the app {name} is not {what} in time; it is {app:?}\nthe daemon's log:\n{}",
                self.log()
            );
            pause();
        }
    }

    /// Waits until an app is healthy at a commit.
    pub fn healthy_at(&self, name: &str, commit: &str) -> Value {
        self.until_app(name, &format!("healthy at {commit}"), |app| {
            app["health"] == "Healthy" && app["revision"] == commit
        })
    }

    /// Waits until an app has failed at a commit and gone back; returns it.
    pub fn failed_at(&self, name: &str, commit: &str) -> Value {
        self.until_app(name, &format!("failed at {commit}"), |app| {
            app["health"] == "Failed"
                && app["wanted"] == commit
                && !app["reason"].as_str().unwrap().contains("going back")
        })
    }

    /// Runs a command of the program, which must succeed, and returns what it printed as JSON.
    pub fn setpoint_json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let output = self.setpoint(&all);
        assert!(
            output.status.success(),
            "setpoint {}: {}\nthe daemon's log:\n{}",
            args.join(" "),
            text(&output.stderr),
            self.log()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A folder with one Deployment of the demo and its Service, as handlebars.
pub const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{Release.Name}}
spec:
  replicas: {{Values.replicas}}
  selector:
    matchLabels: { app: {{Release.Name}} }
  template:
    metadata:
      labels: { app: {{Release.Name}} }
    spec:
      containers:
        - name: app
          image: {{Values.image}}
          env:
            - name: MESSAGE
              value: {{Values.message}}
          ports:
            - { name: http, containerPort: 8080 }
          readinessProbe:
            httpGet: { path: {{Values.probe}}, port: http }
            periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata:
  name: {{Release.Name}}
spec:
  selector: { app: {{Release.Name}} }
  ports:
    - { port: 80, targetPort: http }
";

/// Values for [`WEB`].
pub fn values(image: &str, message: &str, probe: &str) -> String {
    format!("replicas: 1\nimage: {image}\nmessage: {message}\nprobe: {probe}\n")
}

/// Values for [`WEB`] that are well.
pub fn good(message: &str) -> String {
    values("setpoint.dev/demo:v1", message, "/healthz")
}

/// A `setpoint.toml` with an app of [`WEB`] for each name; `more` goes into each.
pub fn toml(apps: &[&str], more: &str) -> String {
    let app = |name: &&str| format!("[[app]]\nname = \"{name}\"\npath = \"web\"\nvalues = [\"{name}.yaml\"]\n{more}\n");
    apps.iter().map(app).collect()
}

/// An instance that follows a repository on disk with apps of [`WEB`] that are well.
pub fn following(apps: &[&str], more: &str) -> (World, Fleet) {
    let mut world = World::prepare();
    let mut files = vec![
        ("setpoint.toml".to_owned(), toml(apps, more)),
        ("web/web.yaml.hbs".to_owned(), WEB.to_owned()),
    ];
    files.extend(apps.iter().map(|name| (format!("{name}.yaml"), good("one"))));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let fleet = Fleet::init(world.folder().join("repo"), &files);
    let commit = fleet.git(&["rev-parse", "HEAD"]);
    let path = fleet.path().display().to_string();
    world.up_with(&[&path]);
    for app in apps {
        world.healthy_at(app, &commit);
    }
    (world, fleet)
}
