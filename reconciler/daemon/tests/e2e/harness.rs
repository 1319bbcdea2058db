//! An instance in a folder of its own, and ways to ask it and wait for it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long any state may take to come about on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The program under test.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_setpoint"));
    command
        .env_remove("SETPOINT_DATA_DIR")
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null());
    command
}

/// The path of kubectl: what the install script fetched, else the one in PATH.
pub fn kubectl_path() -> PathBuf {
    std::env::var_os("SETPOINT_TEST_KUBECTL").map_or_else(|| PathBuf::from("kubectl"), PathBuf::from)
}

/// Takes an instance down when this process is gone without having done so: a test that is killed runs no destructor.
pub struct Guard {
    guardian: Child,
}

impl Guard {
    /// Guards the instance in the data directory `data` of a folder.
    pub fn new(folder: &Path) -> Guard {
        // It hears of the end by the end of its input, which nobody else holds.
        let script = r#"trap '' HUP INT TERM; read -r word; [ "$word" = done ] && exit; "$0" down --data-dir "$1/data"; rm -rf "$1""#;
        let guardian = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_setpoint")])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends a test's group is not to end this.
            .process_group(0)
            .spawn()
            .unwrap();
        Guard { guardian }
    }

    /// Says that the instance has been taken down.
    fn done(&mut self) {
        let mut stdin = self.guardian.stdin.take().expect("said once");
        if let Err(error) = stdin.write_all(b"done\n") {
            eprintln!("the guardian is gone: {error}");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        if let Err(error) = self.guardian.wait() {
            eprintln!("the guardian could not be waited for: {error}");
        }
    }
}

/// One instance; taken down with everything it made when it is dropped.
pub struct World {
    guard: Guard,
    folder: tempfile::TempDir,
    daemon: Option<Child>,
    /// What `up -o json` announced.
    pub announced: Value,
}

impl World {
    /// Starts an instance in a new folder and waits until it is ready.
    pub fn start() -> World {
        World::start_with(&[])
    }

    /// Starts an instance with more arguments to `up`.
    pub fn start_with(args: &[&str]) -> World {
        let mut world = World::prepare();
        world.up_with(args);
        world
    }

    /// Prepares an instance that is not started yet.
    pub fn prepare() -> World {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the end-to-end tests start real containers: run them as root"
        );
        let folder = tempfile::Builder::new().prefix("setpoint-test-").tempdir().unwrap();
        World {
            guard: Guard::new(folder.path()),
            folder,
            daemon: None,
            announced: Value::Null,
        }
    }

    /// The folder that holds the data directory and whatever a test puts beside it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A file beside the data directory.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The instance's four digits.
    pub fn id(&self) -> String {
        let bytes = std::fs::read(self.data_dir().join("instance.json")).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_string()
    }

    /// Starts the daemon on the folder and waits until it announces itself.
    pub fn up(&mut self) {
        self.up_with(&[]);
    }

    /// Starts the daemon with more arguments to `up`.
    pub fn up_with(&mut self, args: &[&str]) {
        self.up_as(args, &[]);
    }

    /// Starts the daemon with more variables in its environment.
    pub fn up_in(&mut self, environment: &[(&str, PathBuf)]) {
        self.up_as(&[], environment);
    }

