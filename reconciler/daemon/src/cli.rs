//! The command line: global options, the commands, exit codes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::output;

/// Keeps what runs on your machines as git says: no Docker, no Kubernetes, kubectl and Helm work.
#[derive(Parser)]
#[command(name = "setpoint", version, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Args, Clone)]
pub struct Global {
    /// The instance's data directory
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SETPOINT_DATA_DIR",
        default_value = "/var/lib/setpoint"
    )]
    pub data_dir: PathBuf,
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    pub output: Format,
    /// Talk to the cluster of this kubeconfig instead of the instance in the data directory
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// The commands; each has a file in `commands/`.
#[derive(Subcommand)]
pub enum Command {
    /// Start the cluster on this machine, follow a repository if one is named, and stay in the foreground; pods outlive it
    Up(commands::up::Up),
    /// Stop every pod of the instance and remove all that it made on this host; stored objects are kept
    Down(commands::down::Down),
    /// Show the instance: its apps, its node, its workloads
    Status(commands::status::Status),
    /// Show objects of the cluster, as they are or as they were
    Get(commands::get::Get),
    /// Show who changed what in the cluster, and how
    Changes(commands::changes::Changes),
    /// Show what was deployed of an app, when, and how it ended
    History(commands::history::History),
    /// Show where what runs differs from what git says
    Diff(commands::diff::Diff),
    /// Show what a work tree would change, before it is committed
    Plan(commands::plan::Plan),
    /// Look at the sources now, try again what failed, and wait
    Sync(commands::sync::Sync),
    /// Go to an earlier revision of an app and stay there until git changes it
    Rollback(commands::sync::Rollback),
    /// Follow git again after a rollback
    Resume(commands::sync::Resume),
    /// Render a repository, a chart or a folder, here and without a cluster
    Render(commands::plan::Render),
    /// Charts as apps of their own, without a repository
    #[command(subcommand)]
    Chart(commands::chart::Chart),
    /// Images on this node
    #[command(subcommand)]
    Image(commands::image::Image),
    /// Write what is stored, without images, to one file, sealed; a running setpoint goes on meanwhile
    Backup(commands::backup::Backup),
    /// Put a backup in the place of what is stored; nothing is deleted
    Restore(commands::restore::Restore),
    #[command(subcommand)]
    Key(commands::key::Key),
    #[command(subcommand)]
    User(commands::user::User),
    /// Print the administrator's kubeconfig, or where it is
    Kubeconfig(commands::kubeconfig::Kubeconfig),
    /// Print the metrics of the running instance
    Metrics(commands::metrics::Metrics),
    /// Check whether this machine can run setpoint
    Check(commands::check::Check),
    /// Look for what is wrong with the instance and this machine, and say what to do about it
    Doctor(commands::doctor::Doctor),
    /// Print the completion script of a shell
    Completion(commands::completion::Completion),
}

/// Exit codes that scripts may rely on, besides 0 for success and 2 for wrong usage.
pub mod exit {
    /// The command failed.
    pub const FAILED: u8 = 1;
    /// There is no running instance to talk to.
    pub const NOT_RUNNING: u8 = 3;
}

/// Parses the arguments, runs the command, prints its error chain once.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            let not_running = error.chain().any(|cause| cause.is::<crate::client::NotRunning>());
            ExitCode::from(if not_running { exit::NOT_RUNNING } else { exit::FAILED })
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let global = cli.global;
    match cli.command {
        // The daemon serves many at once; a command waits for one answer.
        Command::Up(command) => runtime(true)?.block_on(command.run(global)),
        Command::Down(command) => runtime(false)?.block_on(command.run(global)),
        Command::Status(command) => runtime(false)?.block_on(command.run(global)),
        Command::Get(command) => runtime(false)?.block_on(command.run(global)),
        Command::Changes(command) => runtime(false)?.block_on(command.run(global)),
        Command::History(command) => runtime(false)?.block_on(command.run(global)),
        Command::Diff(command) => runtime(false)?.block_on(command.run(global)),
        Command::Plan(command) => runtime(false)?.block_on(command.run(global)),
        Command::Sync(command) => runtime(false)?.block_on(command.run(global)),
        Command::Rollback(command) => runtime(false)?.block_on(command.run(global)),
        Command::Resume(command) => runtime(false)?.block_on(command.run(global)),
        Command::Chart(command) => runtime(false)?.block_on(command.run(global)),
        Command::Render(command) => command.run(&global),
        Command::Image(command) => runtime(false)?.block_on(command.run(global)),
        Command::Metrics(command) => runtime(false)?.block_on(command.run(global)),
        Command::Backup(command) => runtime(false)?.block_on(command.run(global)),
        Command::Restore(command) => runtime(false)?.block_on(command.run(global)),
        Command::Key(command) => runtime(false)?.block_on(command.run(global)),
        Command::User(command) => runtime(false)?.block_on(command.run(global)),
        Command::Kubeconfig(command) => command.run(&global),
        Command::Check(command) => command.run(&global),
        Command::Doctor(command) => runtime(false)?.block_on(command.run(global)),
        Command::Completion(command) => command.run(),
    }
}

fn runtime(daemon: bool) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = if daemon {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // Each thread costs memory, and none of the work here is long: two keep one slow poll from stalling all.
        builder.worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)));
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    Ok(builder
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
