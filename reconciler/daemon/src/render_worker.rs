//! Templates are run in a process of their own: what others wrote must not be able to take the daemon with it.
//!
//! `setpoint __render` reads a job from its standard input and writes what it gives to its standard output. Before it reads, it gives up
//! its rights and bounds itself: memory, time, files. A template that exhausts one of these ends its worker, and the app says so.

use std::io::{Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::resource::{Resource, setrlimit};
use setpoint_engine::rendered::Unrendered;
use setpoint_templates::job::{self, Failure, Job, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// The hidden argument that makes this program a worker.
const ROLE: &str = "__render";
/// How long a worker may take, in seconds of the clock.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long it may compute.
const CPU_SECONDS: u64 = 20;
/// How much address space it may have. The renderer reserves a stack of 1 GiB in it, of which it uses what it needs.
const MEMORY: u64 = 4 << 30;
/// The largest job or output, in bytes.
const LARGEST: u64 = 96 << 20;
/// Who it runs as: nobody.
const NOBODY: u32 = 65534;

/// Runs this process as a worker when it was started as one.
pub fn main_when_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == ROLE).then(|| match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The daemon reads this as the reason.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

fn work() -> anyhow::Result<()> {
    confine()?;
    let mut text = Vec::new();
    std::io::stdin().lock().take(LARGEST).read_to_end(&mut text)?;
    let job: Job = serde_json::from_slice(&text)?;
    drop(text);
    let outcome: Result<Output, Failure> = job::run(&job);
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(std::io::BufWriter::new(&mut out), &outcome)?;
    out.flush()?;
    Ok(())
}

/// Gives up what rendering does not need.
fn confine() -> anyhow::Result<()> {
    let limits = [
        (Resource::RLIMIT_AS, MEMORY, MEMORY),
        // The first limit is told apart from being killed by somebody else.
        (Resource::RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS + 1),
        (Resource::RLIMIT_FSIZE, 0, 0),
        (Resource::RLIMIT_CORE, 0, 0),
        (Resource::RLIMIT_NOFILE, 16, 16),
    ];
    for (resource, soft, hard) in limits {
        setrlimit(resource, soft, hard)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    if nix::unistd::geteuid().is_root() {
        nix::unistd::chdir("/")?;
        nix::unistd::setgroups(&[])?;
        nix::unistd::setgid(nix::unistd::Gid::from_raw(NOBODY))?;
        nix::unistd::setuid(nix::unistd::Uid::from_raw(NOBODY))?;
    }
    Ok(())
}

/// Renders in worker processes, a few at a time.
pub struct Workers {
    program: std::path::PathBuf,
    room: Semaphore,
}

impl Workers {
    /// Prepares to start this very program.
    pub fn new() -> Workers {
        let at_once = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Workers {
            // Survives that the file is replaced by a newer one.
            program: "/proc/self/exe".into(),
            room: Semaphore::new(at_once),
        }
    }

    async fn run(&self, job: &Job) -> Result<Result<Output, Failure>, Ended> {
        let machine = |what: &str, error: &dyn std::fmt::Display| Ended::Machine(format!("{what}: {error}"));
        let text = serde_json::to_vec(job).map_err(|error| machine("the job cannot be written", &error))?;
        let mut child = tokio::process::Command::new(&self.program)
            .arg(ROLE)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| machine("cannot start a worker that renders", &error))?;
        let (Some(mut input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Ended::Machine("a worker has no pipes".to_owned()));
        };
        let feed = async move {
            // A worker that ends early says why on its standard error.
            if let Err(error) = input.write_all(&text).await {
                tracing::debug!(%error, "a worker did not read its job to the end");
            }
        };
        let (mut answer, mut said) = (Vec::new(), Vec::new());
        let read = async {
            let mut output = output.take(LARGEST);
            let mut errors = errors.take(64 << 10);
            tokio::join!(output.read_to_end(&mut answer), errors.read_to_end(&mut said))
        };
        let ((), (answered, _)) = tokio::join!(feed, read);
        answered.map_err(|error| machine("cannot read from a worker", &error))?;
        let status = child
            .wait()
            .await
            .map_err(|error| machine("cannot wait for a worker", &error))?;
        if status.success() {
            return serde_json::from_slice(&answer).map_err(|error| machine("a worker answered nonsense", &error));
        }
        Err(why(status, &String::from_utf8_lossy(&said)))
    }
}

/// Why there is no answer.
enum Ended {
    /// The templates exhausted what a worker has.
    Templates(String),
    /// This machine could not run a worker; it may be able to later.
    Machine(String),
}

/// Says why a worker ended without an answer.
fn why(status: std::process::ExitStatus, said: &str) -> Ended {
    use std::os::unix::process::ExitStatusExt;

    use nix::sys::signal::Signal;
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match status.signal().map(Signal::try_from) {
        Some(Ok(Signal::SIGXCPU)) => Ended::Templates(format!(
            "the templates computed for more than {CPU_SECONDS} s and were stopped"
        )),
        Some(Ok(Signal::SIGABRT | Signal::SIGSEGV | Signal::SIGBUS)) => Ended::Templates(format!(
            "the templates exhausted a worker's memory or stack and were stopped: {said}"
        )),
        Some(_) => Ended::Machine(format!(
            "a worker that renders was killed ({status}); is the machine out of memory?"
        )),
        None => Ended::Machine(format!("a worker that renders failed: {said}")),
    }
}

#[async_trait]
impl setpoint_engine::Renderer for Workers {
    async fn render(&self, job: Job) -> Result<Output, Unrendered> {
        let failure = |message: String| {
            Unrendered::Failure(Failure {
                message,
                ..Failure::default()
            })
        };
        let _room = self
            .room
            .acquire()
            .await
            .map_err(|_| Unrendered::Passing("setpoint is stopping".to_owned()))?;
        match tokio::time::timeout(DEADLINE, self.run(&job)).await {
            Ok(Ok(outcome)) => outcome.map_err(Unrendered::Failure),
            Ok(Err(Ended::Templates(reason))) => Err(failure(reason)),
            Ok(Err(Ended::Machine(reason))) => Err(Unrendered::Passing(reason)),
            // What a worker may compute is bounded: it is the machine that is too busy.
            Err(_) => Err(Unrendered::Passing(format!(
                "rendering took more than {} s and was stopped",
                DEADLINE.as_secs()
            ))),
        }
    }
}