    fn up_as(&mut self, args: &[&str], environment: &[(&str, PathBuf)]) {
        let mut command = self.up_command(program());
        command
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)));
        self.up_by(command);
    }

    /// Makes a command of `up` on this instance, of this program or of another release of it.
    pub fn up_command(&self, mut program: Command) -> Command {
        program
            // Instances that start and stop beside each other must not take each other's usual port.
            .args(["up", "-o", "json", "--api-port", "0", "--data-dir"])
            .arg(self.data_dir())
            .current_dir(self.folder.path())
            .env(
                "SETPOINT_LOG",
                std::env::var("SETPOINT_LOG").unwrap_or_else(|_| "info".into()),
            )
            .stdout(Stdio::piped())
            .stderr(self.log_file());
        program
    }

    fn log_file(&self) -> File {
        File::options().create(true).append(true).open(self.log_path()).unwrap()
    }

    /// Starts the daemon by a command and waits until it announces itself.
    pub fn up_by(&mut self, mut command: Command) {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        self.daemon = Some(child);
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            for line in stdout.lines().map_while(Result::ok) {
                text.push_str(&line);
                if line == "}" && send.send(std::mem::take(&mut text)).is_err() {
                    return;
                }
            }
        });
        match receive.recv_timeout(DEADLINE) {
            Ok(text) => self.announced = serde_json::from_str(&text).unwrap(),
            Err(error) => panic!("`up` announced nothing ({error}); its log:\n{}", self.log()),
        }
    }

    /// Takes a daemon over that a test started itself.
    pub fn adopt(&mut self, daemon: Child) {
        self.daemon = Some(daemon);
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().expect("the daemon runs").id()).unwrap()
    }

    /// Sends the daemon a signal and waits until it has ended.
    pub fn end_daemon(&mut self, signal: nix::sys::signal::Signal) -> std::process::ExitStatus {
        let mut child = self.daemon.take().expect("the daemon runs");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        wait_for("the daemon to end", || child.try_wait().unwrap())
    }

    /// Runs a command of the program on this instance.
    pub fn setpoint(&self, args: &[&str]) -> Output {
        program()
            .args(args)
            .arg("--data-dir")
            .arg(self.data_dir())
            .output()
            .unwrap()
    }

    /// A kubectl command on this instance.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(kubectl_path());
        // A cache of its own: discovery of another test's instance on the same port would be taken for this one's.
        command
            .args(args)
            .env("KUBECONFIG", self.data_dir().join("kubeconfig"))
            .env("KUBECACHEDIR", self.folder.path().join("kubecache"))
            .env("HOME", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs kubectl.
    pub fn kubectl_output(&self, args: &[&str]) -> Output {
        self.kubectl_command(args)
            .output()
            .unwrap_or_else(|error| panic!("cannot run kubectl ({error}); install it: eval \"$(bash .ci/install)\""))
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.kubectl_output(args);
        self.expect_success(&format!("kubectl {}", args.join(" ")), output)
    }

    /// Runs kubectl, which must fail, and returns what it printed on standard error.
    pub fn kubectl_fails(&self, args: &[&str]) -> String {
        let output = self.kubectl_output(args);
        assert!(
            !output.status.success(),
            "kubectl {} succeeded: {}",
            args.join(" "),
            text(&output.stdout)
        );
        text(&output.stderr)
    }

    /// Runs kubectl with something on standard input; it must succeed.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> String {
        let mut child = self
            .kubectl_command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        self.expect_success(&format!("kubectl {}", args.join(" ")), output)
    }

    /// Applies YAML.
    pub fn apply(&self, yaml: &str) -> String {
        self.kubectl_with(&["apply", "-f", "-"], yaml)
    }

    /// Gets an object or a list as JSON; `None` when it is not there.
    pub fn get(&self, args: &[&str]) -> Option<Value> {
        let mut all = vec!["get"];
        all.extend(args);
        all.extend(["-o", "json"]);
        let output = self.kubectl_output(&all);
        if output.status.success() {
            return Some(serde_json::from_slice(&output.stdout).unwrap());
        }
        let error = text(&output.stderr);
        assert!(
            error.contains("NotFound"),
            "kubectl {}: {error}\n{}",
            all.join(" "),
            self.log()
        );
        None
    }

    /// Waits until an object is as wanted and returns it.
    pub fn until(&self, args: &[&str], what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let last = self.get(args);
            if let Some(value) = last.as_ref().filter(|value| wanted(value)) {
                return value.clone();
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{}: not {what} in time; it is {}\nthe daemon's log:\n{}",
                args.join(" "),
                last.map_or("absent".into(), |v| serde_json::to_string_pretty(&v).unwrap()),
                self.log()
            );
            pause();
        }
    }

    /// Waits until pods with a label are `count` and ready, and returns them.
    pub fn ready_pods(&self, label: &str, count: usize) -> Vec<Value> {
        let list = self.until(&["pods", "-l", label], &format!("{count} ready pods"), |list| {
            let pods = items(list);
            pods.len() == count && pods.iter().all(is_ready)
        });
        items(&list)
    }

    /// Creates a Deployment of the demo image and a Service before it, waits until it is rolled out.
    pub fn demo(&self, name: &str, replicas: u32) {
        self.apply(&demo_yaml(name, replicas));
        self.kubectl(&["rollout", "status", &format!("deployment/{name}"), "--timeout=90s"]);
    }

    /// The cluster IP of a service.
    pub fn cluster_ip(&self, service: &str) -> String {
        self.get(&["service", service]).unwrap()["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .to_string()
    }

    /// The process of a pod's container on this host.
    pub fn pid_of(&self, pod: &Value) -> i32 {
        // A static pod runs under its hash.
        let meta = &pod["metadata"];
        let hash = meta["annotations"]["kubernetes.io/config.hash"].as_str();
        let uid = hash.unwrap_or_else(|| meta["uid"].as_str().unwrap());
        let state = std::fs::read(self.data_dir().join("sandboxes").join(uid).join("state.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let containers = state["containers"].as_array().unwrap();
        let running = containers
            .iter()
            .rev()
            .find(|c| c["exit"].is_null())
            .expect("a container runs");
        i32::try_from(running["pid"].as_i64().unwrap()).unwrap()
    }

    /// The end of the daemon's log.
    pub fn log(&self) -> String {
        let mut log = String::new();
        if let Ok(mut file) = File::open(self.log_path()) {
            file.read_to_string(&mut log).unwrap();
        }
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    fn expect_success(&self, what: &str, output: Output) -> String {
        assert!(
            output.status.success(),
            "{what} failed ({}):\n{}{}\nthe daemon's log:\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let down = self.setpoint(&["down"]);
        if let Some(mut child) = self.daemon.take()
            && let Err(error) = child.wait()
        {
            eprintln!("the daemon could not be waited for: {error}");
        }
        let clean = down.status.success();
        if clean {
            self.guard.done();
        } else {
            eprintln!("`down` failed: {}", text(&down.stderr));
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        } else {
            assert!(clean, "`down` failed");
        }
    }
}

/// A Deployment of the demo image with a readiness probe, and its Service on port 80.
pub fn demo_yaml(name: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      containers:
        - name: app
          image: setpoint.dev/demo:v1
          ports: [{{ name: http, containerPort: 8080 }}]
          readinessProbe: {{ httpGet: {{ path: /healthz, port: http }} }}
---
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec:
  selector: {{ app: {name} }}
  ports: [{{ port: 80, targetPort: http }}]
"
    )
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A list's items.
pub fn items(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Whether a pod is ready and not on its way out.
pub fn is_ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && pod["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// Fetches a URL from the host; the error when it could not be had.
pub fn http_get(url: &str) -> Result<String, String> {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "5",
            "--noproxy",
            "*",
            url,
        ])
        .output()
        .expect("curl is installed by .ci/install");
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        pause();
    }
}

/// Lets others run between two looks at a state.
pub fn pause() {
    std::thread::park_timeout(Duration::from_millis(25));
}

/// Whether a process is there and runs: one that has ended and was not waited for yet does not.
pub fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    })
}
